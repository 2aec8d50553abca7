//! What the sidecar and the operator say to each other, versioned and held by golden files.
//!
//! Two channels: [`Status`] is the body of `GET /v1/status` on port [`STATUS_PORT`]; a [`Termination`] is what a
//! container leaves in its termination message, where the kubelet copies it into the Pod's status.
//!
//! Both sides may be of different releases. So fields are only ever added, unknown fields are ignored, and an unknown
//! word of an enum decodes as its `Unknown` variant: a newer sidecar must not blind an older operator.

mod answer;
mod reason;
mod status;
mod termination;

pub use answer::{NotSynced, Synced};
pub use reason::{Reason, Verdict};
pub use status::{AtStake, DatabaseStatus, LostSpan, Position, PruneFailures, Status};
pub use termination::{DatabaseOutcome, Outcome, Step, Termination};

/// The TCP port of the sidecar's status endpoint in a pod.
pub const STATUS_PORT: u16 = 9898;

/// The path of the status endpoint.
pub const STATUS_PATH: &str = "/v1/status";

/// The longest termination message the kubelet keeps, in bytes (Kubernetes: `MaxContainerTerminationMessageLength`).
pub const TERMINATION_BYTES_MAX: usize = 4096;
