//! Databases without a WAL: journal modes DELETE, TRUNCATE, PERSIST, MEMORY and OFF.
//!
//! Nothing says which pages a commit changed, so every page is read and compared by its checksum. **Why nothing can be
//! missed:** SQLite counts commits in the database header, and `PRAGMA data_version` of a connection moves when the
//! database is not what that connection saw last. What a view shows is exactly what stood there at one `data_version`,
//! because under its shared lock nobody can write to the file. So when the number did not move, the last view is still
//! what the database holds. The file's length and time of change are held against the last view too: a crash without a
//! journal, or a file copied over this one, need not move the counter.
//!
//! **What it costs.** That shared lock is what a writer's commit waits for. So nothing is done under it but to read at the
//! speed of memory, and at most a [tenth](REST) of the time. In WAL mode nobody waits.
//!
//! **What a killed writer left** is rolled back by the next one that may write, not by us: our connection is read-only,
//! and for it SQLite refuses to read a database with a *hot journal*.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::FileStamp;
use lifeboat_wal::PageSize;
use rusqlite::Connection;

use super::view::Rolled;
use super::{DatabaseError, Followed, Gained, Pages, View, connection, file_system};

/// A database with a rollback journal, or none, that we follow.
#[derive(Debug)]
pub(super) struct JournalDatabase {
    path: PathBuf,
    page_size: PageSize,
    connection: Connection,
    /// What the last view showed.
    viewed: Cell<Option<Moment>>,
    rests_until: Cell<Option<Instant>>,
    /// Whether the application switched to WAL mode: then this is of no use any more.
    is_wal: Cell<bool>,
    /// What was found and nobody took note of.
    gained: Cell<Gained>,
}

/// What tells one committed state of a database from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    /// SQLite's own, good for one connection only.
    data_version: i64,
    file: FileStamp,
}

/// A read transaction. As long as it lasts, nobody can commit.
#[derive(Debug)]
pub(super) struct ReadLock<'d> {
    connection: &'d Connection,
    since: Instant,
    rests_until: &'d Cell<Option<Instant>>,
}

impl JournalDatabase {
    /// Opens the database; [`DatabaseError::ModeChanged`] if it is in WAL mode.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        match Self::try_open(path) {
            // Opening waited for the lock already. Whoever still has it has it for long.
            Err(DatabaseError::Busy { path }) => Err(DatabaseError::LockHeld { path }),
            opened => opened,
        }
    }

    fn try_open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = connection::open_read_only(path)?;
        connection::require_pages(&connection, path)?;
        let page_size = connection::read_page_size(&connection, path)?;
        let (path, viewed, rests_until) = (path.to_owned(), Cell::new(None), Cell::new(None));
        let is_wal = Cell::new(false);
        let gained = Cell::default();
        let database = Self { path, page_size, connection, viewed, rests_until, is_wal, gained };
        database.require_mode()?;
        Ok(database)
    }

    /// Looks whether anything was committed since the last view. If so, any page may have changed.
    pub(super) fn follow(&self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        // What is dirty already needs no look, and every look is a lock for a moment.
        if !self.is_wal.get() && (dirty.is_all() || self.viewed.get() == Some(self.moment()?)) {
            return Ok(Followed::NOTHING);
        }
        self.require_mode()?;
        dirty.insert_all();
        Ok(self.something())
    }

    /// Opens a view of the newest commit. As long as it lasts, nobody can commit.
    pub(super) fn view(&self, dirty: &mut DirtyPages) -> Result<View<'_>, DatabaseError> {
        let lock = self.begin()?;
        self.require_mode()?;
        self.require_page_size()?;
        let now = Some(self.moment()?);
        let mut followed = Followed::NOTHING;
        if self.viewed.replace(now) != now {
            dirty.insert_all();
            followed = self.something();
        }
        let pages = Pages::open(&self.connection, &self.path, self.page_size, true)?;
        let (later, gained_later) = (DirtyPages::new(), Gained::NOTHING);
        let rolled = Rolled { followed, later, gained_later, header: None };
        Ok(View::new(pages, rolled, None, Some(lock)))
    }

    /// Until when the application is to have the database for itself.
    pub(super) const fn rests_until(&self) -> Option<Instant> {
        self.rests_until.get()
    }

    pub(super) const fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn begin(&self) -> Result<ReadLock<'_>, DatabaseError> {
        let lock =
            ReadLock { connection: &self.connection, since: Instant::now(), rests_until: &self.rests_until };
        // SQLite keeps the pages it has read for as long as the change counter does not move, which is too long for a file
        // that somebody copied over the database. BEGIN alone takes no lock; the first read does.
        let begun = self.connection.execute_batch("PRAGMA shrink_memory; BEGIN; PRAGMA user_version");
        begun.map_err(|source| DatabaseError::sqlite(&self.path, "begin to read", source))?;
        Ok(lock)
    }

    fn moment(&self) -> Result<Moment, DatabaseError> {
        // The file first: what changes after this look at it is found by the next.
        let file = file_system::stamp(&self.path);
        let file = file.map_err(|error| DatabaseError::io(&self.path, "look at", error))?;
        let data_version = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        let error = |source| DatabaseError::sqlite(&self.path, "look for commits in", source);
        Ok(Moment { data_version: data_version.map_err(error)?, file })
    }

    fn require_mode(&self) -> Result<(), DatabaseError> {
        self.is_wal.set(connection::is_wal(&self.connection, &self.path)?);
        if self.is_wal.get() {
            return Err(DatabaseError::ModeChanged { path: self.path.clone() });
        }
        Ok(())
    }

    /// Without a WAL, VACUUM may give a database another page size.
    fn require_page_size(&self) -> Result<(), DatabaseError> {
        let is = connection::read_page_size(&self.connection, &self.path)?;
        connection::require_page_size(&self.path, self.page_size, is)
    }

    /// How much was committed is not known, only that something was.
    fn something(&self) -> Followed {
        let gained = Gained { commits: 1, frames: 1, bytes: u64::from(self.page_size.get()) };
        self.gained.set(self.gained.get().and(gained));
        Followed::Continued(gained)
    }

    /// What was found since this was asked last, by a look or by a view.
    pub(super) const fn take_gained(&self) -> Gained {
        self.gained.replace(Gained::NOTHING)
    }
}

impl Drop for ReadLock<'_> {
    fn drop(&mut self) {
        if !self.connection.is_autocommit() {
            // A rollback of a transaction that only read cannot fail, and it ends even when it reports an error.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        self.rests_until.set(self.since.checked_add(self.since.elapsed() * REST));
    }
}

/// From the beginning of one view to that of the next there are this many times as long as the view lasted.
const REST: u32 = 10;

#[cfg(test)]
mod tests;
