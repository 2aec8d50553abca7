//! States the conditions: from what was judged now and what was stated before.

use jiff::Timestamp;
use lifeboat_api::{Condition, ConditionStatus, ConditionType, Reason, SqliteReplicaStatus};

use crate::TIME;

/// The longest message of a condition, in characters; the schema's limit is twice as many bytes.
const MESSAGE_CHARS_MAX: usize = 1000;

/// What one judgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Statement {
    pub(crate) fn holds(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::True, reason.as_str(), message)
    }

    pub(crate) fn fails(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::False, reason.as_str(), message)
    }

    pub(crate) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::Unknown, reason.as_str(), message)
    }

    pub(crate) fn new(status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into().chars().take(MESSAGE_CHARS_MAX).collect(),
        }
    }

    /// Sorts what needs attention first: what fails, then what is unknown, then what holds.
    pub(crate) const fn urgency(&self) -> u8 {
        match self.status {
            ConditionStatus::False => 0,
            ConditionStatus::Unknown => 1,
            ConditionStatus::True => 2,
        }
    }
}

/// All judgements of one moment.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) injected: Statement,
    pub(crate) restored: Statement,
    pub(crate) replicating: Statement,
}

/// The conditions of the status, the summary last.
pub(crate) fn state(
    statements: &Statements,
    old: &SqliteReplicaStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = ready(statements);
    let all = [
        (ConditionType::Injected, &statements.injected),
        (ConditionType::Restored, &statements.restored),
        (ConditionType::Replicating, &statements.replicating),
        (ConditionType::Ready, &ready),
    ];
    let condition = |(type_, statement): (ConditionType, &Statement)| {
        let since = old.condition(type_).filter(|before| before.status == statement.status);
        Condition {
            type_: type_.as_str().to_owned(),
            status: statement.status,
            reason: statement.reason.clone(),
            message: statement.message.clone(),
            last_transition_time: since
                .map_or_else(|| now.strftime(TIME).to_string(), |before| before.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    all.into_iter().map(condition).collect()
}

/// Whether the status says that the databases are protected.
pub(crate) fn is_ready(status: &SqliteReplicaStatus) -> bool {
    status.condition(ConditionType::Ready).is_some_and(|ready| ready.status == ConditionStatus::True)
}

/// The summary: the most urgent of the others, in the order of a pod's life.
fn ready(statements: &Statements) -> Statement {
    let parts = [&statements.injected, &statements.restored, &statements.replicating];
    match parts.into_iter().min_by_key(|statement| statement.urgency()) {
        Some(worst) if worst.status != ConditionStatus::True => worst.clone(),
        Some(_) | None => Statement::holds(Reason::AsExpected, "the databases are protected"),
    }
}
