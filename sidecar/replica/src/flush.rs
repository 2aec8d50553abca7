//! When the next slot is cut: leading-edge group commit.
//!
//! The first commit after a quiet time goes at once; under steady load slots begin at most once every sync interval. One
//! slot is in flight at a time, because the next may be tried only after the last is proved.

use crate::claim::Millis;

/// What to do about the commits that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Cut a slot now.
    Cut,
    /// Ask again at this time, or earlier if something happens.
    Wait(Millis),
    /// Nothing to do until something happens.
    Idle,
}

/// The rhythm of one database's slots.
#[derive(Clone, Debug)]
pub struct Flush {
    interval: Millis,
    last_cut: Option<Millis>,
    is_in_flight: bool,
    is_eager: bool,
}

impl Flush {
    /// A rhythm of at most one slot every `interval`.
    #[must_use]
    pub const fn new(interval: Millis) -> Self {
        Self { interval, last_cut: None, is_in_flight: false, is_eager: false }
    }

    /// From now on nothing waits for the interval: the process is about to end.
    pub const fn hurry(&mut self) {
        self.is_eager = true;
    }

    /// A slot was cut at `now` and is on its way.
    pub const fn cut(&mut self, now: Millis) {
        self.last_cut = Some(now);
        self.is_in_flight = true;
    }

    /// The slot on its way is stored.
    pub const fn stored(&mut self) {
        self.is_in_flight = false;
    }

    /// Whether a slot is on its way.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    /// Decides at `now`, when commits wait (`is_dirty`) or not.
    #[must_use]
    pub fn decide(&self, now: Millis, is_dirty: bool) -> Decision {
        if !is_dirty || self.is_in_flight {
            return Decision::Idle;
        }
        match self.last_cut.map(|last| last.saturating_add(self.interval)) {
            Some(due) if due > now && !self.is_eager => Decision::Wait(due),
            Some(_) | None => Decision::Cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_commit_goes_at_once() {
        assert_eq!(Flush::new(1_000).decide(5, true), Decision::Cut);
    }

    #[test]
    fn under_load_one_slot_begins_every_interval() {
        let mut flush = Flush::new(1_000);
        flush.cut(100);
        flush.stored();
        assert_eq!(flush.decide(101, true), Decision::Wait(1_100));
        assert_eq!(flush.decide(1_100, true), Decision::Cut);
    }

    #[test]
    fn nothing_is_cut_while_a_slot_is_on_its_way_however_long_that_takes() {
        let mut flush = Flush::new(1_000);
        flush.cut(0);
        flush.hurry();
        assert_eq!(flush.decide(1_000_000, true), Decision::Idle);
    }

    #[test]
    fn at_the_end_nothing_waits_for_the_interval() {
        let mut flush = Flush::new(1_000);
        flush.cut(0);
        flush.stored();
        flush.hurry();
        assert_eq!(flush.decide(1, true), Decision::Cut);
        assert_eq!(flush.decide(1, false), Decision::Idle);
    }
}
