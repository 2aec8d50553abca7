//! What was promised, and whether it is kept.

use crate::rounds::Round;
use crate::scenario::Scenario;
use crate::sidecar::Variant;

/// One promise about one number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Where it is measured.
    pub(crate) scenario: Scenario,
    /// The number's name.
    pub(crate) number: &'static str,
    /// What it is held against.
    pub(crate) rule: Rule,
}

/// How a number is held against a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this part of Litestream's.
    OfLitestream(f64),
    /// At least this part of what the application has alone.
    KeepsOfNone(f64),
    /// At most this, or what the application has alone if that is more.
    AtMostOrNone(f64),
}

/// What became of a promise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    /// Number or ratio of each round.
    pub(crate) rounds: Vec<f64>,
    /// The middle one, which counts.
    pub(crate) middle: f64,
    /// Whether the promise is kept.
    pub(crate) is_kept: bool,
}

impl Rule {
    /// In words.
    pub(crate) fn sentence(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::OfLitestream(limit) => format!("≤ {limit} of Litestream's"),
            Self::KeepsOfNone(limit) => format!("≥ {limit} of bare SQLite's"),
            Self::AtMostOrNone(limit) => format!("≤ {limit} or bare SQLite's own"),
        }
    }
}

impl Budget {
    /// Holds the rounds against the promise; `None` where nothing was measured.
    pub(crate) fn judge(&self, rounds: &[Round]) -> Option<Judged> {
        let ours = self.numbers(rounds, Variant::Lifeboat);
        let against = |variant| {
            let theirs = self.numbers(rounds, variant);
            let pairs = ours.iter().zip(theirs).map(|(our, their)| our / their);
            pairs.collect::<Vec<_>>()
        };
        let (values, limit, is_floor) = match self.rule {
            Rule::AtMost(limit) => (ours.clone(), limit, false),
            Rule::AtLeast(limit) => (ours.clone(), limit, true),
            Rule::OfLitestream(limit) => (against(Variant::Litestream), limit, false),
            Rule::KeepsOfNone(limit) => (against(Variant::None), limit, true),
            Rule::AtMostOrNone(limit) => {
                let alone = middle(&self.numbers(rounds, Variant::None)).unwrap_or(limit);
                (ours.clone(), limit.max(alone), false)
            }
        };
        let middle = middle(&values)?;
        let is_kept = if is_floor { middle >= limit } else { middle <= limit };
        Some(Judged { rounds: values, middle, is_kept })
    }

    fn numbers(&self, rounds: &[Round], variant: Variant) -> Vec<f64> {
        let of = rounds.iter().filter(|round| round.scenario == self.scenario && round.variant == variant);
        of.filter_map(|round| round.numbers.get(self.number).copied()).collect()
    }
}

/// The middle of the values, the lower one of two.
pub(crate) fn middle(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

const fn budget(scenario: Scenario, number: &'static str, rule: Rule) -> Budget {
    Budget { scenario, number, rule }
}

/// Every promise, in the order of the results.
pub(crate) const BUDGETS: [Budget; 42] = [
    budget(Scenario::First, "cpu_s", Rule::OfLitestream(0.12)),
    budget(Scenario::First, "wall_s", Rule::OfLitestream(0.25)),
    budget(Scenario::First, "uploaded_times", Rule::AtMost(1.01)),
    budget(Scenario::First, "extra_disk_percent", Rule::AtMost(1.0)),
    budget(Scenario::First, "peak_rss_mb", Rule::AtMost(64.0)),
    budget(Scenario::Paced, "cpu_s", Rule::OfLitestream(0.3)),
    budget(Scenario::Paced, "peak_rss_mb", Rule::AtMost(20.0)),
    budget(Scenario::Paced, "max_ms", Rule::AtMostOrNone(10.0)),
    budget(Scenario::Paced, "write_lock_ms", Rule::AtMost(5.0)),
    budget(Scenario::PacedNowait, "busy", Rule::AtMostOrNone(10.0)),
    budget(Scenario::FullNormal, "commits_per_s", Rule::KeepsOfNone(0.95)),
    budget(Scenario::FullNormal, "max_ms", Rule::AtMost(130.0)),
    budget(Scenario::FullOff, "commits_per_s", Rule::KeepsOfNone(0.95)),
    budget(Scenario::FullOff, "max_ms", Rule::AtMost(130.0)),
    budget(Scenario::FullFull, "commits_per_s", Rule::KeepsOfNone(0.95)),
    budget(Scenario::FullFull, "max_ms", Rule::AtMostOrNone(130.0)),
    budget(Scenario::JournalMemory, "commits_per_s", Rule::KeepsOfNone(0.7)),
    budget(Scenario::Idle1, "requests", Rule::AtMost(0.0)),
    budget(Scenario::Idle1, "wakeups_per_s", Rule::AtMost(1.0)),
    budget(Scenario::Idle100, "requests", Rule::AtMost(0.0)),
    budget(Scenario::Idle100, "wakeups_per_s", Rule::AtMost(1.0)),
    budget(Scenario::Idle10000, "requests", Rule::AtMost(0.0)),
    budget(Scenario::Idle10000, "wakeups_per_s", Rule::AtMost(1.0)),
    budget(Scenario::Idle10000, "rss_mb", Rule::AtMost(200.0)),
    budget(Scenario::Restart, "ready_ms", Rule::AtMost(300.0)),
    budget(Scenario::Restart, "requests_beyond_claim", Rule::AtMost(5.0)),
    budget(Scenario::Restart, "uploaded_again_mb", Rule::AtMost(0.0)),
    budget(Scenario::RestartKilled, "ready_ms", Rule::AtMost(300.0)),
    budget(Scenario::RestartKilled, "uploaded_again_mb", Rule::AtMost(1.0)),
    budget(Scenario::Restore, "wall_s", Rule::OfLitestream(0.25)),
    budget(Scenario::Restore, "cpu_s", Rule::OfLitestream(0.15)),
    budget(Scenario::Restore, "wall_of_a_copy", Rule::AtMost(1.3)),
    budget(Scenario::Restore, "peak_rss_mb", Rule::AtMost(64.0)),
    budget(Scenario::Restore, "behind_of_whole", Rule::AtMost(0.1)),
    budget(Scenario::Verify, "database_mb_per_cpu_s", Rule::AtLeast(300.0)),
    budget(Scenario::Verify, "peak_rss_mb", Rule::AtMost(64.0)),
    budget(Scenario::Merging, "cpu_s", Rule::OfLitestream(0.3)),
    budget(Scenario::Merging, "files_read", Rule::AtMost(0.0)),
    budget(Scenario::History, "wall_of_few", Rule::AtMost(1.1)),
    budget(Scenario::History, "cpu_of_few", Rule::AtMost(1.1)),
    budget(Scenario::History, "requests_of_few", Rule::AtMost(1.1)),
    budget(Scenario::History, "peak_rss_mb", Rule::AtMost(64.0)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::numbers as named;

    fn rounds(variant: Variant, numbers: &[f64]) -> impl Iterator<Item = Round> {
        (1..).zip(numbers.to_vec()).map(move |(round, number)| Round {
            scenario: Scenario::Paced,
            variant,
            round,
            numbers: named([("cpu_s", number)]),
            restored: None,
        })
    }

    fn judge(rule: Rule, ours: &[f64]) -> Judged {
        let all = rounds(Variant::None, &[10.0, 20.0, 30.0])
            .chain(rounds(Variant::Lifeboat, ours))
            .chain(rounds(Variant::Litestream, &[2.0, 4.0, 8.0]));
        budget(Scenario::Paced, "cpu_s", rule).judge(&all.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_the_middle_one_counts() {
        let judged = judge(Rule::OfLitestream(0.3), &[1.0, 1.0, 1.0]);
        assert_eq!(judged, Judged { rounds: vec![0.5, 0.25, 0.125], middle: 0.25, is_kept: true });
        assert!(!judge(Rule::OfLitestream(0.2), &[1.0, 1.0, 1.0]).is_kept);
    }

    #[test]
    fn what_must_be_kept_is_a_floor() {
        assert!(judge(Rule::KeepsOfNone(0.95), &[9.5, 20.0, 28.5]).is_kept);
        assert!(!judge(Rule::KeepsOfNone(0.95), &[9.0, 18.0, 30.0]).is_kept);
        assert!(judge(Rule::AtLeast(9.0), &[9.0, 1.0, 30.0]).is_kept);
        assert!(!judge(Rule::AtLeast(9.0), &[8.0, 8.0, 30.0]).is_kept);
    }

    #[test]
    fn nobody_must_be_better_than_bare_sqlite() {
        assert!(judge(Rule::AtMostOrNone(5.0), &[20.0, 20.0, 20.0]).is_kept);
        assert!(!judge(Rule::AtMostOrNone(5.0), &[21.0, 21.0, 21.0]).is_kept);
        assert!(!judge(Rule::AtMost(5.0), &[6.0, 6.0, 1.0]).is_kept);
    }
}
