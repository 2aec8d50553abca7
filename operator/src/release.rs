//! Gives up workloads whose `SqliteReplica` is gone.
//!
//! A workload that kept our label would be refused every new pod, because there is nothing to inject. So the label goes:
//! at once when a replica is deleted, and every few minutes for what was missed while no operator ran. The workload then
//! rolls its pods without us. No finalizer is needed, so nothing ever hangs on an operator that is no longer there.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use lifeboat_api::{EventReason, Reason, SqliteReplica, WorkloadKind, names};
use lifeboat_plan::{PlannedEvent, Workload};
use tokio_util::sync::CancellationToken;

use crate::controller::Shared;
use crate::{Error, act, workloads};

/// How often every namespace is looked through.
const EVERY: Duration = Duration::from_secs(600);

/// Workloads listed in one request.
const PAGE: u32 = 500;

/// Looks for abandoned workloads until cancelled.
pub(crate) async fn run(shared: &Shared, cancelled: CancellationToken) {
    let replicas: Api<PartialObjectMeta<SqliteReplica>> = Api::all(shared.client.clone());
    let events = watcher(replicas, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        let namespace = tokio::select! {
            () = cancelled.cancelled() => return,
            _ = tick.tick() => None,
            event = events.next() => match event {
                Some(Ok(watcher::Event::Delete(gone))) => gone.namespace(),
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Init | watcher::Event::InitApply(_)
                    | watcher::Event::InitDone)) | None => continue,
                Some(Err(error)) => {
                    tracing::warn!("cannot watch for deleted replicas: {error}");
                    continue;
                }
            },
        };
        if let Err(error) = sweep(shared, namespace.as_deref()).await {
            tracing::warn!("{}", error.chain());
        }
    }
}

/// Gives up every abandoned workload of a namespace, or of all.
async fn sweep(shared: &Shared, namespace: Option<&str>) -> Result<(), Error> {
    for kind in workloads::CHANGEABLE {
        let resource = workloads::resource(kind);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(shared.client.clone(), namespace, &resource),
            None => Api::all_with(shared.client.clone(), &resource),
        };
        let mut query = ListParams::default().limit(PAGE);
        loop {
            let doing = format!("list every {}", kind.as_str());
            let page = api.list_metadata(&query).await.map_err(Error::kube(doing))?;
            let labelled = page.items.iter().filter(|workload| is_ours(workload));
            futures::stream::iter(labelled.map(Ok))
                .try_for_each(|workload| release(shared, kind, workload))
                .await?;
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => query = query.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(())
}

/// Whether we hold fields of the workload.
fn is_ours(workload: &PartialObjectMeta<DynamicObject>) -> bool {
    let is_apply = |operation: Option<&str>| operation == Some("Apply");
    workload.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(names::FIELD_MANAGER) && is_apply(entry.operation.as_deref())
    })
}

/// Gives up one workload if its replica is proved to be gone.
async fn release(
    shared: &Shared,
    kind: WorkloadKind,
    found: &PartialObjectMeta<DynamicObject>,
) -> Result<(), Error> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let doing = || format!("give up {} {namespace}/{name}", kind.as_str());
    let api: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &namespace, &workloads::resource(kind));
    let Some(object) = api.get_opt(&name).await.map_err(Error::kube(doing()))? else { return Ok(()) };
    let object = serde_json::to_value(&object)
        .map_err(|error| Error::Encode { what: "a workload", why: error.to_string() })?;
    let workload = Workload::read(kind, &object);
    let Some(replica) = workload.pod["metadata"]["labels"][names::LABEL_REPLICA].as_str() else {
        return Ok(());
    };
    let replicas: Api<SqliteReplica> = Api::namespaced(shared.client.clone(), &namespace);
    let present = replicas.get_opt(replica).await.map_err(Error::kube(doing()))?;
    let wants = |present: SqliteReplica| {
        present.spec.workload_ref.kind == kind && present.spec.workload_ref.name == workload.name
    };
    if present.is_some_and(wants) {
        return Ok(());
    }
    act::apply(shared, &namespace, kind, &name, &workload.uid, None).await.map_err(Error::kube(doing()))?;
    tracing::info!("gave up {} {namespace}/{name}: SqliteReplica {replica} is gone", kind.as_str());
    let note = format!(
        "SqliteReplica {replica} is gone; the pods of {} are no longer protected",
        workload.describe()
    );
    let event = PlannedEvent {
        reason: EventReason::InjectionRemoved,
        is_warning: true,
        cause: Reason::ReplicaNotFound.as_str().to_owned(),
        note,
        pod: None,
    };
    act::publish(shared, &act::reference(&namespace, kind, &name, &workload.uid), &event).await;
    Ok(())
}
