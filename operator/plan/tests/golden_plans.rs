//! Whole plans for whole observations, in the words that users will read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use jiff::Timestamp;
use lifeboat_api::{ConditionType, SqliteReplica, WorkloadKind};
use lifeboat_inject::{Defaults, Subject, inject};
use lifeboat_plan::{ApplyFailure, Observed, Plan, Workload, decide};
use lifeboat_wire::{
    DatabaseOutcome, DatabaseStatus, Outcome, Position, Reason, Status, Step, Termination, Verdict,
};
use serde_json::{Value, json};

#[path = "golden_plans/pods.rs"]
mod pods;

const NOW: &str = "2026-11-23T12:00:00Z";

fn replica() -> SqliteReplica {
    serde_json::from_value(json!({
        "apiVersion": "lifeboat.dev/v1alpha1",
        "kind": "SqliteReplica",
        "metadata": { "name": "shop", "namespace": "prod", "generation": 3 },
        "spec": {
            "workloadRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop" },
            "databases": [{ "name": "main", "path": "/data/app.db" }],
            "store": { "s3": { "bucket": "acme", "auth": { "secretRef": { "name": "s3" } } } },
        },
    }))
    .unwrap()
}

fn defaults() -> Defaults {
    Defaults {
        image: "i".to_owned(),
        image_pull_policy: None,
        version: "0.1.0".to_owned(),
        cluster: "c".to_owned(),
    }
}

fn stateful_set() -> Value {
    json!({
        "metadata": { "name": "shop", "uid": "u-1" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "shop" } },
            "template": {
                "metadata": { "labels": { "app": "shop" } },
                "spec": {
                    "securityContext": { "runAsUser": 65532, "fsGroup": 65532 },
                    "containers": [{ "name": "app", "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }],
                    "volumes": [{ "name": "data", "emptyDir": {} }],
                },
            },
        },
    })
}

fn labelled() -> Value {
    let mut set = stateful_set();
    set["spec"]["template"]["metadata"]["labels"]["lifeboat.dev/replica"] = json!("shop");
    set["spec"]["template"]["metadata"]["annotations"] =
        json!({ "lifeboat.dev/config-hash": replica().config_hash() });
    set
}

/// The pod that the workload and the webhook make together, with the given words of the kubelet.
fn pod(statuses: Value) -> Value {
    let template = &labelled()["spec"]["template"];
    let mut pod = json!({
        "metadata": template["metadata"], "spec": template["spec"],
        "status": { "phase": "Pending", "initContainerStatuses": statuses },
    });
    pod["metadata"]["name"] = json!("shop-0");
    pod["metadata"]["creationTimestamp"] = json!("2026-11-23T11:00:00Z");
    pod["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop", "uid": "u-1", "controller": true },
    ]);
    let patch = inject(Subject::Pod(&pod), &replica(), &defaults()).unwrap().patch;
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

fn observed(workload: &Value, pods: Vec<Value>) -> Observed {
    Observed {
        workload: Some(Workload::read(WorkloadKind::StatefulSet, workload)),
        pods: pods.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect(),
        ..Observed::default()
    }
}

fn status_of(name: &str, state: Value, last: Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state, "lastState": last,
    })
}

fn ended(code: u8, termination: Option<&Termination>) -> Value {
    let message = termination.map(Termination::encode).unwrap_or_default();
    json!({ "terminated": { "exitCode": code, "message": message, "finishedAt": "2026-11-23T11:00:05Z" } })
}

fn running() -> Value {
    json!({ "running": { "startedAt": "2026-11-23T11:00:06Z" } })
}

fn restored() -> Termination {
    Termination {
        message: "restored 1 database: main at txid 00000000000000a1".to_owned(),
        step: Step::Restore,
        reason: None,
        exit_code: 0,
        databases: vec![DatabaseOutcome {
            name: "main".to_owned(),
            outcome: Outcome::Restored,
            position: None,
            bytes: 8192,
            seconds: 0.25,
        }],
    }
}

fn blocked() -> Termination {
    Termination {
        message: "bucket acme: connection refused".to_owned(),
        reason: Some(Reason::StoreUnavailable),
        exit_code: 5,
        databases: vec![],
        ..restored()
    }
}

fn running_pod() -> Value {
    pod(json!([
        status_of("lifeboat-restore", ended(0, Some(&restored())), json!({})),
        status_of("lifeboat-replicate", running(), json!({})),
    ]))
}

fn main_status() -> DatabaseStatus {
    DatabaseStatus {
        name: "main".to_owned(),
        path: "/data/app.db".to_owned(),
        epoch: Some(12),
        position: Some(Position {
            txid: "00000000000000a1".to_owned(),
            checksum: None,
            time: Some("2026-11-23T11:59:59Z".to_owned()),
        }),
        lag_seconds: Some(0.0),
        unreplicated_bytes: Some(0),
        requests_per_day: None,
        away_since: None,
        lost: Vec::new(),
        oldest_restorable: None,
        last_snapshot: None,
        merge_failures: 0,
        prune_failures: None,
        sqlite_version: None,
        has_wal_reset_race: false,
        at_stake: None,
        verdict: None,
        reason: None,
        message: String::new(),
    }
}

fn reporting(database: DatabaseStatus) -> Observed {
    let mut observed = observed(&labelled(), vec![running_pod()]);
    let status = Status { version: "0.1.0".to_owned(), config_error: None, databases: vec![database] };
    observed.reports.insert("shop-0".to_owned(), Ok(status));
    observed
}

fn plan(observed: &Observed) -> Plan {
    decide(&replica(), observed, &defaults(), NOW.parse().unwrap())
}

fn plan_after(before: &Plan, observed: &Observed, seconds: i64) -> Plan {
    let mut replica = replica();
    replica.status.clone_from(&before.status);
    plan_for(&replica, observed, seconds)
}

fn plan_for(replica: &SqliteReplica, observed: &Observed, seconds: i64) -> Plan {
    let now: Timestamp = NOW.parse().unwrap();
    decide(replica, observed, &defaults(), now + jiff::SignedDuration::from_secs(seconds))
}

/// The plan as a page to read.
fn page(plan: &Plan) -> String {
    let mut lines = vec![format!("apply: {:?}", plan.apply)];
    for condition in plan.status.iter().flat_map(|status| &status.conditions) {
        let line =
            format!("{}={:?} {}: {}", condition.type_, condition.status, condition.reason, condition.message);
        lines.push(line);
    }
    for database in plan.status.iter().flat_map(|status| &status.databases) {
        lines.push(format!("database: {}", serde_json::to_string(database).unwrap()));
    }
    for event in &plan.events {
        let kind = if event.is_warning { "Warning" } else { "Normal" };
        lines.push(format!("event: {kind} {}: {}", event.reason, event.note));
    }
    lines.push(format!("requeue: {:?}", plan.requeue));
    lines.join("\n")
}

fn words(plan: &Plan, type_: ConditionType) -> String {
    let condition = plan.status.as_ref().unwrap().condition(type_).unwrap();
    format!("{:?} {}", condition.status, condition.reason)
}

#[test]
fn a_fit_workload_is_labelled() {
    insta::assert_snapshot!(page(&plan(&observed(&stateful_set(), vec![]))));
}

#[test]
fn a_missing_workload_is_said() {
    insta::assert_snapshot!(page(&plan(&Observed::default())));
}

#[test]
fn an_unfit_workload_is_not_touched_and_every_reason_is_said() {
    let mut set = stateful_set();
    set["spec"]["replicas"] = json!(3);
    set["spec"]["template"]["spec"]["securityContext"] = json!({});
    insta::assert_snapshot!(page(&plan(&observed(&set, vec![]))));
}

#[test]
fn a_protected_database_is_ready() {
    insta::assert_snapshot!(page(&plan(&reporting(main_status()))));
}

#[test]
fn a_pod_that_cannot_restore_says_why() {
    let statuses = json!([status_of(
        "lifeboat-restore",
        json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
        ended(5, Some(&blocked()))
    )]);
    insta::assert_snapshot!(page(&plan(&observed(&labelled(), vec![pod(statuses)]))));
}

#[test]
fn a_second_attempt_to_restore_still_says_what_stopped_the_first() {
    let statuses = json!([status_of("lifeboat-restore", running(), ended(5, Some(&blocked())))]);
    let plan = plan(&observed(&labelled(), vec![pod(statuses)]));
    assert_eq!(words(&plan, ConditionType::Restored), "False StoreUnavailable");
}

#[test]
fn a_status_that_cannot_be_read_is_unknown_and_never_false() {
    let mut observed = observed(&labelled(), vec![running_pod()]);
    observed.reports.insert("shop-0".to_owned(), Err("connection timed out".to_owned()));
    insta::assert_snapshot!(page(&plan(&observed)));
}

#[test]
fn a_sidecar_that_reports_too_few_databases_is_unknown() {
    let database = DatabaseStatus { name: "other".to_owned(), ..main_status() };
    assert_eq!(words(&plan(&reporting(database)), ConditionType::Replicating), "Unknown StatusUnreachable");
}

#[test]
fn a_short_trouble_is_not_worth_a_word_and_a_long_one_is() {
    let trouble = |lag| DatabaseStatus {
        lag_seconds: lag,
        verdict: Some(Verdict::Retry),
        reason: Some(Reason::StoreUnavailable),
        message: "bucket acme: connection refused".to_owned(),
        ..main_status()
    };
    let words = |lag| words(&plan(&reporting(trouble(lag))), ConditionType::Replicating);
    assert_eq!(words(Some(62.0)), "True AsExpected");
    assert_eq!(words(Some(62.1)), "False StoreUnavailable");
    assert_eq!(words(None), "False StoreUnavailable");
}

#[test]
fn a_database_that_the_application_has_not_created_yet_is_no_alarm() {
    let waiting = DatabaseStatus {
        position: None,
        lag_seconds: None,
        verdict: Some(Verdict::Retry),
        reason: Some(Reason::WaitingForDatabase),
        ..main_status()
    };
    let plan = plan(&reporting(waiting));
    assert_eq!(words(&plan, ConditionType::Replicating), "Unknown WaitingForDatabase");
    assert!(plan.events.iter().all(|event| !event.is_warning), "{:?}", plan.events);
}

#[test]
fn lag_is_judged_at_its_limit() {
    let words = |lag| {
        let database = DatabaseStatus { lag_seconds: lag, ..main_status() };
        words(&plan(&reporting(database)), ConditionType::Replicating)
    };
    assert_eq!(words(Some(300.0)), "True AsExpected");
    assert_eq!(words(Some(300.1)), "False Lagging");
    assert_eq!(words(None), "Unknown StatusUnreachable");
}

#[test]
fn whoever_wants_commits_stored_rarely_is_not_told_that_they_lag() {
    let mut replica = replica();
    replica.spec.replication.sync_interval = "1h".to_owned();
    let words = |lag, verdict| {
        let database = DatabaseStatus { lag_seconds: Some(lag), verdict, ..main_status() };
        words(&plan_for(&replica, &reporting(database), 0), ConditionType::Replicating)
    };
    assert_eq!(words(7260.0, None), "True AsExpected");
    assert_eq!(words(7260.1, None), "False Lagging");
    assert_eq!(words(7260.0, Some(Verdict::Retry)), "True AsExpected");
    assert_eq!(words(7260.1, Some(Verdict::Retry)), "False Lagging");
}

#[test]
fn whoever_has_a_budget_is_not_told_that_commits_lag_that_wait_for_its_sake() {
    let mut replica = replica();
    replica.spec.replication.max_requests_per_day = Some(24);
    replica.spec.replication.max_lag = Some("1h".to_owned());
    let words = |lag| {
        let database = DatabaseStatus { lag_seconds: Some(lag), ..main_status() };
        words(&plan_for(&replica, &reporting(database), 0), ConditionType::Replicating)
    };
    assert_eq!(words(7260.0), "True AsExpected");
    assert_eq!(words(7260.1), "False Lagging");
}

#[test]
fn a_fenced_sidecar_raises_an_event() {
    let good = plan(&reporting(main_status()));
    let fenced = DatabaseStatus {
        verdict: Some(Verdict::Fence),
        reason: Some(Reason::SealedByNewerEpoch),
        message: "epoch 13 owns the replica".to_owned(),
        ..main_status()
    };
    insta::assert_snapshot!(page(&plan_after(&good, &reporting(fenced), 10)));
}

#[test]
fn a_dead_sidecar_is_false_with_its_last_words() {
    let last = Termination {
        message: "epoch 13 owns the replica".to_owned(),
        step: Step::Replicate,
        reason: Some(Reason::SealedByNewerEpoch),
        exit_code: 3,
        databases: vec![],
    };
    let pod = pod(json!([
        status_of("lifeboat-restore", ended(0, Some(&restored())), json!({})),
        status_of(
            "lifeboat-replicate",
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            ended(3, Some(&last))
        ),
    ]));
    let plan = plan(&observed(&labelled(), vec![pod]));
    assert_eq!(words(&plan, ConditionType::Restored), "True AsExpected");
    assert_eq!(words(&plan, ConditionType::Replicating), "False SealedByNewerEpoch");
}

#[test]
fn a_restore_step_that_ended_well_without_a_word_is_unknown_and_hides_no_sidecar() {
    let plan = |message: &str| {
        let mut end = ended(0, None);
        end["terminated"]["message"] = json!(message);
        let mut observed = reporting(DatabaseStatus { verdict: Some(Verdict::Fence), ..main_status() });
        let statuses = json!([
            status_of("lifeboat-restore", end, json!({})),
            status_of("lifeboat-replicate", running(), json!({})),
        ]);
        observed.pods = vec![serde_json::from_value(pod(statuses)).unwrap()];
        plan(&observed)
    };
    for message in ["", "done", "{"] {
        assert_eq!(words(&plan(message), ConditionType::Restored), "Unknown StatusUnreachable");
        assert_eq!(words(&plan(message), ConditionType::Replicating), "False Lagging");
    }
}

#[test]
fn a_refused_change_of_the_template_is_said() {
    let mut observed = observed(&stateful_set(), vec![]);
    observed.apply_failure = Some(ApplyFailure {
        reason: lifeboat_api::Reason::FieldConflict,
        message: "conflict with \"helm\"".to_owned(),
    });
    assert_eq!(words(&plan(&observed), ConditionType::Injected), "False FieldConflict");
}

#[test]
fn a_workload_of_another_replica_is_left_alone() {
    let mut set = labelled();
    set["spec"]["template"]["metadata"]["labels"]["lifeboat.dev/replica"] = json!("other");
    let plan = plan(&observed(&set, vec![]));
    assert_eq!(plan.apply, None);
    assert_eq!(words(&plan, ConditionType::Injected), "False FieldConflict");
}

#[test]
fn a_label_from_the_author_needs_no_change_until_the_settings_do() {
    let mut set = labelled();
    set["spec"]["template"]["metadata"]["annotations"] = json!(null);
    assert_eq!(plan(&observed(&set, vec![])).apply, None);
    assert_eq!(plan(&observed(&set, vec![running_pod()])).apply, None);
    let mut outdated = running_pod();
    outdated["metadata"]["annotations"]["lifeboat.dev/config-hash"] = json!("0000000000000000");
    assert_ne!(plan(&observed(&set, vec![outdated])).apply, None);
}

#[test]
fn claims_of_a_stateful_set_count_as_volumes() {
    let mut set = stateful_set();
    set["spec"]["template"]["spec"]["volumes"] = json!(null);
    set["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" } }]);
    assert_ne!(plan(&observed(&set, vec![])).apply, None);
}

#[test]
fn overlapping_rollouts_and_runs_are_refused() {
    let refused = |kind, spec: Value| {
        let mut object = stateful_set();
        let template = object["spec"]["template"].take();
        object["spec"] = spec;
        object["spec"]["template"] = template.clone();
        object["spec"]["jobTemplate"]["spec"]["template"] = template;
        let observed = Observed { workload: Some(Workload::read(kind, &object)), ..Observed::default() };
        words(&plan(&observed), ConditionType::Injected).contains("RolloutOverlap")
    };
    let surge = |value: Value| json!({ "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": value } } });
    assert!(refused(WorkloadKind::Deployment, json!({})));
    assert!(refused(WorkloadKind::Deployment, surge(json!("25%"))));
    assert!(refused(WorkloadKind::Deployment, surge(json!(1))));
    assert!(!refused(WorkloadKind::Deployment, surge(json!(0))));
    assert!(!refused(WorkloadKind::Deployment, surge(json!("0%"))));
    assert!(!refused(WorkloadKind::Deployment, json!({ "strategy": { "type": "Recreate" } })));
    assert!(refused(WorkloadKind::CronJob, json!({})));
    assert!(!refused(WorkloadKind::CronJob, json!({ "concurrencyPolicy": "Forbid" })));
}

#[test]
fn the_template_of_a_job_is_left_to_its_author() {
    let mut observed = observed(&stateful_set(), vec![]);
    observed.workload = Some(Workload::read(WorkloadKind::Job, &stateful_set()));
    let plan = plan(&observed);
    assert_eq!(plan.apply, None);
    assert_eq!(words(&plan, ConditionType::Injected), "False LabelMissing");
}

#[test]
fn an_unchanged_observation_writes_nothing_and_says_nothing() {
    let first = plan(&reporting(main_status()));
    let second = plan_after(&first, &reporting(main_status()), 600);
    assert_eq!((second.status, second.events), (None, vec![]));
}

#[test]
fn moving_figures_are_written_once_a_minute() {
    let first = plan(&reporting(main_status()));
    let mut moved = main_status();
    moved.position.as_mut().unwrap().txid = "00000000000000ff".to_owned();
    let moved = reporting(moved);
    assert_eq!(plan_after(&first, &moved, 59).status, None);
    assert!(plan_after(&first, &moved, 60).status.is_some());
}

#[test]
fn that_a_database_is_stored_is_written_at_once_because_pods_to_come_are_told() {
    let first = plan(&reporting(DatabaseStatus { position: None, ..main_status() }));
    let stored = plan_after(&first, &reporting(main_status()), 1).status.unwrap();
    assert!(stored.databases[0].position.is_some());
}

#[test]
fn a_transition_keeps_its_time_until_the_next_one() {
    let first = plan(&reporting(main_status()));
    let fenced = DatabaseStatus { verdict: Some(Verdict::Fence), ..main_status() };
    let second = plan_after(&first, &reporting(fenced), 10).status.unwrap();
    let time = |type_| second.condition(type_).unwrap().last_transition_time.clone();
    assert_eq!(time(ConditionType::Restored), NOW);
    assert_eq!(time(ConditionType::Replicating), "2026-11-23T12:00:10Z");
}

#[test]
fn what_was_known_of_a_database_stays_known_while_it_cannot_be_seen() {
    let first = plan(&reporting(main_status()));
    let unseen = plan_after(&first, &observed(&labelled(), vec![]), 10).status.unwrap();
    assert_eq!(unseen.databases, first.status.unwrap().databases);
}
