//! Decides what the operator does next for one replica, given what it observed.
//!
//! In:  the [`SqliteReplica`], everything read from the cluster as one value ([`Observed`]), what only the operator knows
//!      ([`Defaults`]), and the time.
//! Out: a [`Plan`]: the change of the pod template, the status to write, the events to emit, when to look again.
//!
//! Pure: the same observation gives the same plan. What cannot be read is `Unknown`, never `False`; and a status is only
//! planned when somebody would read something new in it, so that a quiet cluster stays quiet.

mod conditions;
mod events;
mod injected;
mod observed;
mod replicating;
mod report;
mod restored;
mod workload;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use lifeboat_api::{Reason, SqliteReplica, SqliteReplicaStatus};
use lifeboat_inject::Defaults;

use conditions::Statement;
pub use events::PlannedEvent;
pub use observed::{ApplyFailure, Observed, Report};
pub use workload::{TemplateChange, Workload};

/// How often a protected replica is looked at.
const CALM: Duration = Duration::from_secs(30);

/// How often a replica is looked at that is not well, or not yet.
const TENSE: Duration = Duration::from_secs(5);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The change of the workload's pod template; `None` if it is as it should be, or must not be touched.
    pub apply: Option<TemplateChange>,
    /// The status to write; `None` if the present one says the same.
    pub status: Option<SqliteReplicaStatus>,
    /// The events to emit, about the replica and its workload.
    pub events: Vec<PlannedEvent>,
    /// When to look again at the latest.
    pub requeue: Duration,
}

/// Decides what to do for `replica`.
#[must_use]
pub fn decide(replica: &SqliteReplica, observed: &Observed, defaults: &Defaults, now: Timestamp) -> Plan {
    let check = workload::check(replica, observed, defaults);
    let subjects = observed.subjects(replica);
    let youngest = subjects.first().copied();
    let (restored, replicating) = worst(replica, observed, &subjects);
    let statements = conditions::Statements {
        injected: injected::judge(replica, observed, &check),
        restored: restored.statement,
        replicating: replicating.statement,
    };
    let old = replica.status.clone().unwrap_or_default();
    let status = SqliteReplicaStatus {
        observed_generation: replica.metadata.generation,
        observed_time: Some(now.strftime(TIME).to_string()),
        databases: report::databases(replica, youngest, observed, &old),
        conditions: conditions::state(&statements, &old, replica.metadata.generation, now),
    };
    let about = events::About { restored: restored.pod, replicating: replicating.pod, injected: youngest };
    let events = events::between(&old, &status, &check, &about);
    let requeue = if conditions::is_ready(&status) { CALM } else { TENSE };
    Plan { apply: check.change, status: report::worth_writing(&old, status, now), events, requeue }
}

/// What is said of one pod, or that there is none.
struct Verdict<'a> {
    statement: Statement,
    pod: Option<&'a Pod>,
}

/// The worst that is to be said of `Restored` and of `Replicating`, each with its pod; of equals the youngest pod's.
///
/// One pod that is well must not hide another that is not: both hold a copy of the data.
fn worst<'a>(
    replica: &SqliteReplica,
    observed: &Observed,
    subjects: &[&'a Pod],
) -> (Verdict<'a>, Verdict<'a>) {
    let judged = subjects.iter().copied().map(|pod| {
        let restored = restored::judge(pod);
        let replicating = replicating::judge(replica, pod, observed, &restored);
        (Verdict { statement: restored, pod: Some(pod) }, Verdict { statement: replicating, pod: Some(pod) })
    });
    let nobody = || {
        let statement = Statement::unknown(Reason::NoPod, "there is no pod with Lifeboat now");
        Verdict { statement, pod: None }
    };
    let (restored, replicating): (Vec<_>, Vec<_>) = judged.unzip();
    let pick = |all: Vec<Verdict<'a>>| {
        all.into_iter().min_by_key(|verdict| verdict.statement.urgency()).unwrap_or_else(nobody)
    };
    (pick(restored), pick(replicating))
}

/// RFC 3339 in UTC with whole seconds, as Kubernetes writes it.
pub(crate) const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";
