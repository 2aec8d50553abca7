//! Which pods count, and what is said when they differ.

use lifeboat_api::EventReason;

use super::*;

#[test]
fn bare_tampered_and_outdated_pods_are_told_apart() {
    let judge = |change: fn(&mut Value)| {
        let mut pod = running_pod();
        change(&mut pod);
        words(&plan(&observed(&labelled(), vec![pod])), ConditionType::Injected)
    };
    assert_eq!(judge(|_| {}), "True AsExpected");
    assert_eq!(judge(|pod| pod["metadata"]["labels"] = json!({ "app": "shop" })), "False RolloutPending");
    assert_eq!(judge(|pod| pod["spec"]["initContainers"] = json!([])), "False InjectionMissing");
    assert_eq!(
        judge(|pod| pod["spec"]["initContainers"][1]["restartPolicy"] = json!(null)),
        "False ContainersTampered"
    );
    assert_eq!(judge(|pod| pod["metadata"]["annotations"] = json!({})), "False RolloutPending");
    assert_eq!(judge(|pod| pod["metadata"]["deletionTimestamp"] = json!(NOW)), "Unknown NoPod");
    assert_eq!(judge(|pod| pod["status"]["phase"] = json!("Succeeded")), "Unknown NoPod");
}

/// A pod that is well, and an older one with the given words of the kubelet, changed.
fn beside(statuses: Value, change: fn(&mut Value)) -> Plan {
    let mut old = pod(statuses);
    old["metadata"]["name"] = json!("shop-a");
    old["metadata"]["uid"] = json!("u-a");
    old["metadata"]["creationTimestamp"] = json!("2026-11-23T10:00:00Z");
    change(&mut old);
    let mut observed = reporting(main_status());
    observed.pods.insert(0, serde_json::from_value(old).unwrap());
    plan(&observed)
}

fn blocked_statuses() -> Value {
    json!([status_of("lifeboat-restore", ended(5, Some(&blocked())), json!({}))])
}

fn dead_statuses() -> Value {
    json!([
        status_of("lifeboat-restore", ended(0, Some(&restored())), json!({})),
        status_of("lifeboat-replicate", ended(0, None), json!({})),
    ])
}

#[test]
fn the_worst_pod_speaks() {
    let plan = beside(blocked_statuses(), |_| {});
    assert_eq!(words(&plan, ConditionType::Restored), "False StoreUnavailable");
    assert_eq!(words(&plan, ConditionType::Replicating), "Unknown StoreUnavailable");
    let event = plan.events.iter().find(|event| event.reason == EventReason::RestoreBlocked).unwrap();
    assert_eq!(event.pod, Some(("shop-a".to_owned(), "u-a".to_owned())));
    let plan = beside(dead_statuses(), |_| {});
    assert_eq!(words(&plan, ConditionType::Restored), "True AsExpected");
    assert_eq!(words(&plan, ConditionType::Replicating), "False SidecarDown");
    assert_eq!(words(&plan, ConditionType::Ready), "False SidecarDown");
}

#[test]
fn a_pod_that_is_ending_or_belongs_to_others_spoils_nothing() {
    let ready = |change| words(&beside(dead_statuses(), change), ConditionType::Ready);
    assert_eq!(ready(|pod| pod["metadata"]["deletionTimestamp"] = json!(NOW)), "True AsExpected");
    assert_eq!(ready(|pod| pod["status"]["phase"] = json!("Succeeded")), "True AsExpected");
    assert_eq!(ready(|pod| own(pod, "StatefulSet", "shop-admin")), "True AsExpected");
    assert_eq!(ready(|pod| own(pod, "ReplicaSet", "shop")), "True AsExpected");
    assert_eq!(ready(|pod| own(pod, "StatefulSet", "shop")), "False SidecarDown");
    assert_eq!(ready(|pod| pod["metadata"]["ownerReferences"] = json!([])), "False SidecarDown");
}

#[test]
fn a_bare_pod_of_another_owner_is_not_ours_to_protect() {
    let bare = |pod: &mut Value| {
        own(pod, "Job", "migrate");
        pod["metadata"]["labels"] = json!({ "app": "shop" });
    };
    assert_eq!(words(&beside(dead_statuses(), bare), ConditionType::Injected), "True AsExpected");
}

#[test]
fn the_pods_of_every_kind_of_workload_are_known_by_their_owner() {
    let is_ours = |kind, owner, name| {
        let mut pod = running_pod();
        own(&mut pod, owner, name);
        let mut observed = observed(&labelled(), vec![pod]);
        observed.workload = Some(Workload::read(kind, &labelled()));
        words(&plan(&observed), ConditionType::Restored) == "True AsExpected"
    };
    assert!(is_ours(WorkloadKind::Deployment, "ReplicaSet", "shop-5d4f8c"));
    assert!(!is_ours(WorkloadKind::Deployment, "ReplicaSet", "shop-admin-5d4f8c"));
    assert!(!is_ours(WorkloadKind::Deployment, "ReplicaSet", "shop"));
    assert!(!is_ours(WorkloadKind::Deployment, "ReplicaSet", "shopper-5d4f8c"));
    assert!(!is_ours(WorkloadKind::Deployment, "StatefulSet", "shop-5d4f8c"));
    assert!(is_ours(WorkloadKind::ReplicaSet, "ReplicaSet", "shop"));
    assert!(!is_ours(WorkloadKind::ReplicaSet, "ReplicaSet", "shop-5d4f8c"));
    assert!(is_ours(WorkloadKind::Job, "Job", "shop"));
    assert!(!is_ours(WorkloadKind::Job, "Job", "other"));
    assert!(is_ours(WorkloadKind::CronJob, "Job", "by-hand"));
    assert!(!is_ours(WorkloadKind::CronJob, "ReplicaSet", "shop-1"));
}

fn own(pod: &mut Value, kind: &str, name: &str) {
    pod["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true },
    ]);
}
