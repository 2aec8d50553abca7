//! The Lifeboat operator: the hands around `lifeboat-inject` and `lifeboat-plan`.
//!
//! In:  a cluster.
//! Out: injected pods (through the [`webhook`]), labelled workloads, and the status of every `SqliteReplica` (through
//!      the [`controller`]).
//!
//! Nothing here decides: `observe` reads, `lifeboat_plan::decide` decides, `act` does. Running pods need none of it; when
//! the operator is gone, they go on replicating, and pods that would start unprotected are refused by the API server.

mod abandoned;
mod act;
pub mod args;
pub mod controller;
pub mod crds;
mod error;
mod health;
mod observe;
pub mod run;
mod scrape;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod webhook;
mod workloads;

pub use error::Error;
