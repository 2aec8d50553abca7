//! SQLite's write-ahead log as values: no I/O, no clock, no async.
//!
//! | module | holds |
//! |---|---|
//! | [`header`], [`frame`] | the bytes of the `-wal` file |
//! | [`scan`] | frames, one after the other, until the valid part ends |
//! | [`wal_index`] | the bytes of the shared memory, which say how far the valid part goes |
//! | [`continuity`] | what a reader that was at one place has to read next, and the proof that it missed nothing |
//! | [`database_header`] | the first 100 bytes of a database |
//! | [`sqlite_version`] | which SQLite wrote there, and whether its checkpoints are to be trusted |
//! | [`checksum`] | the checksum of WAL and WAL-index |
//!
//! *Invariant:* nothing in this crate knows about files, LTX or replicas, and no bytes make it panic.

pub mod checksum;
pub mod continuity;
pub mod database_header;
pub mod frame;
pub mod header;
pub mod scan;
pub mod sqlite_version;
pub mod wal_index;

mod error;
mod page;

pub use error::{DatabaseHeaderError, HeaderError, IndexError};
pub use page::{PageCount, PageNo, PageSize};
