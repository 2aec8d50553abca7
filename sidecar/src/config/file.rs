//! The config file, key by key. Litestream's shapes of 0.3 and 0.5 are accepted as they are.
//!
//! These types hold secrets, so they cannot be printed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Keys that no field took.
pub(super) type Others = BTreeMap<String, Value>;

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) addr: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) sync_interval: Option<String>,
    pub(super) max_lag: Option<String>,
    pub(super) max_requests_per_day: Option<u32>,
    pub(super) flush_timeout: Option<String>,
    pub(super) handover_timeout: Option<String>,
    pub(super) handover_dir: Option<String>,
    pub(super) enforce_wal: Option<bool>,
    pub(super) max_open_databases: Option<usize>,
    pub(super) max_concurrent_uploads: Option<usize>,
    pub(super) dbs: Option<Vec<Database>>,
    #[serde(flatten)]
    pub(super) others: Others,
}

/// An entry of `dbs`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Database {
    pub(super) name: Option<String>,
    pub(super) path: Option<String>,
    pub(super) dir: Option<String>,
    pub(super) pattern: Option<String>,
    pub(super) recursive: Option<bool>,
    pub(super) watch: Option<bool>,
    pub(super) replica: Option<Replica>,
    #[serde(default)]
    pub(super) replicas: Vec<Replica>,
    pub(super) sync_interval: Option<String>,
    pub(super) max_lag: Option<String>,
    pub(super) max_requests_per_day: Option<u32>,
    pub(super) enforce_wal: Option<bool>,
    #[serde(flatten)]
    pub(super) others: Others,
}

/// Where a database goes.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Replica {
    pub(super) url: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) bucket: Option<String>,
    pub(super) path: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) force_path_style: Option<bool>,
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) sync_interval: Option<String>,
    #[serde(flatten)]
    pub(super) others: Others,
}

/// Litestream's keys that mean nothing here: accepted, so that its config files work unchanged, and mentioned.
pub(super) const LITESTREAM_KEYS: &[&str] = &[
    "busy-timeout",
    "checkpoint-interval",
    "exec",
    "l0-retention",
    "l0-retention-check-interval",
    "levels",
    "logging",
    "max-checkpoint-page-count",
    "meta-dir",
    "meta-path",
    "min-checkpoint-page-count",
    "monitor-interval",
    "name",
    "retention",
    "retention-check-interval",
    "shutdown-sync-interval",
    "shutdown-sync-timeout",
    "snapshot",
    "snapshot-interval",
    "truncate-page-n",
    "validation-interval",
];
