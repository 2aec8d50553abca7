//! Whole injected pods, held as golden files, and every reason for a refusal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

mod common;

use common::{apply, database, defaults, pod, replica};
use lifeboat_api::{DatabaseReport, Reason, ReportedPosition, SqliteReplicaStatus};
use lifeboat_inject::{Subject, inject};
use serde_json::{Value, json};

fn injected(pod: &Value) -> Value {
    apply(pod, &inject(Subject::Pod(pod), &replica(), &defaults()).expect("the pod can be protected").patch)
}

fn reasons(pod: &Value) -> Vec<Reason> {
    inject(Subject::Pod(pod), &replica(), &defaults())
        .unwrap_err()
        .into_iter()
        .map(|refusal| refusal.reason)
        .collect()
}

fn init_names(pod: &Value) -> Vec<&str> {
    pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

#[test]
fn the_pod_of_a_stateful_set_gets_a_restore_step_and_a_sidecar() {
    insta::assert_json_snapshot!(injected(&pod()));
}

#[test]
fn the_configuration_reads_well_in_kubectl_describe() {
    let pod = injected(&pod());
    let env = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
    let config = env.iter().find(|var| var["name"] == "LIFEBOAT_CONFIG_INLINE").unwrap();
    insta::assert_snapshot!(config["value"].as_str().unwrap());
}

/// The sidecar's `config::tests` hold what they understand to the same words.
#[test]
fn how_commits_are_stored_is_said_in_the_words_of_the_config_file() {
    let mut replica = serde_json::to_value(replica()).unwrap();
    replica["spec"]["replication"] = json!({
        "syncInterval": "2s", "maxRequestsPerDay": 1_000, "maxLag": "15m",
        "levels": ["1m", "10m"],
        "snapshot": {"interval": "12h", "maxLogRatio": 0.5},
    });
    replica["spec"]["retention"] = json!({"window": "48h"});
    let (pod, replica) = (pod(), serde_json::from_value(replica).unwrap());
    let patch = inject(Subject::Pod(&pod), &replica, &defaults()).unwrap().patch;
    let pod = apply(&pod, &patch);
    let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let config = env.iter().find(|var| var["name"] == "LIFEBOAT_CONFIG_INLINE").unwrap();
    let config: Value = serde_json::from_str(config["value"].as_str().unwrap()).unwrap();
    let keys = ["sync-interval", "max-requests-per-day", "max-lag", "levels", "snapshot", "retention"];
    let said: Vec<_> = keys.iter().map(|key| config[key].clone()).collect();
    let words = [
        json!("2s"),
        json!(1_000),
        json!("15m"),
        json!([{"interval": "1m"}, {"interval": "10m"}]),
        json!({"interval": "12h", "max-log-ratio": 0.5}),
        json!({"window": "48h"}),
    ];
    assert_eq!(said, words);
}

#[test]
fn a_pod_is_told_which_of_its_databases_were_stored_before() {
    let mut replica = replica();
    replica.spec.databases = vec![database("main", "/data/app.db"), database("new", "/data/new.db")];
    let report = |name: &str, position| DatabaseReport {
        name: name.to_owned(),
        position,
        ..DatabaseReport::default()
    };
    let stored = ReportedPosition { txid: "0000000000000005".to_owned(), time: None };
    let databases = vec![report("main", Some(stored)), report("new", None)];
    replica.status = Some(SqliteReplicaStatus { databases, ..SqliteReplicaStatus::default() });
    let pod = pod();
    let pod = apply(&pod, &inject(Subject::Pod(&pod), &replica, &defaults()).unwrap().patch);
    for container in 0..2 {
        let env = pod["spec"]["initContainers"][container]["env"].as_array().unwrap();
        let config = env.iter().find(|var| var["name"] == "LIFEBOAT_CONFIG_INLINE").unwrap();
        let config: Value = serde_json::from_str(config["value"].as_str().unwrap()).unwrap();
        let expects: Vec<_> = [0, 1].map(|number| config["dbs"][number].get("expect-data").cloned()).into();
        assert_eq!(expects, [Some(json!(true)), None]);
    }
}

#[test]
fn mesh_proxies_stay_before_us_and_migrations_come_after_us() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([
        { "name": "istio-init" },
        { "name": "istio-proxy", "restartPolicy": "Always" },
        { "name": "migrate", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] },
    ]);
    let names = ["istio-init", "istio-proxy", "lifeboat-restore", "lifeboat-replicate", "migrate"];
    assert_eq!(init_names(&injected(&pod)), names);
}

#[test]
fn a_proxy_that_another_webhook_put_after_us_moves_before_us_on_the_second_call() {
    let mut pod = injected(&pod());
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(json!({ "name": "linkerd-proxy" }));
    assert_eq!(init_names(&injected(&pod)), ["linkerd-proxy", "lifeboat-restore", "lifeboat-replicate"]);
}

#[test]
fn a_sidecar_without_its_restart_policy_is_mended() {
    let mut pod = injected(&pod());
    pod["spec"]["initContainers"][1].as_object_mut().unwrap().remove("restartPolicy");
    pod["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    let mended = injected(&pod);
    assert_eq!(mended["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(mended["spec"]["initContainers"][0].get("restartPolicy"), None);
}

#[test]
fn the_grace_period_grows_by_the_flush_and_only_once() {
    let mut pod = pod();
    pod["spec"]["terminationGracePeriodSeconds"] = json!(90);
    let once = injected(&pod);
    assert_eq!(once["spec"]["terminationGracePeriodSeconds"], 115);
    assert_eq!(injected(&once), once);
    let mut changed_later = once;
    changed_later["spec"]["terminationGracePeriodSeconds"] = json!(200);
    assert_eq!(injected(&changed_later)["spec"]["terminationGracePeriodSeconds"], 225);
}

#[test]
fn the_deepest_mount_counts_and_its_sub_path_is_kept() {
    let mut pod = pod();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": "deep", "emptyDir": {} }));
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        { "name": "deep", "mountPath": "/data/", "subPath": "shop" },
        { "name": "data", "mountPath": "/" },
    ]);
    let pod = injected(&pod);
    let mount = json!({ "name": "deep", "mountPath": "/data", "subPath": "shop" });
    assert_eq!(pod["spec"]["initContainers"][1]["volumeMounts"][0], mount);
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1", "memory": "1Gi" } });
    let pod = injected(&pod);
    for container in pod["spec"]["initContainers"].as_array().unwrap() {
        assert_eq!(container["resources"]["requests"], container["resources"]["limits"]);
    }
}

#[test]
fn an_application_that_runs_as_root_is_followed_as_root_and_told_so() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    let injection = inject(Subject::Pod(&pod), &replica(), &defaults()).unwrap();
    assert_eq!(injection.notices.len(), 1);
    let pod = apply(&pod, &injection.patch);
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsNonRoot"], false);
}

#[test]
fn without_a_group_for_the_volumes_the_credentials_are_readable_by_our_user() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({ "runAsUser": 1000 });
    let volume = injected(&pod)["spec"]["volumes"][2].clone();
    assert_eq!(
        (&volume["name"], &volume["projected"]["defaultMode"]),
        (&json!("lifeboat-credentials"), &json!(0o444))
    );
}

#[test]
fn a_bucket_name_cannot_refer_to_a_variable() {
    let mut replica = replica();
    replica.spec.store.s3.prefix = Some("$(POD)".to_owned());
    let pod = pod();
    let pod = apply(&pod, &inject(Subject::Pod(&pod), &replica, &defaults()).unwrap().patch);
    let env = pod["spec"]["initContainers"][0]["env"].to_string();
    assert!(env.contains("$$(POD)/main"), "{env}");
}

#[test]
fn a_path_without_a_volume_is_refused() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
    assert_eq!(reasons(&pod), [Reason::NoVolumeForPath]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "gone", "mountPath": "/data" }]);
    assert_eq!(reasons(&pod), [Reason::NoVolumeForPath]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/dat" }]);
    assert_eq!(reasons(&pod), [Reason::NoVolumeForPath]);
}

#[test]
fn a_named_container_must_exist_and_mount_the_volume_itself() {
    let mut replica = replica();
    replica.spec.databases[0].container = Some("web".to_owned());
    let refusals = inject(Subject::Pod(&pod()), &replica, &defaults()).unwrap_err();
    assert_eq!(refusals[0].reason, Reason::ContainerNotFound);
    assert!(refusals[0].message.contains("it has app"), "{}", refusals[0]);
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "web" }));
    assert_eq!(
        inject(Subject::Pod(&pod), &replica, &defaults()).unwrap_err()[0].reason,
        Reason::NoVolumeForPath
    );
}

#[test]
fn volumes_that_cannot_carry_a_wal_are_refused() {
    let mut pod = pod();
    for volume in [
        json!({ "name": "data", "configMap": { "name": "x" } }),
        json!({ "name": "data", "nfs": { "server": "x", "path": "/" } }),
        json!({ "name": "data", "hostPath": { "path": "/x" } }),
        json!({ "name": "data", "tapeRobot": {} }),
    ] {
        pod["spec"]["volumes"][0] = volume;
        assert_eq!(reasons(&pod), [Reason::UnsupportedVolume]);
    }
    pod["spec"]["volumes"][0] =
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": "x", "readOnly": true } });
    assert_eq!(reasons(&pod), [Reason::ReadOnlyVolume]);
}

#[test]
fn mounts_that_cannot_be_repeated_are_refused() {
    for (mount, reason) in [
        (json!({ "name": "data", "mountPath": "/data", "readOnly": true }), Reason::ReadOnlyVolume),
        (json!({ "name": "data", "mountPath": "/data", "subPathExpr": "$(POD)" }), Reason::UnsupportedVolume),
        (
            json!({ "name": "data", "mountPath": "/data/app.db", "subPath": "app.db" }),
            Reason::UnsupportedVolume,
        ),
        (json!({ "name": "data", "mountPath": "/" }), Reason::MountConflict),
    ] {
        let mut pod = pod();
        pod["spec"]["containers"][0]["volumeMounts"] = json!([mount]);
        assert_eq!(reasons(&pod), [reason]);
    }
}

#[test]
fn two_databases_at_one_mount_path_of_two_volumes_are_refused() {
    let mut replica = replica();
    replica.spec.databases.push(database("jobs", "/data/jobs.db"));
    replica.spec.databases[0].container = Some("app".to_owned());
    replica.spec.databases[1].container = Some("worker".to_owned());
    let mut pod = pod();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": "more", "emptyDir": {} }));
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "worker", "volumeMounts": [{ "name": "more", "mountPath": "/data" }] }));
    let refusals = inject(Subject::Pod(&pod), &replica, &defaults()).unwrap_err();
    assert_eq!(refusals[0].reason, Reason::MountConflict);
}

#[test]
fn a_mount_of_one_database_may_not_hide_another() {
    let mut replica = replica();
    replica.spec.databases[0].path = "/data/x/app.db".to_owned();
    replica.spec.databases.push(database("jobs", "/data/x/jobs.db"));
    replica.spec.databases[0].container = Some("app".to_owned());
    replica.spec.databases[1].container = Some("worker".to_owned());
    let mut pod = pod();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": "more", "emptyDir": {} }));
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "worker", "volumeMounts": [{ "name": "more", "mountPath": "/data/x" }] }));
    assert_eq!(
        inject(Subject::Pod(&pod), &replica, &defaults()).unwrap_err()[0].reason,
        Reason::MountConflict
    );
}

#[test]
fn an_unknown_user_is_refused_unless_the_volumes_have_a_group() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({});
    assert_eq!(reasons(&pod), [Reason::UserUnknown]);
    pod["spec"]["securityContext"] = json!({ "fsGroup": 2000 });
    assert_eq!(injected(&pod)["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 65532);
    pod["spec"]["containers"][0]["securityContext"] = json!({ "runAsUser": 1000, "runAsGroup": 3000 });
    let security = injected(&pod)["spec"]["initContainers"][0]["securityContext"].clone();
    assert_eq!((&security["runAsUser"], &security["runAsGroup"]), (&json!(1000), &json!(3000)));
}

#[test]
fn databases_of_different_users_are_refused() {
    let mut replica = replica();
    replica.spec.databases.push(database("jobs", "/jobs/jobs.db"));
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({
        "name": "worker", "securityContext": { "runAsUser": 1 },
        "volumeMounts": [{ "name": "data", "mountPath": "/jobs" }],
    }));
    assert_eq!(
        inject(Subject::Pod(&pod), &replica, &defaults()).unwrap_err()[0].reason,
        Reason::UserConflict
    );
}

#[test]
fn names_ports_and_networks_that_collide_with_ours_are_refused_all_at_once() {
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 9898 }]);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "lifeboat-replicate" }));
    assert_eq!(reasons(&pod), [Reason::HostNetworkUnsupported, Reason::NameReserved, Reason::PortConflict]);
}

#[test]
fn a_migration_before_a_mesh_proxy_is_refused() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([
        { "name": "migrate", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] },
        { "name": "istio-proxy" },
    ]);
    assert_eq!(reasons(&pod), [Reason::InitOrderConflict]);
}

#[test]
fn what_is_not_a_pod_is_refused() {
    for nonsense in
        [json!(null), json!([]), json!({}), json!({ "spec": 3 }), json!({ "spec": { "containers": [] } })]
    {
        assert_eq!(reasons(&nonsense), [Reason::MalformedPod]);
    }
}

#[test]
fn refusals_tell_what_to_do() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({});
    let refusals = inject(Subject::Pod(&pod), &replica(), &defaults()).unwrap_err();
    insta::assert_snapshot!(refusals[0]);
}

#[test]
fn the_pod_of_another_workload_is_refused_and_told_whose_replica_it_names() {
    let mut pod = pod();
    pod["metadata"]["ownerReferences"][0]["name"] = json!("shop-copy");
    let refusals = inject(Subject::Pod(&pod), &replica(), &defaults()).unwrap_err();
    assert_eq!(refusals.len(), 1);
    insta::assert_snapshot!(refusals[0]);
}

#[test]
fn a_pod_that_no_workload_controls_is_refused_but_a_template_is_not() {
    let mut pod = pod();
    pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    assert_eq!(reasons(&pod), [Reason::WorkloadMismatch]);
    pod["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    assert_eq!(reasons(&pod), [Reason::WorkloadMismatch]);
    assert!(inject(Subject::Template(&pod), &replica(), &defaults()).is_ok());
}

#[test]
fn without_a_container_named_all_that_cover_the_path_must_show_the_same_file() {
    for (mount, is_same) in [
        (json!({ "name": "data", "mountPath": "/data/" }), true),
        (json!({ "name": "data", "mountPath": "/elsewhere" }), true),
        (json!({ "name": "more", "mountPath": "/data" }), false),
        (json!({ "name": "data", "mountPath": "/data", "subPath": "x" }), false),
        (json!({ "name": "data", "mountPath": "/" }), false),
    ] {
        let mut pod = pod();
        pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": "more", "emptyDir": {} }));
        let worker = json!({ "name": "worker", "volumeMounts": [mount] });
        pod["spec"]["containers"].as_array_mut().unwrap().push(worker);
        let refusals = inject(Subject::Pod(&pod), &replica(), &defaults()).err();
        if is_same {
            assert_eq!(refusals, None);
            continue;
        }
        let refusals = refusals.unwrap();
        assert_eq!(refusals[0].reason, Reason::MountConflict);
        assert!(refusals[0].message.contains("set databases[].container"), "{}", refusals[0]);
        let mut replica = replica();
        replica.spec.databases[0].container = Some("app".to_owned());
        assert!(inject(Subject::Pod(&pod), &replica, &defaults()).is_ok());
    }
}

#[test]
fn one_file_under_two_paths_is_refused() {
    let mut replica = replica();
    replica.spec.databases.push(database("again", "/again/app.db"));
    for (volume, mount) in [
        (json!({ "name": "data", "emptyDir": {} }), json!({ "name": "data", "mountPath": "/again" })),
        (
            json!({ "name": "twin", "persistentVolumeClaim": { "claimName": "c" } }),
            json!({ "name": "twin", "mountPath": "/again", "subPath": "./" }),
        ),
    ] {
        let mut pod = pod();
        if volume["name"] == "twin" {
            pod["spec"]["volumes"] =
                json!([volume, { "name": "data", "persistentVolumeClaim": { "claimName": "c" } }]);
        }
        pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
        let refusals = inject(Subject::Pod(&pod), &replica, &defaults()).unwrap_err();
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].reason, Reason::MountConflict);
        assert!(
            refusals[0].message.contains("main (/data/app.db) and again (/again/app.db)"),
            "{}",
            refusals[0]
        );
        pod["spec"]["containers"][0]["volumeMounts"][1]["subPath"] = json!("other");
        assert!(inject(Subject::Pod(&pod), &replica, &defaults()).is_ok());
    }
}

#[test]
fn a_volume_of_the_application_with_a_name_of_ours_is_refused_and_not_swapped() {
    for name in ["lifeboat-run", "lifeboat-credentials", "lifeboat-no-token"] {
        let mut pod = pod();
        pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": name, "emptyDir": {} }));
        assert_eq!(reasons(&pod), [Reason::NameReserved]);
    }
}

#[test]
fn nobody_but_us_may_mount_a_volume_of_ours_not_even_later() {
    for list in ["containers", "initContainers"] {
        let mut pod = injected(&pod());
        assert_eq!(injected(&pod), pod);
        let spy =
            json!({ "name": "spy", "volumeMounts": [{ "name": "lifeboat-credentials", "mountPath": "/x" }] });
        pod["spec"][list].as_array_mut().unwrap().push(spy);
        assert_eq!(reasons(&pod), [Reason::NameReserved]);
    }
}

#[test]
fn disk_is_counted_for_us_only_where_it_is_counted_for_every_container() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "ephemeral-storage": "1Gi" } });
    let ours = injected(&pod)["spec"]["initContainers"][1]["resources"].clone();
    assert_eq!(ours["requests"]["ephemeral-storage"], "64Mi");
    assert_eq!(ours["limits"]["ephemeral-storage"], "512Mi");
    pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "ephemeral-storage": "1Gi" } });
    let ours = injected(&pod)["spec"]["initContainers"][0]["resources"].clone();
    assert_eq!(ours["requests"]["ephemeral-storage"], "64Mi");
    assert_eq!(ours["limits"].get("ephemeral-storage"), None);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "worker" }));
    for container in injected(&pod)["spec"]["initContainers"].as_array().unwrap() {
        assert!(!container["resources"].to_string().contains("ephemeral-storage"), "{container}");
    }
}
