//! Everything that needs a cluster: what the tests in `tests/` share.
//!
//! Of the house it uses binaries, `lifeboat-api` and `lifeboat-wire` only, so what it proves is what users get. A test reads
//! like this: in a namespace of its own ([`in_namespace`]) it starts the example application ([`App`]), follows what the
//! application has committed ([`Ledger`]), does harm, and compares what came back ([`rows::Rows`]) and what the bucket
//! holds ([`bucket::Bucket`]).
//!
//! The tests run inside a lab that has Lifeboat installed; `make e2e` sees to both.

pub mod app;
pub mod bucket;
pub mod lab;
pub mod ledger;
pub mod lineage;
pub mod namespace;
pub mod outage;
pub mod pods;
pub mod rows;
pub mod wait;

pub use app::App;
pub use lab::Lab;
pub use ledger::Ledger;
pub use namespace::{Namespace, in_namespace, note};
pub use wait::until;
