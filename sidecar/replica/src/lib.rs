//! The brain of a replica: what to do next, given facts. Pure: no I/O, no clock, no threads.
//!
//! | module | decides |
//! |---|---|
//! | [`layout`] | how an object key is spelled; nothing else in the house may |
//! | [`head`] | what `lifeboat/head.json` says about the one writer |
//! | [`claim`] | how a process becomes that writer |
//! | [`slot`] | what the answer to the upload of a slot means |
//! | [`promise`] | whether a replica that shows nothing may be taken for one that is to begin |
//! | [`adoption`] | whether the database on this machine continues what the bucket holds |
//! | [`foreign`] | what of a replica that another program has written may be counted on |
//! | [`fork`] | what a writer saves that lost the replica, and whether it may claim again |
//! | [`litestream_03`] | which objects of a replica of Litestream 0.3 lead to a state |
//! | [`inventory`], [`restore`] | which files lead to a restore target |
//! | [`dirty_pages`] | which pages the next slot must carry |
//! | [`flush`], [`budget`] | when the next slot is cut, and how many requests a day that may cost |
//! | [`compaction`] | when merged files and snapshots are due, and which pages they hold |
//! | [`retention`], [`reach`] | which files may go, and what the others still lead to |
//! | [`raising`] | whether the bucket has been told so, and they may be deleted |
//! | [`page_sums`] | which of them differ from what the bucket has |
//! | [`audit`] | which pages to hold against what the WAL said of them |
//! | [`page_log`] | the same, kept beside the database for the process that comes after this one |
//! | [`verify`] | what is wrong with a replica |

pub mod adoption;
pub mod audit;
pub mod budget;
pub mod claim;
pub mod compaction;
pub mod dirty_pages;
pub mod epoch;
pub mod flush;
pub mod foreign;
pub mod fork;
pub mod head;
pub mod inventory;
pub mod layout;
pub mod litestream_03;
pub mod page_log;
pub mod page_sums;
pub mod promise;
pub mod raising;
pub mod reach;
pub mod restore;
pub mod retention;
pub mod slot;
pub mod verify;

mod error;

pub use error::{HeadError, PlanError};
