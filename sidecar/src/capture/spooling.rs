//! A slot that goes through a file: read through a view of its own, while the database is followed.
//!
//! In:  a slot too large for memory, of a database in WAL mode.
//! Out: the slot; or nothing, because the view was in its application's way. The next attempt has more patience, so that one of
//! them comes to its end.

use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;

use super::{Capture, Report};
use crate::database::{Database, DatabaseError, DetachedView, Followed};
use crate::disk;
use crate::exit::Failure;
use crate::pulse::Pulse;
use crate::slot_file::{Cut, NextSlot, SlotFile, Spool, cut_while};
use crate::view_bounds::{ViewBounds, WATCH_PAUSE};

/// What happens to the database while a view of it is read.
struct Meanwhile<'d> {
    database: &'d mut Database,
    /// What may have changed since the view.
    dirty: DirtyPages,
    /// What was committed since, bytes.
    committed: u64,
    bounds: ViewBounds,
    pulse: &'d Pulse,
    looked_at: Instant,
    stopped: Option<Stopped>,
}

/// Why a view is read no further.
enum Stopped {
    /// It is in the application's way.
    InTheWay(&'static str),
    Failed(DatabaseError),
}

impl Meanwhile<'_> {
    /// To be asked before each page: whether the view may be read on.
    fn goes_on(&mut self) -> bool {
        if self.looked_at.elapsed() >= WATCH_PAUSE {
            self.pulse.beats();
            self.stopped = self.look();
            self.looked_at = Instant::now();
        }
        self.stopped.is_none()
    }

    fn look(&mut self) -> Option<Stopped> {
        match self.database.follow(&mut self.dirty) {
            Ok(Followed::Continued(gained)) => self.committed += gained.bytes,
            Ok(Followed::Lost { .. }) => {}
            // The next look finds what this one did not.
            Err(error) if error.is_brief() => {}
            Err(error) => return Some(Stopped::Failed(error)),
        }
        let is_checkpointed = self.database.is_being_checkpointed();
        self.bounds.exceeded(self.committed, is_checkpointed).map(Stopped::InTheWay)
    }
}

impl Capture<'_> {
    /// Cuts a slot through a file beside the database, for as long as that does not hurt the application.
    pub(super) fn spool(&mut self, next: NextSlot) -> Result<Option<Report>, Failure> {
        // Meanwhile nobody would watch over it.
        self.derived.close();
        let view = match self.database.detached_view(&mut self.dirty) {
            Ok(Some(view)) => view,
            // It changed its journal mode just now.
            Ok(None) => return Ok(None),
            Err(error) => return self.endure(error).map(|()| None),
        };
        let pages = match view.pages() {
            Ok(pages) => pages,
            Err(error) => return self.endure(error).map(|()| None),
        };
        let path = self.task.path.display();
        tracing::debug!("{path}: a large slot is read through a file: {} pages", pages.page_count());
        // What is committed from here on is not in this slot.
        self.count_gained();
        let free = disk::free_bytes(self.database.path());
        let bounds = ViewBounds::new(pages.page_count(), pages.page_size(), free);
        let mut meanwhile = Meanwhile {
            bounds: bounds.of_attempt(self.large.spools_given_up()),
            database: &mut self.database,
            dirty: view.still_dirty().clone(),
            committed: 0,
            pulse: self.post.pulse(),
            looked_at: Instant::now(),
            stopped: None,
        };
        let spool = Some(Spool { folder: &self.task.folder, reserve: self.task.reserve });
        let goes_on = || meanwhile.goes_on();
        let cut = cut_while(&pages, self.dirty.clone(), &mut self.sums, next, spool, goes_on);
        let Meanwhile { dirty: later, stopped, .. } = meanwhile;
        let gained = self.database.take_gained();
        let ended = match (cut, stopped) {
            (Ok(Cut::Slot(slot)), _) => self.is_spooled(next, &view, Some(slot), later),
            (Ok(Cut::Nothing), _) => self.is_spooled(next, &view, None, later),
            (Ok(Cut::TooLarge), _) => Err(Failure::bug("a slot does not fit into its file")),
            (Err(failure), stopped) => {
                self.dirty.merge(later);
                drop(view);
                self.is_not_spooled(failure, stopped).map(|()| None)
            }
        };
        self.count(gained);
        ended
    }

    fn is_spooled(
        &mut self,
        next: NextSlot,
        view: &DetachedView,
        slot: Option<Box<SlotFile>>,
        later: DirtyPages,
    ) -> Result<Option<Report>, Failure> {
        if let Some(slot) = &slot {
            let pages = view.pages()?;
            let changed = slot.changed.iter(pages.page_count(), pages.page_size());
            // Somebody wrote the file past SQLite: where it stands now proves nothing of what was read before.
            let anchor = view.anchor().filter(|_| !later.is_all());
            self.notes.cut_pages(next.txid.get(), &self.sums, changed, &self.dirty, anchor.as_ref());
        }
        self.dirty = later;
        self.is_cut(next, slot)
    }

    fn is_not_spooled(&mut self, failure: Failure, stopped: Option<Stopped>) -> Result<(), Failure> {
        match stopped {
            Some(Stopped::InTheWay(why)) => {
                let path = self.task.path.display();
                tracing::warn!("{path}: a large slot is not read to its end: {why}; it is begun anew");
                self.large.gave_spool_up();
                self.not_before = Some(Instant::now() + ASIDE);
                Ok(())
            }
            Some(Stopped::Failed(error)) => self.endure(error),
            None => self.give_up_cut(failure),
        }
    }
}

/// So long the application has for its checkpoint, and we for the WAL, before the next attempt.
const ASIDE: Duration = Duration::from_secs(1);
