//! The application's database: one table of numbered rows.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lifeboat_e2e::rows::Rows;
use rusqlite::{Connection, OpenFlags};

/// How long SQLite waits for a lock that somebody else holds, as most applications set it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection that writes.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    pod: String,
}

impl Database {
    /// Opens the database, or makes it.
    pub(crate) fn open(path: &Path, pod: String) -> Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("open {}", path.display()))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal").context("switch to WAL")?;
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS rows(n INTEGER PRIMARY KEY, at TEXT NOT NULL, pod TEXT NOT NULL)",
            )
            .context("create the table")?;
        Ok(Self { connection, pod })
    }

    /// The highest number; 0 when there are no rows.
    pub(crate) fn last(&self) -> Result<i64> {
        Ok(self.connection.query_row("SELECT coalesce(max(n), 0) FROM rows", [], |row| row.get(0))?)
    }

    /// One row, one transaction.
    pub(crate) fn insert(&self, n: i64) -> rusqlite::Result<()> {
        let at = jiff::Timestamp::now().to_string();
        self.connection.execute("INSERT INTO rows(n, at, pod) VALUES (?1, ?2, ?3)", (n, at, &self.pod))?;
        Ok(())
    }
}

/// Reads the rows through a connection of its own, as a web server's workers do.
pub(crate) fn read_rows(path: &Path, pod: String, last_at_start: i64) -> Result<Rows> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let (count, first, last): (i64, i64, i64) = connection.query_row(
        "SELECT count(*), coalesce(min(n), 0), coalesce(max(n), 0) FROM rows",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let integrity = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let gaps = if count == 0 { 0 } else { last + 1 - first - count };
    Ok(Rows { count, first, last, gaps, integrity, pod, last_at_start })
}
