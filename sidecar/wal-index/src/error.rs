//! Why the WAL-index cannot be read.

use std::ffi::c_int;

/// The WAL-index of a connection cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalIndexError {
    /// The connection's file knows nothing of shared memory, as one of an in-memory database.
    #[error("the connection has no shared memory: is it a file in WAL mode?")]
    NoSharedMemory,
    /// Nobody has built the WAL-index yet: read the database once before.
    #[error("the WAL-index is not mapped: the database was not read in WAL mode yet")]
    NotMapped,
    /// SQLite's VFS refused.
    #[error("SQLite's {call} failed with code {code}")]
    Sqlite {
        /// What was called.
        call: &'static str,
        /// SQLite's result code.
        code: c_int,
    },
}
