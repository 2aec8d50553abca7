//! Somebody else's database: followed and read while its application writes, never written to.
//!
//! In:  the path of a database, and calls of the one thread that owns it.
//! Out: which pages changed, and views of the database as of one commit.
//!
//! **Why nothing can be missed.** Let P be an open read transaction (a *pin*). Every frame committed after P's snapshot
//! stays readable in the `-wal` until P closes:
//! - P holds a read mark above 0: a WAL restart needs all of these for itself. No restart.
//! - P holds read mark 0, which SQLite gives when the database file has everything: copying frames into the database
//!   needs that mark for itself, so nothing is copied. At most one restart, from exactly P's snapshot; the new run
//!   cannot be copied into the database, so it cannot be restarted either.
//!
//! So we open a pin before we close the last one, and read, in between, every frame up to a header of the WAL-index seen
//! *after* the new pin opened. Which mark SQLite gave us decides only when the WAL can restart, never whether a commit is
//! missed. No timing and no lock of ours is part of the argument. The proof that it worked is
//! [`continuity`](lifeboat_wal::continuity)'s.
//!
//! **Frames tell which pages changed, views tell their content.** The set of pages collected between two views holds
//! every page that differs between them; perhaps more, never fewer.
//!
//! *Invariants:* only this module opens a database. No descriptor of our own is ever on it or its `-shm`. Nothing is
//! written to it, except the switch to WAL mode where that is allowed.

mod any;
mod audit;
mod calm;
pub(crate) mod check;
mod connection;
mod copying;
mod detached;
pub(crate) mod difference;
mod error;
mod file_system;
mod followed;
mod follower;
mod hot_journal;
mod journal;
mod keeper;
mod pressure;
mod readable_copy;
mod relief;
mod resume;
mod settling;
mod unfinished;
mod untouched;
mod view;
mod write_lock;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::wal_index::{IndexHeader, WalIndex};
use lifeboat_wal::{IndexError, PageSize};
use rusqlite::Connection;

use crate::disk;
use crate::pulse::Pulse;
use connection::Pin;
use copying::Copying;
use file_system::FileIdentity;
pub(crate) use file_system::network_file_system;
use followed::Untold;
use follower::{Follower, Unread};
use keeper::Keeper;
use pressure::Pressure;
use untouched::Untouched;
use view::Rolled;

pub use any::Database;
pub use connection::{EnforceWal, Synchronous};
pub use detached::{DetachedView, ViewFromOutside};
pub use error::DatabaseError;
pub use followed::{Followed, Gained};
pub use hot_journal::roll_back;
pub use readable_copy::{ReadableCopy, Step};
pub use view::{Pages, View};
pub use write_lock::{WriteLock, settle_alone};

/// A database in WAL mode that we follow.
#[derive(Debug)]
pub struct WalDatabase {
    path: PathBuf,
    wal_path: PathBuf,
    identity: FileIdentity,
    wal_identity: FileIdentity,
    switched_to_wal: bool,
    page_size: PageSize,
    follower: Follower,
    /// One of the two is always open; they take turns.
    pins: [Pin; 2],
    current: usize,
    /// Makes checkpoints, and is the one through which the WAL-index is seen.
    checkpointer: Connection,
    synchronous: Synchronous,
    keeper: Keeper,
    pressure: Pressure,
    copying: Copying,
    /// Since when somebody else is checkpointing whenever we try to.
    busy_since: Option<Instant>,
    /// The header at which the WAL was last found settled.
    settled_at: Option<IndexHeader>,
    /// What the database file looks like as SQLite left it.
    untouched: Option<Untouched>,
    looked_at: Instant,
    /// How long writers were kept out at the last look, until somebody takes note of it.
    kept_writers_out: Option<Duration>,
    /// The views that are open beside the pins.
    detached: Vec<ViewFromOutside>,
    /// What was read and nobody took note of.
    untold: Untold,
    /// Of the thread that follows.
    pulse: Pulse,
}

/// How far the quiet housekeeping came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The database file holds everything, and the next writer can restart the WAL. Nothing to do until a commit comes.
    Yes,
    /// Not yet: a reader of the application is in the way, or its own checkpoint, or new commits came. Try again later.
    NotYet,
}

impl WalDatabase {
    /// Opens the database and the first pin. From here on no commit is missed.
    ///
    /// What was committed earlier is not known, so the first view has to be shipped whole, or compared.
    ///
    /// # Errors
    /// A [`DatabaseError`]; its [`verdict`](DatabaseError::verdict) says whether to try again.
    pub fn open(path: &Path, enforce: EnforceWal) -> Result<Self, DatabaseError> {
        let identity = file_system::require_database_file(path)?;
        // SQLite too follows links first, so that the WAL lies beside the file and not beside the link.
        let path = &path.canonicalize().map_err(|error| DatabaseError::io(path, "find", error))?;
        let wal_path = wal_path(path);
        let error = |error| DatabaseError::io(&wal_path, "open", error);
        let old_wal = FileIdentity::of(&wal_path).map_err(error)?;
        let (checkpointer, switched_to_wal) = open_checkpointer(path, enforce)?;
        let page_size = connection::read_page_size(&checkpointer, path)?;
        let pins = [Pin::open(path)?, Pin::open(path)?];
        pins[0].begin(path)?;
        let header = read_index(&checkpointer, path)?.header;
        let follower = Follower::open(&wal_path, page_size, &header).map_err(error)?;
        let wal_identity = FileIdentity::of(&wal_path).map_err(error)?;
        // Who opened the WAL meanwhile may have another one than we look at.
        if old_wal.is_some() && old_wal != wal_identity {
            return Err(DatabaseError::Replaced { path: path.clone() });
        }
        // SQLite opens the WAL only when it is needed. Everybody shall have the same one.
        pins[1].begin(path)?;
        pins[1].end();
        let mut database = Self {
            path: path.clone(),
            identity,
            wal_identity: wal_identity.ok_or_else(|| DatabaseError::Replaced { path: path.clone() })?,
            switched_to_wal,
            page_size,
            follower,
            pins,
            current: 0,
            checkpointer,
            synchronous: Synchronous::Normal,
            keeper: Keeper::open(path)?,
            pressure: Pressure::new(page_size, &header),
            copying: Copying::default(),
            busy_since: None,
            settled_at: None,
            untouched: None,
            looked_at: Instant::now(),
            kept_writers_out: None,
            detached: Vec::new(),
            untold: Untold::default(),
            pulse: Pulse::default(),
            wal_path,
        };
        if database.is_replaced()? {
            return Err(DatabaseError::Replaced { path: path.clone() });
        }
        database.require_wal(&header)?;
        database.note_untouched()?;
        Ok(database)
    }

    /// Says what our checkpoints are to sync from now on.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn with_synchronous(mut self, synchronous: Synchronous) -> Result<Self, DatabaseError> {
        if synchronous == Synchronous::Off {
            connection::sync_nothing(&self.checkpointer, &self.path)?;
        }
        self.synchronous = synchronous;
        Ok(self)
    }

    /// Says whose pulse stands still while our checkpoints wait for the disk.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Reads all frames committed since the last look and adds their pages to `dirty`.
    ///
    /// When the WAL has grown long because the application never pauses, this also shortens it. For that the write lock
    /// is held while the last few frames are copied; it is never waited for.
    ///
    /// # Errors
    /// A [`DatabaseError`]. Nothing is lost then: the next look reads the same frames.
    pub fn follow(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        self.untold.looked();
        let (header, followed) = self.follow_to_header(dirty).inspect_err(|_| self.keeper.unguard())?;
        let since = std::mem::replace(&mut self.looked_at, Instant::now());
        self.pressure.arrived(followed.gained().frames, since.elapsed());
        let relieved = self.relieve(&header, dirty).inspect_err(|_| self.keeper.unguard());
        self.settled_at.take_if(|settled| *settled != header);
        match relieved {
            Ok(meanwhile) => Ok(followed.and(meanwhile)),
            // The next look tries again.
            Err(DatabaseError::Busy { .. }) => Ok(followed),
            Err(error) => Err(error),
        }
    }

    /// What was read from the WAL since this was asked last, by whatever read it: a look, a view, the housekeeping. After a view
    /// only what that shows for certain; the rest is told after the next look.
    pub const fn take_gained(&mut self) -> Gained {
        self.untold.take()
    }

    /// How long the last look kept writers out, if it did; said once.
    pub const fn take_kept_writers_out(&mut self) -> Option<Duration> {
        self.kept_writers_out.take()
    }

    /// To be called before a pause between two looks of at most this length.
    ///
    /// While frames flood into a long WAL and the pause is short, the application's automatic checkpoints are kept away by the *guard*:
    /// each costs it one failed lock, and the copying is ours. A long pause, a view and every error give the guard back,
    /// and an application that does not write as fast as it can never meets it.
    pub fn stand_by(&self, pause: Duration) {
        let is_of_use =
            self.pressure.needs_guard() && self.busy_since.is_none() && !self.copying.is_failing();
        if is_of_use && pause <= GUARD_PAUSE_MAX {
            self.keeper.guard();
        } else {
            self.keeper.unguard();
        }
    }

    /// The longest pause between two looks that lets the guard stay, while it is of use; `None` when it is not.
    #[must_use]
    pub const fn pause_max(&self) -> Option<Duration> {
        if self.pressure.needs_guard() { Some(GUARD_PAUSE_MAX) } else { None }
    }

    /// Opens a view of the newest commit, as the new pin.
    ///
    /// Afterwards `dirty` holds every page that a file of this view must carry. When that file is stored, what is
    /// [still dirty](View::still_dirty) begins the next set; until then `dirty` must be kept.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]. Then `dirty` is still complete, and the old pin still holds.
    pub fn view(&mut self, dirty: &mut DirtyPages) -> Result<View<'_>, DatabaseError> {
        // Reading it may take long.
        self.keeper.unguard();
        let (header, rolled) = self.roll(dirty)?;
        self.untold.viewed(rolled.gained_later);
        self.audit_pin(dirty, &header, &rolled.later)?;
        // Nothing can be copied into the file, nor cut off it, past the new pin.
        let index = self.read_index()?;
        let anchor = self.anchor_at(&header, index.backfill());
        let (connection, is_all_in_file) = (self.current().connection(), index.is_backfilled());
        let pages = Pages::open(connection, &self.path, self.page_size, is_all_in_file)?;
        Ok(View::new(pages, rolled, anchor, None))
    }

    /// The database file, links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether opening switched the database to WAL mode.
    #[must_use]
    pub const fn switched_to_wal(&self) -> bool {
        self.switched_to_wal
    }

    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Whether the path, or that of the WAL, leads to another file than the one we opened, or to none. SQLite does not
    /// notice that, and would go on with the old file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Io`] when the paths cannot be looked at.
    pub fn is_replaced(&self) -> Result<bool, DatabaseError> {
        let is = |path: &Path, expected| match FileIdentity::of(path) {
            Ok(found) => Ok(found == Some(expected)),
            Err(error) => Err(DatabaseError::io(path, "look at", error)),
        };
        Ok(!is(&self.path, self.identity)? || !is(&self.wal_path, self.wal_identity)?)
    }

    /// Opens the next pin, reads every frame up to a header seen after that, and only then closes the last pin.
    ///
    /// Returns a header from *before* the new pin opened, which its snapshot is at least as new as. Pages of frames read
    /// after that header may be newer than the snapshot.
    fn roll(&mut self, dirty: &mut DirtyPages) -> Result<(IndexHeader, Rolled), DatabaseError> {
        let (header, first) = self.follow_to_header(dirty)?;
        self.begin_spare()?;
        let mut later = DirtyPages::new();
        let second = self.follow_to_header(&mut later);
        dirty.merge(later.clone());
        let (newest, second) = second.inspect_err(|_| self.spare().end())?;
        self.rolled_untouched(&newest)?;
        self.current().end();
        self.current = 1 - self.current;
        self.keeper.release();
        self.pressure.rolled(&header);
        let (followed, gained_later) = (first.and(second), second.gained());
        Ok((header, Rolled { followed, later, gained_later, header: Some(header) }))
    }

    /// A reader that finds the WAL-index torn repairs it, and would wait for our own guard. While we have the write lock,
    /// nobody can tear it.
    fn begin_spare(&self) -> Result<(), DatabaseError> {
        let begin = || self.spare().begin(&self.path);
        if self.keeper.keeps_writers_out() { begin() } else { self.keeper.unguarded(begin) }
    }

    fn follow_to_header(&mut self, dirty: &mut DirtyPages) -> Result<(IndexHeader, Followed), DatabaseError> {
        let mut header = self.read_index()?.header;
        loop {
            let why = match self.follower.read_to(&header, dirty) {
                Ok(tally) => {
                    let gained = Gained::new(tally, self.page_size);
                    self.untold.add(gained);
                    let overwritten = self.notice_overwrite(&header, tally.is_recovered, dirty)?;
                    return Ok((header, Followed::Continued(gained).and(overwritten)));
                }
                Err(Unread::Io(error)) => return Err(DatabaseError::io(&self.wal_path, "read", error)),
                Err(Unread::Lost(why)) => why,
            };
            // It is a loss only if the frames that contradict the header are those of the header.
            let now = self.read_index()?.header;
            if now == header {
                self.require_wal(&header)?;
                dirty.insert_all();
                self.follower.restart_at(&header);
                self.note_untouched()?;
                return Ok((header, self.lost(why)));
            }
            header = now;
        }
    }

    /// Refuses a WAL that does not hold what the WAL-index names: it was deleted or replaced, and the application goes on
    /// with the file that it has open. To SQLite, what is missing at the end of a WAL are zeros, so nobody else would say
    /// so: we would read pages of zeros, and copy them into the database.
    fn require_wal(&self, header: &IndexHeader) -> Result<(), DatabaseError> {
        let holds = self.follower.holds(header);
        if holds.map_err(|error| DatabaseError::io(&self.wal_path, "read", error))?
            // The frame may be overwritten after a WAL restart.
            || self.read_index()?.header.salts != header.salts
        {
            return Ok(());
        }
        Err(DatabaseError::StrayWal { path: self.path.clone() })
    }

    fn read_index(&self) -> Result<WalIndex, DatabaseError> {
        let index = match poll_index(&self.checkpointer, &self.path)? {
            Some(index) => index,
            None => self.keeper.unguarded(|| repair_index(&self.checkpointer, &self.path))?,
        };
        if index.header.page_size.is_some_and(|size| size != self.page_size) {
            return Err(DatabaseError::Replaced { path: self.path.clone() });
        }
        Ok(index)
    }

    /// The pin that is open.
    fn current(&self) -> &Pin {
        let [first, second] = &self.pins;
        if self.current == 0 { first } else { second }
    }

    /// The pin that is not open.
    fn spare(&self) -> &Pin {
        let [first, second] = &self.pins;
        if self.current == 0 { second } else { first }
    }
}

/// Opens the connection that has the WAL-index mapped; says whether the database had to be switched to WAL mode.
fn open_checkpointer(path: &Path, enforce: EnforceWal) -> Result<(Connection, bool), DatabaseError> {
    match try_open_checkpointer(path, enforce) {
        // Opening waited for the lock already. Whoever still has it has it for long.
        Err(DatabaseError::Busy { path }) => Err(DatabaseError::LockHeld { path }),
        opened => opened,
    }
}

fn try_open_checkpointer(path: &Path, enforce: EnforceWal) -> Result<(Connection, bool), DatabaseError> {
    let connection = connection::open(path)?;
    let switched = connection::require_wal(&connection, path, enforce)?;
    connection::require_pages(&connection, path)?;
    Ok((connection, switched))
}

/// Reads the WAL-index, however long a writer takes to change it.
fn read_index(connection: &Connection, path: &Path) -> Result<WalIndex, DatabaseError> {
    poll_index(connection, path)?.map_or_else(|| repair_index(connection, path), Ok)
}

/// Reads a WAL-index whose writer was killed half way. Whoever begins to read next repairs it, so we do.
fn repair_index(connection: &Connection, path: &Path) -> Result<WalIndex, DatabaseError> {
    let repaired = connection.query_row("PRAGMA user_version", [], |_| Ok(()));
    repaired.map_err(|source| DatabaseError::sqlite(path, "read", source))?;
    poll_index(connection, path)?.ok_or_else(|| DatabaseError::Busy { path: path.to_owned() })
}

/// Reads the WAL-index, or `None` when it stays torn for longer than a living writer takes.
fn poll_index(connection: &Connection, path: &Path) -> Result<Option<WalIndex>, DatabaseError> {
    for pause in INDEX_PAUSES {
        let bytes =
            lifeboat_wal_index::read(connection).map_err(|source| DatabaseError::wal_index(path, source))?;
        match WalIndex::decode(&bytes) {
            Ok(index) => return Ok(Some(index)),
            Err(IndexError::Torn | IndexError::NotInitialised | IndexError::Checksum) => thread::sleep(pause),
            Err(_) => return Err(DatabaseError::NotADatabase { path: path.to_owned() }),
        }
    }
    Ok(None)
}

/// SQLite's name of the WAL.
fn wal_path(database: &Path) -> PathBuf {
    disk::beside(database, "-wal")
}

/// How long to wait after each look that found the WAL-index torn: a writer needs nanoseconds, unless it was interrupted.
const INDEX_PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(2),
];

/// Whoever has to repair the WAL-index waits for the guard, so a look that lets it go must never be far away.
const GUARD_PAUSE_MAX: Duration = Duration::from_millis(10);

#[cfg(test)]
pub(crate) mod tests;
