//! Two pods on one replica: a copy of a protected pod, on a volume of its own, takes the replica over while the first one works.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use lifeboat_api::{ConditionStatus, ConditionType};
use lifeboat_e2e::app::NAME;
use lifeboat_e2e::lineage::last_row;
use lifeboat_e2e::wait::{PATIENTLY, SOON};
use lifeboat_e2e::{App, Namespace, in_namespace, note, pods, until};
use lifeboat_wire::{Reason, Verdict};
use serde_json::{Value, json};

const COPY: &str = "copy";

#[tokio::test]
async fn the_pod_that_loses_its_replica_says_so_reads_on_writes_no_more_and_saves_what_it_had() -> Result<()>
{
    in_namespace("rivals", async |namespace| {
        let app = App::start(namespace).await?;
        namespace.create::<Pod>(impatient_copy(&app.pod().await?)?).await?;
        until(PATIENTLY, "the copy to take the replica over", async || {
            pods::ensure_ready(&namespace.pods().get(COPY).await?)
        })
        .await?;
        let fork = says_that_it_is_fenced(namespace, &app).await?;
        let rows = reads_and_cannot_write(namespace, &app).await?;
        let (bucket, path) = (&namespace.lab.bucket, app.bucket_path());
        let listed = bucket.lifeboat(&["forks", "list"], &path).await?;
        ensure!(listed.contains(&fork), "fork {fork} is not listed: {listed}");
        let folder = tempfile::tempdir()?;
        let restored = folder.path().join("fork.db");
        bucket.lifeboat(&["forks", "restore", "-o", &restored.display().to_string()], &path).await?;
        let saved = last_row(&restored)?;
        note(&format!("the loser has {rows} rows, its fork {fork} has {saved}"));
        ensure!(saved == rows, "the loser has {rows} rows, and its fork {saved}");
        Ok(())
    })
    .await
}

/// The same pod once more, as somebody makes it who applies an exported manifest: with the containers that it was given, but
/// without the label by which the operator would know it. It waits a second for the present writer, and not most of a minute.
fn impatient_copy(pod: &Pod) -> Result<Value> {
    let spec = serde_json::to_string(&pod.spec)?;
    let waits = r#"\"handover-timeout\": \""#;
    let parts: Vec<_> = spec.split(waits).collect();
    ensure!(parts.len() > 1, "the pod's config names no handover-timeout: {spec}");
    let hurried = parts[1..].iter().map(|part| part.split_once('s').map(|(_, rest)| format!("1s{rest}")));
    let hurried: Option<Vec<_>> = hurried.collect();
    let spec = [vec![parts[0].to_owned()], hurried.context("a time in seconds")?].concat().join(waits);
    let mut spec: Value = serde_json::from_str(&spec)?;
    let fields = spec.as_object_mut().context("a spec is an object")?;
    for placed in ["nodeName", "hostname", "subdomain"] {
        fields.remove(placed);
    }
    Ok(json!({"metadata": {"name": COPY, "labels": {"app": COPY}}, "spec": spec}))
}

/// In the replica's status, as an event, in the sidecar's own status and in its metrics. Returns the fork's name.
async fn says_that_it_is_fenced(namespace: &Namespace, app: &App<'_>) -> Result<String> {
    let message = until(SOON, "the replica's status", async || {
        let status = namespace.replicas().get(NAME).await?.status.context("there is no status")?;
        let replicating = status.condition(ConditionType::Replicating).context("no condition")?;
        let is_fenced = replicating.reason == Reason::SealedByNewerEpoch.as_str();
        ensure!(
            replicating.status == ConditionStatus::False && is_fenced,
            "{}: {}",
            replicating.reason,
            replicating.message
        );
        ensure!(replicating.message.contains("saved as fork"), "{}", replicating.message);
        Ok(replicating.message.clone())
    })
    .await?;
    note(&message);
    until(SOON, "an event", async || {
        let events = namespace.kubectl(&["get", "events", "--field-selector=reason=Fenced"]).await?;
        ensure!(events.contains(NAME), "no event says Fenced: {events}");
        Ok(())
    })
    .await?;
    let status = app.sidecar().await?.databases.pop().context("no database")?;
    ensure!(status.verdict == Some(Verdict::Fence), "the sidecar says {status:?}");
    let metrics = app.metrics().await?;
    let is_measured =
        metrics.lines().any(|line| line.starts_with("lifeboat_fenced{") && line.ends_with(" 1.0"));
    ensure!(is_measured, "no metric says so: {metrics}");
    let fork = status.at_stake.and_then(|at_stake| at_stake.fork);
    fork.context("the sidecar names no fork")
}

/// The application answers with its rows, and no more come to them. Returns how many there are.
async fn reads_and_cannot_write(namespace: &Namespace, app: &App<'_>) -> Result<i64> {
    let pod = app.pod().await?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let refusals = async || {
        let log = namespace.kubectl(&["logs", name, "--container=app"]).await?;
        Ok::<_, anyhow::Error>(log.lines().filter(|line| line.starts_with("cannot commit")).count())
    };
    let before = refusals().await?;
    let rows = app.rows().await?;
    until(SOON, "a commit that is refused", async || {
        let now = refusals().await?;
        ensure!(now > before, "{now} commits were refused");
        Ok(())
    })
    .await?;
    let after = app.rows().await?;
    ensure!(after.integrity == "ok" && after.last == rows.last, "first {rows:?}, then {after:?}");
    Ok(after.last)
}
