//! How commits are stored: when, what becomes of them, and how far back they stay.
//!
//! What is not said is left to the sidecar, so the defaults that the comments name are its own.

#![expect(unreachable_pub, reason = "KubeSchema repeats every public struct inside a function")]

use std::time::Duration;

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

/// How eagerly commits are stored, and what becomes of them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.maxLag) || duration(self.maxLag) >= duration(self.syncInterval)").message(
        "maxLag must be at least as long as syncInterval"
    ).field_path(".maxLag")
)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// Longest time a commit waits before it is sent to the bucket; a crash of the node loses at most this plus one
    /// request. From `100ms` to `1h`. Default: `1s`. Example: `10s`.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))]
    #[x_kube(validation = Rule::new(
        "duration(self) >= duration('100ms') && duration(self) <= duration('1h')"
    ).message("syncInterval must be between 100ms and 1h"))]
    #[serde(default = "default_sync_interval")]
    pub sync_interval: String,

    /// A budget: for each database at most this many requests a day are sent to the bucket, as long as no commit waits longer
    /// than `maxLag` for its sake. From 24, one an hour, to 1000000000. Default: none. Example: `10000`.
    #[schemars(range(min = 24, max = 1_000_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests_per_day: Option<i64>,

    /// Longest time a commit waits because of `maxRequestsPerDay`. From `syncInterval` to `24h`. Default: `5m`, or
    /// `syncInterval` if that is longer. Example: `15m`.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("maxLag must be at most 24h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<String>,

    /// How often what was stored is merged into fewer files: for each of 1 to 3 levels the time that one of its files spans,
    /// at least `1s`. Default: `[30s, 5m, 1h]`; a level that is not listed keeps its default. Example: `[1m, 10m, 2h]`.
    #[schemars(
        length(min = 1, max = 3),
        inner(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))
    )]
    #[x_kube(
        validation = Rule::new("self.all(level, duration(level) >= duration('1s'))").message(
            "each of levels must be at least 1s"
        ),
        validation = Rule::new(
            "duration(self[0]) <= duration(size(self) > 1 ? self[1] : '5m') && duration(size(self) > 1 ? self[1] : '5m') <= duration(size(self) > 2 ? self[2] : '1h')"
        ).message("each of levels must be at least as long as the one before; a level that is not listed is 5m or 1h")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Vec<String>>,

    /// When the whole database is stored again, which bounds how much a restore reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotRules>,
}

/// When the whole database is stored again: whichever of the two comes first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRules {
    /// So long after the last one, if anything changed. At least `1s`. Default: `24h`. Example: `12h`.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("snapshot.interval must be at least 1s"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,

    /// When more than this times the size of the database was stored since the last one. From `0.01` to `1000`. Default: `1.0`.
    /// Example: `0.5`.
    // The API server holds whole numbers against whole bounds: to it, 0 is not below 0.01.
    #[schemars(range(min = 0.01, max = 1000.0))]
    #[x_kube(validation = Rule::new("self >= 0.01").message("snapshot.maxLogRatio must be at least 0.01"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_log_ratio: Option<Number>,
}

/// How far back the databases can be restored.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// A restore to any time within this window stays possible; what only older times need is deleted from the bucket. At least
    /// `1m`. Default: `168h`, a week. Example: `720h`.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("retention.window must be at least 1m"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            sync_interval: default_sync_interval(),
            max_requests_per_day: None,
            max_lag: None,
            levels: None,
            snapshot: None,
        }
    }
}

impl Replication {
    /// The longest time a commit waits before it is sent; `None` for a text that the API server would not have taken.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        parse(&self.sync_interval)
    }

    /// The longest time a commit waits by the user's own wish: for the interval, or for the sake of the budget.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        let interval = self.interval()?;
        if self.max_requests_per_day.is_none() {
            return Some(interval);
        }
        let lag = parse(self.max_lag.as_deref().unwrap_or(DEFAULT_MAX_LAG))?;
        Some(interval.max(lag))
    }

    /// Every setting that changes what is injected, in a fixed order, defaults left out.
    pub(crate) fn injected_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        settings.extend(unless(DEFAULT_SYNC_INTERVAL, "syncInterval", Some(&self.sync_interval)));
        settings
            .extend(self.max_requests_per_day.map(|requests| ("maxRequestsPerDay", requests.to_string())));
        settings.extend(unless(DEFAULT_MAX_LAG, "maxLag", self.max_lag.as_ref()));
        let levels = self.levels.iter().flatten();
        if levels.clone().zip(DEFAULT_LEVELS).any(|(level, default)| level != default) {
            settings.extend(levels.map(|level| ("level", level.clone())));
        }
        if let Some(SnapshotRules { interval, max_log_ratio }) = &self.snapshot {
            settings.extend(unless(DEFAULT_SNAPSHOT_INTERVAL, "snapshot.interval", interval.as_ref()));
            // 1 and 1.0 are the same.
            let ratio = max_log_ratio.as_ref().and_then(Number::as_f64).map(|ratio| ratio.to_string());
            settings.extend(unless(DEFAULT_MAX_LOG_RATIO, "snapshot.maxLogRatio", ratio.as_ref()));
        }
        settings
    }
}

impl Retention {
    pub(crate) fn injected_settings(&self) -> Option<(&'static str, String)> {
        unless(DEFAULT_WINDOW, "retention.window", self.window.as_ref())
    }
}

fn unless(default: &str, key: &'static str, value: Option<&String>) -> Option<(&'static str, String)> {
    value.filter(|value| *value != default).map(|value| (key, value.clone()))
}

/// A time as the API server lets it through.
fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn default_sync_interval() -> String {
    DEFAULT_SYNC_INTERVAL.to_owned()
}

const DEFAULT_SYNC_INTERVAL: &str = "1s";
const DEFAULT_MAX_LAG: &str = "5m";
const DEFAULT_LEVELS: [&str; 3] = ["30s", "5m", "1h"];
const DEFAULT_SNAPSHOT_INTERVAL: &str = "24h";
const DEFAULT_MAX_LOG_RATIO: &str = "1";
const DEFAULT_WINDOW: &str = "168h";
