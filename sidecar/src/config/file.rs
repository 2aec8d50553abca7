//! The config file, key by key. Litestream's shapes of 0.3 and 0.5 are accepted as they are.
//!
//! Single values are texts here, so that a wrong one is told from the others, in our words and with its line. These types
//! hold secrets, so they cannot be printed.

use serde::Deserialize;
use serde_aux::serde_introspection::serde_introspect;
use serde_json::Value;

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) addr: Option<String>,
    pub(super) socket: Option<Socket>,
    pub(super) sync_interval: Option<String>,
    pub(super) max_lag: Option<String>,
    pub(super) max_requests_per_day: Option<String>,
    pub(super) flush_timeout: Option<String>,
    pub(super) handover_timeout: Option<String>,
    pub(super) handover_dir: Option<String>,
    pub(super) enforce_wal: Option<String>,
    pub(super) synchronous: Option<String>,
    pub(super) max_open_databases: Option<String>,
    pub(super) max_concurrent_uploads: Option<String>,
    pub(super) metrics_databases_max: Option<String>,
    pub(super) disk_reserve: Option<String>,
    pub(super) exec: Option<String>,
    pub(super) levels: Option<Vec<Level>>,
    pub(super) l0_retention: Option<String>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) retention: Option<Retention>,
    pub(super) dbs: Option<Vec<Database>>,
}

/// The control socket: ours is a path, Litestream's a table.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "socket is a path, or a table with 'enabled', 'path' and 'permissions'")]
pub(super) enum Socket {
    Path(String),
    Table(SocketTable),
}

/// Litestream's way to say where the socket is.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SocketTable {
    pub(super) enabled: bool,
    pub(super) path: Option<String>,
    pub(super) permissions: Option<Value>,
}

/// An entry of `dbs`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Database {
    pub(super) name: Option<String>,
    pub(super) path: Option<String>,
    pub(super) dir: Option<String>,
    pub(super) pattern: Option<String>,
    pub(super) recursive: Option<String>,
    pub(super) watch: Option<String>,
    pub(super) replica: Option<Replica>,
    #[serde(default)]
    pub(super) replicas: Vec<Replica>,
    pub(super) sync_interval: Option<String>,
    pub(super) max_lag: Option<String>,
    pub(super) max_requests_per_day: Option<String>,
    pub(super) enforce_wal: Option<String>,
    pub(super) synchronous: Option<String>,
    pub(super) expect_data: Option<String>,
    pub(super) levels: Option<Vec<Level>>,
    pub(super) l0_retention: Option<String>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) retention: Option<Retention>,
}

/// An entry of `levels`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Level {
    pub(super) interval: String,
}

/// When snapshots are due.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Snapshot {
    pub(super) interval: Option<String>,
    pub(super) max_log_ratio: Option<String>,
    /// Litestream's word for the window.
    pub(super) retention: Option<String>,
}

/// What is kept.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Retention {
    pub(super) window: Option<String>,
}

/// What one place in the file says of merging and keeping slots.
#[derive(Clone, Copy)]
pub(super) struct HistoryKeys<'f> {
    pub(super) levels: Option<&'f [Level]>,
    pub(super) l0_retention: Option<&'f str>,
    pub(super) snapshot: Option<&'f Snapshot>,
    pub(super) retention: Option<&'f Retention>,
}

impl File {
    pub(super) fn history(&self) -> HistoryKeys<'_> {
        HistoryKeys {
            levels: self.levels.as_deref(),
            l0_retention: self.l0_retention.as_deref(),
            snapshot: self.snapshot.as_ref(),
            retention: self.retention.as_ref(),
        }
    }
}

impl Database {
    pub(super) fn history(&self) -> HistoryKeys<'_> {
        HistoryKeys {
            levels: self.levels.as_deref(),
            l0_retention: self.l0_retention.as_deref(),
            snapshot: self.snapshot.as_ref(),
            retention: self.retention.as_ref(),
        }
    }
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
    pub(super) force_path_style: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) sse: Option<String>,
    pub(super) sse_kms_key_id: Option<String>,
    pub(super) storage_class: Option<String>,
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) sync_interval: Option<String>,
}

/// The keys of the table at `place`, such as `dbs[0].replica`, where that is one of ours.
pub(super) fn keys_of(place: &str) -> &'static [&'static str] {
    let is_of_dbs = place.starts_with("dbs[");
    match place.rsplit('.').next() {
        Some("") | None => serde_introspect::<File>(),
        Some(last) if last == "replica" || last.starts_with("replicas[") => serde_introspect::<Replica>(),
        Some("snapshot") => serde_introspect::<Snapshot>(),
        Some("retention") => serde_introspect::<Retention>(),
        Some(last) if last.starts_with("levels[") => serde_introspect::<Level>(),
        Some(_) if is_of_dbs && !place.contains('.') => serde_introspect::<Database>(),
        Some(_) => &[],
    }
}

/// Where a key of that name belongs, in words.
pub(super) fn home_of(key: &str) -> Option<&'static str> {
    let homes: [(&[&str], &str); 3] = [
        (serde_introspect::<Replica>(), "below 'replica'"),
        (serde_introspect::<Database>(), "into an entry of 'dbs'"),
        (serde_introspect::<File>(), "at the top of the file"),
    ];
    homes.into_iter().find(|(keys, _)| keys.contains(&key)).map(|(_, home)| home)
}

/// Litestream's keys that mean nothing here: accepted, so that its config files work unchanged, and mentioned.
pub(super) const LITESTREAM_KEYS: &[&str] = &[
    "auto-recover",
    "busy-timeout",
    "checkpoint-interval",
    "concurrency",
    "heartbeat-interval",
    "heartbeat-url",
    "l0-retention-check-interval",
    "logging",
    "max-checkpoint-page-count",
    "max-sync-ltx-files",
    "max-sync-wal-bytes",
    "mcp-addr",
    "meta-dir",
    "meta-path",
    "min-checkpoint-page-count",
    "monitor-interval",
    "name",
    "part-size",
    "require-content-md5",
    "retention",
    "retention-check-interval",
    "shutdown-sync-interval",
    "shutdown-sync-timeout",
    "sign-payload",
    "snapshot-interval",
    "truncate-page-n",
    "validation",
    "validation-interval",
    "verify-compaction",
];
