//! Slots that are too large for memory, and a bucket that is away: what the application and its disk notice of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{Place, Running, dump, eventually, s3::S3Server};

const URL: &str = "s3://lifeboat/large";
const MIB: u64 = 1 << 20;

/// An application's database in WAL mode with this much that does not compress.
fn application(place: &Place, mib: u64) -> Connection {
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB)").unwrap();
    grow(&app, mib);
    app
}

fn grow(app: &Connection, mib: u64) {
    app.execute_batch("BEGIN").unwrap();
    for _ in 0..mib {
        app.execute("INSERT INTO t VALUES (randomblob(1048576))", []).unwrap();
    }
    app.execute_batch("COMMIT").unwrap();
}

fn replicate(place: &Place, s3: &S3Server) -> Running {
    let args = ["replicate", &place.text("app.db"), URL, "--log-level", "debug"];
    place.start_with(&args, "following", Some(s3))
}

fn assert_restores(place: &Place, s3: &S3Server) {
    let copy = place.path("copy.db");
    let _ = std::fs::remove_file(&copy);
    place.run_with(&["restore", "-o", &copy.display().to_string(), URL], Some(s3)).says(0, &["restored"]);
    assert!(dump(&copy) == dump(&place.path("app.db")), "the copy differs");
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// How many parts have arrived, of objects that are being sent.
fn parts(s3: &S3Server) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let uploads = entries(&s3.file(".sgwtmp/multipart")).flat_map(|key| entries(&key.path()));
    let files = uploads.flat_map(|upload| entries(&upload.path()));
    files.filter(|file| file.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
}

/// The number of the newest slot.
fn newest(s3: &S3Server) -> usize {
    std::fs::read_dir(s3.file("large/0000")).unwrap().count()
}

#[test]
fn a_large_database_is_sent_in_parts_once_and_restores() {
    let (place, s3) = (Place::new(), S3Server::start());
    let app = application(&place, 30);
    let replicating = replicate(&place, &s3);
    replicating.wait_for("stored txid 0000000000000001");
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    replicating.wait_for("stored txid 0000000000000002");
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("in 7 parts"), "{log}");
    assert!(size(&s3.file("large/0000/0000000000000001-0000000000000001.ltx")) > 30 * MIB);
    assert!(size(&s3.file("large/0000/0000000000000002-0000000000000002.ltx")) < MIB);
    assert!(
        !s3.file("large/lifeboat")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("scratch") })
    );
    assert_restores(&place, &s3);
}

#[test]
fn a_large_database_in_a_folder_is_sent_in_parts_too() {
    let place = Place::new();
    let _app = application(&place, 20);
    let (database, url, copy) = (place.text("app.db"), place.url("replica"), place.text("copy.db"));
    let replicating = place.start(&["replicate", &database, &url, "--log-level", "debug"], "in 5 parts");
    replicating.wait_for("stored txid 0000000000000001");
    assert_eq!(replicating.stop().0, Some(0));
    let names =
        std::fs::read_dir(place.path("replica/ltx/0")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["0000000000000001-0000000000000001.ltx"]);
    place.run(&["restore", "-o", &copy, &url]).says(0, &["restored"]);
    assert!(dump(Path::new(&copy)) == dump(Path::new(&database)));
}

#[test]
fn a_checkpoint_of_the_application_does_not_wait_for_a_slow_bucket() {
    let (place, s3) = (Place::new(), S3Server::start());
    let app = application(&place, 10);
    let replicating = replicate(&place, &s3);
    replicating.wait_for("stored txid 0000000000000001");
    s3.freeze();
    grow(&app, 60);
    // Without a pause, so that a view needs the WAL.
    let commit = || app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let is_read = || replicating.log().matches("a large slot is read").count() == 2;
    eventually(
        "the second large slot to be read",
        || {
            (0..10).for_each(|_| commit());
            is_read().then(commit)
        },
        || replicating.log(),
    );
    app.busy_timeout(Duration::from_secs(50)).unwrap();
    let begun = Instant::now();
    let busy: i64 = app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "after {:?}: {}", begun.elapsed(), replicating.log());
    assert!(replicating.log().contains("it goes through a local file"), "{}", replicating.log());
    s3.thaw();
    replicating.wait_for("stored txid 0000000000000002");
    assert_eq!(replicating.stop().0, Some(0));
    assert_restores(&place, &s3);
}

#[test]
fn while_the_bucket_is_away_the_wal_stays_short_and_one_slot_brings_everything_back() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    let app = application(&place, 1);
    let replicating = replicate(&place, &s3);
    replicating.wait_for("stored txid 0000000000000001");
    s3.stop();
    // In flight when the bucket went.
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    replicating.wait_for("trying again");
    for round in 0..40 {
        app.execute_batch("DELETE FROM t WHERE rowid > 30").unwrap();
        grow(&app, 2);
        if round % 4 == 0 {
            app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let wal = place.path("app.db-wal");
    eventually("the WAL to be settled", || settled(&app, &place), || replicating.log());
    assert!(size(&wal) < 40 * MIB, "{} bytes of WAL after 80 MiB", size(&wal));
    let notes: u64 = std::fs::read_dir(place.path(".app.db-lifeboat"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| size(&path))
        .sum();
    assert!(notes < MIB, "{notes} bytes beside the database");
    s3.start_again();
    replicating.wait_for("stored txid 0000000000000003");
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(newest(&s3), 3, "one slot for everything that was committed meanwhile: {log}");
    assert_restores(&place, &s3);
}

/// What the process has in files without a name.
fn spooled(running: &Running) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
    let nameless = open.flatten().map(|entry| entry.path()).filter(|path| {
        std::fs::read_link(path).is_ok_and(|file| file.to_string_lossy().ends_with("(deleted)"))
    });
    nameless.map(|path| size(&path)).sum()
}

/// A database with a rollback journal, of which every slot of some size goes through a file.
fn without_a_wal(place: &Place) -> Connection {
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode=DELETE; CREATE TABLE t (x BLOB)").unwrap();
    grow(&app, 8);
    app
}

#[test]
fn while_the_bucket_is_away_no_slot_without_a_wal_waits_on_the_disk_and_one_brings_everything_back() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    let app = without_a_wal(&place);
    let args = ["replicate", "--enforce-wal=false", &place.text("app.db"), URL, "--log-level", "debug"];
    let replicating = place.start_with(&args, "stored txid 0000000000000001", Some(&s3));
    s3.stop();
    grow(&app, 10);
    replicating.wait_for("trying again");
    for _ in 0..3 {
        grow(&app, 10);
        assert_eq!(spooled(&replicating), 0, "{}", replicating.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    s3.start_again();
    replicating.wait_for("stored txid 0000000000000002");
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(newest(&s3), 2, "one slot for everything that was committed meanwhile: {log}");
    assert_restores(&place, &s3);
}

#[test]
fn no_slot_takes_of_the_disk_what_the_config_leaves_to_the_application() {
    let place = Place::new();
    let app = without_a_wal(&place);
    let config = place.text("lifeboat.yml");
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let entry = format!("enforce-wal: false\ndbs: [{{path: '{db}', replica: {{url: '{url}'}}}}]");
    std::fs::write(&config, format!("disk-reserve: 1PiB\n{entry}")).unwrap();
    let replicating = place.start(&["replicate", "--config", &config], "is left to the application");
    assert!(!place.path("replica/ltx/0").exists(), "{}", replicating.kill_and_read());
    replicating.kill();
    std::fs::write(&config, entry).unwrap();
    let replicating = place.start(&["replicate", "--config", &config], "stored txid");
    assert_eq!(replicating.stop().0, Some(0));
    drop(app);
}

/// Whether the next writer restarts the WAL: then it is no longer than it was.
fn settled(app: &Connection, place: &Place) -> Option<()> {
    let before = size(&place.path("app.db-wal"));
    app.execute_batch("UPDATE t SET x = x WHERE rowid = 1; DELETE FROM t WHERE rowid > 30").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    (size(&place.path("app.db-wal")) <= before).then_some(())
}

#[test]
fn a_large_slot_that_is_given_up_is_cut_anew_with_what_came_meanwhile() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    let app = application(&place, 10);
    let replicating = replicate(&place, &s3);
    replicating.wait_for("stored txid 0000000000000001");
    grow(&app, 150);
    eventually("the first part to arrive", || (parts(&s3) > 0).then_some(()), || replicating.log());
    s3.freeze();
    // The parts that arrived are lost, and so is the upload.
    s3.stop();
    std::fs::remove_dir_all(s3.file(".sgwtmp")).unwrap();
    app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    s3.start_again();
    replicating.wait_for("stored txid 0000000000000002");
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("is given up and will be cut anew"), "{log}");
    assert_restores(&place, &s3);
}

#[test]
fn what_a_killed_process_was_reading_is_not_taken_for_stored() {
    let (place, s3) = (Place::new(), S3Server::start());
    let app = application(&place, 10);
    let replicating = replicate(&place, &s3);
    replicating.wait_for("stored txid 0000000000000001");
    s3.freeze();
    grow(&app, 60);
    let is_read = || (replicating.log().matches("a large slot is read").count() == 2).then_some(());
    eventually("the second large slot to be read", is_read, || replicating.log());
    // Long enough for quiet looks that note where a later process may go on.
    std::thread::sleep(Duration::from_millis(500));
    replicating.kill();
    s3.thaw();
    let again = replicate(&place, &s3);
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    again.wait_for("stored txid");
    let (code, log) = again.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_restores(&place, &s3);
}
