//! A database in whatever journal mode it is, opened again when it changed its mode or could not be read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_wal::PageSize;

use super::file_system::{self, FileIdentity};
use super::journal::JournalDatabase;
use super::{
    DatabaseError, DetachedView, EnforceWal, Followed, Gained, Settled, Synchronous, View, WalDatabase,
    connection, hot_journal,
};
use crate::pulse::Pulse;

/// An application's database that we follow.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    enforce: EnforceWal,
    synchronous: Synchronous,
    pulse: Pulse,
    identity: FileIdentity,
    page_size: PageSize,
    switched_to_wal: bool,
    /// None between [`close`](Self::close) and the next look.
    mode: Option<Mode>,
}

/// How it is followed.
#[derive(Debug)]
enum Mode {
    Wal(Box<WalDatabase>),
    Journal(Box<JournalDatabase>),
}

impl Database {
    /// Opens the database. From here on no commit is missed.
    ///
    /// What was committed earlier is not known, so the first view has to be shipped whole, or compared.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; its [`verdict`](DatabaseError::verdict) says whether to try again.
    pub fn open(path: &Path, enforce: EnforceWal) -> Result<Self, DatabaseError> {
        let identity = file_system::require_database_file(path)?;
        // SQLite too follows links first, so that WAL and journal lie beside the file and not beside the link.
        let path = path.canonicalize().map_err(|error| DatabaseError::io(path, "find", error))?;
        let mode = Mode::open(&path, enforce)?;
        let (page_size, switched_to_wal) = (mode.page_size(), mode.switched_to_wal());
        let (synchronous, pulse, mode) = (Synchronous::Normal, Pulse::default(), Some(mode));
        let database = Self { path, enforce, synchronous, pulse, identity, page_size, switched_to_wal, mode };
        if database.is_replaced()? { Err(database.replaced()) } else { Ok(database) }
    }

    /// Says what our checkpoints are to sync, also after the database was opened again.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn with_synchronous(mut self, synchronous: Synchronous) -> Result<Self, DatabaseError> {
        self.synchronous = synchronous;
        self.mode = self.mode.map(|mode| mode.with_synchronous(synchronous)).transpose()?;
        Ok(self)
    }

    /// Says whose pulse stands still while the database waits for the disk, also after it was opened again.
    #[must_use]
    pub fn with_pulse(mut self, pulse: &Pulse) -> Self {
        self.pulse = pulse.clone();
        self.mode = self.mode.map(|mode| mode.with_pulse(pulse));
        self
    }

    /// Notes in `dirty` which pages may have changed since the last look.
    ///
    /// After [`close`](Self::close), and when the application changed the journal mode, this opens the database again;
    /// every page counts as dirty then.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]. Nothing is lost then: the next look finds the same commits.
    pub fn follow(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        match self.opened(dirty)?.follow(dirty) {
            Err(DatabaseError::ModeChanged { .. }) => {
                self.close();
                self.opened(dirty)?.follow(dirty)
            }
            followed => followed,
        }
    }

    /// What was committed since this was asked last, as far as that is known: see [`WalDatabase::take_gained`].
    pub const fn take_gained(&mut self) -> Gained {
        match &mut self.mode {
            Some(Mode::Wal(database)) => database.take_gained(),
            Some(Mode::Journal(database)) => database.take_gained(),
            None => Gained::NOTHING,
        }
    }

    /// How long the last look kept writers out, if it did; said once.
    pub fn take_kept_writers_out(&mut self) -> Option<Duration> {
        match &mut self.mode {
            Some(Mode::Wal(database)) => database.take_kept_writers_out(),
            Some(Mode::Journal(_)) | None => None,
        }
    }

    /// Opens a view of the newest commit.
    ///
    /// Afterwards `dirty` holds every page that a file of this view must carry. When that file is stored, what is
    /// [still dirty](View::still_dirty) begins the next set; until then `dirty` must be kept.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]. Then `dirty` is still complete.
    pub fn view(&mut self, dirty: &mut DirtyPages) -> Result<View<'_>, DatabaseError> {
        match self.opened(dirty)? {
            Mode::Wal(database) => database.view(dirty),
            Mode::Journal(database) => database.view(dirty),
        }
    }

    /// Opens a view that another thread may read while the database is followed on; `None` without a WAL, where a view
    /// keeps the application from committing: see [`WalDatabase::detached_view`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]. Then `dirty` is still complete.
    pub fn detached_view(&mut self, dirty: &mut DirtyPages) -> Result<Option<DetachedView>, DatabaseError> {
        match self.opened(dirty)? {
            Mode::Wal(database) => database.detached_view(dirty).map(Some),
            Mode::Journal(_) => Ok(None),
        }
    }

    /// Whether somebody else is making a checkpoint: see [`WalDatabase::is_being_checkpointed`].
    #[must_use]
    pub fn is_being_checkpointed(&self) -> bool {
        match &self.mode {
            Some(Mode::Wal(database)) => database.is_being_checkpointed(),
            Some(Mode::Journal(_)) | None => false,
        }
    }

    /// The housekeeping of quiet moments, of which only a WAL needs any: see [`WalDatabase::ease`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn ease(&mut self, quiet: Duration, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        match &mut self.mode {
            Some(Mode::Wal(database)) => database.ease(quiet, dirty),
            Some(Mode::Journal(_)) | None => Ok(Settled::Yes),
        }
    }

    /// The same without asking whether it is worth while: see [`WalDatabase::settle`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn settle(&mut self, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        match &mut self.mode {
            Some(Mode::Wal(database)) => database.settle(dirty),
            Some(Mode::Journal(_)) | None => Ok(Settled::Yes),
        }
    }

    /// Goes on at the place of an anchor, if everything committed since can be read: see [`WalDatabase::resume`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when WAL or WAL-index cannot be read.
    pub fn resume(&mut self, anchor: &Anchor, dirty: &mut DirtyPages) -> Result<bool, DatabaseError> {
        match &mut self.mode {
            Some(Mode::Wal(database)) => database.resume(anchor, dirty),
            Some(Mode::Journal(_)) | None => Ok(false),
        }
    }

    /// From where this moment's newest commit can be followed later: see [`WalDatabase::anchor`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when the WAL-index cannot be looked at.
    pub fn anchor(&self) -> Result<Option<Anchor>, DatabaseError> {
        match &self.mode {
            Some(Mode::Wal(database)) => database.anchor(),
            Some(Mode::Journal(_)) | None => Ok(None),
        }
    }

    /// Whether a commit may become visible without a further write: see [`WalDatabase::has_unfinished`]. Without a WAL
    /// whoever commits keeps us out until it is.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when WAL or WAL-index cannot be read.
    pub fn has_unfinished(&self) -> Result<bool, DatabaseError> {
        match &self.mode {
            Some(Mode::Wal(database)) => database.has_unfinished(),
            Some(Mode::Journal(_)) | None => Ok(false),
        }
    }

    /// Whether what is unfinished never will be: see [`WalDatabase::is_left_behind`].
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when the WAL-index cannot be read.
    pub fn is_left_behind(&self) -> Result<bool, DatabaseError> {
        match &self.mode {
            Some(Mode::Wal(database)) => database.is_left_behind(),
            Some(Mode::Journal(_)) | None => Ok(false),
        }
    }

    /// To be called before the database is left alone for this long: see [`WalDatabase::stand_by`].
    pub fn stand_by(&self, pause: Duration) {
        if let Some(Mode::Wal(database)) = &self.mode {
            database.stand_by(pause);
        }
    }

    /// For how long the database may be left alone, if that matters: see [`WalDatabase::pause_max`].
    #[must_use]
    pub fn pause_max(&self) -> Option<Duration> {
        match &self.mode {
            Some(Mode::Wal(database)) => database.pause_max(),
            Some(Mode::Journal(_)) | None => None,
        }
    }

    /// Whether there is a WAL so long that it should restart: see [`WalDatabase::has_long_wal`].
    #[must_use]
    pub fn has_long_wal(&self) -> bool {
        match &self.mode {
            Some(Mode::Wal(database)) => database.has_long_wal(),
            Some(Mode::Journal(_)) | None => false,
        }
    }

    /// Lets go of the database until the next look. While it cannot be read, nothing of ours may stay in its
    /// application's way.
    pub fn close(&mut self) {
        self.mode = None;
    }

    /// The database file, links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why what was committed cannot be copied from the WAL into the database file at present, if it cannot. It can be
    /// followed and read all the same.
    #[must_use]
    pub fn uncopied(&self) -> Option<&DatabaseError> {
        match &self.mode {
            Some(Mode::Wal(database)) => database.uncopied(),
            Some(Mode::Journal(_)) | None => None,
        }
    }

    /// Whether opening switched the database to WAL mode.
    #[must_use]
    pub const fn switched_to_wal(&self) -> bool {
        self.switched_to_wal
    }

    /// Whether commits are written to the database file itself, because there is no WAL.
    #[must_use]
    pub const fn is_written_in_place(&self) -> bool {
        matches!(self.mode, Some(Mode::Journal(_)))
    }

    /// Until when no view should be opened, so that the application can commit most of the time; none if a view keeps
    /// nobody from committing.
    #[must_use]
    pub fn rests_until(&self) -> Option<Instant> {
        match &self.mode {
            Some(Mode::Journal(database)) => database.rests_until(),
            Some(Mode::Wal(_)) | None => None,
        }
    }

    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Refuses a database whose pages have another size than they `had`.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::PageSizeChanged`].
    pub fn require_page_size(&self, had: PageSize) -> Result<(), DatabaseError> {
        connection::require_page_size(&self.path, had, self.page_size)
    }

    /// Whether the path, or that of the WAL, leads to another file than the one we opened, or to none. SQLite does not
    /// notice that, and would go on with the old file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Io`] when the paths cannot be looked at.
    pub fn is_replaced(&self) -> Result<bool, DatabaseError> {
        if let Some(Mode::Wal(database)) = &self.mode
            && database.is_replaced()?
        {
            return Ok(true);
        }
        let found = FileIdentity::of(&self.path);
        Ok(found.map_err(|error| DatabaseError::io(&self.path, "look at", error))? != Some(self.identity))
    }

    /// The open database. Whoever has to open it again knows nothing of what changed meanwhile.
    fn opened(&mut self, dirty: &mut DirtyPages) -> Result<&mut Mode, DatabaseError> {
        let mode = match self.mode.take() {
            Some(mode) => mode,
            None => self.reopened(dirty)?,
        };
        Ok(self.mode.insert(mode))
    }

    fn reopened(&self, dirty: &mut DirtyPages) -> Result<Mode, DatabaseError> {
        file_system::require_database_file(&self.path)?;
        // Whoever is the first to open it reads all of its WAL.
        let mode = self.pulse.at_disk(|| Mode::open(&self.path, self.enforce))?;
        let mode = mode.with_synchronous(self.synchronous)?.with_pulse(&self.pulse);
        dirty.insert_all();
        if self.is_replaced()? {
            return Err(self.replaced());
        }
        connection::require_page_size(&self.path, self.page_size, mode.page_size())?;
        Ok(mode)
    }

    fn replaced(&self) -> DatabaseError {
        DatabaseError::Replaced { path: self.path.clone() }
    }
}

impl Mode {
    fn open(path: &Path, enforce: EnforceWal) -> Result<Self, DatabaseError> {
        hot_journal::require_super_journal(path)?;
        if enforce == EnforceWal::No {
            match JournalDatabase::open(path) {
                Err(DatabaseError::ModeChanged { .. }) => {}
                opened => return Ok(Self::Journal(Box::new(opened?))),
            }
        }
        match WalDatabase::open(path, enforce) {
            // Between the two looks the application left WAL mode.
            Err(DatabaseError::NotWal { .. }) if enforce == EnforceWal::No => {
                Err(DatabaseError::ModeChanged { path: path.to_owned() })
            }
            opened => Ok(Self::Wal(Box::new(opened?))),
        }
    }

    fn with_synchronous(self, synchronous: Synchronous) -> Result<Self, DatabaseError> {
        match self {
            Self::Wal(database) => Ok(Self::Wal(Box::new(database.with_synchronous(synchronous)?))),
            // Nothing is ever checkpointed.
            Self::Journal(_) => Ok(self),
        }
    }

    fn with_pulse(self, pulse: &Pulse) -> Self {
        match self {
            Self::Wal(database) => Self::Wal(Box::new(database.with_pulse(pulse.clone()))),
            Self::Journal(_) => self,
        }
    }

    fn follow(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        match self {
            Self::Wal(database) => database.follow(dirty),
            Self::Journal(database) => database.follow(dirty),
        }
    }

    const fn page_size(&self) -> PageSize {
        match self {
            Self::Wal(database) => database.page_size(),
            Self::Journal(database) => database.page_size(),
        }
    }

    const fn switched_to_wal(&self) -> bool {
        match self {
            Self::Wal(database) => database.switched_to_wal(),
            Self::Journal(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{application, insert};
    use super::*;

    fn synchronous(database: &Database) -> u8 {
        let Some(Mode::Wal(database)) = &database.mode else { panic!("it is open and has a WAL") };
        database.checkpointer.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn checkpoints_sync_unless_told_otherwise_and_a_database_opened_again_keeps_that() {
        let (_folder, path, application) = application();
        let database = Database::open(&path, EnforceWal::No).unwrap();
        assert_eq!(synchronous(&database), 1);
        let mut database = database.with_synchronous(Synchronous::Off).unwrap();
        assert_eq!(synchronous(&database), 0);
        database.close();
        insert(&application);
        let mut dirty = DirtyPages::new();
        database.follow(&mut dirty).unwrap();
        assert_eq!(synchronous(&database), 0);
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    }
}
