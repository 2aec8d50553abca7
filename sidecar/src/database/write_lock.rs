//! SQLite's write lock, held for long and on purpose: the application reads on, and commits nothing.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lifeboat_wal::PageSize;
use rusqlite::Connection;

use super::{DatabaseError, DetachedView, connection, hot_journal};

/// As long as it lives, nobody commits to the database: writers get `SQLITE_BUSY`, readers are not kept from anything.
///
/// It ends with the process, whatever happens to that. Nothing is ever written through it.
#[derive(Debug)]
pub struct WriteLock {
    path: PathBuf,
    page_size: PageSize,
    /// A mutex, only so that others may read through connections of their own meanwhile.
    _connection: Mutex<Connection>,
}

impl WriteLock {
    /// Takes the lock, if it is free within a moment.
    ///
    /// # Errors
    /// [`DatabaseError::Busy`] while somebody writes, [`DatabaseError::Absent`] or [`DatabaseError::Empty`] where there is
    /// nothing to lock; or what SQLite says.
    pub fn take(path: &Path) -> Result<Self, DatabaseError> {
        super::file_system::require_database_file(path)?;
        let path = path.canonicalize().map_err(|error| DatabaseError::io(path, "find", error))?;
        hot_journal::require_super_journal(&path)?;
        let connection = connection::open(&path)?;
        connection::require_pages(&connection, &path)?;
        let page_size = connection::read_page_size(&connection, &path)?;
        // To SQLite it is the beginning of a write, of which nothing follows.
        let begun = connection.execute_batch("PRAGMA query_only=OFF; BEGIN IMMEDIATE");
        begun.map_err(|source| DatabaseError::sqlite(&path, "lock", source))?;
        Ok(Self { path, page_size, _connection: Mutex::new(connection) })
    }

    /// The database, which rests as long as the lock is held.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn view(&self) -> Result<DetachedView, DatabaseError> {
        DetachedView::of_resting(&self.path, self.page_size)
    }
}

/// Makes sure that no other connection has the database, and copies its WAL into it, so that the file is all of it.
///
/// A connection without a WAL that only rests is not seen: it holds no lock.
///
/// # Errors
/// [`DatabaseError::Busy`] while another connection is there, or what SQLite says.
pub fn settle_alone(path: &Path) -> Result<(), DatabaseError> {
    super::file_system::require_database_file(path)?;
    let path = &path.canonicalize().map_err(|error| DatabaseError::io(path, "find", error))?;
    hot_journal::require_super_journal(path)?;
    let connection = connection::open(path)?;
    // Before anything is read: only then a connection that has the WAL is in the way of the lock.
    let alone = "PRAGMA query_only=OFF; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT";
    connection.execute_batch(alone).map_err(|source| DatabaseError::sqlite(path, "lock", source))?;
    let copied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match copied.map_err(|source| DatabaseError::checkpoint(path, source))? {
        0 => Ok(()),
        _ => Err(DatabaseError::Busy { path: path.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ErrorCode;

    use super::*;

    fn application(mode: &str) -> (tempfile::TempDir, PathBuf, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let application = Connection::open(&path).unwrap();
        let schema = format!("PRAGMA journal_mode={mode}; CREATE TABLE t (n); INSERT INTO t VALUES (1);");
        application.execute_batch(&schema).unwrap();
        (folder, path, application)
    }

    #[test]
    fn writers_are_kept_out_and_readers_are_not_with_and_without_a_wal() {
        for mode in ["WAL", "DELETE"] {
            let (_folder, path, application) = application(mode);
            application.busy_timeout(std::time::Duration::ZERO).unwrap();
            let lock = WriteLock::take(&path).unwrap();
            let refused = application.execute("INSERT INTO t VALUES (2)", []).unwrap_err();
            assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{mode}");
            let rows = |sql: &str| application.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(rows("SELECT count(*) FROM t"), 1);
            let view = lock.view().unwrap();
            assert!(view.pages().unwrap().page_count().get() >= 2);
            drop(view);
            assert!(
                application.execute("INSERT INTO t VALUES (2)", []).is_err(),
                "a closed view gave the lock back"
            );
            drop(lock);
            application.execute("INSERT INTO t VALUES (2)", []).unwrap();
        }
    }

    #[test]
    fn nobody_is_alone_beside_a_connection_that_has_the_wal() {
        let (_folder, path, application) = application("WAL");
        assert!(matches!(settle_alone(&path), Err(DatabaseError::Busy { .. })));
        let wal = crate::disk::beside(&path, "-wal");
        assert!(wal.metadata().unwrap().len() > 0);
        application
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .unwrap();
        drop(application);
        settle_alone(&path).unwrap();
        assert_eq!(wal.metadata().map_or(0, |found| found.len()), 0, "it is not all in the file");
        WriteLock::take(&path).unwrap();
    }

    #[test]
    fn a_writer_in_the_middle_of_a_transaction_is_waited_for() {
        let (_folder, path, application) = application("WAL");
        application.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
        assert!(matches!(WriteLock::take(&path), Err(DatabaseError::Busy { .. })));
        application.execute_batch("COMMIT").unwrap();
        WriteLock::take(&path).unwrap();
    }
}
