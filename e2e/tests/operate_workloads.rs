//! What the operator does to workloads: it labels fit ones, leaves unfit ones alone, and tells of abandoned ones.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams};
use lifeboat_api::names::{ANNOTATION_CONFIG_HASH, LABEL_REPLICA};
use lifeboat_api::{ConditionStatus, ConditionType, Reason, SqliteReplica};
use lifeboat_e2e::wait::SOON;
use lifeboat_e2e::{Namespace, in_namespace, pods, until};
use serde_json::{Value, json};

const WEB: &str = "web";

#[tokio::test]
async fn an_unfit_workload_is_left_alone_until_it_is_fit() -> Result<()> {
    in_namespace("unfit", async |namespace| {
        namespace.create::<Deployment>(deployment("RollingUpdate")).await?;
        namespace.create::<SqliteReplica>(replica(namespace)).await?;
        await_reason(namespace, Reason::RolloutOverlap).await?;
        ensure!(template_label(namespace).await?.is_none(), "a workload was labelled that would overlap");
        let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
        deployments(namespace).patch(WEB, &PatchParams::default(), &Patch::Merge(recreate)).await?;
        until(SOON, "the label", async || template_label(namespace).await?.context("no label yet")).await?;
        await_injected(namespace).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn new_settings_reach_the_pods() -> Result<()> {
    in_namespace("settings", async |namespace| {
        namespace.create::<Deployment>(deployment("Recreate")).await?;
        namespace.create::<SqliteReplica>(replica(namespace)).await?;
        let before = config_hash(&await_injected(namespace).await?)?;
        let slower = json!({"spec": {"replication": {"syncInterval": "2s"}}});
        namespace.replicas().patch(WEB, &PatchParams::default(), &Patch::Merge(slower)).await?;
        until(SOON, "a pod with the new settings", async || {
            let pod = await_injected(namespace).await?;
            ensure!(config_hash(&pod)? != before, "the pod has the old settings");
            let config = serde_json::to_string(&pod.spec)?;
            ensure!(
                config.contains(r#"\"sync-interval\": \"2s\""#),
                "the pod's configuration is the old one"
            );
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_workload_whose_replica_is_deleted_goes_on_until_a_person_lets_it_go() -> Result<()> {
    in_namespace("abandoned", async |namespace| {
        namespace.create::<Deployment>(deployment("Recreate")).await?;
        namespace.create::<SqliteReplica>(replica(namespace)).await?;
        let pod = await_injected(namespace).await?;
        namespace.replicas().delete(WEB, &Default::default()).await?;
        let events: Api<Event> = Api::namespaced(namespace.lab.client.clone(), &namespace.name);
        until(SOON, "an event that says what to do", async || {
            let told = events.list(&Default::default()).await?.items;
            let told = told.iter().find(|event| event.reason.as_deref() == Some("ReplicaGone"));
            ensure!(told.is_some_and(|event| {
                event.regarding.as_ref().is_some_and(|on| on.name.as_deref() == Some(WEB))
            }));
            Ok(())
        })
        .await?;
        let same = await_injected(namespace).await?;
        ensure!(same.metadata.uid == pod.metadata.uid, "a healthy pod was replaced");
        ensure!(template_label(namespace).await?.is_some(), "the label was taken away");
        let patch =
            json!([{ "op": "remove", "path": "/spec/template/metadata/labels/lifeboat.dev~1replica" }]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        deployments(namespace).patch(WEB, &Default::default(), &patch).await?;
        until(SOON, "a pod without Lifeboat", async || {
            let pods = namespace.pods().list(&Default::default()).await?.items;
            let mut live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            ensure!(live.any(|pod| !pods::is_injected(pod)), "there is no pod without Lifeboat yet");
            Ok(())
        })
        .await
    })
    .await
}

fn deployments(namespace: &Namespace) -> Api<Deployment> {
    Api::namespaced(namespace.lab.client.clone(), &namespace.name)
}

async fn template_label(namespace: &Namespace) -> Result<Option<String>> {
    let template = deployments(namespace).get(WEB).await?.spec.context("no spec")?.template;
    let labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    Ok(labels.get(LABEL_REPLICA).cloned())
}

async fn await_reason(namespace: &Namespace, reason: Reason) -> Result<()> {
    until(SOON, &format!("the reason {reason}"), async || {
        let status = namespace.replicas().get(WEB).await?.status.context("no status yet")?;
        let injected = status.condition(ConditionType::Injected).context("no condition yet")?;
        ensure!(injected.status == ConditionStatus::False, "Injected is {:?}", injected.status);
        ensure!(
            injected.reason == reason.as_str(),
            "Injected says {}: {}",
            injected.reason,
            injected.message
        );
        Ok(())
    })
    .await
}

/// The one live pod, once it carries our containers.
async fn await_injected(namespace: &Namespace) -> Result<Pod> {
    until(SOON, "an injected pod", async || {
        let pods = namespace.pods().list(&Default::default()).await?.items;
        let mut live = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let pod = live.next().context("there is no pod")?;
        ensure!(pods::is_injected(&pod), "the pod is not injected yet");
        Ok(pod)
    })
    .await
}

fn config_hash(pod: &Pod) -> Result<String> {
    let annotations = pod.metadata.annotations.as_ref().context("no annotations")?;
    annotations.get(ANNOTATION_CONFIG_HASH).cloned().context("no fingerprint")
}

fn deployment(strategy: &str) -> Value {
    json!({
        "metadata": {"name": WEB},
        "spec": {
            "replicas": 1,
            "strategy": {"type": strategy},
            "selector": {"matchLabels": {"app": WEB}},
            "template": {
                "metadata": {"labels": {"app": WEB}},
                "spec": {
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app",
                        "image": "lab.local/app:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}

fn replica(namespace: &Namespace) -> Value {
    let bucket = &namespace.lab.bucket;
    json!({
        "metadata": {"name": WEB},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": WEB},
            "databases": [{"name": "main", "path": "/data/app.db"}],
            "store": {"s3": {
                "bucket": bucket.name, "endpoint": bucket.endpoint, "allowInsecureEndpoint": true,
                "auth": {"secretRef": {"name": lifeboat_e2e::namespace::SECRET}},
            }},
        },
    })
}
