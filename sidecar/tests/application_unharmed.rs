//! The application cannot tell that we are there: its checkpoints, its writers that never wait, its readers, its VACUUM and
//! its files are as SQLite alone would have them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use support::{Place, Running, dump, eventually};

/// An application's database with a sidecar beside it.
struct Followed {
    place: Place,
    application: Connection,
    sidecar: Running,
}

impl Followed {
    fn new() -> Self {
        let place = Place::new();
        let application = place.open("app.db");
        application.execute_batch(TABLES).unwrap();
        let (db, url) = (place.text("app.db"), place.url("replica"));
        let sidecar = place.start(&["replicate", "--sync-interval", "50ms", &db, &url], "stored txid");
        Self { place, application, sidecar }
    }

    fn say(&self, sql: &str) {
        self.application.execute_batch(sql).unwrap();
    }

    /// The sidecar ends in order, and what it stored is what the application has.
    fn ends_well(self) {
        let (code, log) = self.sidecar.stop();
        assert_eq!(code, Some(0), "{log}");
        let check: String =
            self.application.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let out = self.place.text("out.db");
        self.place.run(&["restore", "-o", &out, &self.place.url("replica")]).says(0, &[]);
        assert!(dump(Path::new(&out)) == dump(&self.place.path("app.db")), "restored another database");
    }
}

/// One checkpoint; whether it did all that its mode promises.
fn checkpoint(connection: &Connection, mode: &str) -> bool {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (busy, frames, copied): (i64, i64, i64) = connection.query_row(&sql, [], row).unwrap();
    busy == 0 && frames == copied
}

#[test]
fn its_own_checkpoints_succeed_in_every_mode_right_after_a_commit() {
    let followed = Followed::new();
    let mut longest = Duration::ZERO;
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        for _ in 0..10 {
            followed.say(INSERT);
            let (begun, look) = (Instant::now(), || checkpoint(&followed.application, mode).then_some(()));
            eventually(&format!("a checkpoint {mode}"), look, || followed.sidecar.log());
            longest = longest.max(begun.elapsed());
        }
    }
    println!("the longest wait for a checkpoint: {longest:?}");
    followed.ends_well();
}

#[test]
fn after_a_truncate_the_wal_is_empty_and_the_file_alone_is_the_database() {
    let followed = Followed::new();
    followed.say(INSERT);
    let truncated = || checkpoint(&followed.application, "TRUNCATE").then_some(());
    eventually("the checkpoint", truncated, || followed.sidecar.log());
    assert_eq!(followed.place.path("app.db-wal").metadata().unwrap().len(), 0);
    // By another process: a descriptor closed here would drop the application's own locks.
    let copy = followed.place.path("copy.db");
    std::process::Command::new("cp").arg(followed.place.path("app.db")).arg(&copy).status().unwrap();
    assert_eq!(dump(&copy), dump(&followed.place.path("app.db")));
    followed.ends_well();
}

#[test]
fn writers_that_do_not_wait_hardly_ever_find_the_database_busy() {
    let followed = Followed::new();
    let writer = followed.place.open("app.db");
    writer.busy_timeout(Duration::ZERO).unwrap();
    let (begun, mut busy, mut done, mut worst) = (Instant::now(), 0, 0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(4) {
        let before = Instant::now();
        match writer.execute_batch(INSERT) {
            Ok(()) => done += 1,
            Err(error) => {
                assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{error}");
                busy += 1;
            }
        }
        worst = worst.max(before.elapsed());
        std::thread::sleep(Duration::from_millis(1).saturating_sub(before.elapsed()));
    }
    println!("{done} commits, {busy} times busy, the longest took {worst:?}");
    assert!(busy * 50 <= done, "busy {busy} times in {done} commits");
    followed.ends_well();
}

#[test]
fn a_long_reader_sees_one_state_to_its_end() {
    let followed = Followed::new();
    followed.say(INSERT);
    let reader = followed.place.open("app.db");
    let sum = |reader: &Connection| -> i64 {
        reader.query_row("SELECT sum(n) + count(*) FROM t", [], |row| row.get(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    let before = sum(&reader);
    for round in 0..200 {
        followed.say(INSERT);
        if round % 50 == 49 {
            followed.say("UPDATE t SET x = 'changed' WHERE n % 2 = 0; VACUUM");
            std::thread::sleep(Duration::from_millis(60));
        }
        assert_eq!(sum(&reader), before);
    }
    reader.execute_batch("COMMIT").unwrap();
    assert!(sum(&reader) > before);
    // And when it is gone, the WAL comes down again.
    followed.say(INSERT);
    let truncated = || checkpoint(&followed.application, "TRUNCATE").then_some(());
    eventually("the checkpoint", truncated, || followed.sidecar.log());
    followed.ends_well();
}

#[test]
fn the_file_is_page_for_page_the_one_that_sqlite_alone_would_have_made() {
    let followed = Followed::new();
    let alone = followed.place.open("alone.db");
    alone.execute_batch(TABLES).unwrap();
    for round in 0..120 {
        let sql = LIFE[round % LIFE.len()];
        for connection in [&followed.application, &alone] {
            connection.execute_batch(sql).unwrap();
        }
        if round % 10 == 9 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let names = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(names(&followed.application), names(&alone), "there is a table that is not the application's");
    let Followed { place, application, sidecar } = followed;
    assert_eq!(sidecar.stop().0, Some(0));
    for connection in [application, alone] {
        assert!(checkpoint(&connection, "TRUNCATE"));
    }
    let [ours, theirs] = ["app.db", "alone.db"].map(|name| std::fs::read(place.path(name)).unwrap());
    let differing: Vec<_> =
        ours.chunks(4096).zip(theirs.chunks(4096)).map(|(ours, theirs)| ours == theirs).collect();
    assert!(ours == theirs, "{} and {} bytes; the same pages: {differing:?}", ours.len(), theirs.len());
}

#[test]
fn an_application_that_opens_and_closes_for_each_statement_finds_everything_as_it_left_it() {
    let followed = Followed::new();
    for n in 0..50 {
        let connection = followed.place.open("app.db");
        connection.execute_batch(INSERT).unwrap();
        let rows: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, n + 1);
    }
    followed.ends_well();
}

#[test]
fn when_we_are_gone_the_application_closes_as_if_we_had_never_been_there() {
    let Followed { place, application, sidecar } = Followed::new();
    application.execute_batch(INSERT).unwrap();
    assert_eq!(sidecar.stop().0, Some(0));
    let rows = dump(&place.path("app.db"));
    drop(application);
    assert!(!place.path("app.db-wal").exists(), "the last to close did not find itself alone");
    assert!(!place.path("app.db-shm").exists());
    assert_eq!(dump(&place.path("app.db")), rows);
}

const TABLES: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t (x);";
const INSERT: &str = "INSERT INTO t (x) SELECT printf('row %05d', 1 + count(*)) FROM t";
/// Everything an application does, without chance.
const LIFE: [&str; 8] = [
    INSERT,
    "INSERT INTO t (x) SELECT x || hex(zeroblob(400)) FROM t LIMIT 20",
    "BEGIN; DELETE FROM t WHERE n % 3 = 0; INSERT INTO t (x) VALUES ('gone'); ROLLBACK",
    "UPDATE t SET x = x || '.' WHERE n % 5 = 1",
    "CREATE TABLE IF NOT EXISTS other (x); INSERT INTO other VALUES (hex(zeroblob(9000)))",
    "DELETE FROM t WHERE n % 4 = 2",
    "DROP TABLE other",
    "VACUUM",
];
