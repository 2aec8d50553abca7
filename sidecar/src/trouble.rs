//! A database that cannot be read for a while: when that is worth saying, and when to look again.

use std::time::{Duration, Instant};

/// The trouble with one database, if there is any. Decides only; it is told what happens and when.
#[derive(Debug, Default)]
pub struct Trouble {
    since: Option<Instant>,
    is_said: bool,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Trouble {
    /// A look failed because somebody is in the way, who is usually gone a moment later, so the next look is soon, and
    /// later only if he stays. Says whether that has become worth saying.
    pub fn brief(&mut self, now: Instant) -> bool {
        let since = match self.since {
            Some(since) => {
                self.pause = (self.pause * 2).clamp(BRIEF_PAUSE_MIN, BRIEF_PAUSE_MAX);
                self.not_before = now.checked_add(self.pause);
                since
            }
            None => *self.since.insert(now),
        };
        now.saturating_duration_since(since) > BRIEF_MAX && !std::mem::replace(&mut self.is_said, true)
    }

    /// A look failed for a reason that time alone may not heal. Says whether that is worth saying: at once, and once.
    pub fn lasting(&mut self, now: Instant) -> bool {
        let _ = self.since.get_or_insert(now);
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.not_before = now.checked_add(self.pause);
        !std::mem::replace(&mut self.is_said, true)
    }

    /// A look succeeded. Says whether there was trouble that anybody heard of.
    pub fn over(&mut self) -> bool {
        std::mem::take(self).is_said
    }

    /// Whether there is trouble that was said.
    #[must_use]
    pub const fn is_said(&self) -> bool {
        self.is_said
    }

    /// How long not to look.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.not_before?.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }
}

/// Who is in the way for longer is worth a word.
const BRIEF_MAX: Duration = Duration::from_secs(10);
const BRIEF_PAUSE_MIN: Duration = Duration::from_millis(2);
const BRIEF_PAUSE_MAX: Duration = Duration::from_millis(250);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_way_only_for_a_moment_is_not_worth_a_word() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        assert!(!trouble.brief(begin));
        assert_eq!(trouble.pause(begin), None, "he is gone already");
        assert!(!trouble.brief(begin + BRIEF_MAX));
        assert!(!trouble.over());
        assert!(!trouble.brief(begin + 2 * BRIEF_MAX), "it begins anew");
    }

    #[test]
    fn who_stays_in_the_way_is_mentioned_once() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        assert!(!trouble.brief(begin));
        assert!(trouble.brief(begin + 2 * BRIEF_MAX) && !trouble.brief(begin + 3 * BRIEF_MAX));
        assert!(trouble.over() && !trouble.over());
    }

    #[test]
    fn who_stays_in_the_way_is_looked_at_a_few_times_a_second() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        let (mut now, mut looks) = (begin, 0);
        while now < begin + 2 * BRIEF_MAX {
            trouble.brief(now);
            now += trouble.pause(now).unwrap_or_default();
            looks += 1;
        }
        assert!((80..100).contains(&looks), "{looks} in {BRIEF_MAX:?} twice");
    }

    #[test]
    fn what_may_not_heal_is_said_at_once_and_looked_at_less_and_less_often() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert!(trouble.lasting(now) && !trouble.lasting(now));
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                trouble.lasting(now);
                trouble.pause(now).unwrap()
            })
            .collect();
        assert_eq!((pauses[0], pauses[7]), (Duration::from_millis(400), PAUSE_MAX));
        assert_eq!(trouble.pause(now + PAUSE_MAX), None);
        assert!(trouble.over());
        assert_eq!(trouble.pause(now), None);
    }
}
