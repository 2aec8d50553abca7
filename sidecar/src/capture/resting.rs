//! What the follower's loop does between two looks: it pauses, rests until it is woken, or falls asleep.

use std::time::{Duration, Instant};

use lifeboat_replica::flush::Decision;

use super::{Capture, Finish, SAFETY_POLL};
use crate::pace::Next;
use crate::watch::Woken;

impl Capture<'_> {
    /// Waits until the next look is due, or an order comes.
    pub(super) fn wait(&mut self) {
        if let Some(pause) = self.trouble.pause(Instant::now()) {
            self.watch.pause(pause);
            return;
        }
        if self.pace.wants_to_rest() {
            let is_on_its_way = self.is_on_its_way();
            self.pace.on_its_way(is_on_its_way);
        }
        let due = self.due();
        let within = |pause: Duration| due.map_or(pause, |due| due.min(pause));
        let limit = match (self.pace.next_wait(), self.armed) {
            (Next::Pause(pause), _) => {
                let pause = within(self.database.pause_max().map_or(pause, |longest| pause.min(longest)));
                self.database.stand_by(pause);
                self.watch.pause(pause);
                return;
            }
            // What happened until now is found by the look that follows.
            (Next::EventWithin(_) | Next::Event, None) => {
                (self.armed, self.is_name_suspect) = (Some(self.watch.arm()), true);
                self.pace.armed();
                return;
            }
            (Next::EventWithin(pause), Some(_)) => Some(within(pause)),
            (Next::Event, Some(false)) => Some(within(SAFETY_POLL)),
            (Next::Event, Some(true)) => {
                if self.has_nothing_to_do() && self.task.place.rests(self.watch) {
                    self.is_asleep = true;
                    return;
                }
                due
            }
        };
        self.database.stand_by(Duration::MAX);
        self.post.rests();
        if self.watch.wait(limit) == Woken::Event {
            (self.armed, self.is_name_suspect) = (None, true);
            self.pace.event();
        }
        self.post.wakes();
        self.task.place.works();
    }

    /// Whether a commit may become visible without a further event.
    fn is_on_its_way(&mut self) -> bool {
        // What cannot be asked is looked at.
        if self.pace.is_left_behind() || !self.database.has_unfinished().unwrap_or(true) {
            return false;
        }
        if self.pace.is_in_vain() && self.database.is_left_behind().unwrap_or(false) {
            self.pace.left_behind();
            return false;
        }
        true
    }

    /// Whether everything is stored, and nobody waits for anything.
    fn has_nothing_to_do(&self) -> bool {
        let is_stored = self.dirty.is_empty() && !self.flush.is_in_flight() && !self.large.is_under_way();
        let is_stored = is_stored && self.derived.look_within().is_none();
        is_stored && self.next.is_some() && self.finish == Finish::No && self.post.demand().is_met()
    }

    /// When a slot is due, if commits wait.
    fn due(&mut self) -> Option<Duration> {
        let now = self.now();
        let watches_within = self.large.look_within().or_else(|| self.derived.look_within());
        match self.flush.decide(now, !self.dirty.is_empty()) {
            Decision::Cut if self.large.is_asked() => None,
            Decision::Cut => self.next.map(|_| self.rest().unwrap_or(Duration::ZERO)),
            Decision::Wait(due) => {
                let due = Duration::from_millis(due.saturating_sub(now));
                Some(watches_within.map_or(due, |within| within.min(due)))
            }
            Decision::Idle => watches_within,
        }
    }
}
