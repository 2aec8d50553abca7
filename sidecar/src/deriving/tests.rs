use lifeboat_ltx::{Checksum, FileName, Txid, decode_whole};
use lifeboat_replica::layout::Level;
use rusqlite::Connection;

use super::*;
use crate::database::{Database, EnforceWal};

/// A database of some pages, followed, and the page checksums of its present state.
fn place() -> (tempfile::TempDir, Connection, Database, PageSums) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB)").unwrap();
    for _ in 0..30 {
        application.execute_batch("INSERT INTO t VALUES (randomblob(20000))").unwrap();
    }
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut sums = PageSums::unknown();
    let view = database.detached_view(&mut DirtyPages::new()).unwrap().unwrap();
    let pages = view.pages().unwrap();
    let mut draft = sums.begin(pages.page_count());
    let all = PageSums::unknown().candidates(DirtyPages::new(), pages.page_count());
    pages
        .for_each(&all, |page, image| {
            draft.look(page, image);
            Ok::<(), Failure>(())
        })
        .unwrap();
    let _ = draft.finish();
    (folder, application, database, sums)
}

fn job(level: Level, min: u64, sums: &PageSums) -> Job {
    let mut pages = DirtyPages::new();
    match level {
        Level::SNAPSHOT => pages.insert_all(),
        _ => (2..40).for_each(|page| pages.insert(PageNo::try_new(page).unwrap())),
    }
    let name = FileName::try_new(Txid::try_new(min).unwrap(), Txid::try_new(9).unwrap()).unwrap();
    Job { level, name, pre_apply: Checksum::EMPTY, post_apply: sums.checksum().unwrap(), pages }
}

/// The bytes of the file, if it comes to its end.
fn received(file: &mut DerivedFile) -> Option<(Vec<u8>, WholeFile)> {
    let mut bytes = Vec::new();
    loop {
        match file.pieces.blocking_recv()? {
            DerivedPiece::Part(part) => bytes.extend_from_slice(&part),
            DerivedPiece::End(whole) => return Some((bytes, whole)),
        }
    }
}

fn derived(database: &mut Database, job: Job, sums: &PageSums) -> Option<(Vec<u8>, WholeFile)> {
    let view = database.detached_view(&mut DirtyPages::new()).unwrap().unwrap();
    let (_deriving, mut file) = begin(view, job, sums, (Epoch::new(3), 1_700_000_000_000)).unwrap();
    received(&mut file)
}

#[test]
fn a_file_holds_its_pages_as_the_slot_left_them() {
    let (_folder, _application, mut database, sums) = place();
    for (level, min) in [(Level::MERGED[0], 4), (Level::SNAPSHOT, 1)] {
        let (bytes, whole) = derived(&mut database, job(level, min, &sums), &sums).unwrap();
        let file = decode_whole(&bytes).unwrap();
        assert_eq!((whole.size, whole.pages), (bytes.len() as u64, file.pages.len()));
        assert!(bytes.ends_with(&whole.trailer));
        assert_eq!(
            (file.header.node_id, file.header.min_txid.get(), file.header.max_txid.get()),
            (3, min, 9)
        );
        assert!(
            file.pages.iter().all(|(page, image)| sums.of(*page) == Some(PageChecksum::of(*page, image)))
        );
    }
}

/// Whatever a view shows that is not exactly the slot: it never becomes a file.
#[test]
fn a_view_of_another_state_than_the_slots_never_becomes_a_file() {
    let (_folder, application, mut database, sums) = place();
    application.execute_batch("UPDATE t SET x = randomblob(20000) WHERE rowid = 7").unwrap();
    for (level, min) in [(Level::MERGED[0], 4), (Level::SNAPSHOT, 1)] {
        assert!(derived(&mut database, job(level, min, &sums), &sums).is_none(), "{level:?}");
    }
}

#[test]
fn a_reader_that_is_cancelled_lets_its_view_go() {
    let (_folder, application, mut database, sums) = place();
    let view = database.detached_view(&mut DirtyPages::new()).unwrap().unwrap();
    let (deriving, mut file) =
        begin(view, job(Level::SNAPSHOT, 1, &sums), &sums, (Epoch::new(3), 0)).unwrap();
    deriving.cancel();
    let _ = received(&mut file);
    while deriving.view.is_open() {
        std::thread::yield_now();
    }
    drop(database);
    let busy: i64 = application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
}

#[test]
fn a_file_that_was_read_is_not_given_up_because_it_is_still_on_its_way() {
    let (_folder, application, mut database, sums) = place();
    let view = database.detached_view(&mut DirtyPages::new()).unwrap().unwrap();
    let (deriving, mut file) =
        begin(view, job(Level::SNAPSHOT, 1, &sums), &sums, (Epoch::new(3), 0)).unwrap();
    // Nobody receives, so the thread waits with the end of the file.
    let begun = std::time::Instant::now();
    while !deriving.is_over() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it asks the thread, which waits");
        std::thread::yield_now();
    }
    drop((deriving, database));
    let busy: i64 = application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "the view is closed");
    assert!(!file.cancelled.is_cancelled());
    assert!(received(&mut file).is_some(), "the file is whole");
}
