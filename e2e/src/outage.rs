//! Something is taken away for the time of a test, and put back whatever the test finds.

use std::fmt::Debug;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::lab::{Lab, OPERATOR_NAMESPACE};
use crate::wait::{SOON, until};

/// The label that Helm's charts put on everything of ours.
const OURS: &str = "app.kubernetes.io/name=lifeboat-operator";

/// Runs a test while the bucket's server is stopped.
///
/// # Errors
/// The test's own, or that the server does not stop or start.
pub async fn without_bucket(lab: &Lab, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    lab.process("stop", "s3").await?;
    let result = test().await;
    let back = start_bucket(lab).await;
    both(result, back)
}

async fn start_bucket(lab: &Lab) -> Result<()> {
    lab.process("start", "s3").await?;
    until(SOON, "the bucket", async || lab.bucket.list("none/").await.map(drop)).await
}

/// Runs a test while the operator has no pod.
///
/// # Errors
/// The test's own, or that the operator does not go or come back.
pub async fn without_operator(lab: &Lab, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    let operator = only_one(deployments.list(&ListParams::default().labels(OURS)).await?.items)?;
    let name = operator.name_any();
    let replicas = operator.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    scale_operator(&deployments, &name, 0).await?;
    let gone = await_no_pod(lab).await;
    let result = if gone.is_ok() { test().await } else { gone };
    let back = scale_operator(&deployments, &name, replicas).await;
    both(result, back)
}

/// An ending pod goes on answering for some seconds, and the Deployment does not count it any more.
async fn await_no_pod(lab: &Lab) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    until(SOON, "the end of the operator's pods", async || {
        let left = pods.list(&ListParams::default().labels(OURS)).await?.items.len();
        ensure!(left == 0, "{left} of them are still there");
        Ok(())
    })
    .await
}

async fn scale_operator(deployments: &Api<Deployment>, name: &str, replicas: i32) -> Result<()> {
    let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch(name, &PatchParams::default(), &scale).await?;
    until(SOON, "the operator", async || {
        let seen = deployments.get(name).await?;
        let status = seen.status.context("the operator's Deployment has no status")?;
        ensure!(status.observed_generation == seen.metadata.generation, "the change is not seen yet");
        let (all, ready) = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
        ensure!(all == replicas && ready == replicas, "{all} pods, {ready} of them ready, {replicas} wanted");
        Ok(())
    })
    .await
}

/// Runs a test while the API server does not know of our webhook, as after a careless `kubectl delete`.
///
/// # Errors
/// The test's own, or that the configuration cannot be put back.
pub async fn without_webhook(lab: &Lab, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(lab.client.clone());
    let mut saved = only_one(webhooks.list(&ListParams::default().labels(OURS)).await?.items)?;
    webhooks.delete(&saved.name_any(), &DeleteParams::default()).await?;
    let result = test().await;
    saved.metadata.resource_version = None;
    saved.metadata.uid = None;
    let back =
        webhooks.create(&PostParams::default(), &saved).await.map(drop).context("put the webhook back");
    both(result, back)
}

fn only_one<K: Debug>(mut found: Vec<K>) -> Result<K> {
    ensure!(found.len() == 1, "expected one with the label {OURS}, found {}", found.len());
    found.pop().context("none found")
}

/// The test's own trouble comes first; that something could not be put back is said with it.
fn both(result: Result<()>, back: Result<()>) -> Result<()> {
    match (result, back) {
        (Err(own), Err(back)) => Err(own.context(format!("and afterwards: {back:#}"))),
        (result, back) => result.and(back),
    }
}
