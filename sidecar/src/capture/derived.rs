//! Views that are kept for merged files and snapshots, and when they must not be kept any longer.
//!
//! A slot that such a file is to end at is cut from a view with a connection of its own. The view stays open until the slot
//! is stored; only then the file is read from it.

use std::time::Duration;

use lifeboat_replica::compaction::Job;

use super::{Capture, Report};
use crate::database::DetachedView;
use crate::deriving::{self, Deriving};
use crate::disk;
use crate::exit::Failure;
use crate::slot_file::{Cut, MEMORY_BYTES_MAX, NextSlot, bytes_at_most, cut};
use crate::view_bounds::ViewBounds;

/// What is kept open for a file that no restore needs yet.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// Whether the next slot is to keep its view.
    is_wanted: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    what: What,
    /// The slot that the view shows.
    slot: NextSlot,
    timestamp_ms: i64,
    /// What was committed since the view was opened, bytes.
    committed: u64,
    bounds: ViewBounds,
}

#[derive(Debug)]
enum What {
    Kept(Box<DetachedView>),
    Read(Deriving),
}

impl Derived {
    pub(super) const fn keep_next(&mut self) {
        self.is_wanted = true;
    }

    /// Whether the next slot is to keep its view. Asked once.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    /// So many bytes were committed.
    pub(super) const fn committed(&mut self, bytes: u64) {
        if let Some(open) = &mut self.open {
            open.committed += bytes;
        }
    }

    /// While a view is open, it must be watched over.
    pub(super) fn look_within(&self) -> Option<Duration> {
        self.open.as_ref().filter(|open| !open.is_over()).map(|open| open.bounds.look_within())
    }

    /// Closes the view; what was to be read from it is not.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

impl Open {
    fn is_over(&self) -> bool {
        match &self.what {
            What::Kept(_) => false,
            What::Read(deriving) => deriving.is_over(),
        }
    }
}

impl Capture<'_> {
    /// Cuts a slot of moderate size, and keeps its view.
    pub(super) fn cut_and_keep_view(&mut self, next: NextSlot) -> Result<Option<Report>, Failure> {
        let view = match self.database.detached_view(&mut self.dirty) {
            Ok(Some(view)) => view,
            // Without a WAL a view would keep the application from committing.
            Ok(None) => return self.cut(next),
            Err(error) => return self.endure(error).map(|()| None),
        };
        let pages = match view.pages() {
            Ok(pages) => pages,
            Err(error) => return self.endure(error).map(|()| None),
        };
        let bytes = bytes_at_most(pages.page_count(), pages.page_size(), &self.dirty, &self.sums);
        if bytes > MEMORY_BYTES_MAX {
            drop(view);
            return self.cut(next);
        }
        let slot = match cut(&pages, self.dirty.clone(), &mut self.sums, next, None) {
            Ok(Cut::Slot(slot)) => Some(slot),
            Ok(Cut::Nothing) => None,
            Ok(Cut::TooLarge) => return Err(Failure::bug("a small slot does not fit into memory")),
            Err(failure) => return self.give_up_cut(failure).map(|()| None),
        };
        if let Some(slot) = &slot {
            let changed = slot.changed.iter(pages.page_count(), pages.page_size());
            self.notes.cut_pages(next.txid.get(), &self.sums, changed, &self.dirty, None);
            let free = disk::free_bytes(self.database.path());
            let bounds = ViewBounds::new(pages.page_count(), pages.page_size(), free).of_little_worth();
            let timestamp_ms = slot.header.timestamp_ms;
            self.dirty = view.still_dirty().clone();
            self.derived.open = Some(Open {
                what: What::Kept(Box::new(view)),
                slot: next,
                timestamp_ms,
                committed: 0,
                bounds,
            });
        } else {
            self.dirty = view.still_dirty().clone();
        }
        self.is_cut(next, slot)
    }

    /// Reads a file that ends at the slot on its way, which is stored. Without one the view is closed.
    pub(super) fn derive(&mut self, job: Option<Box<Job>>) -> Option<Report> {
        let kept = self.derived.open.take();
        let job = job?;
        let Some(Open { what: What::Kept(view), slot, timestamp_ms, committed, bounds }) = kept else {
            return Some(Report::Derived(None));
        };
        if slot.txid != job.name.max() {
            return Some(Report::Derived(None));
        }
        match deriving::begin(*view, *job, &self.sums, (slot.epoch, timestamp_ms)) {
            Ok((deriving, file)) => {
                let what = What::Read(deriving);
                let bounds = bounds.anew();
                self.derived.open = Some(Open { what, slot, timestamp_ms, committed, bounds });
                Some(Report::Derived(Some(Box::new(file))))
            }
            Err(failure) => {
                tracing::warn!("{}: {failure}", self.task.path.display());
                Some(Report::Derived(None))
            }
        }
    }

    /// Before a view that is kept hurts the application, it is closed; the file is tried again at a later slot.
    pub(super) fn watch_over_derived(&mut self) {
        let Some(open) = self.derived.open.as_mut() else { return };
        if open.is_over() {
            return self.derived.close();
        }
        let is_checkpointed = self.database.is_being_checkpointed();
        let why = match open.what {
            // For however long.
            What::Kept(_) if self.post.is_away() => Some("the bucket does not take the slot before it"),
            What::Kept(_) | What::Read(_) => open.bounds.exceeded(open.committed, is_checkpointed),
        };
        let Some(why) = why else { return };
        tracing::info!("{}: a merged file is put off: {why}", self.task.path.display());
        self.derived.close();
    }
}
