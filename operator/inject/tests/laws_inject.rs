//! What holds for every pod: once is enough, only ours is touched, the order is right, nothing unknown is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

mod common;

use common::{apply, defaults, replica};
use json_patch::PatchOperation;
use lifeboat_inject::{Subject, inject};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const NETWORK: [&str; 3] = ["istio-init", "istio-proxy", "linkerd-proxy"];
const OURS: [&str; 2] = ["lifeboat-restore", "lifeboat-replicate"];

/// Init containers in an order that a user could have written: proxies first, or none that mounts the volume before.
fn init_containers() -> impl Strategy<Value = Vec<Value>> {
    let network = subsequence(NETWORK.to_vec(), 0..=3);
    let users = subsequence(vec!["fetch", "migrate", "warm"], 0..=3);
    (network, users, any::<bool>()).prop_map(|(network, users, restarts)| {
        let network = network.into_iter().map(|name| json!({ "name": name, "future": { "x": [1, null] } }));
        let users = users.into_iter().map(|name| {
            let mut container = json!({ "name": name, "image": "i", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] });
            if restarts {
                container["restartPolicy"] = json!("Always");
            }
            container
        });
        network.chain(users).collect()
    })
}

fn pods() -> impl Strategy<Value = Value> {
    let grace = select(vec![json!(null), json!(0), json!(30), json!(600), json!(i64::MAX)]);
    let annotations = select(vec![json!(null), json!({}), json!({ "prometheus.io/scrape": "true" })]);
    let user = select(vec![json!({ "runAsUser": 1000 }), json!({ "runAsUser": 0 }), json!({ "fsGroup": 7 })]);
    (init_containers(), grace, annotations, user, any::<bool>()).prop_map(
        |(init, grace, annotations, user, has_init)| {
            let mut pod = common::pod();
            pod["spec"]["securityContext"] = user;
            pod["spec"]["newInKubernetes999"] = json!({ "deep": [{ "er": 1.5 }] });
            pod["spec"]["containers"][0]["alsoNew"] = json!("kept");
            if has_init || !init.is_empty() {
                pod["spec"]["initContainers"] = json!(init);
            }
            if !grace.is_null() {
                pod["spec"]["terminationGracePeriodSeconds"] = grace;
            }
            if !annotations.is_null() {
                pod["metadata"]["annotations"] = annotations;
            }
            pod
        },
    )
}

fn injected(pod: &Value) -> Value {
    apply(pod, &inject(Subject::Pod(pod), &replica(), &defaults()).expect("the pod can be protected").patch)
}

/// What the API server writes into a pod between two calls of a webhook.
fn with_server_defaults(mut pod: Value) -> Value {
    let init = pod["spec"]["initContainers"].as_array_mut().unwrap();
    for container in init.iter_mut().filter(|container| OURS.contains(&container["name"].as_str().unwrap())) {
        container["resources"]["claims"] = json!([]);
        let env = container["env"].as_array_mut().unwrap();
        env.push(json!({ "name": "MESH", "value": "1" }));
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        mounts.insert(0, json!({ "name": "x", "mountPath": "/x" }));
    }
    pod["spec"]["dnsPolicy"] = json!("ClusterFirst");
    pod
}

/// The pod without anything of ours.
fn stripped(mut pod: Value) -> Value {
    if let Some(init) = pod["spec"].get_mut("initContainers").and_then(Value::as_array_mut) {
        init.retain(|container| !OURS.contains(&container["name"].as_str().unwrap()));
        if init.is_empty() {
            pod["spec"].as_object_mut().unwrap().remove("initContainers");
        }
    }
    pod["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .retain(|v| !v["name"].as_str().unwrap().starts_with("lifeboat-"));
    pod["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    if let Some(annotations) = pod["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !key.starts_with("lifeboat.dev/"));
        if annotations.is_empty() {
            pod["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    pod
}

fn path_of(operation: &PatchOperation) -> String {
    operation.path().to_string()
}

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once(pod in pods()) {
        let once = injected(&pod);
        prop_assert_eq!(inject(Subject::Pod(&once), &replica(), &defaults()).unwrap().patch.0.len(), 0);
        let defaulted = with_server_defaults(once);
        prop_assert_eq!(inject(Subject::Pod(&defaulted), &replica(), &defaults()).unwrap().patch.0.len(), 0);
    }

    #[test]
    fn what_is_not_ours_stays_as_it_was(pod in pods()) {
        prop_assert_eq!(stripped(injected(&pod)), stripped(pod));
    }

    #[test]
    fn only_listed_places_are_written(pod in pods()) {
        for operation in inject(Subject::Pod(&pod), &replica(), &defaults()).unwrap().patch.0 {
            let path = path_of(&operation);
            let is_listed = path == "/metadata/annotations"
                || path.starts_with("/metadata/annotations/lifeboat.dev~1")
                || path == "/spec/terminationGracePeriodSeconds"
                || path == "/spec/initContainers"
                || path.starts_with("/spec/initContainers/")
                || path == "/spec/volumes/-";
            prop_assert!(is_listed, "{}", path);
        }
    }

    #[test]
    fn proxies_come_before_us_and_users_of_the_volume_after(pod in pods()) {
        let pod = injected(&pod);
        let names: Vec<_> = pod["spec"]["initContainers"].as_array().unwrap().iter()
            .map(|container| container["name"].as_str().unwrap().to_owned()).collect();
        let restore = names.iter().position(|name| name == OURS[0]).unwrap();
        prop_assert_eq!(&names[restore + 1], OURS[1]);
        prop_assert!(names.iter().skip(restore).all(|name| !NETWORK.contains(&name.as_str())));
        prop_assert!(names.iter().take(restore).all(|name| NETWORK.contains(&name.as_str())));
    }

    #[test]
    fn a_broken_order_is_mended_whatever_it_was(pod in pods(), at in 0_usize..5, moved in 0_usize..2) {
        let good = injected(&pod);
        let mut broken = good.clone();
        let init = broken["spec"]["initContainers"].as_array_mut().unwrap();
        let from = init.iter().position(|container| container["name"] == OURS[moved]).unwrap();
        let container = init.remove(from);
        init.insert(at.min(init.len()), container);
        prop_assert_eq!(injected(&broken), good);
    }

    #[test]
    fn the_grace_period_has_room_for_the_flush(pod in pods()) {
        let asked = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        let given = injected(&pod)["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap();
        prop_assert_eq!(given, asked.max(30).saturating_add(25));
    }

    #[test]
    fn no_document_makes_it_panic(text in "[\\{\\}\\[\\]\",:a-z0-9]{0,200}", place in select(vec!["spec", "metadata"])) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        let mut pod = common::pod();
        pod[place] = value.clone();
        let _ = inject(Subject::Pod(&pod), &replica(), &defaults());
        let _ = inject(Subject::Pod(&value), &replica(), &defaults());
    }
}
