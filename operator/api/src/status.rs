//! The observation: the status of a `SqliteReplica`.

#![expect(unreachable_pub, reason = "KubeSchema repeats every public struct inside a function")]

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator observed. Figures in it are coarse: they are renewed at most once a minute.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SqliteReplicaStatus {
    /// The `metadata.generation` that this status is about. A smaller number than there means: not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// When the figures below were read, RFC 3339 in UTC.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<String>,

    /// One entry for each database, as the sidecar last reported it.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseReport>,

    /// `Injected`, `Restored`, `Replicating` and `Ready`, which sums the others up.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl SqliteReplicaStatus {
    /// The condition of that type, if it was ever stated.
    #[must_use]
    pub fn condition(&self, type_: crate::ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_.as_str())
    }
}

/// One database, as last reported.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// Name of the database, as in `spec.databases`.
    #[schemars(length(max = 40))]
    pub name: String,

    /// The pod that writes it.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,

    /// Number of the present writer; it grows with every start of a pod.
    #[schemars(with = "Option<i64>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,

    /// The newest state known to be restorable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<ReportedPosition>,

    /// What the last start of a pod did to bring the database back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restore: Option<LastRestore>,

    /// One line for humans; empty when the database is well.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A state that the bucket holds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ReportedPosition {
    /// Its transaction id, 16 hexadecimal digits, as `lifeboat restore` takes it.
    #[schemars(length(max = 16))]
    pub txid: String,

    /// When it was captured, RFC 3339 in UTC.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// What a start did to bring a database back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct LastRestore {
    /// When it ended, RFC 3339 in UTC.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,

    /// `Restored`: rebuilt from the bucket. `UpToDate`: the local file was proved current. `FirstStart`: the bucket was
    /// proved empty.
    #[schemars(length(max = 32))]
    pub outcome: String,

    /// Size of the database, in bytes.
    #[schemars(with = "i64")]
    pub bytes: u64,

    /// How long it took, in seconds.
    pub duration_seconds: f64,
}

/// One statement about the replica, shaped like every other condition in Kubernetes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the statement is about: `Injected`, `Restored`, `Replicating` or `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: String,

    /// Whether it holds: `True`, `False`, or `Unknown` where the operator cannot see.
    pub status: ConditionStatus,

    /// Why, in one word that `docs/errors.md` explains.
    #[schemars(length(max = 128))]
    pub reason: String,

    /// Why, in a sentence.
    #[schemars(length(max = 4096))]
    pub message: String,

    /// When `status` last changed, RFC 3339 in UTC.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: String,

    /// The `metadata.generation` that the statement is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// The operator cannot see whether it does.
    Unknown,
}
