//! Reads a workload and decides whether its pod template may carry our label.
//!
//! A workload is labelled only when the very function that the webhook runs says that its pods can be protected, and
//! when it cannot run two of them at once. So enabling protection never takes an application down.

use lifeboat_api::{Reason, SqliteReplica, WorkloadKind, names};
use lifeboat_inject::{Defaults, Refusal, Subject, inject};
use serde_json::{Value, json};

use crate::{Observed, observed};

/// The parts of a workload that matter here.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Its UID, which keeps a change from reaching a namesake that was created meanwhile.
    pub uid: String,
    /// How many pods it wants at once.
    pub replicas: i64,
    /// Why it may run an old and a new pod side by side; `None` if it does not.
    pub overlap: Option<String>,
    /// The pod it would create, as a raw document.
    pub pod: Value,
    /// The label selector of its pods as a query; `None` for kinds whose pods are found by owner.
    pub selector: Option<String>,
}

/// The change that puts our label and annotation on a pod template, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChange {
    /// UID of the workload that the decision is about.
    pub uid: String,
    /// Value of the label.
    pub replica: String,
    /// Value of the annotation.
    pub config_hash: String,
}

/// Whether a workload can be protected, and what is missing.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) notices: Vec<String>,
    pub(crate) change: Option<TemplateChange>,
    /// The label is missing and only the author of the workload can set it.
    pub(crate) needs_author: bool,
}

impl Workload {
    /// Reads a workload as the API server sent it.
    #[must_use]
    pub fn read(kind: WorkloadKind, object: &Value) -> Self {
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let template = match kind {
            WorkloadKind::CronJob => &spec["jobTemplate"]["spec"]["template"],
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::ReplicaSet
            | WorkloadKind::Job => &spec["template"],
        };
        let replicas = match kind {
            WorkloadKind::CronJob => &spec["jobTemplate"]["spec"]["parallelism"],
            WorkloadKind::Job => &spec["parallelism"],
            WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::ReplicaSet => {
                &spec["replicas"]
            }
        };
        Self {
            kind,
            name: text(&object["metadata"]["name"]),
            uid: text(&object["metadata"]["uid"]),
            replicas: replicas.as_i64().unwrap_or(1),
            overlap: overlap(kind, spec),
            pod: pod(template, &spec["volumeClaimTemplates"]),
            selector: selector(&spec["selector"]["matchLabels"]),
        }
    }

    fn label(&self) -> Option<&str> {
        self.pod["metadata"]["labels"][names::LABEL_REPLICA].as_str()
    }

    fn config_hash(&self) -> Option<&str> {
        self.pod["metadata"]["annotations"][names::ANNOTATION_CONFIG_HASH].as_str()
    }

    /// Kind and name, for sentences.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }
}

/// Whether the workload can be protected as it is, and what is to be done for it.
pub(crate) fn check(replica: &SqliteReplica, observed: &Observed, defaults: &Defaults) -> Check {
    let Some(workload) = &observed.workload else { return Check::default() };
    let mut check = Check { refusals: guard(workload, replica), ..Check::default() };
    match inject(Subject::Template(&workload.pod), replica, defaults) {
        Ok(injection) => check.notices = injection.notices,
        Err(refusals) => check.refusals.extend(refusals),
    }
    if !check.refusals.is_empty() || is_current(workload, replica, observed) {
        return check;
    }
    if workload.kind == WorkloadKind::Job {
        check.needs_author = workload.label().is_none();
        return check;
    }
    check.change = Some(TemplateChange {
        uid: workload.uid.clone(),
        replica: replica.name().to_owned(),
        config_hash: replica.config_hash(),
    });
    check
}

/// Whether the pod template is as it should be.
///
/// An author may write the label into the manifest, so that not even the first pod starts unprotected. Then our
/// annotation is not needed until the settings change: the webhook gave the pods their settings, and adding it would only
/// restart them.
fn is_current(workload: &Workload, replica: &SqliteReplica, observed: &Observed) -> bool {
    let wanted = replica.config_hash();
    let has_settings = match workload.config_hash() {
        Some(hash) => hash == wanted,
        None => observed
            .live_pods()
            .filter(|pod| observed::is_labelled(pod, replica))
            .filter_map(observed::config_hash)
            .all(|hash| hash == wanted),
    };
    workload.label() == Some(replica.name()) && has_settings
}

/// What no protected workload may do, whatever its pods look like.
fn guard(workload: &Workload, replica: &SqliteReplica) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if workload.replicas > 1 {
        refusals.push(refusal(
            Reason::TooManyReplicas,
            format!(
                "{} runs {} pods, but a database has one writer; set it to 1",
                workload.describe(),
                workload.replicas
            ),
        ));
    }
    if let Some(overlap) = &workload.overlap {
        refusals.push(refusal(Reason::RolloutOverlap, format!("{}: {overlap}", workload.describe())));
    }
    if let Some(other) = workload.label().filter(|label| *label != replica.name()) {
        refusals.push(refusal(
            Reason::FieldConflict,
            format!(
                "{} is already protected by SqliteReplica {other}; list its databases there, or delete that one first",
                workload.describe()
            ),
        ));
    }
    refusals
}

fn refusal(reason: Reason, message: String) -> Refusal {
    Refusal { reason, message }
}

/// Why a workload would start a pod before its predecessor has ended.
fn overlap(kind: WorkloadKind, spec: &Value) -> Option<String> {
    match kind {
        WorkloadKind::Deployment => {
            let strategy = &spec["strategy"];
            let surge = &strategy["rollingUpdate"]["maxSurge"];
            let is_rolling = strategy["type"].as_str().unwrap_or("RollingUpdate") == "RollingUpdate";
            let has_surge = *surge != json!(0) && *surge != json!("0%");
            (is_rolling && has_surge).then(|| {
                "its rollouts start the new pod before the old one has ended; set strategy.type: Recreate, or \
                 strategy.rollingUpdate.maxSurge: 0"
                    .to_owned()
            })
        }
        WorkloadKind::CronJob => {
            (spec["concurrencyPolicy"].as_str().unwrap_or("Allow") == "Allow").then(|| {
                "a run may start while the last one still works; set concurrencyPolicy: Forbid".to_owned()
            })
        }
        // These never replace a running pod by themselves.
        WorkloadKind::StatefulSet | WorkloadKind::ReplicaSet | WorkloadKind::Job => None,
    }
}

/// The pod that a template stands for. A StatefulSet adds the volumes of its claims only when it makes the pod.
fn pod(template: &Value, claims: &Value) -> Value {
    let mut pod = json!({ "metadata": template["metadata"], "spec": template["spec"] });
    let names =
        claims.as_array().into_iter().flatten().filter_map(|claim| claim["metadata"]["name"].as_str());
    let claimed: Vec<Value> =
        names.map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } })).collect();
    if claimed.is_empty() {
        return pod;
    }
    if let Some(spec) = pod["spec"].as_object_mut() {
        let mut volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.retain(|volume| claimed.iter().all(|claim| claim["name"] != volume["name"]));
        volumes.extend(claimed);
        spec.insert("volumes".to_owned(), Value::Array(volumes));
    }
    pod
}

fn selector(labels: &Value) -> Option<String> {
    let labels = labels.as_object().filter(|labels| !labels.is_empty())?;
    let pairs: Vec<_> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    Some(pairs.join(","))
}
