//! Which kinds of workloads there are and how the API server calls them.

use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use lifeboat_api::WorkloadKind;

/// Kinds whose pod template can be changed.
pub(crate) const CHANGEABLE: [WorkloadKind; 4] =
    [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::ReplicaSet, WorkloadKind::CronJob];

/// The API resource of a kind.
pub(crate) fn resource(kind: WorkloadKind) -> ApiResource {
    let (group, plural) = match kind {
        WorkloadKind::Deployment => ("apps", "deployments"),
        WorkloadKind::StatefulSet => ("apps", "statefulsets"),
        WorkloadKind::ReplicaSet => ("apps", "replicasets"),
        WorkloadKind::Job => ("batch", "jobs"),
        WorkloadKind::CronJob => ("batch", "cronjobs"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind.as_str()), plural)
}
