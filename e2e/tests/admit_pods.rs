//! What becomes of a pod at the door: it is injected, or it is refused; never is it let in bare.

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use lifeboat_api::Reason;
use lifeboat_api::names::{
    ANNOTATION_CONFIG_HASH, ANNOTATION_INJECTED_BY, CONTAINER_REPLICATE, CONTAINER_RESTORE, FIELD_MANAGER,
    LABEL_REPLICA,
};
use lifeboat_e2e::app::{Labelled, NAME, POD};
use lifeboat_e2e::outage::without_webhook;
use lifeboat_e2e::wait::SOON;
use lifeboat_e2e::{App, Namespace, in_namespace, pods, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pod_gets_a_restore_step_and_a_sidecar_and_its_own_containers_stay_as_they_are() -> Result<()> {
    in_namespace("inject", async |namespace| {
        let app = App::start(namespace).await?;
        let pod = app.pod().await?;
        let names: Vec<_> =
            pods::init_containers(&pod).iter().map(|container| container.name.as_str()).collect();
        ensure!(names == [CONTAINER_RESTORE, CONTAINER_REPLICATE], "init containers are {names:?}");
        for container in pods::init_containers(&pod) {
            check_security(container)?;
            check_no_token(&pod, container)?;
        }
        check_sidecar(pods::init_containers(&pod)[1])?;
        check_grace(&pod)?;
        for annotation in [ANNOTATION_CONFIG_HASH, ANNOTATION_INJECTED_BY] {
            ensure!(pod.annotations().contains_key(annotation), "the annotation {annotation} is missing");
        }
        check_app_is_untouched(namespace, &pod).await
    })
    .await
}

#[tokio::test]
async fn the_operator_writes_one_label_and_one_annotation_into_a_workload_and_nothing_else() -> Result<()> {
    in_namespace("label", async |namespace| {
        let app = App::create(namespace, Labelled::ByTheOperator).await?;
        app.await_protected().await?;
        let set = namespace.stateful_sets().get(NAME).await?;
        let entries = set.metadata.managed_fields.unwrap_or_default();
        let ours: Vec<_> =
            entries.iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)).collect();
        ensure!(ours.len() == 1, "{} entries of managed fields are ours", ours.len());
        let fields = serde_json::to_value(&ours[0].fields_v1)?;
        let mut leaves = Vec::new();
        collect_leaves(&fields, "", &mut leaves);
        let template = "/f:spec/f:template/f:metadata";
        let expected = [
            format!("{template}/f:annotations/f:{ANNOTATION_CONFIG_HASH}"),
            format!("{template}/f:labels/f:{LABEL_REPLICA}"),
        ];
        ensure!(leaves == expected, "the operator owns {leaves:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_nobody_has_injected_is_refused_by_the_admission_policy() -> Result<()> {
    in_namespace("bare", async |namespace| {
        App::start(namespace).await?;
        without_webhook(&namespace.lab, async || {
            // The API server needs a moment to forget a webhook; until then that refuses a pod without a workload.
            let refused = until(SOON, "a refusal", async || {
                match namespace.create::<Pod>(labelled_pod("bare-")).await {
                    Err(refusal) => {
                        let words = format!("{refusal:#}");
                        ensure!(!words.contains(Reason::WorkloadMismatch.as_str()), "the webhook was asked");
                        Ok(Ok(words))
                    }
                    Ok(_) => Ok(Err(anyhow!("a bare pod was let in"))),
                }
            });
            let words = refused.await??;
            ensure!(words.contains("lifeboat-injected"), "refused, but not by the policy: {words}");
            ensure!(words.contains("docs/errors.md"), "the refusal does not say where to read on: {words}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_labelled_pod_without_a_replica_is_refused_with_an_instruction() -> Result<()> {
    in_namespace("orphan", async |namespace| {
        let refusal = namespace.create::<Pod>(labelled_pod("orphan-")).await;
        let words = format!("{:#}", refusal.err().context("a pod without a SqliteReplica was let in")?);
        ensure!(
            words.contains(NAME) && words.contains("SqliteReplica"),
            "the refusal does not name what is missing: {words}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_of_another_workload_never_gets_the_replica_that_its_label_names() -> Result<()> {
    in_namespace("copied", async |namespace| {
        App::start(namespace).await?;
        let alone = labelled_pod("alone-");
        let mut copy = labelled_pod("copy-");
        copy["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "copy", "uid": "u-copy", "controller": true},
        ]);
        for (pod, whose) in [(alone, "no workload"), (copy, "StatefulSet copy")] {
            let refusal = namespace.create::<Pod>(pod).await;
            let words = format!("{:#}", refusal.err().with_context(|| format!("a pod of {whose} was let in"))?);
            for word in [Reason::WorkloadMismatch.as_str(), &format!("protects StatefulSet {NAME}"), whose] {
                ensure!(words.contains(word), "the refusal does not say {word}: {words}");
            }
        }
        Ok(())
    })
    .await
}

/// What the restricted Pod Security Standard asks for, and more.
fn check_security(container: &Container) -> Result<()> {
    let found = serde_json::to_value(&container.security_context)?;
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": 10001,
        "runAsNonRoot": true,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    ensure!(found == expected, "{} runs with {found:#}", container.name);
    let resources =
        container.resources.as_ref().with_context(|| format!("{} has no resources", container.name))?;
    ensure!(resources.limits.is_some() && resources.requests.is_some(), "{} has no limits", container.name);
    Ok(())
}

/// The application's token is covered by an empty volume.
fn check_no_token(pod: &Pod, container: &Container) -> Result<()> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let token =
        mounts.iter().find(|mount| mount.mount_path == "/var/run/secrets/kubernetes.io/serviceaccount");
    let token = token.with_context(|| format!("{} would get the application's token", container.name))?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volume =
        volumes.into_iter().find(|volume| volume.name == token.name).context("the volume is missing")?;
    ensure!(volume.empty_dir.is_some(), "{} gets a token from {}", container.name, volume.name);
    Ok(())
}

fn check_sidecar(sidecar: &Container) -> Result<()> {
    ensure!(sidecar.restart_policy.as_deref() == Some("Always"), "the sidecar is not a native one");
    let found = serde_json::to_value(sidecar)?;
    for (pointer, verb) in
        [("/startupProbe", "started"), ("/livenessProbe", "alive"), ("/lifecycle/preStop", "prestop")]
    {
        let command = found.pointer(&format!("{pointer}/exec/command"));
        ensure!(command == Some(&json!(["/lifeboat", "ctl", verb])), "{pointer} runs {command:?}");
    }
    ensure!(
        sidecar.readiness_probe.is_none(),
        "our troubles must not take the application out of its Service"
    );
    Ok(())
}

/// The application keeps the 30 seconds that are its own; the last flush gets more.
fn check_grace(pod: &Pod) -> Result<()> {
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    ensure!(grace > Some(30), "the grace period is {grace:?} s");
    Ok(())
}

async fn check_app_is_untouched(namespace: &Namespace, pod: &Pod) -> Result<()> {
    let set = namespace.stateful_sets().get(NAME).await?;
    let template = set.spec.and_then(|spec| spec.template.spec).context("the StatefulSet has no template")?;
    let mut containers = pod.spec.as_ref().context("the pod has no spec")?.containers.clone();
    for container in &mut containers {
        // Kubernetes' own admission adds the token of the ServiceAccount.
        let mounts = container.volume_mounts.iter_mut().flatten();
        let own =
            mounts.filter(|mount| !mount.name.starts_with("kube-api-access-")).map(|mount| mount.clone());
        container.volume_mounts = Some(own.collect());
    }
    ensure!(containers == template.containers, "the application's containers were changed: {containers:#?}");
    Ok(())
}

/// The owned fields, one path for each leaf.
fn collect_leaves(fields: &Value, path: &str, leaves: &mut Vec<String>) {
    let children = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
    let before = leaves.len();
    for (name, child) in children {
        collect_leaves(child, &format!("{path}/{name}"), leaves);
    }
    if leaves.len() == before {
        leaves.push(path.to_owned());
    }
}

/// A pod that claims to be protected by the replica `shop`.
fn labelled_pod(stem: &str) -> Value {
    json!({
        "metadata": {"generateName": stem, "labels": {LABEL_REPLICA: NAME}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "app",
                "image": "lab.local/app:dev",
                "imagePullPolicy": "IfNotPresent",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
            // Not to run: only to be looked at.
            "nodeSelector": {"lifeboat-e2e": POD},
        },
    })
}
