//! The events that a change of the status is worth. Transitions only: an event says what happened, a condition what is.

use k8s_openapi::api::core::v1::Pod;
use lifeboat_api::{Condition, ConditionStatus, ConditionType, EventReason, SqliteReplicaStatus};

use crate::workload::Check;

/// One event, about the replica and its workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Why it is written.
    pub reason: EventReason,
    /// Whether somebody should look.
    pub is_warning: bool,
    /// The condition's reason, which keeps events of different causes from being counted as one.
    pub cause: String,
    /// What happened, in a sentence.
    pub note: String,
    /// Name and UID of the pod that it is about, if it is about one.
    pub pod: Option<(String, String)>,
}

/// The pods that the conditions are about.
pub(crate) struct About<'a> {
    pub(crate) injected: Option<&'a Pod>,
    pub(crate) restored: Option<&'a Pod>,
    pub(crate) replicating: Option<&'a Pod>,
}

/// The events between two statuses.
pub(crate) fn between(
    old: &SqliteReplicaStatus,
    new: &SqliteReplicaStatus,
    check: &Check,
    about: &About<'_>,
) -> Vec<PlannedEvent> {
    let mut events = Vec::new();
    let event = |reason, is_warning, condition: &Condition, pod: Option<&Pod>| PlannedEvent {
        reason,
        is_warning,
        cause: condition.reason.clone(),
        note: condition.message.clone(),
        pod: pod.and_then(|pod| pod.metadata.name.clone().zip(pod.metadata.uid.clone())),
    };
    if let Some((_, now)) = changed(old, new, ConditionType::Injected)
        && !check.refusals.is_empty()
    {
        events.push(event(EventReason::InjectionRefused, true, now, about.injected));
    }
    if let Some((_, now)) = changed(old, new, ConditionType::Restored) {
        match now.status {
            ConditionStatus::True => events.push(event(EventReason::Restored, false, now, about.restored)),
            ConditionStatus::False => {
                events.push(event(EventReason::RestoreBlocked, true, now, about.restored))
            }
            ConditionStatus::Unknown => {}
        }
    }
    if let Some((before, now)) = changed(old, new, ConditionType::Replicating) {
        let has_failed = before.is_some_and(|before| before.status == ConditionStatus::False);
        match now.status {
            ConditionStatus::True if has_failed => {
                events.push(event(EventReason::ReplicationRecovered, false, now, about.replicating))
            }
            ConditionStatus::False if now.reason == lifeboat_wire::Reason::SealedByNewerEpoch.as_str() => {
                events.push(event(EventReason::Fenced, true, now, about.replicating));
            }
            ConditionStatus::False => {
                events.push(event(EventReason::ReplicationLagging, true, now, about.replicating))
            }
            ConditionStatus::True | ConditionStatus::Unknown => {}
        }
    }
    events
}

/// The condition before and now, if it changed its mind or its reason.
fn changed<'a>(
    old: &'a SqliteReplicaStatus,
    new: &'a SqliteReplicaStatus,
    type_: ConditionType,
) -> Option<(Option<&'a Condition>, &'a Condition)> {
    let (before, now) = (old.condition(type_), new.condition(type_)?);
    let is_same = before.is_some_and(|before| before.status == now.status && before.reason == now.reason);
    (!is_same).then_some((before, now))
}
