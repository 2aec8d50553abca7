//! When a follower looks at its database again: a decision, without a clock.
//!
//! Under load it looks on a cadence of its own, so that a thousand commits a second cost forty looks and not a thousand.
//! When nothing comes any more it settles the WAL, and then rests until it is woken.

use std::time::Duration;

/// The rhythm of one follower's looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The pause while the database is not settled.
    pause: Duration,
    /// The next look after an event that brought no news.
    look_again: Option<Duration>,
    is_settled: bool,
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
        Self { pause: PAUSE_START, look_again: None, is_settled: false }
    }

    /// An event came, so the next looks are due soon.
    ///
    /// A commit writes its frames, which is the event, perhaps syncs them, and becomes visible only afterwards, without a
    /// further event. So one event is followed by looks after 1, 2, 4 … milliseconds, for longer than the kernel lets a
    /// disk be stuck without a warning.
    pub const fn event(&mut self) {
        self.look_again = Some(LOOK_MIN);
    }

    /// A look brought so many frames.
    pub fn news(&mut self, frames: u64) {
        self.look_again = None;
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
                self.look_again = Some(pause * 2).filter(|&longer| longer <= LOOK_MAX);
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
const PAUSE_MAX: Duration = Duration::from_millis(25);
/// While a reader of the application keeps the WAL from being settled.
const HINDERED_MAX: Duration = Duration::from_secs(1);
/// More frames in one look than this are looked for more often: the length of the WAL is our business.
const FRAMES_MANY: u64 = 200;
/// Fewer are looked for more rarely.
const FRAMES_FEW: u64 = 100;
const LOOK_MIN: Duration = Duration::from_millis(1);
/// All looks together last two minutes; Linux complains about a task that waits for its disk for as long.
const LOOK_MAX: Duration = Duration::from_millis(1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_without_news_is_followed_by_looks_for_two_minutes() {
        let mut pace = Pace::new();
        pace.settled();
        assert_eq!(pace.next_wait(), Next::Event);
        pace.event();
        let mut pauses = Vec::new();
        while let Next::Pause(pause) | Next::EventWithin(pause) = pace.next_wait() {
            pauses.push(pause);
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(Duration::from_millis));
        assert!(pauses.iter().sum::<Duration>() > Duration::from_secs(120), "{pauses:?}");
        assert!(pauses.len() < 20);
        pace.event();
        pace.news(1);
        pace.settled();
        assert_eq!(pace.next_wait(), Next::Event, "news explain the event");
    }

    #[test]
    fn a_thousand_commits_a_second_cost_some_forty_looks() {
        let (mut pace, mut now, mut looks) = (Pace::new(), Duration::ZERO, 0);
        while now < Duration::from_secs(1) {
            let Next::Pause(pause) = pace.next_wait() else { panic!("a busy database is not waited for") };
            (now, looks) = (now + pause, looks + 1);
            pace.news(u64::try_from(pause.as_millis()).unwrap());
        }
        assert!((40..60).contains(&looks), "{looks}");
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
