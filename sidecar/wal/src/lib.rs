//! SQLite's write-ahead log as values: no I/O, no clock, no async.

mod page;

pub use page::{PageCount, PageNo, PageSize};
