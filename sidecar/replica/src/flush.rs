//! When the next slot is cut: leading-edge group commit, within a budget of requests.
//!
//! The first commit after a quiet time goes at once; under steady load slots begin at most once every sync interval. A
//! [`Budget`] stretches the interval under a load that stays, but no commit waits longer than the rhythm's `max_lag` for its
//! slot to be cut: where the two conflict, the lag wins, and [`Flush::requests_per_day`] says what that costs. One slot is
//! in flight at a time, because the next may be tried only after the last is proved.
//!
//! A demand asks that everything committed before it be stored now. It waits for neither interval nor budget, only for the
//! slot in flight, and for a look at the database that began after it was made:
//!
//! ```text
//! demand ──look──► seen ──cut, or nothing to cut──► flying ──stored──► met
//! ```
//!
//! Demands are numbered, and a later one includes all before it, so any number of them share one slot.

use crate::budget::{Budget, DAY};
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

/// How often slots may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// The shortest time between two slots under load.
    pub interval: Millis,
    /// The longest time a commit waits for its slot because of the budget.
    pub max_lag: Millis,
    /// The budget, if there is one.
    pub max_requests_per_day: Option<u32>,
}

impl Rhythm {
    /// Whether commits that waited for this long for their slot waited longer than the rhythm wants: between the oldest and
    /// the newest of them there would have been another slot, and there is no point in time to restore.
    #[must_use]
    pub const fn is_broken_by(&self, waited: Millis) -> bool {
        let planned = match self.max_requests_per_day {
            Some(_) if self.max_lag > self.interval => self.max_lag,
            Some(_) | None => self.interval,
        };
        waited > planned.saturating_mul(2)
    }
}

/// The rhythm of one database's slots.
#[derive(Clone, Debug)]
pub struct Flush {
    rhythm: Rhythm,
    budget: Option<Budget>,
    last_cut: Option<Millis>,
    /// Since when commits wait that are in no slot yet.
    waits_since: Option<Millis>,
    is_in_flight: bool,
    is_eager: bool,
    /// The pause before the last slot, if it was shorter than the budget allows.
    forced_pause: Option<Millis>,
    demands: Demands,
}

/// The highest demand that has come so far along the way.
#[derive(Clone, Copy, Debug, Default)]
struct Demands {
    made: u64,
    seen: u64,
    flying: u64,
    met: u64,
}

impl Flush {
    /// A rhythm in which nothing has happened yet.
    #[must_use]
    pub fn new(rhythm: Rhythm) -> Self {
        Self {
            rhythm,
            budget: rhythm.max_requests_per_day.map(Budget::new),
            last_cut: None,
            waits_since: None,
            is_in_flight: false,
            is_eager: false,
            forced_pause: None,
            demands: Demands::default(),
        }
    }

    /// From now on nothing waits for the interval: the process is about to end.
    pub const fn hurry(&mut self) {
        self.is_eager = true;
    }

    /// Everything committed until now is to be stored now. `number` is higher than those before; an older one is not new.
    pub fn demand(&mut self, number: u64) {
        self.demands.made = self.demands.made.max(number);
    }

    /// The database was looked at, after every demand made so far; commits wait (`is_dirty`) or not.
    pub const fn looked(&mut self, is_dirty: bool) {
        self.demands.seen = self.demands.made;
        match (is_dirty, self.is_in_flight) {
            (true, _) => {}
            (false, true) => self.demands.flying = self.demands.seen,
            (false, false) => self.demands.met = self.demands.seen,
        }
    }

    /// A slot with everything that was seen was cut at `now` and is on its way.
    pub fn cut(&mut self, now: Millis) {
        if let Some(budget) = &mut self.budget {
            let pause = self.last_cut.map(|last| now.saturating_sub(last));
            self.forced_pause = pause.filter(|_| now < budget.ready());
            budget.spend(now, 1);
        }
        self.last_cut = Some(now);
        self.is_in_flight = true;
        self.waits_since = None;
        self.demands.flying = self.demands.seen;
    }

    /// There was nothing to cut: what the database held at the last look is stored already.
    pub const fn nothing_to_cut(&mut self) {
        self.waits_since = None;
        self.demands.met = self.demands.seen;
    }

    /// The slot on its way, which was counted as one request when it was cut, took this many.
    pub fn took(&mut self, now: Millis, requests: u32) {
        if let Some(budget) = &mut self.budget {
            budget.spend(now, requests.saturating_sub(1));
        }
    }

    /// The slot on its way is stored.
    pub const fn stored(&mut self) {
        self.is_in_flight = false;
        self.demands.met = self.demands.flying;
    }

    /// The slot on its way will not be stored; what it held is cut anew.
    pub const fn given_up(&mut self) {
        self.is_in_flight = false;
        self.demands.flying = self.demands.met;
    }

    /// Decides at `now`, when commits wait (`is_dirty`) or not.
    pub fn decide(&mut self, now: Millis, is_dirty: bool) -> Decision {
        if !is_dirty {
            self.waits_since = None;
            return Decision::Idle;
        }
        let waits_since = *self.waits_since.get_or_insert(now);
        if self.is_in_flight {
            return Decision::Idle;
        }
        let due = self.due(waits_since);
        if due > now && !self.is_eager && !self.is_demanded() { Decision::Wait(due) } else { Decision::Cut }
    }

    /// Whether a slot is on its way.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    /// The highest demand that is met: everything committed before it is stored.
    #[must_use]
    pub const fn met(&self) -> u64 {
        self.demands.met
    }

    /// The requests a day at the present pace, where that is more than the budget; `None` where the budget is kept.
    #[must_use]
    pub const fn requests_per_day(&self) -> Option<u64> {
        match self.forced_pause {
            Some(0) => Some(DAY),
            Some(pause) => Some(DAY / pause),
            None => None,
        }
    }

    const fn is_demanded(&self) -> bool {
        self.demands.seen > self.demands.met && self.demands.seen > self.demands.flying
    }

    fn due(&self, waits_since: Millis) -> Millis {
        let by_interval = self.last_cut.map_or(0, |last| last.saturating_add(self.rhythm.interval));
        let by_budget = self.budget.as_ref().map_or(0, Budget::ready);
        by_interval.max(by_budget.min(waits_since.saturating_add(self.rhythm.max_lag)))
    }
}

#[cfg(test)]
mod tests;
