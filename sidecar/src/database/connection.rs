//! Connections that are allowed to look and nothing else, and the pins made of them.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use lifeboat_wal::PageSize;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::DatabaseError;

/// Whether a database that is not in WAL mode may be switched to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnforceWal {
    /// Switch it. The only write we ever make to an application's database.
    Yes,
    /// Follow it as it is.
    No,
}

/// What a checkpoint of ours syncs: SQLite's own word, with SQLite's own meaning for checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Synchronous {
    /// The WAL before pages are copied, the database before the WAL may be restarted.
    #[default]
    Normal,
    /// Nothing. Only for an application that runs with `synchronous=OFF` itself, and so takes the risk anyway: a power
    /// failure may destroy its database.
    Off,
}

/// Opens a connection that leaves the database as it is when it works, and when it closes.
pub(super) fn open(path: &Path) -> Result<Connection, DatabaseError> {
    // Without CREATE: a database that does not exist is the application's to create.
    let connection = open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let read_only = connection.is_readonly("main");
    if read_only.map_err(|source| DatabaseError::sqlite(path, "open", source))? {
        return Err(DatabaseError::ReadOnly { path: path.to_owned() });
    }
    Ok(connection)
}

/// Opens a connection that cannot even do what SQLite does by itself: repair a database whose writer was killed.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, DatabaseError> {
    open_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open_with(path: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    let error = |source| DatabaseError::sqlite(path, "open", source);
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(error)?;
    // The last connection to close checkpoints the WAL and deletes it; if that is ours, the WAL must stay.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(error)?;
    connection.execute_batch(SETTINGS).map_err(error)?;
    Ok(connection)
}

/// Whether the database is in WAL mode.
pub(super) fn is_wal(connection: &Connection, path: &Path) -> Result<bool, DatabaseError> {
    let mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    let mode = mode.map_err(|source| DatabaseError::sqlite(path, "read the journal mode of", source))?;
    Ok(mode == WAL)
}

/// Refuses a database in which nothing was ever committed.
pub(super) fn require_pages(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let pages = connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0));
    match pages.map_err(|source| DatabaseError::sqlite(path, "read", source))? {
        0 => Err(DatabaseError::Empty { path: path.to_owned() }),
        _ => Ok(()),
    }
}

pub(super) fn read_page_size(connection: &Connection, path: &Path) -> Result<PageSize, DatabaseError> {
    let bytes: u32 = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(|source| DatabaseError::sqlite(path, "read the page size of", source))?;
    PageSize::try_new(bytes).ok_or_else(|| DatabaseError::NotADatabase { path: path.to_owned() })
}

/// Refuses pages of another size than they were: a chain of files of two page sizes cannot be restored.
pub(super) fn require_page_size(path: &Path, was: PageSize, is: PageSize) -> Result<(), DatabaseError> {
    if was == is { Ok(()) } else { Err(DatabaseError::PageSizeChanged { path: path.to_owned(), was, is }) }
}

/// Makes sure that the database is in WAL mode; says whether it had to be switched.
pub(super) fn require_wal(
    connection: &Connection,
    path: &Path,
    enforce: EnforceWal,
) -> Result<bool, DatabaseError> {
    let error = |source| DatabaseError::sqlite(path, "read the journal mode of", source);
    let mode = |sql| connection.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(error);
    let found = mode("PRAGMA journal_mode")?;
    if found == WAL {
        return Ok(false);
    }
    let found = match enforce {
        EnforceWal::Yes => mode("PRAGMA journal_mode=WAL")?,
        EnforceWal::No => found,
    };
    if found == WAL { Ok(true) } else { Err(DatabaseError::NotWal { path: path.to_owned(), mode: found }) }
}

/// How far a checkpoint came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpointed {
    /// It ran, as far as readers let it.
    Ran,
    /// Somebody else is checkpointing.
    Busy,
    /// It could not write, or the last one could not and it is too early to try again. The WAL holds everything.
    Failed,
}

/// Copies committed frames into the database as far as readers allow, without waiting for anybody.
pub(super) fn checkpoint_passive(
    connection: &Connection,
    path: &Path,
) -> Result<Checkpointed, DatabaseError> {
    let busy = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0));
    match busy.map_err(|source| DatabaseError::checkpoint(path, source)) {
        Ok(0) => Ok(Checkpointed::Ran),
        Ok(_) | Err(DatabaseError::Busy { .. }) => Ok(Checkpointed::Busy),
        Err(error) => Err(error),
    }
}

/// Lets a connection's checkpoints sync no more than the application's own.
pub(super) fn sync_nothing(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    connection
        .execute_batch("PRAGMA synchronous=OFF")
        .map_err(|source| DatabaseError::sqlite(path, "open", source))
}

/// A connection whose open read transaction keeps every later frame of the WAL readable.
#[derive(Debug)]
pub(super) struct Pin {
    connection: Connection,
}

impl Pin {
    /// A pin that does not hold anything yet.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self { connection: open(path)? })
    }

    /// Opens the read transaction. After an error none is open.
    pub(super) fn begin(&self, path: &Path) -> Result<(), DatabaseError> {
        self.end();
        // SQLite keeps the pages it has read for as long as nobody commits, which is too long for a file that somebody
        // copied over the database. BEGIN alone takes no snapshot; the first read does. This one reads page 1 and no schema.
        let begun = self.connection.execute_batch("PRAGMA shrink_memory; BEGIN; PRAGMA user_version");
        begun.map_err(|source| {
            self.end();
            DatabaseError::sqlite(path, "begin to read", source)
        })
    }

    /// Ends the read transaction, if one is open.
    pub(super) fn end(&self) {
        if !self.connection.is_autocommit() {
            // A rollback of a transaction that only read cannot fail, and it ends even when it reports an error.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
    }

    /// The connection, to read at the pin's snapshot.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// SQLite's word for WAL mode.
const WAL: &str = "wal";

/// How long SQLite waits for a lock by itself. Short: whoever waits does not follow.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// First of all, an unusual schema must not keep us from reading pages: `writable_schema` makes SQLite overlook what it
/// cannot parse, and `query_only` at the end makes sure that nothing is written all the same.
///
/// The checkpoints of a connection with `synchronous=OFF` sync nothing: a power failure could then destroy the database.
const SETTINGS: &str = "PRAGMA writable_schema=ON;
    PRAGMA mmap_size=0;
    PRAGMA cache_size=-512;
    PRAGMA wal_autocheckpoint=0;
    PRAGMA synchronous=NORMAL;
    PRAGMA query_only=ON;";
