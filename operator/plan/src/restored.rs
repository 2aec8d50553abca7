//! Judges `Restored`: did the last start of the pod rebuild or prove the local databases?
//!
//! The restore step tells in its termination message, which the kubelet copies into the pod; no network is needed.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};
use lifeboat_api::{ConditionStatus, Reason, names};
use lifeboat_wire::{Outcome, Termination};

use crate::conditions::Statement;
use crate::observed::{container_status, pod_name};

pub(crate) fn judge(pod: &Pod) -> Statement {
    let name = pod_name(pod);
    let Some(status) = container_status(pod, names::CONTAINER_RESTORE) else {
        return Statement::unknown(Reason::RestoreRunning, format!("pod {name} has not started yet"));
    };
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match &status.state {
        Some(ContainerState { terminated: Some(end), .. }) if end.exit_code == 0 => succeeded(name, end),
        Some(ContainerState { terminated: Some(end), .. }) => failed(name, end),
        // It is tried again; what the last attempt said is still why the application waits.
        Some(ContainerState { running: Some(_), .. }) => before.map_or_else(
            || Statement::unknown(Reason::RestoreRunning, format!("pod {name} is restoring its databases")),
            |end| failed(name, end),
        ),
        Some(ContainerState { waiting: Some(waiting), .. }) => before.map_or_else(
            || {
                let why = waiting.message.as_deref().or(waiting.reason.as_deref()).unwrap_or("waiting");
                Statement::unknown(Reason::RestoreRunning, format!("pod {name} has not restored yet: {why}"))
            },
            |end| failed(name, end),
        ),
        Some(_) | None => {
            Statement::unknown(Reason::RestoreRunning, format!("pod {name} has not started yet"))
        }
    }
}

fn succeeded(pod: &str, end: &ContainerStateTerminated) -> Statement {
    let Some(told) = termination(end) else {
        // Something other than our restore step may have ended so; nothing says that a database was restored or proved.
        return Statement::unknown(
            Reason::StatusUnreachable,
            format!(
                "pod {pod}: the restore step ended without an error, but what it did cannot be read; read its log, and \
                 check that nothing replaces the container or its termination message"
            ),
        );
    };
    let is_first =
        !told.databases.is_empty() && told.databases.iter().all(|db| db.outcome == Outcome::FirstStart);
    let reason = if is_first { Reason::FirstStart } else { Reason::AsExpected };
    Statement::holds(reason, format!("pod {pod}: {}", told.message))
}

/// The end of the restore step, once it is over without an error.
pub(crate) fn end(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let end = container_status(pod, names::CONTAINER_RESTORE)?.state.as_ref()?.terminated.as_ref()?;
    (end.exit_code == 0).then_some(end)
}

fn failed(pod: &str, end: &ContainerStateTerminated) -> Statement {
    match termination(end) {
        Some(told) => {
            let reason = told.reason.map_or(Reason::RestoreFailed.as_str(), lifeboat_wire::Reason::as_str);
            Statement::new(ConditionStatus::False, reason, format!("pod {pod} waits: {}", told.message))
        }
        None => Statement::fails(
            Reason::RestoreFailed,
            format!(
                "pod {pod}: the restore step ended with code {} and no word; read its log",
                end.exit_code
            ),
        ),
    }
}

/// What a container of ours said when it ended.
pub(crate) fn termination(end: &ContainerStateTerminated) -> Option<Termination> {
    Termination::decode(end.message.as_deref()?)
}
