//! Searches every small world of the protocol that keeps a replica to one writer, over the machines that run in production; and
//! goes through larger ones, with pages, that are drawn from a seed.
//!
//! ```text
//! world (data) ─► every state that can be reached, each once ─► no invariant is broken, or the shortest story of how
//!                        │
//!                        └─ one step: a request is answered, or is late; a process dies; the power fails
//! ```
//!
//! What decides is `lifeboat_replica`; what is here is a bucket, machines, and a network that may keep a request for as long
//! as it likes. `docs/fencing.md` says what is searched and what is not.
//!
//! | module | is about |
//! |---|---|
//! | [`search`], [`visited`] | the search, whatever is searched |
//! | [`world`] | what may happen |
//! | [`worlds`] | the worlds that are searched |
//! | [`bucket`], [`content`], [`volume`] | what there is |
//! | [`process`], [`asking`], [`writing`], [`restoring`] | who acts |
//! | [`truth`], [`invariant`] | what must never happen |
//! | [`swarm`], [`walk`], [`dice`] | worlds from a seed: drawn, gone through, told again as short as possible |
//! | [`opening`] | what is there already when they begin |
//! | [`image`], [`sqlite`], [`following`], [`around`] | what there is in those: pages, the WAL, whoever follows it, time |
//! | [`marks`] | rare branches that have to be reached |
//! | [`rules`] | the rules that can be taken out, to see that the search would find it |

pub mod around;
pub mod asking;
pub mod bucket;
pub mod content;
pub mod dice;
pub mod following;
pub mod image;
pub mod invariant;
pub mod marks;
pub mod opening;
mod paging;
pub mod process;
pub mod restoring;
pub mod rules;
pub mod search;
pub mod sqlite;
pub mod swarm;
pub mod truth;
pub mod visited;
pub mod volume;
pub mod walk;
pub mod world;
pub mod worlds;
pub mod writing;
