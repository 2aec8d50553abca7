//! Whether a thread gets on, for whoever watches over it from another one.
//!
//! A thread that hangs because of a bug of ours is helped by a new process. One that waits for a slow disk is not: the new one
//! would read, copy and sync the same, and be ended over it again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pulse of one thread. Copies are of the same one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Beat>>);

/// What the thread was last seen at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Beat {
    /// It has not begun, or has nothing to do until it is woken.
    #[default]
    Rest,
    /// It got on with its work then.
    Work(Instant),
    /// It went to wait for a disk then.
    Disk(Instant),
}

impl Pulse {
    /// The thread got on with its work.
    pub fn beats(&self) {
        *self.beat() = Beat::Work(Instant::now());
    }

    /// It has nothing to do until it is woken.
    pub fn rests(&self) {
        *self.beat() = Beat::Rest;
    }

    /// Does what is one call, and takes as long as a disk takes.
    pub fn at_disk<T>(&self, call: impl FnOnce() -> T) -> T {
        let is_watched = *self.beat() != Beat::Rest;
        if !is_watched {
            return call();
        }
        *self.beat() = Beat::Disk(Instant::now());
        let done = call();
        self.beats();
        done
    }

    /// Whether the thread gets on, as far as can be seen.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.beat().is_alive(Instant::now())
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    fn is_alive(self, now: Instant) -> bool {
        match self {
            Self::Rest => true,
            Self::Work(since) => now.duration_since(since) < WORK_MAX,
            Self::Disk(since) => now.duration_since(since) < DISK_MAX,
        }
    }
}

#[cfg(test)]
impl Pulse {
    /// As if the thread hung at its work since long.
    pub(crate) fn stop(&self) {
        *self.beat() = Beat::Work(Instant::now().checked_sub(WORK_MAX).expect("the machine runs for longer"));
    }
}

/// A thread that did not get on for this long is stuck.
const WORK_MAX: Duration = Duration::from_secs(20);
/// One that waited for this long for one answer of a disk may as well be: some gigabytes are copied by then.
const DISK_MAX: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_may_last_some_seconds_a_call_to_the_disk_some_minutes_and_a_rest_for_ever() {
        let now = Instant::now();
        let is_alive = |beat: Beat, after: Duration| beat.is_alive(now + after);
        let just = Duration::from_millis(1);
        for (beat, max) in [(Beat::Work(now), WORK_MAX), (Beat::Disk(now), DISK_MAX)] {
            assert!(is_alive(beat, max - just) && !is_alive(beat, max), "{beat:?}");
        }
        assert!(is_alive(Beat::Rest, 100 * DISK_MAX));
    }

    #[test]
    fn a_call_to_the_disk_is_watched_as_one_and_the_work_after_it_as_work() {
        let pulse = Pulse::default();
        let seen = || *pulse.beat();
        pulse.at_disk(|| assert_eq!(seen(), Beat::Rest, "nobody watches yet"));
        assert_eq!(seen(), Beat::Rest);
        pulse.beats();
        pulse.at_disk(|| assert!(matches!(seen(), Beat::Disk(_))));
        assert!(matches!(seen(), Beat::Work(_)));
        pulse.stop();
        assert!(!pulse.is_alive());
        pulse.rests();
        assert!(pulse.is_alive());
    }
}
