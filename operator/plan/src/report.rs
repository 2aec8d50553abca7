//! Fills the figures of the status, and decides whether a status is worth a write.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use lifeboat_api::{
    Condition, DatabaseReport, LastRestore, ReportedPosition, SqliteReplica, SqliteReplicaStatus,
};
use lifeboat_wire::{DatabaseStatus, Outcome};

use crate::observed::pod_name;
use crate::restored::termination;
use crate::{Observed, TIME, restored};

/// Figures move with every commit; they are written at most this often.
const FIGURES_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// The longest message of a database, in characters.
const MESSAGE_CHARS_MAX: usize = 250;

/// One report for each database of the spec. What was not observed now stays as it was last known.
pub(crate) fn databases(
    replica: &SqliteReplica,
    subject: Option<&Pod>,
    observed: &Observed,
    old: &SqliteReplicaStatus,
) -> Vec<DatabaseReport> {
    let end = subject.and_then(restored::end);
    let told =
        subject.and_then(|pod| observed.reports.get(pod_name(pod))).and_then(|report| report.as_ref().ok());
    let report = |name: &String| {
        let known = old.databases.iter().find(|known| &known.name == name).cloned();
        let mut report =
            known.unwrap_or_else(|| DatabaseReport { name: name.clone(), ..DatabaseReport::default() });
        if let Some(pod) = subject {
            report.pod = Some(pod_name(pod).to_owned());
        }
        if let Some(restore) = end.and_then(|end| last_restore(name, end)) {
            report.last_restore = Some(restore);
        }
        if let Some(status) =
            told.and_then(|told| told.databases.iter().find(|database| &database.name == name))
        {
            take_status(&mut report, status);
        }
        report
    };
    replica.spec.databases.iter().map(|database| report(&database.name)).collect()
}

fn take_status(report: &mut DatabaseReport, status: &DatabaseStatus) {
    report.epoch = status.epoch.or(report.epoch);
    if let Some(position) = &status.position {
        let short = |text: &String, chars| text.chars().take(chars).collect::<String>();
        report.position = Some(ReportedPosition {
            txid: short(&position.txid, 16),
            time: position.time.as_ref().map(|time| short(time, 64)),
        });
    }
    report.message = status.message.chars().take(MESSAGE_CHARS_MAX).collect();
}

fn last_restore(database: &str, end: &ContainerStateTerminated) -> Option<LastRestore> {
    let told = termination(end)?;
    let outcome = told.databases.iter().find(|outcome| outcome.name == database)?;
    Some(LastRestore {
        time: end.finished_at.as_ref().map(|time| time.0.strftime(TIME).to_string()),
        outcome: word(outcome.outcome).to_owned(),
        bytes: outcome.bytes,
        duration_seconds: outcome.seconds,
    })
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Restored => "Restored",
        Outcome::UpToDate => "UpToDate",
        Outcome::FirstStart => "FirstStart",
        Outcome::Flushed => "Flushed",
        Outcome::TailNotStored => "TailNotStored",
        Outcome::Fenced => "Fenced",
        Outcome::Failed => "Failed",
        Outcome::Unknown => "Unknown",
    }
}

/// The new status, if somebody would read something new in it: at once when a condition changes its mind, else when the
/// figures or sentences differ and the present ones are a minute old.
pub(crate) fn worth_writing(
    old: &SqliteReplicaStatus,
    new: SqliteReplicaStatus,
    now: Timestamp,
) -> Option<SqliteReplicaStatus> {
    if coarse(old) != coarse(&new) {
        return Some(new);
    }
    let written = old.observed_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let is_due = written.is_none_or(|written| now.duration_since(written).abs() >= FIGURES_EVERY);
    let unchanged = old.databases == new.databases && old.conditions == new.conditions;
    (is_due && !unchanged).then_some(new)
}

/// The part of a status whose change is news.
fn coarse(status: &SqliteReplicaStatus) -> impl PartialEq {
    let condition = |condition: &Condition| {
        (
            condition.type_.clone(),
            condition.status as u8,
            condition.reason.clone(),
            condition.observed_generation,
        )
    };
    let database = |report: &DatabaseReport| {
        (
            report.name.clone(),
            report.pod.clone(),
            report.epoch,
            // Pods to come are told of it.
            report.position.is_some(),
            report.last_restore.clone().map(|last| last.time),
        )
    };
    let conditions: Vec<_> = status.conditions.iter().map(condition).collect();
    let databases: Vec<_> = status.databases.iter().map(database).collect();
    (status.observed_generation, conditions, databases)
}
