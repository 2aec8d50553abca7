//! Whether a pod belongs to the workload that the replica protects.
//!
//! The label alone is no proof: whoever copies a manifest copies the label too. A pod of the copy would be given the
//! other workload's data, and would take the bucket away from it.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lifeboat_api::{Reason, SqliteReplica, WorkloadKind, WorkloadRef, names};

use crate::Refusal;

/// Label by which a Deployment tells the pods of its ReplicaSets apart; it ends the ReplicaSet's name, too.
const LABEL_TEMPLATE_HASH: &str = "pod-template-hash";

/// The refusal of a pod that is not of the replica's workload.
pub(crate) fn check(pod: &Pod, replica: &SqliteReplica) -> Option<Refusal> {
    let wanted = &replica.spec.workload_ref;
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    if owner.is_some_and(|owner| is_made_by(pod, owner, wanted)) {
        return None;
    }
    let actual = owner.map_or_else(
        || "no workload controls this pod".to_owned(),
        |owner| format!("this pod belongs to {} {}", owner.kind, owner.name),
    );
    Some(Refusal::new(
        Reason::WorkloadMismatch,
        format!(
            "SqliteReplica {} protects {} {}, but {actual}; remove the label {} from the pod's template, or give its \
             workload a SqliteReplica of its own",
            replica.name(),
            wanted.kind.as_str(),
            wanted.name,
            names::LABEL_REPLICA
        ),
    ))
}

/// Whether `owner` is the workload, or what the workload makes pods with.
fn is_made_by(pod: &Pod, owner: &OwnerReference, wanted: &WorkloadRef) -> bool {
    // The parts that a Deployment or a CronJob is made of are of the same API as itself.
    if owner.api_version != wanted.api_version {
        return false;
    }
    match wanted.kind {
        WorkloadKind::StatefulSet | WorkloadKind::ReplicaSet | WorkloadKind::Job => {
            owner.kind == wanted.kind.as_str() && owner.name == wanted.name
        }
        WorkloadKind::Deployment => {
            let labels = pod.metadata.labels.as_ref();
            let hash = labels.and_then(|labels| labels.get(LABEL_TEMPLATE_HASH));
            owner.kind == WorkloadKind::ReplicaSet.as_str()
                && hash
                    .is_some_and(|hash| !hash.is_empty() && suffix(&owner.name, &wanted.name) == Some(hash))
        }
        WorkloadKind::CronJob => {
            owner.kind == WorkloadKind::Job.as_str()
                && suffix(&owner.name, &wanted.name).is_some_and(|minutes| {
                    !minutes.is_empty() && minutes.bytes().all(|byte| byte.is_ascii_digit())
                })
        }
    }
}

/// What follows `<stem>-` in a name.
fn suffix<'a>(name: &'a str, stem: &str) -> Option<&'a str> {
    name.strip_prefix(stem)?.strip_prefix('-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether a pod with this owner and these labels belongs to `kind` `shop`.
    fn fits(kind: WorkloadKind, owner: (&str, &str, &str), labels: Value) -> bool {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "labels": labels } })).unwrap();
        let (api_version, owner_kind, name) = owner;
        let owner = serde_json::from_value(json!({
            "apiVersion": api_version, "kind": owner_kind, "name": name, "uid": "u", "controller": true,
        }));
        let batch = matches!(kind, WorkloadKind::Job | WorkloadKind::CronJob);
        let api_version = if batch { "batch/v1" } else { "apps/v1" }.to_owned();
        is_made_by(&pod, &owner.unwrap(), &WorkloadRef { api_version, kind, name: "shop".to_owned() })
    }

    #[test]
    fn the_pod_of_a_workload_that_makes_its_pods_itself_names_it_exactly() {
        for (kind, api_version) in [
            (WorkloadKind::StatefulSet, "apps/v1"),
            (WorkloadKind::ReplicaSet, "apps/v1"),
            (WorkloadKind::Job, "batch/v1"),
        ] {
            assert!(fits(kind, (api_version, kind.as_str(), "shop"), json!({})));
            assert!(!fits(kind, (api_version, kind.as_str(), "shop-copy"), json!({})));
            assert!(!fits(kind, (api_version, "DaemonSet", "shop"), json!({})));
            assert!(!fits(kind, ("apps.kruise.io/v1", kind.as_str(), "shop"), json!({})));
        }
    }

    #[test]
    fn the_pod_of_a_deployment_belongs_to_a_replica_set_with_the_hash_of_its_template() {
        let fits =
            |owner: &str, labels| fits(WorkloadKind::Deployment, ("apps/v1", "ReplicaSet", owner), labels);
        assert!(fits("shop-5d4f8c7b9", json!({ "pod-template-hash": "5d4f8c7b9" })));
        assert!(!fits("shop-copy-5d4f8c7b9", json!({ "pod-template-hash": "5d4f8c7b9" })));
        assert!(!fits("shop-5d4f8c7b9", json!({ "pod-template-hash": "77" })));
        assert!(!fits("shop-5d4f8c7b9", json!({})));
        assert!(!fits("shop", json!({ "pod-template-hash": "shop" })));
        assert!(!fits("shop-", json!({ "pod-template-hash": "" })));
    }

    #[test]
    fn a_deployment_owns_no_pod_directly_and_a_cron_job_neither() {
        assert!(!fits(WorkloadKind::Deployment, ("apps/v1", "Deployment", "shop"), json!({})));
        assert!(!fits(WorkloadKind::CronJob, ("batch/v1", "CronJob", "shop"), json!({})));
    }

    #[test]
    fn the_pod_of_a_cron_job_belongs_to_a_job_with_the_minute_of_its_run() {
        let fits = |owner: &str| fits(WorkloadKind::CronJob, ("batch/v1", "Job", owner), json!({}));
        assert!(fits("shop-29401234"));
        for other in ["shop", "shop-", "shop-by-hand", "shop-copy-29401234", "shop29401234"] {
            assert!(!fits(other), "{other}");
        }
    }
}
