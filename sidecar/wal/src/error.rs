//! Why bytes are not what they should be.

/// The first 32 bytes of a `-wal` file are not a WAL header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file does not begin as a WAL does.
    #[error("not a WAL: it begins with {magic:#010x}")]
    NotAWal {
        /// The number found in place of the magic one.
        magic: u32,
    },
    /// A format this program does not know.
    #[error("WAL format {version} is not known; only 3007000 is")]
    UnsupportedVersion {
        /// The format found.
        version: u32,
    },
    /// A page size SQLite does not have.
    #[error("the WAL header names a page size of {bytes} bytes, which SQLite does not have")]
    PageSize {
        /// The size found, in bytes.
        bytes: u32,
    },
    /// The header is torn or damaged.
    #[error("the checksum of the WAL header is wrong")]
    Checksum,
}

/// The header of the WAL-index cannot be used now. Another process may be changing it: look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Its two copies differ: a writer is between the two.
    #[error("the two copies of the WAL-index header differ")]
    Torn,
    /// Nobody has built the WAL-index yet.
    #[error("the WAL-index is not initialised")]
    NotInitialised,
    /// The checksum over the header is wrong.
    #[error("the checksum of the WAL-index header is wrong")]
    Checksum,
    /// A format this program does not know.
    #[error("WAL-index format {version} is not known; only 3007000 is")]
    UnsupportedVersion {
        /// The format found.
        version: u32,
    },
    /// A page size SQLite does not have.
    #[error("the WAL-index names a page size of {stored}, which SQLite does not have")]
    PageSize {
        /// The number found; 65,536 is stored as 1.
        stored: u16,
    },
}

/// The first 100 bytes of a file are not the header of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseHeaderError {
    /// The file does not begin as a database does.
    #[error("not an SQLite database: the first 16 bytes are not its magic string")]
    NotADatabase,
    /// A page size SQLite does not have.
    #[error("the database header names a page size of {stored}, which SQLite does not have")]
    PageSize {
        /// The number found; 65,536 is stored as 1.
        stored: u16,
    },
}
