//! Reads everything that one decision needs.

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams};
use lifeboat_api::{SqliteReplica, names};
use lifeboat_plan::{Observed, Report, Workload};

use crate::controller::Shared;
use crate::{Error, workloads};

/// Most pods of one workload that are looked at. A protected workload has one, and few more during a rollout.
const PODS_MAX: u32 = 100;

/// Sidecars asked at the same time, for one replica.
const SCRAPES_IN_FLIGHT: usize = 8;

/// Observes the workload of `replica`, its pods and their sidecars.
pub(crate) async fn observe(shared: &Shared, replica: &SqliteReplica) -> Result<Observed, Error> {
    let workload = workload(shared, replica).await?;
    let pods = pods(shared, replica, workload.as_ref()).await?;
    let reports = stream::iter(pods.iter().filter_map(address))
        .map(|(name, ip)| async move { (name, shared.scraper.status(&ip).await) })
        .buffer_unordered(SCRAPES_IN_FLIGHT)
        .collect::<Vec<(String, Report)>>()
        .await;
    Ok(Observed { workload, pods, reports: reports.into_iter().collect(), apply_failure: None })
}

async fn workload(shared: &Shared, replica: &SqliteReplica) -> Result<Option<Workload>, Error> {
    let wanted = &replica.spec.workload_ref;
    let resource = workloads::resource(wanted.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), replica.namespace(), &resource);
    let doing = || format!("read {} {}/{}", wanted.kind.as_str(), replica.namespace(), wanted.name);
    let Some(object) = api.get_opt(&wanted.name).await.map_err(Error::kube(doing()))? else {
        return Ok(None);
    };
    let object = serde_json::to_value(&object)
        .map_err(|error| Error::Encode { what: "a workload", why: error.to_string() })?;
    Ok(Some(Workload::read(wanted.kind, &object)))
}

/// The pods that the workload selects; for kinds that select none, those that carry our label.
async fn pods(
    shared: &Shared,
    replica: &SqliteReplica,
    workload: Option<&Workload>,
) -> Result<Vec<Pod>, Error> {
    let by_label = || format!("{}={}", names::LABEL_REPLICA, replica.name());
    let selector = workload.and_then(|workload| workload.selector.clone()).unwrap_or_else(by_label);
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), replica.namespace());
    let query = ListParams::default().labels(&selector).limit(PODS_MAX);
    let doing = format!("list the pods of SqliteReplica {}/{}", replica.namespace(), replica.name());
    Ok(api.list(&query).await.map_err(Error::kube(doing))?.items)
}

/// Name and address of a pod whose sidecar runs.
fn address(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let sidecar =
        status.init_container_statuses.as_ref()?.iter().find(|one| one.name == names::CONTAINER_REPLICATE)?;
    sidecar.state.as_ref()?.running.as_ref()?;
    Some((pod.metadata.name.clone()?, status.pod_ip.clone()?))
}
