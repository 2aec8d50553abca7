//! When a WAL that keeps growing needs help: a decision, without doing anything.
//!
//! Our pin is what keeps the WAL from restarting, so its length is our business. In quiet moments
//! [`WalDatabase::settle`](super::WalDatabase::settle) is enough. An application that never pauses leaves no such moment; then
//! first a checkpoint is made from time to time, which disturbs nobody, and at last the write lock is taken, for as long as
//! the last few frames need to be copied.

use std::time::Duration;

use lifeboat_wal::PageSize;
use lifeboat_wal::frame::{FrameNo, frame_bytes};
use lifeboat_wal::header::Salts;
use lifeboat_wal::wal_index::{IndexHeader, WalIndex};

/// What has been done about the length of the WAL, and what is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pressure {
    hard: u32,
    salts: Salts,
    /// The last frame when the pin was last rolled.
    rolled_at: FrameNo,
    /// The write lock is not taken before the WAL is this long.
    lock_at: u32,
    /// By how much `lock_at` moved last.
    pause: u32,
    /// The last frame when somebody last looked.
    length: u32,
    /// Whether the application writes faster than its frames can be copied.
    is_overrun: bool,
    /// Whether frames come in a flood.
    is_flood: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    /// Nothing.
    None,
    /// Roll the pin and checkpoint as far as that allows.
    Checkpoint,
    /// Checkpoint to the end under the write lock, so that the next writer restarts the WAL.
    Restart,
}

impl Pressure {
    pub(super) fn new(page_size: PageSize, header: &IndexHeader) -> Self {
        let fit = u32::try_from(HARD_BYTES / frame_bytes(page_size)).unwrap_or(HARD_FRAMES);
        let hard = HARD_FRAMES.min(fit);
        let rolled_at = header.last_frame;
        Self {
            hard,
            salts: header.salts,
            rolled_at,
            lock_at: hard,
            pause: hard,
            length: rolled_at.get(),
            is_overrun: false,
            is_flood: false,
        }
    }

    /// What the WAL needs now that it has come to this header.
    pub(super) fn decide(&mut self, header: &IndexHeader) -> Relief {
        if header.salts != self.salts {
            // The WAL was restarted; everything begins anew.
            let hard = self.hard;
            (self.salts, self.rolled_at) = (header.salts, FrameNo::START);
            (self.lock_at, self.pause) = (hard, hard);
        }
        self.length = header.last_frame.get();
        if self.length >= self.lock_at {
            return Relief::Restart;
        }
        if !self.is_overrun && header.last_frame.since(self.rolled_at) >= self.hard / SOFT_PART {
            Relief::Checkpoint
        } else {
            Relief::None
        }
    }

    /// A look found that so many frames came in this time.
    pub(super) fn arrived(&mut self, frames: u64, within: Duration) {
        self.is_flood = u128::from(frames) * FLOOD_FRAME.as_nanos() >= within.as_nanos().max(1);
    }

    /// Whether the application must be kept from checkpointing for itself. Only in a flood it gets in its own way and ours:
    /// at a thousand commits a second its checkpoints are what they are without us, the explicit ones included.
    pub(super) const fn needs_guard(&self) -> bool {
        self.is_flood && self.is_long()
    }

    /// Whether the WAL is so long that the application might begin to checkpoint, and that settling it pays.
    pub(super) const fn is_long(&self) -> bool {
        self.length >= self.hard / SOFT_PART
    }

    /// How many times as much as possible is copied without the write lock before it is taken. While frames come faster
    /// than they can be copied, each such round would only find more of them, and the WAL would grow without bound; the
    /// bound is paid with the application's speed.
    pub(super) const fn copy_rounds(&self) -> u32 {
        if self.is_overrun { 0 } else { COPY_ROUNDS }
    }

    /// A checkpoint ran, while the WAL grew from one header to the other.
    pub(super) fn copied(&mut self, from: &IndexHeader, to: &IndexHeader) {
        let arrived = if from.salts == to.salts { to.last_frame.since(from.last_frame) } else { 0 };
        if arrived >= self.hard {
            self.is_overrun = true;
        } else if arrived < self.hard / 4 {
            self.is_overrun = false;
        }
    }

    /// The pin was rolled, and its snapshot is at least as new as this header.
    pub(super) const fn rolled(&mut self, header: &IndexHeader) {
        self.rolled_at = header.last_frame;
    }

    /// Everything was copied under the lock. Should the WAL not restart all the same, because an older reader of the
    /// application is still there, then the lock is not worth taking again soon: each time the wait is doubled, to a bound,
    /// because readers that overlap may be there at each attempt and gone at the next.
    pub(super) fn locked(&mut self, header: &IndexHeader) {
        self.lock_at = header.last_frame.get().saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(self.hard.saturating_mul(PAUSE_PART));
    }

    /// Whether a reader of the application holds back much of what our pin would let a checkpoint copy. Then the lock
    /// would be for nothing, and it waits until the WAL is longer.
    pub(super) const fn is_hindered(&mut self, index: &WalIndex) -> bool {
        let is_hindered = self.rolled_at.since(index.backfilled) >= self.hard / HINDERED_PART;
        if is_hindered {
            self.lock_at = index.header.last_frame.get().saturating_add(self.hard / 2);
        }
        is_hindered
    }
}

/// The lock is taken when so few frames are left to copy.
pub(super) const FEW_FRAMES: u32 = 200;
/// A reader that holds back this part of what is allowed makes the lock useless.
const HINDERED_PART: u32 = 4;
const HARD_FRAMES: u32 = 4000;
/// The longest wait for the next lock, in parts of what is allowed without one.
const PAUSE_PART: u32 = 8;
/// More than a frame in this time is a flood.
const FLOOD_FRAME: Duration = Duration::from_micros(100);
const HARD_BYTES: usize = 64 * 1024 * 1024;
/// Checkpoints without a lock are made this many times as often.
const SOFT_PART: u32 = 8;
/// Copying without a lock is repeated this many times, if the application is so fast that many frames came meanwhile.
const COPY_ROUNDS: u32 = 3;

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageCount;
    use lifeboat_wal::checksum::{ByteOrder, Checksum};

    use super::*;

    fn header(last_frame: u32, salt: u8) -> IndexHeader {
        IndexHeader {
            change_counter: 0,
            order: ByteOrder::Little,
            page_size: None,
            last_frame: FrameNo::new(last_frame),
            page_count: PageCount::new(1),
            frame_checksum: Checksum::default(),
            salts: Salts([salt; 8]),
        }
    }

    fn pressure(bytes: u32) -> Pressure {
        Pressure::new(PageSize::try_new(bytes).unwrap(), &header(0, 1))
    }

    #[test]
    fn checkpoints_come_by_the_distance_from_the_pin_and_the_lock_by_the_length_of_the_wal() {
        let mut pressure = pressure(4096);
        assert_eq!(pressure.decide(&header(499, 1)), Relief::None);
        assert_eq!(pressure.decide(&header(500, 1)), Relief::Checkpoint);
        pressure.rolled(&header(3600, 1));
        assert_eq!(pressure.decide(&header(3999, 1)), Relief::None);
        assert_eq!(pressure.decide(&header(4000, 1)), Relief::Restart);
    }

    #[test]
    fn large_pages_are_limited_by_their_bytes() {
        let mut pressure = pressure(65_536);
        assert_eq!(pressure.decide(&header(1023, 1)), Relief::Restart);
        assert_eq!(pressure.decide(&header(1022, 1)), Relief::Checkpoint);
    }

    #[test]
    fn a_restarted_wal_begins_anew() {
        let mut pressure = pressure(4096);
        pressure.rolled(&header(4000, 1));
        pressure.locked(&header(4000, 1));
        assert_eq!(pressure.decide(&header(10, 2)), Relief::None);
        assert_eq!(pressure.decide(&header(4000, 2)), Relief::Restart);
    }

    #[test]
    fn a_lock_that_did_not_help_is_taken_half_as_often_each_time() {
        let mut pressure = pressure(4096);
        let mut locks = Vec::new();
        for frame in 0..130_000 {
            pressure.rolled(&header(frame, 1));
            if pressure.decide(&header(frame, 1)) == Relief::Restart {
                pressure.locked(&header(frame, 1));
                locks.push(frame);
            }
        }
        assert_eq!(locks, [4000, 8000, 16_000, 32_000, 64_000, 96_000, 128_000]);
    }

    #[test]
    fn while_frames_come_faster_than_they_are_copied_the_lock_comes_first() {
        let mut pressure = pressure(4096);
        assert_eq!(pressure.copy_rounds(), COPY_ROUNDS);
        pressure.copied(&header(500, 1), &header(4499, 1));
        assert_eq!(pressure.decide(&header(3000, 1)), Relief::Checkpoint);
        pressure.copied(&header(500, 1), &header(4500, 1));
        assert_eq!(pressure.decide(&header(3000, 1)), Relief::None, "no checkpoint without the lock");
        assert_eq!((pressure.decide(&header(4000, 1)), pressure.copy_rounds()), (Relief::Restart, 0));
        pressure.copied(&header(4000, 1), &header(5000, 1));
        assert_eq!(pressure.copy_rounds(), 0, "not before it is clearly slower");
        pressure.copied(&header(4000, 1), &header(4999, 1));
        assert_eq!(pressure.copy_rounds(), COPY_ROUNDS);
    }

    #[test]
    fn a_wal_is_long_before_the_application_would_checkpoint_it() {
        let mut pressure = pressure(4096);
        let mut is_long_at = |header| {
            pressure.decide(&header);
            pressure.is_long()
        };
        assert!(!is_long_at(header(499, 1)) && is_long_at(header(500, 1)));
        assert!(!is_long_at(header(1, 2)), "it was restarted");
    }

    #[test]
    fn the_application_is_kept_from_checkpointing_only_in_a_flood_and_a_long_wal() {
        let mut pressure = pressure(4096);
        pressure.decide(&header(500, 1));
        pressure.arrived(100, Duration::from_micros(10_001));
        assert!(!pressure.needs_guard());
        pressure.arrived(100, Duration::from_millis(10));
        assert!(pressure.needs_guard());
        pressure.decide(&header(1, 2));
        assert!(!pressure.needs_guard(), "the WAL was restarted");
        pressure.arrived(0, Duration::ZERO);
        assert!(!pressure.is_flood);
    }

    #[test]
    fn behind_an_old_reader_the_lock_waits() {
        let mut pressure = pressure(4096);
        pressure.rolled(&header(4000, 1));
        let index = |backfilled| WalIndex {
            header: header(4000, 1),
            backfilled: FrameNo::new(backfilled),
            attempted: FrameNo::new(backfilled),
        };
        assert!(!pressure.is_hindered(&index(3001)));
        assert_eq!(pressure.decide(&header(4000, 1)), Relief::Restart);
        assert!(pressure.is_hindered(&index(3000)));
        assert_eq!(pressure.decide(&header(4400, 1)), Relief::None);
        pressure.rolled(&header(5900, 1));
        assert_eq!(pressure.decide(&header(6000, 1)), Relief::Restart);
    }
}
