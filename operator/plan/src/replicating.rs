//! Judges `Replicating`: do commits reach the bucket within the promised time?
//!
//! Two sources: the kubelet, which says whether the sidecar runs, and the sidecar's own status. A sidecar that runs but
//! cannot be asked is `Unknown`: a network policy between us and the pod says nothing about its databases.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};
use lifeboat_api::{ConditionStatus, Reason, SqliteReplica, names};
use lifeboat_wire::{DatabaseStatus, Status, Verdict};

use crate::Observed;
use crate::conditions::Statement;
use crate::observed::{container_status, pod_name};
use crate::restored::{self, termination};

/// Seconds for which commits may wait for the bucket, at the least.
const LAG_SECONDS: f64 = 300.0;

/// Seconds that a trouble may last beyond the interval that the user chose; shorter ones mend themselves unseen.
const LAG_SECONDS_OF_TROUBLE: f64 = 60.0;

/// For how long commits may wait, in seconds: without any trouble, and while the sidecar tells of one.
#[derive(Clone, Copy, Debug)]
struct Limits {
    calm: f64,
    in_trouble: f64,
}

impl Limits {
    /// A commit waits for up to one interval by the user's own wish, or for the longest lag if there is a budget, and once more
    /// if a round fails.
    fn of(replica: &SqliteReplica) -> Self {
        let wait = replica.spec.replication.longest_wait().unwrap_or_default();
        let wished = 2.0 * wait.as_secs_f64() + LAG_SECONDS_OF_TROUBLE;
        Self { calm: LAG_SECONDS.max(wished), in_trouble: wished }
    }
}

pub(crate) fn judge(
    replica: &SqliteReplica,
    pod: &Pod,
    observed: &Observed,
    restored: &Statement,
) -> Statement {
    if restored::end(pod).is_none() {
        return Statement { status: ConditionStatus::Unknown, ..restored.clone() };
    }
    let name = pod_name(pod);
    let status = container_status(pod, names::CONTAINER_REPLICATE);
    let end = |state: Option<&ContainerState>| state.and_then(|state| state.terminated.clone());
    match status.and_then(|status| status.state.as_ref()) {
        Some(ContainerState { running: Some(_), .. }) => match observed.reports.get(name) {
            Some(Ok(report)) => judge_report(replica, name, report),
            Some(Err(why)) => unreachable(name, why),
            None => unreachable(name, "it was not asked yet"),
        },
        state => match end(state).or_else(|| end(status.and_then(|status| status.last_state.as_ref()))) {
            Some(end) => down(name, &end),
            None => Statement::unknown(
                Reason::SidecarDown,
                format!("the sidecar of pod {name} has not started yet"),
            ),
        },
    }
}

fn unreachable(pod: &str, why: &str) -> Statement {
    Statement::unknown(
        Reason::StatusUnreachable,
        format!(
            "the operator cannot read the status of pod {pod}, which says nothing about its databases: {why}; allow the \
             operator to reach port {}",
            lifeboat_wire::STATUS_PORT
        ),
    )
}

fn down(pod: &str, end: &ContainerStateTerminated) -> Statement {
    let told = termination(end);
    let reason = told.as_ref().and_then(|told| told.reason);
    let message = told
        .map_or_else(|| format!("it ended with code {}; read its log", end.exit_code), |told| told.message);
    let reason = reason.map_or(Reason::SidecarDown.as_str(), lifeboat_wire::Reason::as_str);
    Statement::new(
        ConditionStatus::False,
        reason,
        format!("the sidecar of pod {pod} is not running: {message}"),
    )
}

fn judge_report(replica: &SqliteReplica, pod: &str, report: &Status) -> Statement {
    let limits = Limits::of(replica);
    let judged = replica.spec.databases.iter().map(|wanted| {
        let found = report.databases.iter().find(|database| database.name == wanted.name);
        found.map_or_else(
            || unreachable(pod, &format!("it does not report database {}", wanted.name)),
            |database| judge_database(database, limits),
        )
    });
    let worst = judged.min_by_key(Statement::urgency);
    worst.unwrap_or_else(|| Statement::unknown(Reason::StatusUnreachable, "no database is listed"))
}

fn judge_database(database: &DatabaseStatus, limits: Limits) -> Statement {
    let told = |status: ConditionStatus| {
        let reason = database.reason.map_or(Reason::Lagging.as_str(), lifeboat_wire::Reason::as_str);
        Statement::new(status, reason, format!("database {}: {}", database.name, database.message))
    };
    match database.verdict {
        Some(Verdict::Refuse | Verdict::Halt | Verdict::Fence) => told(ConditionStatus::False),
        // Before the application's first write there is nothing that could be stored or lost.
        Some(Verdict::Retry) if database.reason == Some(lifeboat_wire::Reason::WaitingForDatabase) => {
            told(ConditionStatus::Unknown)
        }
        Some(Verdict::Unknown) => told(ConditionStatus::Unknown),
        Some(Verdict::Retry) if database.lag_seconds.is_none_or(|lag| lag > limits.in_trouble) => {
            told(ConditionStatus::False)
        }
        None | Some(Verdict::Retry | Verdict::Rescan) => judge_lag(database, limits.calm),
    }
}

fn judge_lag(database: &DatabaseStatus, limit: f64) -> Statement {
    match database.lag_seconds {
        None => Statement::unknown(
            Reason::StatusUnreachable,
            format!("database {}: the sidecar does not know yet how far it is", database.name),
        ),
        Some(lag) if lag <= limit => Statement::holds(Reason::AsExpected, "commits reach the bucket"),
        Some(_) => Statement::fails(
            Reason::Lagging,
            format!(
                "database {}: commits have waited for the bucket for more than {limit} seconds; check the \
                 sidecar's log and the speed of the bucket",
                database.name
            ),
        ),
    }
}
