//! The names we write into other people's objects. They are API: users select and filter by them.

/// Label on a pod (and on the pod template of a workload): the name of the `SqliteReplica` that protects it.
///
/// The webhook and the admission policy select pods by its mere presence.
pub const LABEL_REPLICA: &str = "lifeboat.dev/replica";

/// Annotation on a pod and a pod template: a fingerprint of the settings the containers were made from.
///
/// When the settings change, the template's value changes, and the workload rolls its pods as its strategy says.
pub const ANNOTATION_CONFIG_HASH: &str = "lifeboat.dev/config-hash";

/// Annotation on a pod: the release of the operator that injected it.
pub const ANNOTATION_INJECTED_BY: &str = "lifeboat.dev/injected-by";

/// Annotation on a pod: the termination grace period, in seconds, that the application had asked for itself.
///
/// The webhook adds its flush time to that number; the annotation keeps a second call from adding it twice.
pub const ANNOTATION_APP_GRACE: &str = "lifeboat.dev/app-grace-period";

/// Annotation on a pod, by a person: which of two databases that contradict each other is gone on with, such as `main:remote`.
///
/// The restore step reads it whenever it is tried again. It ends with the pod, so it is a choice for this once.
pub const ANNOTATION_TAKE: &str = "lifeboat.dev/take";

/// The plain init container that restores the databases before anything of the application starts.
pub const CONTAINER_RESTORE: &str = "lifeboat-restore";

/// The native sidecar that replicates the databases.
pub const CONTAINER_REPLICATE: &str = "lifeboat-replicate";

/// The operator's field manager for server-side apply, also the reporter of its events.
pub const FIELD_MANAGER: &str = "lifeboat";
