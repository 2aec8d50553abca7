//! How the history of a database is merged, and how far back it is kept.

use std::time::Duration;

use lifeboat_replica::claim::Millis;
use lifeboat_replica::compaction::{MERGED, Rules};

use super::file;
use crate::args::parse_duration;
use crate::clock::millis;

/// What becomes of slots once they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// When merged files and snapshots are due.
    pub rules: Rules,
    /// How long slots stay after they were merged.
    pub slots: Duration,
    /// How far back restores must be possible.
    pub window: Duration,
}

impl Default for History {
    fn default() -> Self {
        let rules = Rules {
            intervals: LEVELS.map(millis),
            snapshot_interval: millis(DAY),
            max_log_ratio: RATIO_UNIT,
        };
        Self { rules, slots: Duration::from_secs(5 * 60), window: 7 * DAY }
    }
}

/// The key that is wrong, and what is wrong with it.
type Wrong = (String, String);

impl History {
    /// What these keys say, and where they say nothing, as before.
    pub(super) fn with(mut self, keys: file::HistoryKeys<'_>) -> Result<Self, Wrong> {
        if let Some(levels) = keys.levels {
            self.rules.intervals = intervals(levels, self.rules.intervals)?;
        }
        self.slots = set("l0-retention", keys.l0_retention, self.slots, parse_duration)?;
        let snapshot = keys.snapshot;
        let interval = snapshot.and_then(|snapshot| snapshot.interval.as_deref());
        let before = self.rules.snapshot_interval;
        self.rules.snapshot_interval = set("snapshot.interval", interval, before, interval_ms)?;
        let ratio = snapshot.and_then(|snapshot| snapshot.max_log_ratio.as_deref());
        self.rules.max_log_ratio =
            set("snapshot.max-log-ratio", ratio, self.rules.max_log_ratio, thousandths)?;
        let window = keys.retention.and_then(|retention| retention.window.as_deref());
        let litestreams = snapshot.and_then(|snapshot| snapshot.retention.as_deref());
        if window.is_some() && litestreams.is_some() {
            let wrong = "this is litestream's word for retention.window; keep one of the two";
            return Err(("snapshot.retention".to_owned(), wrong.to_owned()));
        }
        self.window = set("retention.window", window, self.window, parse_duration)?;
        self.window = set("snapshot.retention", litestreams, self.window, parse_duration)?;
        Ok(self)
    }
}

fn set<T>(
    key: &str,
    text: Option<&str>,
    before: T,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Wrong> {
    text.map_or(Ok(before), parse).map_err(|wrong| (key.to_owned(), wrong))
}

fn intervals(levels: &[file::Level], default: [Millis; MERGED]) -> Result<[Millis; MERGED], Wrong> {
    if levels.len() > MERGED {
        return Err(("levels".to_owned(), format!("there are at most {MERGED}")));
    }
    let mut intervals = default;
    for (number, (interval, level)) in intervals.iter_mut().zip(levels).enumerate() {
        *interval =
            interval_ms(&level.interval).map_err(|wrong| (format!("levels[{number}].interval"), wrong))?;
    }
    if !intervals.is_sorted() {
        let wrong = "each interval is at least as long as the one before";
        return Err(("levels".to_owned(), wrong.to_owned()));
    }
    Ok(intervals)
}

fn interval_ms(text: &str) -> Result<Millis, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(10) {
        Err("this is at least 10ms".to_owned())
    } else {
        Ok(millis(interval))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds were checked")]
fn thousandths(text: &str) -> Result<u32, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if !(0.01..=1_000.0).contains(&ratio) {
        return Err("this is from 0.01 to 1000".to_owned());
    }
    Ok((ratio * f64::from(RATIO_UNIT)).round() as u32)
}

/// As Litestream's.
const LEVELS: [Duration; MERGED] =
    [Duration::from_secs(30), Duration::from_secs(5 * 60), Duration::from_secs(60 * 60)];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A ratio of 1.
const RATIO_UNIT: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(top: &str, keys: &str) -> Result<History, String> {
        let text = format!("{top}\ndbs: [{{path: /a.db, replica: {{url: 'file:///x'}}{keys}}}]");
        Config::parse(&text).map(|config| config.databases[0].history).map_err(|failure| failure.message)
    }

    #[test]
    fn without_a_word_slots_are_merged_as_litestream_does_and_kept_for_a_week() {
        let history = parse("", "").unwrap();
        assert_eq!(history.rules.intervals, [30_000, 300_000, 3_600_000]);
        assert_eq!((history.rules.snapshot_interval, history.rules.max_log_ratio), (86_400_000, 1_000));
        assert_eq!(history.window, Duration::from_secs(168 * 3_600));
    }

    #[test]
    fn a_database_takes_what_the_top_says_unless_it_says_so_itself() {
        let top = "snapshot: {interval: 2h, max-log-ratio: 0.5}\nretention: {window: 48h}";
        let history = parse(top, ", retention: {window: 1h}, snapshot: {max-log-ratio: 2}").unwrap();
        assert_eq!((history.rules.snapshot_interval, history.rules.max_log_ratio), (7_200_000, 2_000));
        assert_eq!(history.window, Duration::from_secs(3_600));
    }

    #[test]
    fn litestreams_words_mean_what_they_mean_there() {
        let top = "snapshot: {interval: 1h, retention: 36h}\nlevels:\n- interval: 1m\n- interval: 10m\nl0-retention: 2m";
        let history = parse(top, "").unwrap();
        assert_eq!(history.window, Duration::from_secs(36 * 3_600));
        assert_eq!(history.rules.intervals, [60_000, 600_000, 3_600_000]);
        assert_eq!(history.slots, Duration::from_secs(120));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_key() {
        let refusal = |top: &str| parse(top, "").unwrap_err();
        assert!(refusal("levels: [{interval: 1m}, {interval: 30s}]").contains("levels"));
        assert!(refusal("levels: [{interval: 0s}]").contains("10ms"));
        let four = "levels: [{interval: 1m}, {interval: 2m}, {interval: 3m}, {interval: 4m}]";
        assert!(refusal(four).contains("at most 3"));
        assert!(refusal("snapshot: {max-log-ratio: 0}").contains("from 0.01"));
        assert!(refusal("snapshot: {intervall: 1h}").contains("'intervall'"));
        assert!(refusal("retention: {windw: 1h}").contains("'windw'"));
        assert!(refusal("retention: {window: 1h}\nsnapshot: {retention: 1h}").contains("keep one"));
    }
}
