//! POSIX drops every lock that a process holds on a file as soon as it closes *any* descriptor of that file. What keeps our
//! reading safe are SQLite's locks, so no look of ours, at the file, its time or its pages, may ever cost one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use support::{Place, Running, eventually};

/// How many bytes of a file are locked by a process, as the kernel tells.
fn locks(pid: i32, file: &Path) -> usize {
    let inode = fs::metadata(file).unwrap().ino().to_string();
    let table = fs::read_to_string("/proc/locks").unwrap();
    let is_ours = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "POSIX", _, _, owner, place, ..] = words[..] else { return false };
        owner == pid.to_string() && place.rsplit(':').next() == Some(&inode)
    };
    table.lines().filter(is_ours).count()
}

/// Every connection has a lock on the database, and the pin one on its shared memory besides the one of whoever has that open.
#[track_caller]
fn require_locks(place: &Place, running: &Running, when: &str) {
    let (database, shared) = (place.path("app.db"), place.path("app.db-shm"));
    let found = || (locks(running.pid(), &database), locks(running.pid(), &shared));
    eventually(
        &format!("the locks {when}"),
        || Some(found()).filter(|(database, shared)| *database >= 1 && *shared >= 2),
        || format!("{:?} in {}", found(), fs::read_to_string("/proc/locks").unwrap()),
    );
}

#[test]
fn no_look_at_the_database_ever_costs_us_the_locks_on_it() {
    let place = Place::new();
    let application = place.open("app.db");
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let (db, url, socket) = (place.text("app.db"), place.url("replica"), place.text("socket"));
    let args = ["replicate", &db, &url, "--sync-interval", "50ms", "--socket", &socket];
    let running = place.start(&args, "stored txid");
    require_locks(&place, &running, "after the start");
    for mode in ["PASSIVE", "TRUNCATE"] {
        application.execute_batch("INSERT INTO t VALUES (randomblob(9000))").unwrap();
        place.run(&["sync", "--socket", &socket]).says(0, &[]);
        require_locks(&place, &running, "after a slot");
        application.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
        place.run(&["status", "--socket", &socket]).says(0, &[]);
        require_locks(&place, &running, "after a checkpoint of the application");
    }
    // The names of the files, and what they look like, are looked at every second.
    std::thread::sleep(Duration::from_millis(2_500));
    require_locks(&place, &running, "after a rest");
    place.run(&["restore", "-o", &place.text("copy.db"), &url]).says(0, &["restored"]);
    require_locks(&place, &running, "after a restore of a copy");
    drop(application);
    require_locks(&place, &running, "after the application ended");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
}
