//! The webhook: what the API server asks at the creation of every pod that carries our label.
//!
//! In:  an admission review over TLS of our own making.
//! Out: an admission review with a patch, or with every reason why not.
//!
//! Failing closed is its nature: where it cannot answer, the pod is not created, and the workload's controller tries
//! again. The admission policy of the chart is the second lock, for the day when the webhook's configuration is gone.

mod certificates;
mod keeper;
mod review;
mod serve;
mod verify;

pub(crate) use keeper::Keeper;
pub(crate) use review::server;
pub(crate) use serve::serve;
