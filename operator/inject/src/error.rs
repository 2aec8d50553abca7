//! Why a pod cannot be protected as it is.

use lifeboat_api::Reason;
use thiserror::Error;

/// One reason for which a pod is refused, with an instruction. `docs/errors.md` has an entry for each reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// The reason in one word.
    pub reason: Reason,
    /// Which thing is wrong and what to do about it.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
