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

/// A connection with the WAL-index mapped, to take locks with.
fn keeper(path: &Path) -> Connection {
    let keeper = Connection::open(path).unwrap();
    keeper.query_row("SELECT x FROM t", [], |_| Ok(())).unwrap();
    keeper
}

fn is_busy(connection: &Connection, mode: &str) -> bool {
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&pragma, [], |row| row.get::<_, i64>(0)).unwrap() == 1
}

#[test]
fn while_backfill_is_held_nobody_copies_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    let keeper = keeper(&path);
    assert_eq!(unlock(&keeper, Lock::Backfill), Ok(()), "without a lock it does nothing");
    assert_eq!(try_lock(&keeper, Lock::Backfill), Ok(true));
    assert!(!is_busy(&writer, "PASSIVE"));
    assert_eq!(index(&writer).backfilled.get(), 0);
    assert_eq!(unlock(&keeper, Lock::Backfill), Ok(()));
    assert!(!is_busy(&writer, "PASSIVE"));
    assert!(index(&writer).is_backfilled());
}

#[test]
fn while_the_checkpoint_lock_is_held_checkpoints_are_busy_at_once_and_writers_write() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    let keeper = keeper(&path);
    assert_eq!(try_lock(&keeper, Lock::Checkpoint), Ok(true));
    assert_eq!(try_lock(&keeper, Lock::Checkpoint), Ok(false), "it is not taken twice");
    assert!(is_busy(&writer, "PASSIVE") && is_busy(&writer, "TRUNCATE"));
    writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(unlock(&keeper, Lock::Checkpoint), Ok(()));
    assert!(!is_busy(&writer, "TRUNCATE"));
}

#[test]
fn while_the_write_lock_is_held_nobody_writes_and_a_checkpoint_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    writer.busy_timeout(std::time::Duration::ZERO).unwrap();
    let keeper = keeper(&path);
    assert_eq!(try_lock(&keeper, Lock::Write), Ok(true));
    assert!(writer.execute_batch("INSERT INTO t VALUES (2)").is_err());
    assert!(!is_busy(&writer, "PASSIVE") && index(&writer).is_backfilled());
    assert_eq!(unlock(&keeper, Lock::Write), Ok(()));
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(try_lock(&keeper, Lock::Write), Ok(false), "a writer has it");
}

#[test]
fn the_readers_lock_is_free_while_nobody_reads_from_the_wal() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = wal_database(folder.path());
    let (keeper, reader) = (keeper(&path), Connection::open(&path).unwrap());
    let begin = || reader.execute_batch("BEGIN; SELECT x FROM t").unwrap();
    begin();
    assert_eq!(try_lock(&keeper, Lock::Readers), Ok(false), "frames are in the WAL only");
    reader.execute_batch("ROLLBACK").unwrap();
    assert!(!is_busy(&writer, "PASSIVE"));
    begin();
    assert_eq!(try_lock(&keeper, Lock::Readers), Ok(true), "it reads from the database file");
    assert_eq!(unlock(&keeper, Lock::Readers), Ok(()));
}
