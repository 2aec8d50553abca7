//! Turns a raw pod and the replica that protects it into a JSON patch, or into every reason why not.
//!
//! In:  the pod as the API server sent it, the [`SqliteReplica`], and what only the operator knows ([`Defaults`]).
//! Out: [`Injection`] with the patch, or all [`Refusal`]s at once.
//!
//! Pure: the webhook and the check before a workload is labelled run the same function. The pod is read through types
//! but written as patch operations on the raw document, because a pod of a newer Kubernetes has fields that our types
//! would drop. The patch only adds what is ours; the application's containers stay as they are, byte for byte. Applied
//! to its own result the function changes nothing, so the API server may call the webhook as often as it likes.

mod config;
mod containers;
mod databases;
mod error;
mod order;
mod owner;
mod patch;
mod user;
mod volumes;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use lifeboat_api::{Reason, SqliteReplica, names};
use serde_json::Value;

pub use error::Refusal;

/// Seconds that the sidecar gets after the application has ended, to store the last commits.
pub const FLUSH_TIMEOUT_SECONDS: i64 = 25;

/// Seconds of termination grace that every protected application gets at least.
pub const APP_GRACE_SECONDS_MIN: i64 = 30;

/// Seconds beyond a pod's termination grace for which its successor waits before it takes over.
pub const HANDOVER_MARGIN_SECONDS: i64 = 10;

/// What the operator knows and no resource says. Fields of a `SqliteReplica` cannot change any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Reference of the sidecar's image, such as `registry.example/lifeboat@sha256:…`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None` leaves the choice to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Release of the operator, such as `0.1.0`.
    pub version: String,
    /// UID of the namespace `kube-system`, which identifies the cluster in the bucket.
    pub cluster: String,
}

/// What is asked about: a pod that is about to be created, or the template of pods to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject<'a> {
    /// A pod as the API server sent it. It must belong to the replica's workload.
    Pod(&'a Value),
    /// The pod template of the replica's workload. A template has no owner, and whoever read it knows whose it is.
    Template(&'a Value),
}

impl<'a> Subject<'a> {
    const fn raw(self) -> &'a Value {
        match self {
            Self::Pod(raw) | Self::Template(raw) => raw,
        }
    }
}

/// What the webhook answers for a pod that can be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Operations that make the pod a protected one; empty if it already is.
    pub patch: Patch,
    /// What the author of the pod should know, one sentence each.
    pub notices: Vec<String>,
}

/// Decides how to protect `subject` for `replica`.
///
/// # Errors
///
/// Every reason for which it cannot be protected as it is; never an empty list.
pub fn inject(
    subject: Subject<'_>,
    replica: &SqliteReplica,
    defaults: &Defaults,
) -> Result<Injection, Vec<Refusal>> {
    let typed = read(subject.raw())?;
    let mut refusals = guard(&typed);
    match subject {
        Subject::Pod(_) => refusals.extend(owner::check(&typed, replica)),
        Subject::Template(_) => {}
    }
    let placed = databases::place(&typed, replica, &mut refusals);
    let user = user::resolve(&typed, &placed, &mut refusals);
    let position = order::position(&typed, &placed, &mut refusals);
    let (Some(user), Some(position), true) = (user, position, refusals.is_empty()) else {
        return Err(refusals);
    };
    let grace = Grace::of(&typed);
    let parts = containers::Parts { pod: &typed, replica, defaults, placed: &placed, user: &user, grace };
    let desired = patch::Desired {
        init_containers: containers::build(&parts),
        position,
        volumes: volumes::build(replica, &user),
        annotations: annotations(replica, defaults, grace),
        grace_seconds: grace.pod_seconds(),
    };
    Ok(Injection { patch: patch::diff(subject.raw(), &desired), notices: user.notices() })
}

/// How long a pod may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// What the application asked for.
    app_seconds: i64,
}

impl Grace {
    /// The application's own grace, also from a pod that was injected before.
    fn of(pod: &Pod) -> Self {
        let now = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let noted = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(names::ANNOTATION_APP_GRACE))
            .and_then(|text| text.parse().ok())
            .map(|app_seconds| Self { app_seconds });
        match noted {
            // Somebody may have changed the grace after us; then theirs is the application's wish.
            Some(noted) if now == Some(noted.pod_seconds()) => noted,
            Some(_) | None => Self { app_seconds: now.unwrap_or(APP_GRACE_SECONDS_MIN) },
        }
    }

    /// The grace of the pod: the application's, and then time for the final flush.
    pub(crate) fn pod_seconds(self) -> i64 {
        self.app_seconds.max(APP_GRACE_SECONDS_MIN).saturating_add(FLUSH_TIMEOUT_SECONDS)
    }

    /// How long a successor of the pod waits for it.
    pub(crate) fn handover_seconds(self) -> i64 {
        self.pod_seconds().saturating_add(HANDOVER_MARGIN_SECONDS)
    }
}

fn read(pod: &Value) -> Result<Pod, Vec<Refusal>> {
    let malformed = |what: String| vec![Refusal::new(Reason::MalformedPod, what)];
    let typed: Pod = serde_json::from_value(pod.clone())
        .map_err(|error| malformed(format!("the object is not a pod: {error}; check the manifest")))?;
    match &typed.spec {
        Some(spec) if !spec.containers.is_empty() => Ok(typed),
        Some(_) | None => Err(malformed("the pod has no containers; check the manifest".to_owned())),
    }
}

/// What no protected pod may have, whatever its databases.
fn guard(pod: &Pod) -> Vec<Refusal> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut refusals = Vec::new();
    if spec.host_network == Some(true) {
        refusals.push(Refusal::new(
            Reason::HostNetworkUnsupported,
            "the pod uses the network of its node (hostNetwork: true), where the sidecar's port would be open to \
             others; set hostNetwork: false",
        ));
    }
    for container in &spec.containers {
        if is_ours(&container.name) {
            refusals.push(Refusal::new(
                Reason::NameReserved,
                format!("the name of container {} is reserved for Lifeboat; rename it", container.name),
            ));
        }
    }
    refusals.extend(volumes::guard(spec));
    let status_port = i32::from(lifeboat_wire::STATUS_PORT);
    let init = spec.init_containers.iter().flatten().filter(|container| !is_ours(&container.name));
    for container in spec.containers.iter().chain(init) {
        let taken = container.ports.iter().flatten().any(|port| port.container_port == status_port);
        if taken && !is_ours(&container.name) {
            refusals.push(Refusal::new(
                Reason::PortConflict,
                format!(
                    "container {} uses port {status_port}, which the sidecar needs; use another",
                    container.name
                ),
            ));
        }
    }
    refusals
}

pub(crate) fn is_ours(container: &str) -> bool {
    container == names::CONTAINER_RESTORE || container == names::CONTAINER_REPLICATE
}

fn annotations(replica: &SqliteReplica, defaults: &Defaults, grace: Grace) -> Vec<(&'static str, String)> {
    vec![
        (names::ANNOTATION_INJECTED_BY, defaults.version.clone()),
        (names::ANNOTATION_CONFIG_HASH, replica.config_hash()),
        (names::ANNOTATION_APP_GRACE, grace.app_seconds.to_string()),
    ]
}
