//! How many requests a day slots may cost: a token bucket whose outflow is stretched before it is empty.
//!
//! A tenth of the day's requests is room for bursts; the other nine tenths come back evenly over the day. So no window of
//! 24 hours sees more than the day's requests: at most the room at its beginning, and what comes back during it. While more
//! than half of the room is left, nothing waits. Below that the pause after a request grows with what is missing, up to the
//! even pace, so that a load that stays is not served quickly at first and slowly from then on.

use crate::claim::Millis;

/// The requests of one database's slots that may still be made.
///
/// A slot that is sent whole counts as one request, one in parts for each of them and two more.
#[derive(Clone, Debug)]
pub struct Budget {
    /// What comes back with every millisecond; one request is [`REQUEST`].
    per_ms: u64,
    room: u64,
    level: u64,
    as_of: Millis,
    ready: Millis,
}

impl Budget {
    /// A budget of which nothing is spent yet, at time 0. Fewer than [`Self::PER_DAY_MIN`] are taken for that many.
    #[must_use]
    pub fn new(per_day: u32) -> Self {
        let per_day = u64::from(per_day.max(Self::PER_DAY_MIN));
        let burst = per_day / BURST_SHARE;
        let room = burst * REQUEST;
        Self { per_ms: per_day - burst, room, level: room, as_of: 0, ready: 0 }
    }

    /// The smallest budget: about one request an hour, and room for two at once.
    pub const PER_DAY_MIN: u32 = 24;

    /// When the next request may be made.
    #[must_use]
    pub const fn ready(&self) -> Millis {
        self.ready
    }

    /// The pause between requests under a load that stays.
    #[must_use]
    pub const fn even_pause(&self) -> Millis {
        REQUEST.div_ceil(self.per_ms)
    }

    /// Takes requests at `now`. They may be made earlier than [`Self::ready`]; what is not there cannot be taken, so nothing
    /// is owed for them afterwards.
    pub fn spend(&mut self, now: Millis, requests: u32) {
        let gained = now.saturating_sub(self.as_of).saturating_mul(self.per_ms);
        let spent = u64::from(requests).saturating_mul(REQUEST);
        self.level = self.level.saturating_add(gained).min(self.room).saturating_sub(spent);
        self.as_of = self.as_of.max(now);
        self.ready = self.as_of.saturating_add(self.pause());
    }

    fn pause(&self) -> Millis {
        let until_one = REQUEST.saturating_sub(self.level).div_ceil(self.per_ms);
        let half = self.room / 2;
        let missing = half.saturating_sub(self.level);
        let stretched = u128::from(self.even_pause()) * u128::from(missing) / u128::from(half.max(1));
        until_one.max(u64::try_from(stretched).unwrap_or(u64::MAX))
    }
}

/// Milliseconds of a day.
pub const DAY: Millis = 24 * 60 * 60 * 1_000;
/// One request, in what a budget counts: with `n` requests a day, `n` of it come back in a millisecond.
const REQUEST: u64 = DAY;
/// One in so many of the day's requests is room for bursts.
const BURST_SHARE: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_not_slowed_while_half_of_its_room_is_left() {
        let mut budget = Budget::new(1_000);
        for now in 0..50 {
            assert!(budget.ready() <= now, "request {now} waits until {}", budget.ready());
            budget.spend(now, 1);
        }
    }

    #[test]
    fn the_pause_grows_up_to_the_even_pace_and_not_beyond() {
        let mut budget = Budget::new(1_000);
        let (mut now, mut longest) = (0, 0);
        for _ in 0..2_000 {
            budget.spend(now, 1);
            let pause = budget.ready() - now;
            assert!(pause <= budget.even_pause());
            longest = longest.max(pause);
            now = budget.ready().max(now + 1_000);
        }
        assert_eq!(longest, budget.even_pause());
    }

    #[test]
    fn a_quiet_time_gives_the_room_back_but_not_more() {
        let mut budget = Budget::new(240);
        for now in 0..100 {
            budget.spend(now, 1);
        }
        let later = 10 * DAY;
        for now in later..later + 12 {
            assert!(budget.ready() <= now);
            budget.spend(now, 1);
        }
        for _ in 0..12 {
            budget.spend(later + 12, 1);
        }
        assert!(budget.ready() > later + 60_000, "more than its room came back");
    }

    #[test]
    fn many_requests_at_once_count_as_many() {
        let (mut one_by_one, mut at_once) = (Budget::new(1_000), Budget::new(1_000));
        (0..70).for_each(|_| one_by_one.spend(0, 1));
        at_once.spend(0, 70);
        assert!(at_once.ready() > 0);
        assert_eq!(at_once.ready(), one_by_one.ready());
    }
}
