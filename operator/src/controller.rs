//! Reconciles every `SqliteReplica`: observe, decide, act.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use lifeboat_api::{EventReason, SqliteReplica, WorkloadKind, names};
use lifeboat_inject::Defaults;
use lifeboat_plan::{Observed, PlannedEvent, decide};
use tokio_util::sync::CancellationToken;

use crate::act::Labelled;
use crate::run::{ROUND_MAX, in_time};
use crate::scrape::Scraper;
use crate::{Error, act, observe};

/// When a reconciliation that failed is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// When a replica is looked at again that changed while it was decided about, should the watch not be faster.
const AFTER_OUTDATED: Duration = Duration::from_secs(5);

/// Replicas reconciled at the same time.
const CONCURRENCY: u16 = 16;

/// What every reconciliation needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) scraper: Scraper,
    pub(crate) defaults: Defaults,
}

/// Runs the controller until cancelled.
pub(crate) async fn run(shared: Arc<Shared>, cancelled: CancellationToken) {
    let client = &shared.client;
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<SqliteReplica>::all(client.clone()), config())
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY));
    let replicas = controller.store();
    let labelled = config().labels(names::LABEL_REPLICA);
    let api = || client.clone();
    let users = |kind| (replicas.clone(), kind);
    controller
        .watches(Api::<PartialObjectMeta<Pod>>::all(api()), labelled, replica_of)
        .watches(
            Api::<PartialObjectMeta<Deployment>>::all(api()),
            config(),
            users_of(users(WorkloadKind::Deployment)),
        )
        .watches(
            Api::<PartialObjectMeta<StatefulSet>>::all(api()),
            config(),
            users_of(users(WorkloadKind::StatefulSet)),
        )
        .watches(
            Api::<PartialObjectMeta<ReplicaSet>>::all(api()),
            config(),
            users_of(users(WorkloadKind::ReplicaSet)),
        )
        .watches(
            Api::<PartialObjectMeta<CronJob>>::all(api()),
            config(),
            users_of(users(WorkloadKind::CronJob)),
        )
        .watches(Api::<PartialObjectMeta<Job>>::all(api()), config(), users_of(users(WorkloadKind::Job)))
        .graceful_shutdown_on(cancelled.cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(AFTER_ERROR), shared)
        .for_each(|result| {
            if let Err(error) = result {
                report(&error);
            }
            std::future::ready(())
        })
        .await;
}

/// The replica that a labelled pod belongs to.
fn replica_of(pod: PartialObjectMeta<Pod>) -> Option<ObjectRef<SqliteReplica>> {
    let name = pod.labels().get(names::LABEL_REPLICA)?.clone();
    Some(ObjectRef::new(&name).within(&pod.namespace()?))
}

/// Maps a workload of one kind to the replicas that name it.
fn users_of<K>(
    (replicas, kind): (Store<SqliteReplica>, WorkloadKind),
) -> impl Fn(PartialObjectMeta<K>) -> Vec<ObjectRef<SqliteReplica>> {
    move |workload| {
        let (name, namespace) = (workload.metadata.name.as_deref(), workload.metadata.namespace.as_deref());
        let names_it = |replica: &Arc<SqliteReplica>| {
            let wanted = &replica.spec.workload_ref;
            wanted.kind == kind
                && Some(wanted.name.as_str()) == name
                && replica.metadata.namespace.as_deref() == namespace
        };
        replicas
            .state()
            .iter()
            .filter(|replica| names_it(replica))
            .map(|r| ObjectRef::from_obj(r.as_ref()))
            .collect()
    }
}

fn report<Q: std::error::Error>(error: &kube::runtime::controller::Error<Error, Q>) {
    use kube::runtime::controller::Error as Failure;
    match error {
        Failure::ReconcilerFailed(error, object) => {
            tracing::warn!("SqliteReplica {}: {}", object.name, error.chain());
        }
        // The replica was deleted while it waited in the queue.
        Failure::ObjectNotFound(_) => {}
        Failure::QueueError(error) => tracing::warn!("cannot watch: {error}"),
        Failure::RunnerError(error) => tracing::warn!("the controller stumbled: {error}"),
    }
}

async fn reconcile(replica: Arc<SqliteReplica>, shared: Arc<Shared>) -> Result<Action, Error> {
    reconcile_within(ROUND_MAX, &replica, &shared).await
}

async fn reconcile_within(
    deadline: Duration,
    replica: &SqliteReplica,
    shared: &Shared,
) -> Result<Action, Error> {
    let doing = || format!("reconcile SqliteReplica {}/{}", replica.namespace(), replica.name());
    in_time(deadline, doing, round(replica, shared)).await
}

async fn round(replica: &SqliteReplica, shared: &Shared) -> Result<Action, Error> {
    let mut observed = observe::observe(shared, replica).await?;
    let mut plan = decide(replica, &observed, &shared.defaults, Timestamp::now());
    if let Some(change) = &plan.apply {
        match act::label(shared, replica, change).await? {
            Labelled::Done => act::emit(shared, replica, uid(&observed), &enabled(replica)).await,
            Labelled::Refused(failure) => {
                observed.apply_failure = Some(failure);
                plan = decide(replica, &observed, &shared.defaults, Timestamp::now());
            }
            // The watch will bring the new state; nothing that was decided about the old one is worth telling.
            Labelled::Outdated => return Ok(Action::requeue(AFTER_OUTDATED)),
        }
    }
    if let Some(status) = &plan.status {
        act::write_status(shared, replica, status).await?;
        for event in &plan.events {
            act::emit(shared, replica, uid(&observed), event).await;
        }
    }
    Ok(Action::requeue(plan.requeue))
}

fn uid(observed: &Observed) -> Option<&str> {
    observed.workload.as_ref().map(|workload| workload.uid.as_str())
}

fn enabled(replica: &SqliteReplica) -> PlannedEvent {
    let workload = &replica.spec.workload_ref;
    PlannedEvent {
        reason: EventReason::InjectionEnabled,
        is_warning: false,
        cause: "TemplateLabelled".to_owned(),
        pod: None,
        note: format!(
            "labelled the pod template of {} {}; its new pods are protected",
            workload.kind.as_str(),
            workload.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{replica, shared, silent};

    #[tokio::test]
    async fn a_reconciliation_that_gets_no_answer_ends_as_an_error() {
        let shared = shared(silent().await);
        let replica = serde_json::from_value(replica()).unwrap();
        let round = reconcile_within(Duration::from_millis(50), &replica, &shared);
        let error = tokio::time::timeout(Duration::from_secs(10), round).await.unwrap().unwrap_err();
        assert!(
            error.chain().starts_with("cannot reconcile SqliteReplica prod/shop within 50ms"),
            "{error:?}"
        );
    }
}
