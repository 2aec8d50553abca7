//! When a follower looks at its database again: a decision, without a clock.
//!
//! Under load it looks on a cadence of its own, so that a thousand commits a second cost twenty-five looks and not a thousand.
//! When nothing comes any more it settles the WAL, and then rests until it is woken.

use std::time::Duration;

/// The rhythm of one follower's looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The pause while the database is not settled.
    pause: Duration,
    /// The next look for a commit that is on its way.
    look_again: Option<Duration>,
    is_settled: bool,
    /// What seems to be on its way was left there, and never will be visible.
    is_left_behind: bool,
}

/// What comes before the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A pause, during which events mean nothing.
    Pause(Duration),
    /// An event, or this time.
    EventWithin(Duration),
    /// An event. Nothing is due.
    Event,
}

impl Pace {
    /// A database of which nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { pause: PAUSE_START, look_again: None, is_settled: false, is_left_behind: false }
    }

    /// An event came, so the next look is due soon.
    pub const fn event(&mut self) {
        (self.look_again, self.is_left_behind) = (Some(LOOK_MIN), false);
    }

    /// The watch is armed from now on. What was written before is no event.
    pub const fn armed(&mut self) {
        self.is_left_behind = false;
    }

    /// Whether it matters that a commit is on its way: the next look is not due anyway.
    #[must_use]
    pub fn wants_to_rest(&self) -> bool {
        self.is_settled || self.look_again.is_some() || self.pause > PAUSE_MAX
    }

    /// A commit writes its frames, which is the event, perhaps syncs them, and becomes visible only afterwards, without a
    /// further event. So as long as one is on its way there are looks after 1, 2, 4 … milliseconds, and then every second,
    /// however long its disk takes.
    pub fn on_its_way(&mut self, is_on_its_way: bool) {
        if is_on_its_way {
            let _ = self.look_again.get_or_insert(LOOK_MIN);
        } else {
            self.look_again = None;
        }
    }

    /// Whether what is on its way has been looked for so long that it is worth asking whether anybody is writing it.
    #[must_use]
    pub fn is_in_vain(&self) -> bool {
        self.look_again == Some(LOOK_MAX)
    }

    /// Nobody is writing what seemed to be on its way. The next writer will be an event.
    pub const fn left_behind(&mut self) {
        self.is_left_behind = true;
    }

    /// Whether what seems to be on its way is known to have been left there.
    #[must_use]
    pub const fn is_left_behind(&self) -> bool {
        self.is_left_behind
    }

    /// A look brought so many frames.
    pub fn news(&mut self, frames: u64) {
        (self.look_again, self.is_left_behind) = (None, false);
        if self.is_settled {
            self.pause = PAUSE_START;
        } else if frames > FRAMES_MANY {
            self.pause = (self.pause / 2).max(PAUSE_MIN);
        } else if frames < FRAMES_FEW {
            self.pause = (self.pause + self.pause / 2).min(PAUSE_MAX);
        }
        self.is_settled = false;
    }

    /// Nothing came, and the WAL is settled: nothing is left to do.
    pub const fn settled(&mut self) {
        self.is_settled = true;
    }

    /// Nothing came, but the WAL could not be settled, because somebody is in the way. It may stay so for long, so the
    /// pauses grow.
    pub fn hindered(&mut self) {
        self.is_settled = false;
        self.pause = (self.pause * 2).min(HINDERED_MAX);
    }

    /// The look failed; it is tried again soon.
    pub const fn failed(&mut self) {
        self.is_settled = false;
    }

    /// Whether nothing is left to do before the next event.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// What comes before the next look, and moves on to the one after.
    pub fn next_wait(&mut self) -> Next {
        match self.look_again {
            Some(pause) => {
                self.look_again = Some((pause * 2).min(LOOK_MAX));
                Next::within(pause)
            }
            None if self.is_settled => Next::Event,
            None => Next::within(self.pause),
        }
    }
}

impl Next {
    /// A short pause needs no events. During a long one they count, because a commit must not wait for its end.
    fn within(pause: Duration) -> Self {
        if pause <= PAUSE_MAX { Self::Pause(pause) } else { Self::EventWithin(pause) }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

/// After the last commit of a burst, this long until the WAL is settled.
const PAUSE_START: Duration = Duration::from_millis(5);
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// While a reader of the application keeps the WAL from being settled.
const HINDERED_MAX: Duration = Duration::from_secs(1);
/// More frames in one look than this are looked for more often: the length of the WAL is our business.
const FRAMES_MANY: u64 = 200;
/// Fewer are looked for more rarely.
const FRAMES_FEW: u64 = 100;
const LOOK_MIN: Duration = Duration::from_millis(1);
/// A commit whose sync took minutes is seen so soon after it became visible.
const LOOK_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_on_its_way_is_looked_for_soon_and_then_every_second_without_end() {
        let mut pace = Pace::new();
        pace.settled();
        assert_eq!(pace.next_wait(), Next::Event);
        pace.event();
        let mut pauses = Vec::new();
        while pauses.iter().sum::<Duration>() < Duration::from_secs(300) {
            assert!(pace.wants_to_rest());
            pace.on_its_way(true);
            let (Next::Pause(pause) | Next::EventWithin(pause)) = pace.next_wait() else {
                panic!("it rests after {pauses:?}")
            };
            pauses.push(pause);
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&Duration::from_secs(1)));
        assert!(pauses.len() < 320);
        pace.news(1);
        pace.settled();
        assert_eq!(pace.next_wait(), Next::Event, "it has come");
    }

    #[test]
    fn an_event_after_which_nothing_is_on_its_way_costs_one_look() {
        let mut pace = Pace::new();
        pace.settled();
        pace.event();
        pace.on_its_way(false);
        assert_eq!(pace.next_wait(), Next::Event);
    }

    #[test]
    fn what_was_left_behind_counts_for_nothing_until_something_happens() {
        let mut pace = Pace::new();
        pace.settled();
        pace.event();
        while !pace.is_in_vain() {
            pace.next_wait();
        }
        for happens in [Pace::event, Pace::armed, |pace: &mut Pace| pace.news(1)] {
            pace.left_behind();
            assert!(pace.is_left_behind());
            happens(&mut pace);
            assert!(!pace.is_left_behind());
        }
    }

    #[test]
    fn a_thousand_commits_a_second_cost_some_thirty_looks() {
        let (mut pace, mut now, mut looks) = (Pace::new(), Duration::ZERO, 0);
        while now < Duration::from_secs(1) {
            let Next::Pause(pause) = pace.next_wait() else { panic!("a busy database is not waited for") };
            (now, looks) = (now + pause, looks + 1);
            pace.news(u64::try_from(pause.as_millis()).unwrap());
        }
        assert!((25..40).contains(&looks), "{looks}");
    }

    #[test]
    fn a_flood_is_looked_at_more_often() {
        let mut pace = Pace::new();
        (0..10).for_each(|_| pace.news(1));
        assert_eq!(pace.next_wait(), Next::Pause(PAUSE_MAX));
        (0..10).for_each(|_| pace.news(1_000));
        assert_eq!(pace.next_wait(), Next::Pause(PAUSE_MIN));
    }

    #[test]
    fn after_a_rest_a_burst_begins_with_short_pauses() {
        let mut pace = Pace::new();
        (0..10).for_each(|_| pace.news(1));
        pace.settled();
        pace.event();
        pace.news(1);
        assert_eq!(pace.next_wait(), Next::Pause(PAUSE_START));
    }

    #[test]
    fn who_is_hindered_tries_more_and_more_rarely() {
        let mut pace = Pace::new();
        (0..20).for_each(|_| pace.hindered());
        assert_eq!(pace.next_wait(), Next::EventWithin(HINDERED_MAX));
        pace.news(1);
        assert_eq!(pace.next_wait(), Next::Pause(PAUSE_MAX), "news end that");
    }
}
