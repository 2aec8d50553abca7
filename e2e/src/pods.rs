//! Questions to a pod.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;
use lifeboat_api::names::{CONTAINER_REPLICATE, CONTAINER_RESTORE};
use lifeboat_wire::Termination;

use crate::lab::run;

/// Its UID: the replacement of a StatefulSet's pod has the same name.
#[must_use]
pub fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

/// Whether every container is ready and nobody has asked for its end.
///
/// # Errors
/// What it is waiting for.
pub fn ensure_ready(pod: &Pod) -> Result<()> {
    ensure!(pod.metadata.deletion_timestamp.is_none(), "pod {} is being deleted", pod.name_any());
    let status = pod.status.as_ref().context("the pod has no status yet")?;
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let ready = ready.context("the pod has no condition Ready yet")?;
    let why = ready.message.as_deref().unwrap_or_default();
    ensure!(ready.status == "True", "pod {} is not ready: {why}", pod.name_any());
    Ok(())
}

/// The init containers' specifications, in the order in which they start.
#[must_use]
pub fn init_containers(pod: &Pod) -> Vec<&Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).collect()
}

/// Whether the pod carries our two containers.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    let has = |name| init_containers(pod).iter().any(|container| container.name == name);
    has(CONTAINER_RESTORE) && has(CONTAINER_REPLICATE)
}

/// The status of an init container.
#[must_use]
pub fn init_status<'pod>(pod: &'pod Pod, name: &str) -> Option<&'pod ContainerStatus> {
    pod.status
        .iter()
        .flat_map(|status| status.init_container_statuses.iter().flatten())
        .find(|s| s.name == name)
}

/// Whether the application's container was ever started.
#[must_use]
pub fn app_was_started(pod: &Pod) -> bool {
    let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.any(|status| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running || status.started == Some(true) || status.container_id.is_some() || status.restart_count > 0
    })
}

/// How the restore step of this pod last ended, and what it said.
///
/// # Errors
/// When it has not ended yet, or said nothing that we understand.
pub fn restore_words(pod: &Pod) -> Result<(ContainerStateTerminated, Termination)> {
    let status = init_status(pod, CONTAINER_RESTORE).context("the restore step has no status yet")?;
    let ended =
        [&status.state, &status.last_state].into_iter().flatten().find_map(|state| state.terminated.clone());
    let ended = ended.context("the restore step has not ended yet")?;
    let message = ended.message.as_deref().unwrap_or_default();
    let words = Termination::decode(message).with_context(|| format!("its last words are '{message}'"))?;
    Ok((ended, words))
}

/// Stops every process of the pod where it stands, by the cgroup that the kubelet has put them in.
///
/// # Errors
/// When no process of the pod is to be seen here, as on a cluster of another machine.
pub async fn freeze_processes(pod: &Pod) -> Result<()> {
    let group = format!("/pod{}/", uid(pod));
    let processes: Vec<_> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_in_group(name, &group))
        .collect();
    ensure!(!processes.is_empty(), "no process of pod {} is to be seen", pod.name_any());
    let args: Vec<_> = ["-STOP"].into_iter().chain(processes.iter().map(String::as_str)).collect();
    run(Path::new("kill"), &args).await.map(drop)
}

fn is_in_group(process: &str, group: &str) -> bool {
    // A process that has ended meanwhile has no such file.
    fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|groups| groups.contains(group))
}
