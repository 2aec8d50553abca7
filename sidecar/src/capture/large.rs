//! Slots that are too large for memory: which way they go, and when the reader of one must not go on.

use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_replica::page_sums::PageSums;

use super::{Capture, Finish, Report};
use crate::exit::Failure;
use crate::slot_file::NextSlot;
use crate::streaming::{self, Outcome, Read, Reading, part_bytes};

/// What is known of how large slots are sent, and the one that is being read.
#[derive(Debug)]
pub(super) struct LargeSlots {
    in_parts: Option<bool>,
    is_asked: bool,
    /// The next one takes the way that needs no network while it is read.
    is_next_local: bool,
    reader: Option<Reader>,
}

/// Where a slot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Into memory, or into a file.
    Local,
    /// Whoever talks to the bucket must say.
    Ask,
    /// To the bucket while it is read.
    Stream,
}

/// A slot that is being read through a detached view.
#[derive(Debug)]
struct Reader {
    reading: Reading,
    next: NextSlot,
    /// What must be dirty again if it is given up.
    dirty: DirtyPages,
    /// How many bytes may be committed while it is read.
    wal_bytes_max: u64,
    /// Since when somebody else is checkpointing.
    checkpoint_since: Option<Instant>,
}

impl LargeSlots {
    pub(super) const fn new() -> Self {
        Self { in_parts: None, is_asked: false, is_next_local: false, reader: None }
    }

    /// Which way a slot goes. Nothing is cut after [`Route::Ask`] until there is an [`answer`](Self::answer).
    pub(super) const fn route(&mut self, is_large: bool) -> Route {
        match self.in_parts {
            Some(true) if is_large && !self.is_next_local => Route::Stream,
            None if is_large => {
                self.is_asked = true;
                Route::Ask
            }
            Some(_) | None => Route::Local,
        }
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whether a large slot is asked for or read.
    pub(super) const fn is_under_way(&self) -> bool {
        self.is_asked || self.reader.is_some()
    }

    pub(super) const fn answer(&mut self, in_parts: bool) {
        (self.is_asked, self.in_parts) = (false, Some(in_parts));
    }

    /// While a slot is read, it must be watched over.
    pub(super) fn look_within(&self) -> Option<Duration> {
        self.reader.as_ref().filter(|reader| !reader.reading.is_over()).map(|_| WATCH_PAUSE)
    }
}

impl Capture<'_> {
    /// Begins to read a slot on a thread of its own.
    pub(super) fn stream(&mut self, next: NextSlot) -> Result<Option<Report>, Failure> {
        let view = match self.database.detached_view(&mut self.dirty) {
            Ok(Some(view)) => view,
            // It changed its journal mode just now.
            Ok(None) => return Ok(None),
            Err(error) => return self.endure(error).map(|()| None),
        };
        let (page_count, page_size) = match view.pages() {
            Ok(pages) => (pages.page_count(), pages.page_size()),
            Err(error) => return self.endure(error).map(|()| None),
        };
        let bytes = u64::from(page_count.get()) * u64::from(page_size.get());
        // Whatever is noted of it is noted when it is stored.
        self.notes.looked(None, &self.dirty);
        let dirty = std::mem::replace(&mut self.dirty, view.still_dirty().clone());
        let sums = std::mem::replace(&mut self.sums, PageSums::unknown());
        let (reading, slot) =
            streaming::begin(view, dirty.clone(), sums, next, part_bytes(page_count, page_size))?;
        tracing::debug!("{}: a large slot is read: {page_count} pages", self.task.path.display());
        let wal_bytes_max = WAL_BYTES_MAX.max(bytes / 4);
        let reader = Reader { reading, next, dirty, wal_bytes_max, checkpoint_since: None };
        self.large.reader = Some(reader);
        self.healed();
        self.sets_off();
        Ok(Some(Report::Streamed(Box::new(slot))))
    }

    /// As long as a view is open, what is committed stays in the WAL, and a checkpoint that wants to restart it waits with
    /// all writers behind it. Before either hurts the application, the slot is given up; the next one is read at the speed
    /// of the disk.
    pub(super) fn watch_over_reader(&mut self) {
        let Some(reader) = self.large.reader.as_mut().filter(|reader| !reader.reading.is_over()) else {
            return;
        };
        let is_checkpointed = self.database.is_being_checkpointed();
        let since = is_checkpointed.then(|| reader.checkpoint_since.unwrap_or_else(Instant::now));
        reader.checkpoint_since = since;
        let why = if self.waiting.bytes > reader.wal_bytes_max {
            "the WAL would get too long"
        } else if since.is_some_and(|since| since.elapsed() > CHECKPOINT_WAITS_MAX) {
            "a checkpoint of the application waits"
        } else {
            return;
        };
        let path = self.task.path.display();
        tracing::warn!(
            "{path}: a large slot is not sent while it is read: {why}; it goes through a local file"
        );
        self.large.is_next_local = true;
        reader.reading.cancel();
    }

    /// The slot on its way is stored; says whether it was a large one that was read meanwhile.
    pub(super) fn large_stored(&mut self) -> Result<bool, Failure> {
        self.large.is_next_local = false;
        let Some(reader) = self.large.reader.take() else { return Ok(false) };
        let Read { sums, outcome } = reader.reading.end()?;
        self.sums = sums;
        match outcome {
            Outcome::Sent { post_apply, .. } => self.next = Some(reader.next.after(post_apply)?),
            Outcome::Nothing => return Ok(false),
            Outcome::Interrupted | Outcome::Failed(_) => {
                return Err(Failure::bug("a slot is stored that was not read to its end"));
            }
        }
        Ok(true)
    }

    /// Notes what a look found out. While a slot is read, the newest state noted is the one before it, from which more
    /// differs than is dirty.
    pub(super) fn note_look(&mut self, anchor: Option<Anchor>) {
        let anchor = if self.large.reader.is_some() { None } else { anchor };
        self.notes.looked(anchor, &self.dirty);
    }

    /// The slot that was read is not stored: everything is as before it.
    pub(super) fn given_up(&mut self, is_spooled: bool) -> Result<(), Failure> {
        self.flush.given_up();
        self.large.is_next_local |= is_spooled;
        let flying = std::mem::take(&mut self.flying);
        self.waiting.bytes += flying.bytes;
        self.waiting.since = flying.since.or(self.waiting.since);
        if self.finish == Finish::Cut {
            self.finish = Finish::Wanted;
        }
        let Some(reader) = self.large.reader.take() else { return Ok(()) };
        let Read { sums, outcome } = reader.reading.end()?;
        self.sums = sums;
        self.dirty.merge(reader.dirty);
        match outcome {
            Outcome::Sent { undo, .. } => self.sums.undo(undo),
            Outcome::Nothing | Outcome::Interrupted => {}
            Outcome::Failed(failure) => return self.give_up_cut(failure),
        }
        Ok(())
    }
}

/// How often a reader is watched over.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// How much may be committed while a slot is read, or a quarter of the database, if that is more.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// A checkpoint of the application that takes longer may be waiting for our view.
const CHECKPOINT_WAITS_MAX: Duration = Duration::from_secs(1);
