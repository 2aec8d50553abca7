use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::thread;

use super::*;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(30);

/// Takes events until there are none for a while.
fn quiet(watch: &mut Watch) {
    while watch.wait(SHORT).unwrap() != Woken::Timeout {}
}

fn append(path: &Path) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
}

#[test]
fn the_database_may_come_later_and_so_may_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("later/app.db");
    let mut watch = Watch::new(&database).unwrap();
    assert_eq!(watch.wait(SHORT).unwrap(), Woken::Timeout);
    fs::create_dir(database.parent().unwrap()).unwrap();
    assert_eq!(watch.wait(SHORT).unwrap(), Woken::Timeout, "the folder is found, and nothing is in it");
    fs::write(&database, "x").unwrap();
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
}

#[test]
fn a_write_to_the_wal_is_an_event_also_after_it_was_deleted_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (database, wal) = (folder.path().join("app.db"), folder.path().join("app.db-wal"));
    fs::write(&database, "x").unwrap();
    fs::write(&wal, "x").unwrap();
    let mut watch = Watch::new(&database).unwrap();
    for _ in 0..3 {
        append(&wal);
        assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
        quiet(&mut watch);
        fs::remove_file(&wal).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
        fs::write(&wal, "y").unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
        quiet(&mut watch);
    }
}

#[test]
fn a_database_behind_a_link_is_watched_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    let real = folder.path().join("real/data.db");
    fs::write(&real, "x").unwrap();
    fs::write(folder.path().join("real/data.db-wal"), "x").unwrap();
    let link = folder.path().join("app.db");
    symlink(&real, &link).unwrap();
    let mut watch = Watch::new(&link).unwrap();
    append(&folder.path().join("real/data.db-wal"));
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
}

#[test]
fn other_files_and_checkpoints_wake_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    fs::write(&database, "x").unwrap();
    let mut watch = Watch::new(&database).unwrap();
    quiet(&mut watch);
    fs::write(folder.path().join("other.db-wal"), "x").unwrap();
    append(&database);
    assert_eq!(watch.wait(SHORT).unwrap(), Woken::Timeout);
}

#[test]
fn a_replaced_database_is_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    fs::write(&database, "x").unwrap();
    fs::write(folder.path().join("new"), "x").unwrap();
    let mut watch = Watch::new(&database).unwrap();
    quiet(&mut watch);
    fs::rename(folder.path().join("new"), &database).unwrap();
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Event);
}

#[test]
fn another_thread_can_wake_it_before_and_during_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(&folder.path().join("app.db")).unwrap();
    watch.waker().wake();
    watch.waker().wake();
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Called);
    assert_eq!(watch.wait(SHORT).unwrap(), Woken::Timeout, "two calls are one");
    let waker = watch.waker();
    let caller = thread::spawn(move || {
        thread::sleep(SHORT);
        waker.wake();
    });
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Called);
    caller.join().unwrap();
}

#[test]
fn without_inotify_waits_are_short() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(&folder.path().join("app.db")).unwrap();
    watch.notices = Err(io::Error::from(Errno::MFILE));
    assert!(watch.trouble().is_some());
    let start = Instant::now();
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Timeout);
    assert!(start.elapsed() < LONG / 10);
    watch.waker().wake();
    assert_eq!(watch.wait(LONG).unwrap(), Woken::Called);
}

#[test]
fn one_event_without_news_is_followed_by_ten_looks() {
    let mut looks = LookAgain::new();
    assert_eq!(looks.next_pause(), None);
    looks.event();
    let pauses: Vec<u128> =
        std::iter::from_fn(|| looks.next_pause()).map(|pause| pause.as_millis()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    looks.event();
    looks.news();
    assert_eq!(looks.next_pause(), None);
}
