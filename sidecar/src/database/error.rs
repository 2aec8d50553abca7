//! Why a database cannot be opened, followed or read.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_wal::{PageCount, PageNo, PageSize};
use lifeboat_wal_index::WalIndexError;
use lifeboat_wire::{Reason, Verdict};
use rusqlite::ErrorCode;

/// What stands between us and the application's database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file does not exist. It may yet come.
    #[error("{} does not exist yet; waiting for the application to create it", path.display())]
    Absent {
        /// The database.
        path: PathBuf,
    },
    /// The file has no page yet: somebody opened it, and nothing was ever committed.
    #[error("{} is empty; waiting for the application to write to it", path.display())]
    Empty {
        /// The database.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not an SQLite database (or an encrypted one); check the path", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database is not in WAL mode, and SQLite did not switch it.
    #[error(
        "{} is in journal mode {mode:?} and cannot be switched to wal; set enforce-wal to false to replicate it as it is",
        path.display()
    )]
    NotWal {
        /// The database.
        path: PathBuf,
        /// The journal mode it is in.
        mode: String,
    },
    /// Another process was in the way for a moment; nothing changed.
    #[error("{} is busy; trying again", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// Another process keeps everybody else out.
    #[error(
        "{} is locked by another process; if the application sets locking_mode=EXCLUSIVE, it must not",
        path.display()
    )]
    LockHeld {
        /// The database.
        path: PathBuf,
    },
    /// The file system is not one on which processes can share locks and memory.
    #[error(
        "{} is on {file_system}, where locks and memory shared between processes cannot be relied on; move it to a local disk",
        path.display()
    )]
    UnsupportedFilesystem {
        /// The database.
        path: PathBuf,
        /// What the file system is called.
        file_system: &'static str,
    },
    /// We may read the file but not write to it, and even a reader has to write to the shared memory.
    #[error("{} cannot be opened for writing, which readers of a WAL need too; check its owner and mode", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The path leads to another file than the one that was opened.
    #[error("{} was replaced by another file; it must be opened again", path.display())]
    Replaced {
        /// The database.
        path: PathBuf,
    },
    /// The WAL was deleted or replaced, and the application still has the old one open.
    #[error(
        "the -wal file of {} is not the one that the application writes to: it was deleted or replaced; restart the application",
        path.display()
    )]
    StrayWal {
        /// The database.
        path: PathBuf,
    },
    /// The application changed the journal mode.
    #[error("{} has another journal mode now; it is being opened again", path.display())]
    ModeChanged {
        /// The database.
        path: PathBuf,
    },
    /// A killed writer left half a transaction in the file. Who reads it as it is reads garbage.
    #[error(
        "{} holds half a transaction of a process that was killed; the application repairs it when it opens the database again",
        path.display()
    )]
    HotJournal {
        /// The database.
        path: PathBuf,
    },
    /// The file is shorter than the database in it.
    #[error(
        "{} has {found} bytes, but the database in it needs {expected}; something cut it short. Restore it",
        path.display()
    )]
    Truncated {
        /// The database.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes there must be at least.
        expected: u64,
    },
    /// SQLite finds that the database is not well-formed, or a page cannot be read.
    #[error("a page of {} cannot be read; check the disk, and restore the database if it is damaged", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// A page of the database is not what was committed: a checkpoint did not copy it.
    #[error(
        "page {page} of {} is not what was last committed: a checkpoint did not copy it, as SQLite before 3.51.3 can fail to, \
         or something else wrote to the file. Nothing was stored of that; restore the database from its replica",
        path.display()
    )]
    LostPage {
        /// The database.
        path: PathBuf,
        /// The first page found.
        page: PageNo,
    },
    /// The page size is not the one it was.
    #[error(
        "{} has pages of {} bytes now and had {}; a replica keeps its page size, so give the database a new, empty prefix",
        path.display(), is.get(), was.get()
    )]
    PageSizeChanged {
        /// The database.
        path: PathBuf,
        /// Size of the pages that were followed.
        was: PageSize,
        /// Size of the pages there are.
        is: PageSize,
    },
    /// A page was asked for that the view does not have.
    #[error("{} has {page_count} pages in this view; page {page} is beyond its end", path.display())]
    PageBeyondEnd {
        /// The database.
        path: PathBuf,
        /// The page asked for.
        page: PageNo,
        /// How many there are.
        page_count: PageCount,
    },
    /// SQLite refused, for another reason than those above.
    #[error("SQLite cannot {doing} {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was being done, as in "cannot … app.db".
        doing: &'static str,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// A checkpoint of ours cannot write. The database can be read all the same, and what was committed is safe in its WAL.
    #[error(
        "the WAL of {} cannot be copied into it and grows; commits are stored all the same. Look at its disk, which may be full",
        path.display()
    )]
    Uncopied {
        /// The database.
        path: PathBuf,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// The WAL-index cannot be read.
    #[error("cannot read the WAL-index of {}", path.display())]
    WalIndex {
        /// The database.
        path: PathBuf,
        /// Why.
        source: WalIndexError,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as in "cannot … app.db".
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl DatabaseError {
    /// What to do about it.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Absent { .. }
            | Self::Empty { .. }
            | Self::Busy { .. }
            | Self::LockHeld { .. }
            | Self::Replaced { .. }
            | Self::StrayWal { .. }
            | Self::ModeChanged { .. }
            | Self::HotJournal { .. }
            | Self::Truncated { .. }
            | Self::Unreadable { .. }
            | Self::Sqlite { .. }
            | Self::Uncopied { .. }
            | Self::WalIndex { .. }
            | Self::Io { .. } => Verdict::Retry,
            Self::NotADatabase { .. }
            | Self::NotWal { .. }
            | Self::PageSizeChanged { .. }
            | Self::UnsupportedFilesystem { .. }
            | Self::ReadOnly { .. } => Verdict::Refuse,
            Self::LostPage { .. } | Self::PageBeyondEnd { .. } => Verdict::Halt,
        }
    }

    /// The word for it in statuses.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Absent { .. } | Self::Empty { .. } => Reason::WaitingForDatabase,
            Self::NotWal { .. } => Reason::NotWal,
            Self::Busy { .. } | Self::LockHeld { .. } | Self::ModeChanged { .. } => Reason::LockHeld,
            Self::HotJournal { .. } => Reason::HotJournal,
            Self::Truncated { .. } | Self::Unreadable { .. } | Self::LostPage { .. } => {
                Reason::DatabaseDamaged
            }
            Self::PageSizeChanged { .. } => Reason::Diverged,
            Self::NotADatabase { .. }
            | Self::UnsupportedFilesystem { .. }
            | Self::ReadOnly { .. }
            | Self::Replaced { .. }
            | Self::StrayWal { .. }
            | Self::Sqlite { .. }
            | Self::Uncopied { .. }
            | Self::WalIndex { .. }
            | Self::Io { .. } => Reason::DatabaseUnreadable,
            Self::PageBeyondEnd { .. } => Reason::Bug,
        }
    }

    /// Whether only time is needed: somebody else is in the way, and what we have open stays as good as it is.
    #[must_use]
    pub const fn is_brief(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::ModeChanged { .. } | Self::HotJournal { .. })
    }

    /// Whether a database that was followed until now can become readable again, so that it is worth looking at it from
    /// time to time.
    #[must_use]
    pub const fn can_heal(&self) -> bool {
        !matches!(
            self,
            Self::Replaced { .. }
                | Self::LostPage { .. }
                | Self::PageSizeChanged { .. }
                | Self::UnsupportedFilesystem { .. }
                | Self::PageBeyondEnd { .. }
        )
    }

    /// Sorts what SQLite says by what the caller can do about it.
    pub(super) fn sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let extended = source.sqlite_error().map(|error| error.extended_code);
        match source.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Busy { path },
            Some(ErrorCode::ReadOnly) if extended == Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK) => {
                Self::HotJournal { path }
            }
            // A database file that is too short reads as zeros; a WAL does not.
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ) => Self::StrayWal { path },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Unreadable { path, source },
            _ => Self::Sqlite { path, doing, source },
        }
    }

    /// The same while the pages of a view are read: the file was a database when the view began.
    pub(super) fn page(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Unreadable { path, source },
        }
    }

    /// The same while a checkpoint of ours runs, which writes.
    pub(super) fn checkpoint(path: &Path, source: rusqlite::Error) -> Self {
        let extended = source.sqlite_error().map(|error| error.extended_code);
        match source.sqlite_error_code() {
            // A WAL that is too short is another one than the WAL-index speaks of.
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly)
                if extended != Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ) =>
            {
                Self::Uncopied { path: path.to_owned(), source }
            }
            _ => Self::sqlite(path, "checkpoint", source),
        }
    }

    pub(super) fn wal_index(path: &Path, source: WalIndexError) -> Self {
        Self::WalIndex { path: path.to_owned(), source }
    }

    pub(super) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), doing, source }
    }
}
