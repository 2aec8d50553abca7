//! The configuration that our containers find in their environment, in the schema of the sidecar's configuration file.

use lifeboat_api::{Database, Replication, Retention, SnapshotRules, SqliteReplica};
use serde::Serialize;
use serde_json::Number;

use crate::containers::RUN_PATH;
use crate::{FLUSH_TIMEOUT_SECONDS, Grace};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    addr: String,
    socket: String,
    handover_dir: String,
    handover_timeout: String,
    flush_timeout: String,
    sync_interval: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_requests_per_day: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<Vec<LevelConfig>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Retention>,
    dbs: Vec<DatabaseConfig>,
}

#[derive(Serialize)]
struct LevelConfig {
    interval: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_log_ratio: Option<Number>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DatabaseConfig {
    name: String,
    path: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expect_data: bool,
    replica: ReplicaConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReplicaConfig {
    r#type: &'static str,
    bucket: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    force_path_style: bool,
}

/// The configuration as text, broken into lines so that `kubectl describe pod` shows it readable.
pub(crate) fn render(replica: &SqliteReplica, grace: Grace) -> String {
    let Replication { sync_interval, max_requests_per_day, max_lag, levels, snapshot } =
        replica.spec.replication.clone();
    let config = Config {
        addr: format!(":{}", lifeboat_wire::STATUS_PORT),
        socket: format!("{RUN_PATH}/lifeboat.sock"),
        handover_dir: RUN_PATH.to_owned(),
        handover_timeout: format!("{}s", grace.handover_seconds()),
        flush_timeout: format!("{FLUSH_TIMEOUT_SECONDS}s"),
        sync_interval,
        max_requests_per_day,
        max_lag,
        levels: levels.map(|levels| levels.into_iter().map(|interval| LevelConfig { interval }).collect()),
        snapshot: snapshot
            .map(|SnapshotRules { interval, max_log_ratio }| SnapshotConfig { interval, max_log_ratio }),
        retention: replica.spec.retention.clone(),
        dbs: replica.spec.databases.iter().map(|database| database_config(replica, database)).collect(),
    };
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    // Kubernetes would take `$(NAME)` in a value for a reference to another variable.
    text.replace("$(", "$$(")
}

fn database_config(replica: &SqliteReplica, database: &Database) -> DatabaseConfig {
    let s3 = &replica.spec.store.s3;
    DatabaseConfig {
        name: database.name.clone(),
        path: database.path.clone(),
        expect_data: replica.has_stored(&database.name),
        replica: ReplicaConfig {
            r#type: "s3",
            bucket: s3.bucket.clone(),
            path: format!("{}/{}", replica.prefix(), database.name),
            region: s3.region.clone(),
            endpoint: s3.endpoint.clone(),
            force_path_style: s3.force_path_style.unwrap_or_else(|| s3.endpoint.is_some()),
        },
    }
}
