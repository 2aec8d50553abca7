use std::path::PathBuf;

use lifeboat_ltx::{Txid, decode_whole};
use lifeboat_replica::epoch::Epoch;
use rusqlite::Connection;

use super::*;
use crate::database::{Database, EnforceWal};

const PART: u64 = 50_000;

fn place() -> (tempfile::TempDir, Connection, Database, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB)").unwrap();
    for _ in 0..30 {
        application.execute_batch("INSERT INTO t VALUES (randomblob(20000))").unwrap();
    }
    let database = Database::open(&path, EnforceWal::No).unwrap();
    (folder, application, database, path)
}

fn next() -> NextSlot {
    NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY }
}

fn begin(view: DetachedView, dirty: DirtyPages, sums: PageSums, next: NextSlot) -> (Reading, StreamedSlot) {
    ReadingThread::start().unwrap().begin(view, (dirty, sums), next, PART, Turn::of_nobody())
}

/// Receives everything; the parts in order, and the slot.
fn receive(slot: &mut StreamedSlot) -> (Vec<Bytes>, SlotFile) {
    let mut parts = Vec::new();
    loop {
        match slot.pieces.blocking_recv().unwrap() {
            Piece::Part(part) => parts.push(part),
            Piece::Nothing => panic!("there is something"),
            Piece::Slot(slot) => {
                let Body::Bytes(first) = &slot.body else { panic!("a part is in memory") };
                parts.insert(0, first.clone());
                return (parts, *slot);
            }
        }
    }
}

/// What SQLite itself says the pages are, in the state that a reader sees who begins now.
fn image(connection: &Connection) -> Vec<Vec<u8>> {
    let mut pages = connection.prepare("SELECT data FROM sqlite_dbpage").unwrap();
    pages.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_slot_is_what_the_database_was_when_its_view_was_opened_whatever_happens_meanwhile() {
    let (_folder, application, mut database, _) = place();
    let mut dirty = DirtyPages::new();
    let expected = image(&application);
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    let (reading, mut slot) = begin(view, dirty, PageSums::unknown(), next());
    // The reader waits with its second part; the database goes on, also through checkpoints.
    let mut later = DirtyPages::new();
    for _ in 0..5 {
        application.execute_batch("UPDATE t SET x = randomblob(20000); PRAGMA wal_checkpoint").unwrap();
        database.follow(&mut later).unwrap();
        database.settle(&mut later).unwrap();
    }
    let (parts, end) = receive(&mut slot);
    assert!(parts.len() > 10);
    assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == PART));
    assert!(!parts.last().unwrap().is_empty());
    let bytes = parts.concat();
    let file = decode_whole(&bytes).unwrap();
    assert_eq!(file.header, end.header);
    assert_eq!(file.pages.into_iter().map(|(_, image)| image).collect::<Vec<_>>(), expected);
    assert_eq!(end.identity.size, bytes.len() as u64);
    let Read { sums, outcome } = reading.end().unwrap();
    assert!(matches!(outcome, Outcome::Sent { post_apply, .. } if Some(post_apply) == sums.checksum()));
    assert!(!later.is_empty());
}

#[test]
fn commits_between_the_opening_of_a_view_and_its_slot_stay_dirty() {
    let (_folder, application, mut database, _) = place();
    let mut dirty = DirtyPages::new();
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    assert!(view.still_dirty().is_empty());
    application.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let mut later = view.still_dirty().clone();
    database.follow(&mut later).unwrap();
    assert!(!later.is_empty());
    let pages = view.pages().unwrap();
    let mut seen = 0;
    dirty.insert_all();
    pages
        .for_each(&dirty, |_, _| {
            seen += 1;
            Ok::<(), crate::database::DatabaseError>(())
        })
        .unwrap();
    assert_eq!(seen, pages.page_count().get());
}

#[test]
fn a_slot_that_is_interrupted_leaves_the_checksums_as_before_and_frees_the_view() {
    let (_folder, application, mut database, path) = place();
    let (mut dirty, mut sums) = (DirtyPages::new(), PageSums::unknown());
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    let (reading, mut slot) = begin(view, dirty, sums, next());
    receive(&mut slot);
    Read { sums, .. } = reading.end().unwrap();
    let before = sums.clone();
    application.execute_batch("UPDATE t SET x = randomblob(20000)").unwrap();
    for is_dropped in [true, false] {
        let mut all = DirtyPages::new();
        all.insert_all();
        let view = database.detached_view(&mut all).unwrap().unwrap();
        let second = next().after(Checksum::EMPTY).unwrap();
        let (reading, mut slot) = begin(view, all, sums, second);
        let piece = slot.pieces.blocking_recv();
        assert!(matches!(piece, Some(Piece::Part(_))), "{piece:?}");
        if is_dropped {
            drop(slot);
        } else {
            reading.cancel();
            // Whoever receives is told too, and stops.
            assert!(slot.cancelled.is_cancelled());
            drop(slot);
        }
        let read = reading.end().unwrap();
        assert!(matches!(read.outcome, Outcome::Interrupted));
        sums = read.sums;
        assert_eq!(sums, before);
    }
    drop(database);
    let truncated = Connection::open(path).unwrap();
    truncated.busy_timeout(std::time::Duration::ZERO).unwrap();
    let busy: i64 = truncated.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "no view holds the WAL any more");
}

#[test]
fn a_slot_that_would_change_nothing_says_so() {
    let (_folder, _application, mut database, _) = place();
    let mut sums = PageSums::unknown();
    for round in 0..2 {
        let mut dirty = DirtyPages::new();
        let view = database.detached_view(&mut dirty).unwrap().unwrap();
        dirty.insert_all();
        let (reading, mut slot) = begin(view, dirty, sums, next());
        if round == 0 {
            receive(&mut slot);
        } else {
            assert!(matches!(slot.pieces.blocking_recv(), Some(Piece::Nothing)));
        }
        Read { sums, .. } = reading.end().unwrap();
    }
}

#[test]
fn a_reading_that_finds_nothing_to_send_can_be_interrupted_too() {
    let (_folder, application, mut database, _) = place();
    for _ in 0..20 {
        application.execute_batch("INSERT INTO t VALUES (randomblob(1000000))").unwrap();
    }
    let mut dirty = DirtyPages::new();
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    let (reading, mut slot) = begin(view, dirty, PageSums::unknown(), next());
    receive(&mut slot);
    let Read { sums, .. } = reading.end().unwrap();
    let mut all = DirtyPages::new();
    let view = database.detached_view(&mut all).unwrap().unwrap();
    all.insert_all();
    let (reading, slot) = begin(view, all, sums.clone(), next());
    reading.cancel();
    let read = reading.end().unwrap();
    assert!(matches!(read.outcome, Outcome::Interrupted), "{:?}", read.outcome);
    assert_eq!(read.sums, sums);
    drop(slot);
}

#[test]
fn where_there_is_no_thread_that_may_pass() {
    let greedy = std::thread::Builder::new().stack_size(1 << 60);
    let failure = ReadingThread::start_as(greedy).unwrap_err();
    assert_eq!(failure.exit, crate::exit::Exit::Unavailable, "{failure}");
}

#[test]
fn a_reading_that_nobody_waits_for_any_more_ends() {
    let (_folder, _application, mut database, path) = place();
    let mut dirty = DirtyPages::new();
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    let (reading, slot) = begin(view, dirty, PageSums::unknown(), next());
    drop((reading, database));
    assert!(slot.cancelled.is_cancelled(), "whoever receives is told");
    drop(slot);
    let truncated = Connection::open(path).unwrap();
    let begun = std::time::Instant::now();
    while truncated.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)) != Ok(0_i64) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the view is still open");
    }
}

#[test]
fn a_slot_that_was_read_is_not_watched_over_because_it_is_still_on_its_way() {
    let (_folder, application, mut database, _) = place();
    let mut dirty = DirtyPages::new();
    let view = database.detached_view(&mut dirty).unwrap().unwrap();
    // All of it in two parts: one waits in the line, and the thread with the other.
    let thread = ReadingThread::start().unwrap();
    let parts = (dirty, PageSums::unknown());
    let (reading, mut slot) = thread.begin(view, parts, next(), 500_000, Turn::of_nobody());
    let begun = std::time::Instant::now();
    while !reading.is_over() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it asks the thread, which waits");
        std::thread::yield_now();
    }
    assert!(!slot.cancelled.is_cancelled());
    drop(database);
    let busy: i64 = application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "the view is closed");
    let (parts, _) = receive(&mut slot);
    assert_eq!(parts.len(), 2);
    assert!(matches!(reading.end().unwrap().outcome, Outcome::Sent { .. }));
}
