//! Judges `Restored`: did the last start of the pod rebuild or prove the local databases?
//!
//! The restore step tells in its termination message, which the kubelet copies into the pod; no network is needed.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};
use lifeboat_api::{ConditionStatus, Reason, names};
use lifeboat_wire::{Outcome, Termination};

use crate::conditions::Statement;
use crate::observed::{container_status, pod_name};

pub(crate) fn judge(subject: Option<&Pod>) -> Statement {
    let Some(pod) = subject else {
        return Statement::unknown(Reason::NoPod, "there is no pod with Lifeboat now");
    };
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
        return Statement::holds(Reason::AsExpected, format!("pod {pod} restored its databases"));
    };
    let is_first =
        !told.databases.is_empty() && told.databases.iter().all(|db| db.outcome == Outcome::FirstStart);
    let reason = if is_first { Reason::FirstStart } else { Reason::AsExpected };
    Statement::holds(reason, format!("pod {pod}: {}", told.message))
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
