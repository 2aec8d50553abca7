//! Tells of workloads whose `SqliteReplica` is gone.
//!
//! Their label stays. Running pods keep their sidecar and go on being stored; new ones are refused, because there is nothing
//! to inject. Taking the label away would replace healthy pods by bare ones, and what those write is lost as soon as the
//! replica is applied again: by a GitOps tool that replaces objects, or by whoever mended a typing error. So a person
//! decides, and the event says how. Nothing ever hangs on an operator that is no longer there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
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

/// What a replica is for: its namespace, its name, and the workload it names.
type Protected = BTreeSet<(String, String, WorkloadKind, String)>;

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

/// Tells of every abandoned workload of a namespace, or of all. If the replicas cannot be listed, nothing is said of any.
async fn sweep(shared: &Shared, namespace: Option<&str>) -> Result<(), Error> {
    let protected = protected(shared, namespace).await?;
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
            for workload in page.items.iter().filter(|workload| is_ours(workload)) {
                if let Err(error) = tell(shared, kind, workload, &protected).await {
                    tracing::warn!("{}", error.chain());
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => query = query.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(())
}

async fn protected(shared: &Shared, namespace: Option<&str>) -> Result<Protected, Error> {
    let api: Api<SqliteReplica> = match namespace {
        Some(namespace) => Api::namespaced(shared.client.clone(), namespace),
        None => Api::all(shared.client.clone()),
    };
    let doing = "list every SqliteReplica".to_owned();
    let replicas = api.list(&ListParams::default()).await.map_err(Error::kube(doing))?;
    let entry = |replica: SqliteReplica| {
        let namespace = replica.namespace().to_owned();
        let workload = replica.spec.workload_ref.clone();
        (namespace, replica.name_any(), workload.kind, workload.name)
    };
    Ok(replicas.items.into_iter().map(entry).collect())
}

/// Whether we hold fields of the workload.
fn is_ours(workload: &PartialObjectMeta<DynamicObject>) -> bool {
    let is_apply = |operation: Option<&str>| operation == Some("Apply");
    workload.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(names::FIELD_MANAGER) && is_apply(entry.operation.as_deref())
    })
}

/// Tells of one workload if no replica is for it.
async fn tell(
    shared: &Shared,
    kind: WorkloadKind,
    found: &PartialObjectMeta<DynamicObject>,
    protected: &Protected,
) -> Result<(), Error> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let doing = || format!("look at {} {namespace}/{name}", kind.as_str());
    let api: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &namespace, &workloads::resource(kind));
    let Some(object) = api.get_opt(&name).await.map_err(Error::kube(doing()))? else { return Ok(()) };
    let object = serde_json::to_value(&object)
        .map_err(|error| Error::Encode { what: "a workload", why: error.to_string() })?;
    let workload = Workload::read(kind, &object);
    let Some(replica) = workload.pod["metadata"]["labels"][names::LABEL_REPLICA].as_str() else {
        return Ok(());
    };
    if protected.contains(&(namespace.clone(), replica.to_owned(), kind, name.clone())) {
        return Ok(());
    }
    tracing::warn!("{} {namespace}/{name}: SqliteReplica {replica} is gone", kind.as_str());
    let note = format!(
        "SqliteReplica {replica} is gone; running pods are still stored, new ones are refused. Apply it again, or let the \
         workload go by removing the label {} from its pod template",
        names::LABEL_REPLICA
    );
    let event = PlannedEvent {
        reason: EventReason::ReplicaGone,
        is_warning: true,
        cause: Reason::ReplicaNotFound.as_str().to_owned(),
        note,
        pod: None,
    };
    act::publish(shared, &act::reference(&namespace, kind, &name, &workload.uid), &event).await;
    Ok(())
}
