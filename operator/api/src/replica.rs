//! The wish: `SqliteReplica` and its spec.
//!
//! The comments of the fields are what `kubectl explain sqlitereplica` shows, so they are written for users: meaning,
//! default, unit, example. What the API server can check, it checks: by schema where that is enough, else by CEL with a
//! message that says what to do.

#![expect(unreachable_pub, reason = "KubeSchema repeats every public struct inside a function")]

use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SqliteReplicaStatus;
use crate::replication::{Replication, Retention};

/// Keeps the SQLite databases of one workload alive: every commit is streamed to S3, and a pod that starts without its
/// databases gets them back before the application runs.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "lifeboat.dev",
    version = "v1alpha1",
    kind = "SqliteReplica",
    namespaced,
    status = "SqliteReplicaStatus",
    shortname = "sqr",
    category = "sqlite",
    derive = "PartialEq",
    crates(kube = "::kube_derive", kube_core = "::kube_core"),
    attr = "x_kube(crates(kube_core = \"::kube_core\"))",
    selectable = ".spec.workloadRef.name",
    doc = "A SqliteReplica keeps the SQLite databases of one workload alive: every commit is streamed to S3, and a pod that starts without its databases gets them back before the application runs.",
    validation = Rule::new("size(self.metadata.name) <= 52").message(
        "metadata.name may have at most 52 characters, because it becomes the value of a label"
    ),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workloadRef.name", description = "The protected workload"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the databases are protected now"),
    printcolumn(name = "Restored", type_ = "string", json_path = ".status.conditions[?(@.type==\"Restored\")].status", description = "Whether the last start rebuilt or proved the databases"),
    printcolumn(name = "Replicating", type_ = "string", json_path = ".status.conditions[?(@.type==\"Replicating\")].status", description = "Whether commits reach the bucket in time"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready or not; docs/errors.md explains each word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the resource was created"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.workloadRef.kind", priority = 1, description = "The kind of the protected workload"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.store.s3.bucket", priority = 1, description = "Where the databases are stored"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "The reason in a sentence"),
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SqliteReplicaSpec {
    /// The workload whose pods use the databases. It lives in the namespace of this resource. Cannot be changed later.
    #[x_kube(
        validation = Rule::new("self == oldSelf").message(
            "workloadRef cannot be changed: create another SqliteReplica for the other workload and delete this one"
        ),
        validation = Rule::new(
            "self.kind in ['Job', 'CronJob'] ? self.apiVersion == 'batch/v1' : self.apiVersion == 'apps/v1'"
        ).message("apiVersion does not fit the kind: Deployment, StatefulSet and ReplicaSet are apps/v1, Job and CronJob are batch/v1")
    )]
    pub workload_ref: WorkloadRef,

    /// The databases to protect, 1 to 16 of them, each under a name of its own.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".to_owned()]),
        validation = Rule::new("self.all(a, self.exists_one(b, b.path == a.path))").message(
            "two entries of databases name the same path: list every database once"
        )
    )]
    pub databases: Vec<Database>,

    /// Where the databases are stored. The location cannot be changed later.
    pub store: Store,

    /// How eagerly commits are stored. Default: every second.
    #[serde(default)]
    pub replication: Replication,

    /// How far back the databases can be restored. Default: a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// Names a workload of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// API version of the workload: `apps/v1` for Deployment, StatefulSet and ReplicaSet, `batch/v1` for Job and CronJob.
    #[schemars(length(max = 32), regex(pattern = r"^(apps|batch)/v1$"))]
    pub api_version: String,

    /// Kind of the workload. A Job's template cannot be changed, so the label `lifeboat.dev/replica` has to be written
    /// into its manifest by its author. Example: `StatefulSet`.
    pub kind: WorkloadKind,

    /// Name of the workload. Example: `shop`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// The kinds of workloads whose pods can be protected.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `batch/v1` Job.
    Job,
    /// `batch/v1` CronJob.
    CronJob,
}

impl WorkloadKind {
    /// The word as it stands in a manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}

/// One database of the workload.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.path == oldSelf.path").message(
        "the path of a database cannot be changed: add an entry with another name for the other path"
    ).field_path(".path")
)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Name of the database, unique in the list; it becomes the last part of its place in the bucket. Lower-case letters,
    /// digits and hyphens, at most 40 characters. Example: `main`.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Absolute path of the database file as the application's container sees it; its folder must lie on a volume that
    /// the container mounts writable. Cannot be changed later. Example: `/data/app.db`.
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^(/[A-Za-z0-9 ._@%+=:,~-]+)+$"))]
    #[x_kube(
        validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message(
            "path must be clean: without the parts . and .."
        ),
        validation = Rule::new("!self.endsWith('-wal') && !self.endsWith('-shm') && !self.endsWith('-journal')").message(
            "path must be that of the database itself, not of its -wal, -shm or -journal file"
        )
    )]
    pub path: String,

    /// Name of the container that uses the database. Default: the first container with a volume mount that covers the
    /// path. Example: `app`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Where databases are stored. Exactly one kind of store; at present there is one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// A bucket of Amazon S3 or of a compatible server that honours conditional writes.
    pub s3: S3Store,
}

/// A place in a bucket.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new(
        "self.bucket == oldSelf.bucket && has(self.prefix) == has(oldSelf.prefix) && (!has(self.prefix) || self.prefix == oldSelf.prefix) && has(self.endpoint) == has(oldSelf.endpoint) && (!has(self.endpoint) || self.endpoint == oldSelf.endpoint)"
    ).message(
        "bucket, prefix and endpoint cannot be changed, because the databases stored there would be left behind: create another SqliteReplica for the other place"
    ),
    validation = Rule::new(
        "!has(self.endpoint) || self.endpoint.startsWith('https://') || (has(self.allowInsecureEndpoint) && self.allowInsecureEndpoint)"
    ).message(
        "endpoint must begin with https://, or set allowInsecureEndpoint: true to send the databases unencrypted"
    ).field_path(".endpoint")
)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// Name of the bucket. It must exist. Cannot be changed later. Example: `acme-sqlite`.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,

    /// Folder in the bucket, without a slash at either end. The database `main` is stored under `<prefix>/main`. Default:
    /// `<namespace>/<name of this resource>`. Cannot be changed later. Example: `prod/shop`.
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^[A-Za-z0-9!_.*'()=@:+,-]+(/[A-Za-z0-9!_.*'()=@:+,-]+)*$")
    )]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message(
        "prefix must be clean: without the parts . and .."
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// Region of the bucket. Default: `us-east-1`, which most compatible servers accept. Example: `eu-central-1`.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// URL of a compatible server. Default: Amazon S3 in `region`. Must be https unless `allowInsecureEndpoint` is true.
    /// Cannot be changed later. Example: `https://minio.storage.svc:9000`.
    #[schemars(length(min = 8, max = 253), regex(pattern = r"^https?://[A-Za-z0-9._:\[\]-]+/?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// Allows an endpoint without TLS. The databases then cross the network readable. Default: `false`.
    #[serde(default)]
    pub allow_insecure_endpoint: bool,

    /// Puts the bucket's name into the path of requests instead of the host name, as most compatible servers need it.
    /// Default: `true` when `endpoint` is set, else `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,

    /// How the sidecar proves to the bucket who it is.
    pub auth: S3Auth,
}

/// Credentials for a bucket. Exactly one kind; at present there is one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct S3Auth {
    /// A Secret of the same namespace that holds an access key. It is mounted as files into our two containers only, so
    /// a new key is used without a restart; the operator never reads it.
    pub secret_ref: SecretRef,
}

/// Names a Secret and the keys in it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret. Example: `s3-credentials`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Key in the Secret that holds the access key id. Default: `AWS_ACCESS_KEY_ID`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    #[serde(default = "default_access_key_id_key")]
    pub access_key_id_key: String,

    /// Key in the Secret that holds the secret access key. Default: `AWS_SECRET_ACCESS_KEY`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    #[serde(default = "default_secret_access_key_key")]
    pub secret_access_key_key: String,

    /// Key in the Secret that holds a session token. Default: none, as long-lived keys have no session token. Example:
    /// `AWS_SESSION_TOKEN`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token_key: Option<String>,
}

/// The region that the sidecar is given when the spec names none.
const DEFAULT_REGION: &str = "us-east-1";

const DEFAULT_ACCESS_KEY_ID_KEY: &str = "AWS_ACCESS_KEY_ID";

const DEFAULT_SECRET_ACCESS_KEY_KEY: &str = "AWS_SECRET_ACCESS_KEY";

fn default_access_key_id_key() -> String {
    DEFAULT_ACCESS_KEY_ID_KEY.to_owned()
}

fn default_secret_access_key_key() -> String {
    DEFAULT_SECRET_ACCESS_KEY_KEY.to_owned()
}

impl SqliteReplica {
    /// The folder of the bucket under which every database of this replica has its own: `spec.store.s3.prefix` or the
    /// default of it.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.spec.store.s3.prefix.clone().unwrap_or_else(|| format!("{}/{}", self.namespace(), self.name()))
    }

    /// Name of the resource; empty for one that never was in a cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the resource; empty for one that never was in a cluster.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether something of this database was ever seen to be stored. It is not forgotten as long as the resource lives, and
    /// the place cannot be changed.
    #[must_use]
    pub fn has_stored(&self, database: &str) -> bool {
        let reports = self.status.iter().flat_map(|status| &status.databases);
        reports.filter(|report| report.name == database).any(|report| report.position.is_some())
    }

    /// A fingerprint of everything in the spec that decides how pods are injected, 16 hexadecimal digits.
    ///
    /// It does not depend on the operator's release, so that an upgrade of the operator restarts nobody's application:
    /// it is made from a list of settings, not from the spec as this release writes it. A setting that has its default
    /// is left out, so a field that a later release adds changes no fingerprint until somebody uses it.
    #[must_use]
    pub fn config_hash(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.injected_settings() {
            // With the length before it, no value can pass for the beginning of the next setting.
            text.push_str(&format!("{key}={}:{value};", value.len()));
        }
        format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, text.as_bytes()))
    }

    /// Every setting that changes what is injected, in a fixed order, defaults left out.
    fn injected_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        for database in &self.spec.databases {
            settings.push(("database.name", database.name.clone()));
            settings.push(("database.path", database.path.clone()));
            settings.extend(database.container.clone().map(|container| ("database.container", container)));
        }
        let s3 = self.spec.store.s3.injected_settings().into_iter();
        settings.extend(s3.map(|(key, value)| (key, value.to_owned())));
        settings.extend(self.spec.replication.injected_settings());
        settings.extend(self.spec.retention.as_ref().and_then(Retention::injected_settings));
        settings
    }
}

impl S3Store {
    fn injected_settings(&self) -> Vec<(&'static str, &str)> {
        let unless = |default: &str, key, value| (value != default).then_some((key, value));
        let secret = &self.auth.secret_ref;
        let path_style = self.force_path_style.filter(|forced| *forced != self.endpoint.is_some());
        let settings = [
            Some(("s3.bucket", self.bucket.as_str())),
            self.prefix.as_deref().map(|prefix| ("s3.prefix", prefix)),
            self.region.as_deref().and_then(|region| unless(DEFAULT_REGION, "s3.region", region)),
            self.endpoint.as_deref().map(|endpoint| ("s3.endpoint", endpoint)),
            self.allow_insecure_endpoint.then_some(("s3.allowInsecureEndpoint", "true")),
            path_style.map(|forced| ("s3.forcePathStyle", if forced { "true" } else { "false" })),
            Some(("s3.secret.name", secret.name.as_str())),
            unless(DEFAULT_ACCESS_KEY_ID_KEY, "s3.secret.accessKeyIdKey", &secret.access_key_id_key),
            unless(
                DEFAULT_SECRET_ACCESS_KEY_KEY,
                "s3.secret.secretAccessKeyKey",
                &secret.secret_access_key_key,
            ),
            secret.session_token_key.as_deref().map(|key| ("s3.secret.sessionTokenKey", key)),
        ];
        settings.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests;
