//! Slots that are too large for memory: which way they go, and when the reader of one must not go on.

use std::time::Duration;

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_replica::page_sums::PageSums;

use super::{Capture, Finish, Report, Way};
use crate::disk;
use crate::exit::Failure;
use crate::limits::Turn;
use crate::parts::part_bytes;
use crate::slot_file::{MEMORY_BYTES_MAX, NextSlot, Reserve, WHOLE_BYTES_MAX};
use crate::streaming::{Outcome, Read, Reading, ReadingThread};
use crate::view_bounds::{ViewBounds, WATCH_PAUSE};

/// What is known of how large slots are sent, and the one that is being read.
#[derive(Debug)]
pub(super) struct LargeSlots {
    is_asked: bool,
    /// How the next one is to be sent, if it is cut now.
    answer: Option<Way>,
    /// The next one takes the way that needs no network while it is read.
    is_next_local: bool,
    /// Of a database without a WAL: the last one did not fit into memory, so the next one will hardly either.
    is_of_files: bool,
    /// How many were given up in a row.
    given_up: u32,
    /// How many of those that went through a file were given up in a row.
    spools_given_up: u32,
    reader: Option<Reader>,
}

/// Where a slot goes.
#[derive(Debug)]
pub(super) enum Route {
    /// Into memory, or into a file.
    Local,
    /// Into memory as far as it fits; else whoever talks to the bucket must say.
    Memory,
    /// Whoever talks to the bucket must say.
    Ask,
    /// To the bucket while it is read.
    Stream {
        /// The right to do so.
        turn: Turn,
        /// Whether it could go through a file instead.
        fits_in_file: bool,
    },
}

/// A slot that is being read through a detached view.
#[derive(Debug)]
struct Reader {
    reading: Reading,
    next: NextSlot,
    /// What must be dirty again if it is given up.
    dirty: DirtyPages,
    bounds: ViewBounds,
    /// Whether the next attempt may go through a file.
    fits_in_file: bool,
}

impl LargeSlots {
    pub(super) const fn new() -> Self {
        Self {
            is_asked: false,
            answer: None,
            is_next_local: false,
            is_of_files: false,
            given_up: 0,
            spools_given_up: 0,
            reader: None,
        }
    }

    /// Which way a slot of so many bytes goes, where the disk has so many bytes in all and so many free, if that is known.
    /// Nothing is cut after [`Route::Ask`] until there is an [`answer`](Self::answer).
    pub(super) fn route(&mut self, bytes: u64, disk: Option<(u64, u64)>, reserve: Reserve) -> Route {
        let fits_in_file = fits_in_file(bytes, disk, reserve);
        let answer = self.answer.take();
        if bytes <= MEMORY_BYTES_MAX || (self.is_next_local && fits_in_file) {
            return Route::Local;
        }
        match answer {
            Some(Way::InParts(turn)) => Route::Stream { turn, fits_in_file },
            Some(Way::Whole) => Route::Local,
            None => {
                self.ask();
                Route::Ask
            }
        }
    }

    /// The same of a view that keeps the application from committing: it must not wait for the network, and nobody knows
    /// before it is read how much of it changed.
    pub(super) fn route_blocking(&mut self, bytes: u64) -> Route {
        let is_answered = self.answer.take().is_some();
        if bytes <= MEMORY_BYTES_MAX || is_answered { Route::Local } else { Route::Memory }
    }

    /// Whether the bucket is asked before such a view is opened, of at most so many bytes: to read them twice would keep the
    /// application waiting twice. Nothing is cut then until there is an [`answer`](Self::answer). If `is_certain`, each of these
    /// pages goes into the slot.
    pub(super) fn asks_before_view(&mut self, bytes: u64, is_certain: bool) -> bool {
        let is_foreseen = bytes > MEMORY_BYTES_MAX && (is_certain || self.is_of_files);
        let asks = is_foreseen && self.answer.is_none();
        self.is_asked |= asks;
        asks
    }

    /// A slot of a view that keeps the application from committing did not fit into memory. Nothing is cut until there is
    /// an [`answer`](Self::answer).
    pub(super) const fn needs_file(&mut self) {
        self.is_of_files = true;
        self.ask();
    }

    /// A slot was cut, so large.
    pub(super) const fn was_cut(&mut self, bytes: u64) {
        self.is_of_files &= bytes > MEMORY_BYTES_MAX;
    }

    /// Nothing is cut until there is an [`answer`](Self::answer).
    const fn ask(&mut self) {
        self.is_asked = true;
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whether a large slot is asked for or read.
    pub(super) const fn is_under_way(&self) -> bool {
        self.is_asked || self.reader.is_some()
    }

    pub(super) fn answer(&mut self, way: Way) {
        (self.is_asked, self.answer) = (false, Some(way));
    }

    /// A turn that is not used at once is given to others, who wait for it.
    pub(super) fn forget_answer(&mut self) {
        self.answer.take_if(|answer| matches!(answer, Way::InParts(_)));
    }

    /// A slot was given up, and is not in the bucket.
    fn gave_up(&mut self, is_spooled: bool) {
        self.given_up += 1;
        self.is_next_local |= is_spooled || self.given_up >= GIVEN_UP_MAX;
    }

    /// A slot on its way through a file was given up, because it was in the application's way.
    pub(super) const fn gave_spool_up(&mut self) {
        self.spools_given_up = self.spools_given_up.saturating_add(1);
    }

    pub(super) const fn spools_given_up(&self) -> u32 {
        self.spools_given_up
    }

    /// A slot could not go through a file: there may be no room for one, and never will be.
    pub(super) const fn is_without_room(&mut self) {
        self.is_next_local = false;
    }

    /// While a slot is read, it must be watched over.
    pub(super) fn look_within(&self) -> Option<Duration> {
        self.reader.as_ref().filter(|reader| !reader.reading.is_over()).map(|_| WATCH_PAUSE)
    }
}

impl Capture<'_> {
    /// Begins to read a slot on a thread of its own.
    pub(super) fn stream(
        &mut self,
        next: NextSlot,
        turn: Turn,
        fits_in_file: bool,
    ) -> Result<Option<Report>, Failure> {
        let thread = match ReadingThread::start() {
            Ok(thread) => thread,
            Err(failure) => return self.give_up_cut(failure).map(|()| None),
        };
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
        // Whatever is noted of it is noted when it is stored.
        self.notes.looked(None, &self.dirty);
        let dirty = std::mem::replace(&mut self.dirty, view.still_dirty().clone());
        let sums = std::mem::replace(&mut self.sums, PageSums::unknown());
        let part_bytes = part_bytes(page_count, page_size);
        let (reading, slot) = thread.begin(view, (dirty.clone(), sums), next, part_bytes, turn);
        tracing::debug!("{}: a large slot is read: {page_count} pages", self.task.path.display());
        let bounds = ViewBounds::new(page_count, page_size, disk::free_bytes(self.database.path()));
        let reader = Reader { reading, next, dirty, bounds, fits_in_file };
        self.large.reader = Some(reader);
        self.sets_off();
        Ok(Some(Report::Streamed(Box::new(slot))))
    }

    /// Before the view hurts the application, the slot is given up; the next one is read at the speed of the disk.
    pub(super) fn watch_over_reader(&mut self) {
        let Some(reader) = self.large.reader.as_mut().filter(|reader| !reader.reading.is_over()) else {
            return;
        };
        let is_checkpointed = self.database.is_being_checkpointed();
        let Some(why) = reader.bounds.exceeded(self.waiting.bytes, is_checkpointed) else { return };
        let path = self.task.path.display();
        let instead = if reader.fits_in_file { THROUGH_A_FILE } else { AGAIN_IN_PARTS };
        tracing::warn!("{path}: a large slot is not sent while it is read: {why}; {instead}");
        self.large.is_next_local = true;
        reader.reading.cancel();
    }

    /// The slot on its way is stored; says whether it was a large one that was read meanwhile.
    pub(super) fn large_stored(&mut self) -> Result<bool, Failure> {
        (self.large.is_next_local, self.large.given_up, self.large.spools_given_up) = (false, 0, 0);
        let Some(reader) = self.large.reader.take() else { return Ok(false) };
        let Read { sums, outcome } = reader.reading.end()?;
        self.sums = sums;
        match outcome {
            Outcome::Sent { post_apply, .. } => self.next = Some(reader.next.after(post_apply)?),
            Outcome::Nothing => {
                self.post.nothing_to_store();
                return Ok(false);
            }
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
    pub(super) fn given_up(&mut self, is_spooled: bool, requests: u32) -> Result<(), Failure> {
        self.flush.took(self.now(), requests);
        self.flush.given_up();
        self.large.gave_up(is_spooled);
        let flying = std::mem::take(&mut self.flying);
        self.waiting.bytes += flying.bytes;
        self.waiting.commits += flying.commits;
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

/// Whether a slot of at most so many bytes may go through a file: a bucket must take it whole, and what is left of the disk
/// is the application's, half of it and the reserve at least. Else it must go on trying in parts.
fn fits_in_file(bytes: u64, disk: Option<(u64, u64)>, reserve: Reserve) -> bool {
    let has_room =
        |(total, free): (u64, u64)| bytes <= free / 2 && reserve.is_left(Some((total, free - bytes)));
    bytes <= WHOLE_BYTES_MAX && disk.is_none_or(has_room)
}

const THROUGH_A_FILE: &str = "it goes through a local file";
const AGAIN_IN_PARTS: &str = "it is begun anew, as it is too large for a local file";
/// So many attempts in parts are made in a row; the next one is sent whole.
const GIVEN_UP_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = MEMORY_BYTES_MAX + 1;

    /// On a disk that says nothing of itself.
    fn route(slots: &mut LargeSlots, bytes: u64) -> Route {
        slots.route(bytes, None, Reserve::default())
    }

    fn asked(slots: &mut LargeSlots, bytes: u64) -> bool {
        matches!(route(slots, bytes), Route::Ask)
    }

    #[test]
    fn only_a_large_slot_asks_and_an_answer_holds_for_one() {
        let mut slots = LargeSlots::new();
        assert!(matches!(route(&mut slots, MEMORY_BYTES_MAX), Route::Local));
        assert!(asked(&mut slots, LARGE) && slots.is_asked());
        slots.answer(Way::InParts(Turn::of_nobody()));
        assert!(matches!(route(&mut slots, LARGE), Route::Stream { fits_in_file: true, .. }));
        assert!(asked(&mut slots, LARGE));
        slots.answer(Way::Whole);
        assert!(matches!(route(&mut slots, LARGE), Route::Local));
    }

    #[test]
    fn a_view_that_keeps_the_application_waiting_asks_only_for_what_does_not_fit_into_memory() {
        let mut slots = LargeSlots::new();
        assert!(matches!(slots.route_blocking(MEMORY_BYTES_MAX), Route::Local));
        assert!(matches!(slots.route_blocking(LARGE), Route::Memory) && !slots.is_asked());
        slots.ask();
        slots.answer(Way::Whole);
        slots.forget_answer();
        assert!(
            matches!(slots.route_blocking(LARGE), Route::Local),
            "it may have to rest before the next view"
        );
        assert!(matches!(slots.route_blocking(LARGE), Route::Memory), "an answer holds for one");
    }

    #[test]
    fn a_slot_without_a_wal_that_is_large_again_is_read_once() {
        let mut slots = LargeSlots::new();
        assert!(matches!(slots.route_blocking(LARGE), Route::Memory));
        slots.needs_file();
        slots.answer(Way::Whole);
        assert!(!slots.asks_before_view(LARGE, false), "it is answered");
        assert!(matches!(slots.route_blocking(LARGE), Route::Local));
        slots.was_cut(LARGE);
        assert!(slots.asks_before_view(LARGE, false) && slots.is_asked());
        slots.answer(Way::Whole);
        assert!(matches!(slots.route_blocking(LARGE), Route::Local));
        slots.was_cut(MEMORY_BYTES_MAX);
        assert!(!slots.asks_before_view(LARGE, false), "it is small again");
        assert!(!slots.asks_before_view(MEMORY_BYTES_MAX, true));
        assert!(slots.asks_before_view(LARGE, true), "it is known");
        slots.answer(Way::Whole);
        assert!(matches!(slots.route_blocking(LARGE), Route::Local));
        slots.was_cut(LARGE);
        assert!(!slots.asks_before_view(LARGE, false), "from what was known nothing follows for the next");
    }

    #[test]
    fn an_answer_to_a_slot_that_became_small_is_none_for_the_next_large_one() {
        let mut slots = LargeSlots::new();
        for answered in [true, false] {
            slots.answer(Way::Whole);
            if answered {
                assert!(matches!(route(&mut slots, MEMORY_BYTES_MAX), Route::Local));
                assert!(asked(&mut slots, LARGE));
            } else {
                assert!(matches!(slots.route_blocking(MEMORY_BYTES_MAX), Route::Local));
                assert!(matches!(slots.route_blocking(LARGE), Route::Memory));
            }
        }
    }

    #[test]
    fn a_turn_that_was_not_used_is_given_back() {
        let mut slots = LargeSlots::new();
        slots.answer(Way::InParts(Turn::of_nobody()));
        slots.forget_answer();
        assert!(asked(&mut slots, LARGE));
    }

    #[test]
    fn after_three_attempts_in_parts_one_is_made_whole_and_without_room_again_in_parts() {
        let mut slots = LargeSlots::new();
        (0..2).for_each(|_| slots.gave_up(false));
        assert!(asked(&mut slots, LARGE));
        slots.gave_up(false);
        assert!(matches!(route(&mut slots, LARGE), Route::Local));
        slots.is_without_room();
        assert!(asked(&mut slots, LARGE));
    }

    #[test]
    fn what_no_bucket_takes_whole_is_never_sent_whole_by_choice() {
        let mut slots = LargeSlots::new();
        slots.gave_up(true);
        assert!(matches!(route(&mut slots, WHOLE_BYTES_MAX), Route::Local));
        assert!(asked(&mut slots, WHOLE_BYTES_MAX + 1));
        slots.answer(Way::InParts(Turn::of_nobody()));
        let route = route(&mut slots, WHOLE_BYTES_MAX + 1);
        assert!(matches!(route, Route::Stream { fits_in_file: false, .. }), "{route:?}");
    }

    #[test]
    fn by_choice_no_file_takes_more_than_half_of_what_is_left_of_the_disk_nor_any_of_the_reserve() {
        const DISK: u64 = 1 << 40;
        let mut slots = LargeSlots::new();
        slots.gave_up(true);
        let mut is_local = |free, reserve| {
            let route = slots.route(LARGE, Some((DISK, free)), reserve);
            assert!(matches!(route, Route::Local | Route::Ask), "{route:?}");
            matches!(route, Route::Local)
        };
        let nothing = Reserve::of(0);
        assert!(is_local(2 * LARGE, nothing) && !is_local(2 * LARGE - 1, nothing));
        // A file asks for room some megabytes before it has none.
        let (some, enough) = (Reserve::of(16 << 20), (16 << 20) + (4 << 20) + LARGE);
        assert!(is_local(enough, some) && !is_local(enough - 1, some));
        slots.answer(Way::Whole);
        let full = slots.route(LARGE, Some((DISK, 0)), nothing);
        assert!(matches!(full, Route::Local), "there is no other way");
    }
}
