//! Waiting for a predecessor that still makes progress. Politeness, never safety.

/// Milliseconds of a process's own monotonic clock, or a span of it.
pub type Millis = u64;

/// How long to wait. A predecessor without progress has no tail to store, or cannot store it; waiting longer for it gains
/// nothing and costs recovery time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    still_ms: Millis,
    total_ms: Millis,
    begun: Option<Millis>,
    last: Option<(Millis, (u64, u64))>,
}

impl Patience {
    /// Waits until nothing moved for three sync intervals (at least 3 s), and never longer than `handover_ms`.
    #[must_use]
    pub fn new(sync_interval_ms: Millis, handover_ms: Millis) -> Self {
        let still_ms = sync_interval_ms.saturating_mul(3).max(STILL_MS_MIN);
        Self { still_ms, total_ms: handover_ms, begun: None, last: None }
    }

    /// Takes what was seen (head revision, newest slot) at `now`; returns how long to wait before the next look, or
    /// `None` when the waiting is over.
    pub(super) fn observe(&mut self, now: Millis, sight: (u64, u64)) -> Option<Millis> {
        let begun = *self.begun.get_or_insert(now);
        let since = match self.last {
            Some((since, seen)) if seen == sight => since,
            Some(_) | None => now,
        };
        self.last = Some((since, sight));
        let is_over =
            now.saturating_sub(begun) >= self.total_ms || now.saturating_sub(since) >= self.still_ms;
        (!is_over).then_some(LOOK_MS)
    }
}

const STILL_MS_MIN: Millis = 3_000;
const LOOK_MS: Millis = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_still_predecessor_is_overtaken_after_three_seconds() {
        let mut patience = Patience::new(1_000, 60_000);
        assert_eq!(patience.observe(0, (1, 1)), Some(LOOK_MS));
        assert_eq!(patience.observe(2_999, (1, 1)), Some(LOOK_MS));
        assert_eq!(patience.observe(3_000, (1, 1)), None);
    }

    #[test]
    fn progress_buys_time_but_never_more_than_the_handover_timeout() {
        let mut patience = Patience::new(1_000, 10_000);
        for second in 0..10 {
            assert_eq!(patience.observe(second * 1_000, (1, second)), Some(LOOK_MS));
        }
        assert_eq!(patience.observe(10_000, (1, 10)), None);
    }

    #[test]
    fn a_slow_writers_interval_is_respected() {
        let mut patience = Patience::new(5_000, 60_000);
        assert_eq!(patience.observe(0, (1, 1)), Some(LOOK_MS));
        assert_eq!(patience.observe(14_000, (1, 1)), Some(LOOK_MS));
        assert_eq!(patience.observe(15_000, (1, 1)), None);
    }
}
