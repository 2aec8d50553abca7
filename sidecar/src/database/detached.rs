//! A view that outlives the call: another thread reads it while the database is followed on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use lifeboat_replica::audit::Extent;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_wal::PageSize;
use lifeboat_wal::wal_index::IndexHeader;

use super::connection::Pin;
use super::view::Pages;
use super::{DatabaseError, WalDatabase};

/// The database as of one commit, through a connection of its own.
///
/// It is one more reader beside the pins: nothing that is said of them changes. As long as it lives, frames after its
/// commit cannot be copied into the database file, so whoever holds it must watch how long the WAL gets, and that no
/// checkpoint waits for it.
#[derive(Debug)]
pub struct DetachedView {
    pin: Pin,
    path: PathBuf,
    page_size: PageSize,
    is_all_in_file: bool,
    still_dirty: DirtyPages,
    /// A committed state of the WAL that the view shows, or that is a little older, where somebody looked.
    header: Option<IndexHeader>,
    anchor: Option<Anchor>,
    /// Whether the view shows just that state.
    is_exact: bool,
    /// Ends with the view, after its read transaction, and tells whoever asks.
    open: Arc<()>,
}

/// A view that somebody else has, as far as one can see it from outside.
#[derive(Clone, Debug)]
pub struct ViewFromOutside(Weak<()>);

impl ViewFromOutside {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl DetachedView {
    /// A view of a database to which nobody can commit as long as it is open: the caller sees to that.
    pub(super) fn of_resting(path: &Path, page_size: PageSize) -> Result<Self, DatabaseError> {
        let pin = Pin::open(path)?;
        pin.begin(path)?;
        let (path, still_dirty) = (path.to_owned(), DirtyPages::new());
        Ok(Self {
            pin,
            path,
            page_size,
            is_all_in_file: false,
            still_dirty,
            header: None,
            anchor: None,
            is_exact: false,
            open: Arc::new(()),
        })
    }

    /// The pages of this view.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn pages(&self) -> Result<Pages<'_>, DatabaseError> {
        Pages::open(self.pin.connection(), &self.path, self.page_size, self.is_all_in_file)
    }

    /// The pages that stay dirty after this view is shipped: they were changed by commits it may not show yet.
    #[must_use]
    pub const fn still_dirty(&self) -> &DirtyPages {
        &self.still_dirty
    }

    /// From where this view can be followed: it is at least as new as the place. `None` where the file was no state of ours
    /// when the view was opened.
    #[must_use]
    pub const fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// Whether it shows exactly what `older` shows, which was opened before it: so it is if nothing was committed from before
    /// the one began until after the other did.
    #[must_use]
    pub fn is_twin_of(&self, older: &Self) -> bool {
        self.is_exact && self.header == older.header
    }

    /// What stays here when the view itself goes to another thread.
    #[must_use]
    pub fn from_outside(&self) -> ViewFromOutside {
        ViewFromOutside(Arc::downgrade(&self.open))
    }
}

impl WalDatabase {
    /// Opens a view of the newest commit beside the pins. `dirty` is as after [`view`](Self::view).
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]. Then `dirty` is still complete.
    pub fn detached_view(&mut self, dirty: &mut DirtyPages) -> Result<DetachedView, DatabaseError> {
        // Opening takes long, and a reader that finds the WAL-index torn would wait for our own guard.
        self.keeper.unguard();
        let pin = Pin::open(&self.path)?;
        // What the view shows is between two headers: frames up to the first are in it, those after the second are not.
        let (header, _) = self.follow_to_header(dirty)?;
        pin.begin(&self.path)?;
        let mut still_dirty = DirtyPages::new();
        let followed = self.follow_to_header(&mut still_dirty);
        dirty.merge(still_dirty.clone());
        let (newest, later) = followed?;
        self.untold.viewed(later.gained());
        let lost = self.find_lost_page(pin.connection(), &still_dirty, Extent::Due(dirty))?;
        self.require_not_lost(lost, dirty)?;
        // Nothing can be copied into the file, nor cut off it, past the view.
        let index = self.read_index()?;
        let (is_all_in_file, anchor) = (index.is_backfilled(), self.anchor_at(&header, index.backfill()));
        let (path, page_size, open) = (self.path.clone(), self.page_size, Arc::new(()));
        let (is_exact, header) = (header == newest, Some(header));
        let view = DetachedView {
            pin,
            path,
            page_size,
            is_all_in_file,
            still_dirty,
            header,
            anchor,
            is_exact,
            open,
        };
        self.detached.push(view.from_outside());
        Ok(view)
    }

    /// Whether a view of ours is open beside the pins. Until it closes, the WAL cannot restart.
    pub(super) fn is_viewed(&mut self) -> bool {
        self.detached.retain(ViewFromOutside::is_open);
        !self.detached.is_empty()
    }

    /// Whether somebody else is making a checkpoint at this moment. One that lasts may be waiting for a view of ours.
    #[must_use]
    pub fn is_being_checkpointed(&self) -> bool {
        self.keeper.sees_checkpoint()
    }
}
