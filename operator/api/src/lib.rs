//! The `SqliteReplica` resource: its types, its rules and the words around it.
//!
//! In:  nothing; this crate is vocabulary.
//! Out: [`SqliteReplica`] and its parts, the [`ConditionType`]s and [`Reason`]s of its status, the names of our labels
//!      and annotations ([`names`]), and the CustomResourceDefinition as a document ([`crd`]).
//!
//! No client, no runtime, no clock: whoever only wants to read or write a `SqliteReplica` can depend on it.

pub mod crd;
pub mod names;
mod reason;
mod replica;
mod replication;
mod status;

pub use reason::{ConditionType, EventReason, Reason};
pub use replica::{
    Database, S3Auth, S3Store, SecretRef, SqliteReplica, SqliteReplicaSpec, Store, WorkloadKind, WorkloadRef,
};
pub use replication::{Replication, Retention, SnapshotRules};
pub use status::{
    Condition, ConditionStatus, DatabaseReport, LastRestore, ReportedPosition, SqliteReplicaStatus,
};
