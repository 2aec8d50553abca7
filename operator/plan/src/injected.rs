//! Judges `Injected`: does every live pod of the workload carry the present containers?

use k8s_openapi::api::core::v1::Pod;
use lifeboat_api::{Reason, SqliteReplica, names};

use crate::Observed;
use crate::conditions::Statement;
use crate::observed::{config_hash, is_injected, is_labelled, pod_name};
use crate::workload::Check;

pub(crate) fn judge(replica: &SqliteReplica, observed: &Observed, check: &Check) -> Statement {
    let Some(workload) = &observed.workload else {
        let wanted = &replica.spec.workload_ref;
        return Statement::fails(
            Reason::WorkloadNotFound,
            format!("there is no {} {} in this namespace; create it", wanted.kind.as_str(), wanted.name),
        );
    };
    if let Some(first) = check.refusals.first() {
        let all: Vec<_> = check.refusals.iter().map(|refusal| refusal.message.as_str()).collect();
        return Statement::fails(first.reason, all.join("; "));
    }
    if let Some(failure) = &observed.apply_failure {
        return Statement::fails(failure.reason, failure.message.clone());
    }
    if check.needs_author {
        return Statement::fails(
            Reason::LabelMissing,
            format!(
                "the pod template of {} cannot be changed; create it with the label {}: {} on its pod template",
                workload.describe(),
                names::LABEL_REPLICA,
                replica.name()
            ),
        );
    }
    if check.change.is_some() {
        return Statement::fails(
            Reason::RolloutPending,
            format!("the pod template of {} is labelled; its pods are being replaced", workload.describe()),
        );
    }
    let mut judged: Vec<_> = observed.live_pods().map(|pod| judge_pod(replica, pod)).collect();
    judged.sort_by_key(Statement::urgency);
    match judged.into_iter().next() {
        None => Statement::unknown(
            Reason::NoPod,
            format!(
                "{} has no pod now; if it should have one, its events say what is in the way",
                workload.describe()
            ),
        ),
        Some(worst) if check.notices.is_empty() || worst.urgency() < 2 => worst,
        Some(well) => {
            Statement { message: format!("{}; {}", well.message, check.notices.join("; ")), ..well }
        }
    }
}

fn judge_pod(replica: &SqliteReplica, pod: &Pod) -> Statement {
    let name = pod_name(pod);
    if !is_labelled(pod, replica) {
        let message =
            format!("pod {name} was created before protection was enabled and has not been replaced yet");
        return Statement::fails(Reason::RolloutPending, message);
    }
    if !is_injected(pod) {
        let message =
            format!("pod {name} runs without Lifeboat, so its databases are not protected; delete it");
        return Statement::fails(Reason::InjectionMissing, message);
    }
    if !sidecar_restarts(pod) {
        let message = format!(
            "pod {name}: something took restartPolicy: Always from {}, so it will not outlive the application; find the \
             webhook that did and exclude this pod from it",
            names::CONTAINER_REPLICATE
        );
        return Statement::fails(Reason::ContainersTampered, message);
    }
    if config_hash(pod) != Some(replica.config_hash().as_str()) {
        let message = format!("pod {name} runs with earlier settings and has not been replaced yet");
        return Statement::fails(Reason::RolloutPending, message);
    }
    Statement::holds(Reason::AsExpected, "every pod carries the restore step and the sidecar")
}

fn sidecar_restarts(pod: &Pod) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let sidecar = init.into_iter().flatten().find(|container| container.name == names::CONTAINER_REPLICATE);
    sidecar.is_some_and(|sidecar| sidecar.restart_policy.as_deref() == Some("Always"))
}
