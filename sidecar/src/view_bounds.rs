//! What a view of ours beside the pins may cost the application: one rule for every such view.
//!
//! As long as it is open, what is committed stays in the WAL, and a checkpoint that wants to restart it waits with all
//! writers behind it. Before either hurts the application, the view is closed.

use std::time::{Duration, Instant};

use lifeboat_wal::{PageCount, PageSize};

/// The bounds of one open view.
#[derive(Debug)]
pub(crate) struct ViewBounds {
    /// How many bytes may be committed while it is open.
    committed_max: u64,
    /// How many of them the disk has room for.
    room: u64,
    /// Since when somebody else is checkpointing.
    checkpoint_since: Option<Instant>,
    /// How long that may take.
    checkpoint_max: Duration,
}

impl ViewBounds {
    /// The bounds of a view of a database of this size, on a disk with so much room if that is known: what the WAL grows
    /// by because of us must leave the application some.
    pub(crate) fn new(page_count: PageCount, page_size: PageSize, free: Option<u64>) -> Self {
        let bytes = u64::from(page_count.get()) * u64::from(page_size.get());
        let room = free.map_or(u64::MAX, |free| free / 2);
        let committed_max = COMMITTED_MAX.max(bytes / 4).min(room);
        Self { committed_max, room, checkpoint_since: None, checkpoint_max: CHECKPOINT_WAITS_MAX }
    }

    /// The same for an attempt before which so many came to nothing: each may take twice as long and see twice as much
    /// committed as the one before, so that one of them comes to its end. The room on the disk does not grow.
    pub(crate) fn of_attempt(self, before: u32) -> Self {
        let times = 1 << before.min(DOUBLINGS_MAX);
        let committed_max = self.committed_max.saturating_mul(times.into()).min(self.room);
        Self { committed_max, checkpoint_max: self.checkpoint_max * times, ..self }
    }

    /// The same for what is read from it from now on, which a checkpoint has not waited for yet.
    pub(crate) const fn anew(self) -> Self {
        Self { checkpoint_since: None, checkpoint_max: CHECKPOINT_WAITS_MAX, ..self }
    }

    /// The same for a view that is given up without a loss: it goes before a checkpoint has waited for long.
    pub(crate) const fn of_little_worth(self) -> Self {
        Self { checkpoint_max: CHECKPOINT_WAITS_BRIEFLY, ..self }
    }

    /// How often it must be watched over.
    pub(crate) fn look_within(&self) -> Duration {
        (self.checkpoint_max / 4).min(WATCH_PAUSE)
    }

    /// Why the view must be closed, if it must, when so many bytes were committed meanwhile.
    pub(crate) fn exceeded(&mut self, committed: u64, is_checkpointed: bool) -> Option<&'static str> {
        let since = is_checkpointed.then(|| self.checkpoint_since.unwrap_or_else(Instant::now));
        self.checkpoint_since = since;
        if committed > self.committed_max {
            Some("the WAL would get too long")
        } else if since.is_some_and(|since| since.elapsed() > self.checkpoint_max) {
            Some("a checkpoint of the application waits")
        } else {
            None
        }
    }
}

/// How often a view is watched over.
pub(crate) const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// How much may be committed while a view is open, or a quarter of the database, if that is more, on a disk that has the room.
const COMMITTED_MAX: u64 = 256 << 20;
/// A checkpoint of the application that takes longer may be waiting for our view.
const CHECKPOINT_WAITS_MAX: Duration = Duration::from_secs(1);
/// By then no application still waits for its checkpoint.
const DOUBLINGS_MAX: u32 = 10;
/// Writers wait behind such a checkpoint, and an application may have less patience than a second.
const CHECKPOINT_WAITS_BRIEFLY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(pages: u32) -> ViewBounds {
        ViewBounds::new(PageCount::new(pages), PageSize::try_new(65_536).unwrap(), None)
    }

    #[test]
    fn no_more_is_committed_than_half_of_what_the_disk_has_room_for() {
        let page_size = PageSize::try_new(65_536).unwrap();
        let mut bounds = ViewBounds::new(PageCount::new(1 << 15), page_size, Some(20_000));
        assert_eq!(bounds.exceeded(10_000, false), None);
        assert_eq!(bounds.exceeded(10_001, false), Some("the WAL would get too long"));
    }

    #[test]
    fn so_much_may_be_committed_and_not_a_byte_more() {
        assert_eq!(bounds(1).exceeded(256 << 20, false), None);
        assert_eq!(bounds(1).exceeded((256 << 20) + 1, false), Some("the WAL would get too long"));
        assert_eq!(bounds(1 << 15).exceeded(512 << 20, false), None, "a quarter of 2 GiB");
        assert!(bounds(1 << 15).exceeded((512 << 20) + 1, false).is_some());
    }

    #[test]
    fn a_checkpoint_waits_for_a_second_at_most_and_another_one_begins_anew() {
        let mut bounds = bounds(1);
        let long_ago = Instant::now().checked_sub(CHECKPOINT_WAITS_MAX + Duration::from_millis(1));
        assert_eq!(bounds.exceeded(0, true), None, "it began just now");
        bounds.checkpoint_since = long_ago;
        assert_eq!(bounds.exceeded(0, false), None, "it is over");
        assert_eq!(bounds.exceeded(0, true), None, "the next one");
        bounds.checkpoint_since = long_ago;
        assert_eq!(bounds.exceeded(0, true), Some("a checkpoint of the application waits"));
        assert_eq!(bounds.anew().exceeded(0, true), None);
    }

    #[test]
    fn each_attempt_has_twice_the_patience_and_none_takes_more_of_the_disk() {
        let patience = |before| bounds(1).of_attempt(before).checkpoint_max;
        assert_eq!([0, 1, 3].map(patience), [1, 2, 8].map(|times| times * CHECKPOINT_WAITS_MAX));
        assert_eq!(patience(u32::MAX), patience(DOUBLINGS_MAX));
        assert_eq!(bounds(1).of_attempt(3).exceeded(8 * COMMITTED_MAX, false), None);
        assert!(bounds(1).of_attempt(3).exceeded(8 * COMMITTED_MAX + 1, false).is_some());
        let page_size = PageSize::try_new(65_536).unwrap();
        let small = ViewBounds::new(PageCount::new(1), page_size, Some(20_000));
        assert!(small.of_attempt(u32::MAX).exceeded(10_001, false).is_some());
    }

    #[test]
    fn a_view_of_little_worth_goes_after_a_tenth_of_that() {
        let mut bounds = bounds(1);
        bounds.checkpoint_since = Instant::now().checked_sub(CHECKPOINT_WAITS_BRIEFLY * 2);
        assert_eq!(bounds.exceeded(0, true), None);
        let mut bounds = bounds.of_little_worth();
        assert!(bounds.exceeded(0, true).is_some() && bounds.look_within() < CHECKPOINT_WAITS_BRIEFLY / 2);
        let bounds = bounds.anew();
        assert_eq!((bounds.checkpoint_max, bounds.look_within()), (CHECKPOINT_WAITS_MAX, WATCH_PAUSE));
    }
}
