//! Everything read from the cluster for one decision.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use lifeboat_api::{Reason, SqliteReplica, WorkloadKind, names};
use lifeboat_wire::Status;

use crate::Workload;

/// What the operator saw, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The workload; `None` if it is proved not to exist.
    pub workload: Option<Workload>,
    /// The pods that the workload selects, or that carry our label. Those of other owners among them are ignored.
    pub pods: Vec<Pod>,
    /// What the sidecars said, by the name of the pod. Pods that were not asked are absent.
    pub reports: BTreeMap<String, Report>,
    /// Why the last change of the pod template failed.
    pub apply_failure: Option<ApplyFailure>,
}

/// The answer of one sidecar, or why there is none.
pub type Report = Result<Status, String>;

/// Why the API server did not take a change of the pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyFailure {
    /// [`Reason::FieldConflict`] or [`Reason::ApplyFailed`].
    pub reason: Reason,
    /// What the API server said.
    pub message: String,
}

impl Observed {
    /// Pods of the workload that run or are to run: neither being deleted nor at their end.
    pub(crate) fn live_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let is_foreign = self.workload.as_ref().is_some_and(|workload| is_foreign(pod, workload));
            let is_over = matches!(phase, Some("Succeeded" | "Failed"));
            pod.metadata.deletion_timestamp.is_none() && !is_over && !is_foreign
        })
    }

    /// The pods that the replica's conditions are about, the youngest first: all live ones that carry our containers.
    pub(crate) fn subjects(&self, replica: &SqliteReplica) -> Vec<&Pod> {
        let ours = self.live_pods().filter(|pod| is_labelled(pod, replica) && is_injected(pod));
        let mut ours: Vec<_> = ours.collect();
        let age = |pod: &Pod| {
            (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone())
        };
        ours.sort_by_key(|pod| Reverse(age(pod)));
        ours
    }
}

/// Whether the pod is known to belong to something else, which merely uses the same labels.
///
/// A pod without a controller may be ours (its owner may have just been created anew), so it is not foreign.
fn is_foreign(pod: &Pod, workload: &Workload) -> bool {
    let owners = pod.metadata.owner_references.as_ref();
    let owner = owners.into_iter().flatten().find(|owner| owner.controller == Some(true));
    owner.is_some_and(|owner| !may_own(workload, &owner.kind, &owner.name))
}

/// Whether pods of `workload` can have this controller.
fn may_own(workload: &Workload, kind: &str, name: &str) -> bool {
    match workload.kind {
        WorkloadKind::StatefulSet | WorkloadKind::ReplicaSet | WorkloadKind::Job => {
            kind == workload.kind.as_str() && name == workload.name
        }
        // Its ReplicaSets are called after it and a hash without hyphens, so `shop` does not take those of `shop-admin`.
        WorkloadKind::Deployment => {
            let hash = name.strip_prefix(&workload.name).and_then(|rest| rest.strip_prefix('-'));
            kind == "ReplicaSet" && hash.is_some_and(|hash| !hash.is_empty() && !hash.contains('-'))
        }
        // Whoever starts a run by hand gives its Job any name; our label tells that the template is the CronJob's.
        WorkloadKind::CronJob => kind == "Job",
    }
}

/// Whether the pod asks for this replica.
pub(crate) fn is_labelled(pod: &Pod, replica: &SqliteReplica) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_REPLICA));
    label.is_some_and(|label| label == replica.name())
}

/// Whether the pod has both of our containers, by name.
pub(crate) fn is_injected(pod: &Pod) -> bool {
    [names::CONTAINER_RESTORE, names::CONTAINER_REPLICATE].iter().all(|name| has_init_container(pod, name))
}

fn has_init_container(pod: &Pod, name: &str) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    init.is_some_and(|init| init.iter().any(|container| container.name == name))
}

/// What the kubelet says about one of our containers.
pub(crate) fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    all.iter().find(|status| status.name == name)
}

pub(crate) fn pod_name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The fingerprint of the settings that the pod was injected with.
pub(crate) fn config_hash(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(names::ANNOTATION_CONFIG_HASH).map(String::as_str)
}
