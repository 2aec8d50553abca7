//! Does what a plan says: changes a pod template, writes a status, emits events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use lifeboat_api::{Reason, SqliteReplica, SqliteReplicaStatus, WorkloadKind, names};
use lifeboat_plan::{ApplyFailure, PlannedEvent, TemplateChange};
use serde_json::{Value, json};

use crate::controller::Shared;
use crate::error::{is_gone, words};
use crate::{Error, workloads};

/// What became of a change of a pod template.
#[derive(Debug, PartialEq)]
pub(crate) enum Labelled {
    /// It is done.
    Done,
    /// The API server refuses it for a reason that users must see.
    Refused(ApplyFailure),
    /// The replica is not what the decision was made for any more; nothing was changed.
    Outdated,
}

/// Applies a change of a pod template.
///
/// A watch may lag behind by any time, and a change restarts the application. So the replica is read once more: a label
/// for one that is gone would keep the workload from getting pods.
pub(crate) async fn label(
    shared: &Shared,
    replica: &SqliteReplica,
    change: &TemplateChange,
) -> Result<Labelled, Error> {
    let replicas: Api<SqliteReplica> = Api::namespaced(shared.client.clone(), replica.namespace());
    let doing = format!("read SqliteReplica {}/{}", replica.namespace(), replica.name());
    let live = replicas.get_opt(replica.name()).await.map_err(Error::kube(doing))?;
    if !live.is_some_and(|live| is_same(replica, &live)) {
        return Ok(Labelled::Outdated);
    }
    let workload = &replica.spec.workload_ref;
    let metadata = json!({
        "labels": { names::LABEL_REPLICA: change.replica },
        "annotations": { names::ANNOTATION_CONFIG_HASH: change.config_hash },
    });
    let template = json!({ "metadata": metadata });
    let applied =
        apply(shared, replica.namespace(), workload.kind, &workload.name, &change.uid, template).await;
    match applied {
        Ok(()) => Ok(Labelled::Done),
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
            let reason = if status.code == 409 { Reason::FieldConflict } else { Reason::ApplyFailed };
            Ok(Labelled::Refused(ApplyFailure { reason, message: status.message }))
        }
        Err(error) => {
            let doing = format!("label {} {}/{}", workload.kind.as_str(), replica.namespace(), workload.name);
            Err(Error::kube(doing)(error))
        }
    }
}

/// Whether the live replica is the one that was decided about, with the same wishes, and is to stay.
fn is_same(decided: &SqliteReplica, live: &SqliteReplica) -> bool {
    let (decided, live) = (&decided.metadata, &live.metadata);
    live.uid == decided.uid && live.generation == decided.generation && live.deletion_timestamp.is_none()
}

/// Server-side-applies our fields of a pod template; `None` gives all of them up.
///
/// Never by force: a field that somebody else holds with another value is theirs. The UID keeps the request from
/// creating a workload that was deleted meanwhile.
pub(crate) async fn apply(
    shared: &Shared,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
    uid: &str,
    template: Value,
) -> Result<(), kube::Error> {
    let resource = workloads::resource(kind);
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": name, "namespace": namespace, "uid": uid },
    });
    object["spec"] = match kind {
        WorkloadKind::CronJob => json!({ "jobTemplate": { "spec": { "template": template } } }),
        WorkloadKind::Deployment
        | WorkloadKind::StatefulSet
        | WorkloadKind::ReplicaSet
        | WorkloadKind::Job => {
            json!({ "template": template })
        }
    };
    let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), namespace, &resource);
    api.patch(name, &PatchParams::apply(names::FIELD_MANAGER), &Patch::Apply(&object)).await.map(|_| ())
}

/// Writes a status, whole, so that what is no longer true disappears from it.
pub(crate) async fn write_status(
    shared: &Shared,
    replica: &SqliteReplica,
    status: &SqliteReplicaStatus,
) -> Result<(), Error> {
    let object = json!({
        "apiVersion": SqliteReplica::api_version(&()),
        "kind": SqliteReplica::kind(&()),
        "metadata": { "name": replica.name(), "uid": replica.metadata.uid },
        "status": status,
    });
    let api: Api<SqliteReplica> = Api::namespaced(shared.client.clone(), replica.namespace());
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let doing = format!("write the status of SqliteReplica {}/{}", replica.namespace(), replica.name());
    match api.patch_status(replica.name(), &params, &Patch::Apply(&object)).await {
        Ok(_) => Ok(()),
        // It was deleted while we looked at it.
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(Error::kube(doing)(error)),
    }
}

/// Emits an event on the replica and on its workload. A lost event is no reason to stop.
pub(crate) async fn emit(
    shared: &Shared,
    replica: &SqliteReplica,
    workload_uid: Option<&str>,
    planned: &PlannedEvent,
) {
    publish(shared, &replica.object_ref(&()), planned).await;
    if let Some(uid) = workload_uid {
        let workload = &replica.spec.workload_ref;
        publish(shared, &reference(replica.namespace(), workload.kind, &workload.name, uid), planned).await;
    }
}

/// Points at a workload.
pub(crate) fn reference(namespace: &str, kind: WorkloadKind, name: &str, uid: &str) -> ObjectReference {
    let resource = workloads::resource(kind);
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Emits an event about one object.
pub(crate) async fn publish(shared: &Shared, about: &ObjectReference, planned: &PlannedEvent) {
    let event = Event {
        type_: if planned.is_warning { EventType::Warning } else { EventType::Normal },
        reason: planned.reason.as_str().to_owned(),
        note: Some(planned.note.chars().take(NOTE_CHARS_MAX).collect()),
        action: planned.cause.clone(),
        secondary: planned.pod.as_ref().map(|(name, uid)| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: about.namespace.clone(),
            name: Some(name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
    };
    match shared.recorder.publish(&event, about).await {
        Ok(()) => {}
        Err(error) if is_gone(&error) => {}
        Err(error) => {
            let name = about.name.as_deref().unwrap_or_default();
            tracing::warn!("cannot write event {} about {name}: {}", planned.reason, words(&error));
        }
    }
}

/// The API server takes notes of up to 1 KiB.
const NOTE_CHARS_MAX: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Answers, replica, shared};

    async fn label_while_live(live: Option<Value>) -> (Labelled, Vec<String>) {
        let answers = Answers::new(live);
        let shared = shared(answers.serve().await);
        let change = TemplateChange { uid: "u".into(), replica: "shop".into(), config_hash: "0".into() };
        let decided = serde_json::from_value(replica()).unwrap();
        let labelled = label(&shared, &decided, &change).await.unwrap();
        (labelled, answers.requests())
    }

    const READ: &str = "GET /apis/lifeboat.dev/v1alpha1/namespaces/prod/sqlitereplicas/shop";
    const CHANGE: &str = "PATCH /apis/apps/v1/namespaces/prod/statefulsets/shop";

    #[tokio::test]
    async fn a_template_is_labelled_for_a_replica_that_is_still_the_same() {
        let (labelled, requests) = label_while_live(Some(replica())).await;
        assert_eq!((labelled, requests), (Labelled::Done, vec![READ.to_owned(), CHANGE.to_owned()]));
    }

    #[tokio::test]
    async fn no_template_is_touched_for_a_replica_that_is_gone_going_new_or_changed() {
        let changed = |key: &str, value: Value| {
            let mut live = replica();
            live["metadata"][key] = value;
            Some(live)
        };
        let outdated = [
            None,
            changed("uid", json!("another")),
            changed("generation", json!(4)),
            changed("deletionTimestamp", json!("2026-11-23T12:00:00Z")),
        ];
        for live in outdated {
            let (labelled, requests) = label_while_live(live.clone()).await;
            assert_eq!((labelled, requests), (Labelled::Outdated, vec![READ.to_owned()]), "{live:?}");
        }
    }
}
