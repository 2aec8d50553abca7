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
use lifeboat_api::{SqliteReplica, SqliteReplicaStatus};
use lifeboat_inject::Defaults;

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
    let subject = observed.subject(replica);
    let restored = restored::judge(subject);
    let statements = conditions::Statements {
        injected: injected::judge(replica, observed, &check),
        replicating: replicating::judge(replica, subject, observed, &restored),
        restored,
    };
    let old = replica.status.clone().unwrap_or_default();
    let status = SqliteReplicaStatus {
        observed_generation: replica.metadata.generation,
        observed_time: Some(now.strftime(TIME).to_string()),
        databases: report::databases(replica, subject, observed, &old),
        conditions: conditions::state(&statements, &old, replica.metadata.generation, now),
    };
    let events = events::between(&old, &status, &check, subject);
    let requeue = if conditions::is_ready(&status) { CALM } else { TENSE };
    Plan { apply: check.change, status: report::worth_writing(&old, status, now), events, requeue }
}

/// RFC 3339 in UTC with whole seconds, as Kubernetes writes it.
pub(crate) const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";
