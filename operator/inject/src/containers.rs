//! Our two containers.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use lifeboat_api::{SqliteReplica, names};
use serde_json::{Value, json};

use crate::databases::Placed;
use crate::user::User;
use crate::{Defaults, Grace, config, volumes};

/// Folder of the hand-over file and the control socket in our containers.
pub(crate) const RUN_PATH: &str = "/run/lifeboat";

/// Folder of the bucket's access key in our containers.
const CREDENTIALS_PATH: &str = "/run/secrets/lifeboat";

/// Where Kubernetes mounts the token of the pod's service account.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Paths of our containers over which no volume of the application may be mounted.
pub(crate) const RESERVED_PATHS: [&str; 6] =
    [RUN_PATH, CREDENTIALS_PATH, TOKEN_PATH, "/lifeboat", "/etc/ssl", "/dev"];

/// All that the containers are made of.
pub(crate) struct Parts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) replica: &'a SqliteReplica,
    pub(crate) defaults: &'a Defaults,
    pub(crate) placed: &'a Placed,
    pub(crate) user: &'a User,
    pub(crate) grace: Grace,
}

/// The restore step and the sidecar, in this order.
///
/// Values that Kubernetes would fill in are written out, so that a pod that comes back from the API server compares
/// equal to what we made.
pub(crate) fn build(parts: &Parts<'_>) -> [Value; 2] {
    [restore(parts), replicate(parts)]
}

fn restore(parts: &Parts<'_>) -> Value {
    let mut container = common(parts, names::CONTAINER_RESTORE, "restore", RESTORE);
    // The kubelet reads it anew whenever the step is tried again, so a choice that is made meanwhile is heard. It is heard for as
    // long as the pod lives: that it holds once is for the step to see.
    let take = json!({ "name": "LIFEBOAT_TAKE", "valueFrom": field(&format!("metadata.annotations['{}']", names::ANNOTATION_TAKE)) });
    if let Some(env) = container["env"].as_array_mut() {
        env.push(take);
    }
    if let Some(policy) = &parts.defaults.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

fn replicate(parts: &Parts<'_>) -> Value {
    let mut container = common(parts, names::CONTAINER_REPLICATE, "replicate", REPLICATE);
    if let Some(policy) = &parts.defaults.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container["restartPolicy"] = json!("Always");
    container["ports"] =
        json!([{ "name": "lifeboat", "containerPort": lifeboat_wire::STATUS_PORT, "protocol": "TCP" }]);
    container["startupProbe"] = json!({
        "exec": { "command": ["/lifeboat", "ctl", "started"] },
        "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 120, "successThreshold": 1,
    });
    // Its own short grace: a frozen process does not hear SIGTERM, and the pod's grace is a minute.
    container["livenessProbe"] = json!({
        "exec": { "command": ["/lifeboat", "ctl", "alive"] },
        "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3, "successThreshold": 1,
        "terminationGracePeriodSeconds": 5,
    });
    container["lifecycle"] = json!({ "preStop": { "exec": { "command": ["/lifeboat", "ctl", "prestop"] } } });
    container
}

fn common(parts: &Parts<'_>, name: &str, verb: &str, resources: Resources) -> Value {
    json!({
        "name": name,
        "image": parts.defaults.image,
        "command": ["/lifeboat"],
        "args": [verb, "--config-from-env"],
        "env": env(parts),
        "resources": resources.to_json(parts.pod),
        "securityContext": security(*parts.user),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts(parts.placed),
    })
}

fn env(parts: &Parts<'_>) -> Value {
    json!([
        { "name": "LIFEBOAT_NAMESPACE", "value": parts.replica.namespace() },
        { "name": "LIFEBOAT_NAME", "value": parts.replica.name() },
        { "name": "LIFEBOAT_CLUSTER", "value": parts.defaults.cluster },
        { "name": "LIFEBOAT_POD_NAME", "valueFrom": field("metadata.name") },
        { "name": "LIFEBOAT_POD_UID", "valueFrom": field("metadata.uid") },
        { "name": "LIFEBOAT_CREDENTIALS_DIR", "value": CREDENTIALS_PATH },
        { "name": "LIFEBOAT_CONFIG_INLINE", "value": config::render(parts.replica, parts.grace) },
    ])
}

fn field(path: &str) -> Value {
    json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": path } })
}

fn security(user: User) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": !user.is_root(),
        "runAsUser": user.uid,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if let Some(gid) = user.gid {
        security["runAsGroup"] = json!(gid);
    }
    security
}

fn mounts(placed: &Placed) -> Vec<Value> {
    let data = placed.mounts.iter().map(|(path, mount)| {
        let mut value = json!({ "name": mount.volume, "mountPath": path });
        if let Some(sub_path) = &mount.sub_path {
            value["subPath"] = json!(sub_path);
        }
        value
    });
    let ours = [
        json!({ "name": volumes::RUN, "mountPath": RUN_PATH }),
        json!({ "name": volumes::CREDENTIALS, "mountPath": CREDENTIALS_PATH, "readOnly": true }),
        json!({ "name": volumes::NO_TOKEN, "mountPath": TOKEN_PATH, "readOnly": true }),
    ];
    data.chain(ours).collect()
}

/// What a container asks for and what it may use. CPU and memory are always set: a namespace with a quota refuses less.
#[derive(Clone, Copy)]
struct Resources {
    cpu_request: &'static str,
    memory_request: &'static str,
    cpu_limit: &'static str,
    memory_limit: &'static str,
}

/// Runs alone, before the application, so its use does not add to the application's.
const RESTORE: Resources =
    Resources { cpu_request: "10m", memory_request: "64Mi", cpu_limit: "1", memory_limit: "512Mi" };

const REPLICATE: Resources =
    Resources { cpu_request: "10m", memory_request: "32Mi", cpu_limit: "500m", memory_limit: "256Mi" };

/// Name of the resource that a node's disk is counted as.
const DISK: &str = "ephemeral-storage";

/// Disk that each of our containers asks for: its log and the hand-over file.
const DISK_REQUEST: &str = "64Mi";

/// Disk that each of our containers may use: a full run volume, and a log that the kubelet is late to rotate.
const DISK_LIMIT: &str = "512Mi";

/// CPU of each of our containers where request and limit must be the same.
const GUARANTEED_CPU: &str = "100m";

impl Resources {
    fn to_json(self, pod: &Pod) -> Value {
        let mut resources = if is_guaranteed(pod) {
            let both = json!({ "cpu": GUARANTEED_CPU, "memory": self.memory_limit });
            json!({ "requests": both, "limits": both })
        } else {
            json!({
                "requests": { "cpu": self.cpu_request, "memory": self.memory_request },
                "limits": { "cpu": self.cpu_limit, "memory": self.memory_limit },
            })
        };
        // A missing request is taken from the limit.
        if counts_disk(pod, &["requests", "limits"]) {
            resources["requests"][DISK] = json!(DISK_REQUEST);
        }
        if counts_disk(pod, &["limits"]) {
            resources["limits"][DISK] = json!(DISK_LIMIT);
        }
        resources
    }
}

/// Whether the pod would have the quality of service `Guaranteed` without us, which we must not take from it.
fn is_guaranteed(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.iter().flatten().filter(|container| !crate::is_ours(&container.name));
    spec.containers.iter().chain(init).all(has_equal_resources)
}

/// Whether every container of the application counts disk, in one of `places`: its requests or its limits.
///
/// Then a quota may ask the same of us, and the kubelet holds the pod to the sum of the limits, to which our share has to
/// be added. In any other pod a limit of ours would become the only one, and the application be evicted for using more.
fn counts_disk(pod: &Pod, places: &[&str]) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.all(|container| {
        container.resources.as_ref().is_some_and(|resources| {
            let named = [("requests", &resources.requests), ("limits", &resources.limits)];
            named.iter().any(|(place, amounts)| {
                places.contains(place) && amounts.as_ref().is_some_and(|amounts| amounts.contains_key(DISK))
            })
        })
    })
}

fn has_equal_resources(container: &Container) -> bool {
    let Some(ResourceRequirements { limits: Some(limits), requests, .. }) = &container.resources else {
        return false;
    };
    ["cpu", "memory"].iter().all(|kind| {
        let request = requests.as_ref().and_then(|requests| requests.get(*kind));
        // A missing request is taken from the limit.
        limits.get(*kind).is_some_and(|limit| request.is_none_or(|request| request == limit))
    })
}
