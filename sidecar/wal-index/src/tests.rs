use std::path::{Path, PathBuf};

use lifeboat_wal::wal_index::WalIndex;
use rusqlite::Connection;

use super::*;

fn wal_database(folder: &Path) -> (PathBuf, Connection) {
    let path = folder.join("app.db");
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
    (path, writer)
}

fn index(connection: &Connection) -> WalIndex {
    WalIndex::decode(&read(connection).unwrap()).unwrap()
}

#[test]
fn the_bundled_sqlite_is_free_of_the_wal_reset_race() {
    assert!(rusqlite::version_number() >= 3_051_003, "{} loses commits", rusqlite::version());
}

#[test]
fn the_index_seen_through_another_connection_moves_with_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    let reader = Connection::open(path).unwrap();
    reader.query_row("SELECT x FROM t", [], |_| Ok(())).unwrap();
    let before = index(&reader);
    writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    let after = index(&reader);
    assert_eq!(after.header.change_counter, before.header.change_counter + 1);
    assert_eq!(after.header.last_frame.since(before.header.last_frame), 1);
    assert_eq!(after.header.salts, before.header.salts);
    assert_eq!(after.header.page_size.map(|size| size.get()), Some(4096));
}

#[test]
fn the_index_tells_how_far_a_checkpoint_came() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer) = wal_database(folder.path());
    assert_eq!(index(&writer).backfilled.get(), 0);
    writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    assert!(index(&writer).is_backfilled());
    assert_ne!(index(&writer).backfilled.get(), 0);
}

#[test]
fn a_database_in_memory_has_no_wal_index() {
    let connection = Connection::open_in_memory().unwrap();
    assert_eq!(read(&connection), Err(WalIndexError::NoSharedMemory));
}

#[test]
fn a_database_file_can_be_synced_and_one_in_memory_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer) = wal_database(folder.path());
    assert_eq!(sync_database(&writer), Ok(()));
    assert!(sync_database(&Connection::open_in_memory().unwrap()).is_err());
}

#[test]
fn while_backfill_is_held_nobody_copies_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    let keeper = Connection::open(path).unwrap();
    keeper.query_row("SELECT x FROM t", [], |_| Ok(())).unwrap();
    assert_eq!(release_backfill(&keeper), Ok(()), "without a hold it does nothing");
    assert_eq!(try_hold_backfill(&keeper), Ok(true));
    let passive = || writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    passive();
    assert_eq!(index(&writer).backfilled.get(), 0);
    assert_eq!(release_backfill(&keeper), Ok(()));
    passive();
    assert!(index(&writer).is_backfilled());
}
