//! What can be wrong with a file, with what the caller wants to write, and with text.
//!
//! No error here names a file: whoever called knows which one, and adds it.

use std::io;

use lifeboat_wal::{PageCount, PageNo};
use thiserror::Error;

use crate::checksum::{Checksum, FileChecksum};
use crate::txid::Txid;

/// A part of a file, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The first 100 bytes.
    Header,
    /// Number and flags of a page.
    PageHeader,
    /// A compressed page and its size.
    PageImage,
    /// Where each page lies.
    PageIndex,
    /// The last 16 bytes.
    Trailer,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "the header",
            Self::PageHeader => "a page header",
            Self::PageImage => "a page image",
            Self::PageIndex => "the page index",
            Self::Trailer => "the trailer",
        })
    }
}

/// A header that says something no LTX file may say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first four bytes are not `LTX1`.
    #[error("not an LTX file: it begins with {found:02x?} instead of \"LTX1\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Flags this version does not know.
    #[error("unknown header flags {found:#010x}; a newer version may read this file")]
    Flags {
        /// The flags field.
        found: u32,
    },
    /// No page size of SQLite.
    #[error("page size {found} is not a power of two from 512 to 65536")]
    PageSize {
        /// The page size field.
        found: u32,
    },
    /// TXIDs begin at 1.
    #[error("TXID 0 does not exist")]
    TxidZero,
    /// The range of TXIDs is empty.
    #[error("TXIDs are out of order: {min} to {max}")]
    TxidOrder {
        /// The minimum TXID.
        min: Txid,
        /// The maximum TXID.
        max: Txid,
    },
    /// The place in the WAL contradicts itself: size or salts without an offset, or numbers beyond 2^63.
    #[error("impossible place in the WAL: offset {offset}, size {size}")]
    WalPlace {
        /// The WAL offset field, bytes.
        offset: u64,
        /// The WAL size field, bytes.
        size: u64,
    },
    /// The pre-apply checksum contradicts the flags or the TXID.
    #[error("pre-apply checksum {found:016x} is not allowed here")]
    PreApply {
        /// The checksum field.
        found: u64,
    },
    /// The reserved bytes hold something this version does not know.
    #[error("unknown reserved bytes {found:02x?}; a newer version may read this file")]
    Reserved {
        /// The first four reserved bytes.
        found: [u8; 4],
    },
    /// Our mark, with a checksum that is none.
    #[error("the mark's checksum {found:016x} lacks bit 63")]
    MarkChecksum {
        /// The checksum field.
        found: u64,
    },
}

/// A page that may not stand where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageOrderError {
    /// The lock page is never stored.
    #[error("page {page} is the lock page, which is never stored")]
    LockPage {
        /// The page number.
        page: PageNo,
    },
    /// The page is beyond the end of the database.
    #[error("page {page} is beyond the database's {commit} pages")]
    OutOfBounds {
        /// The page number.
        page: PageNo,
        /// Size of the database, pages.
        commit: PageCount,
    },
    /// Pages ascend.
    #[error("page {next} follows page {previous}; pages must ascend")]
    Descending {
        /// The page before.
        previous: PageNo,
        /// The page after.
        next: PageNo,
    },
    /// A file that begins at TXID 1 holds every page.
    #[error(
        "page {found} stands where page {expected} must stand, because a file from TXID 1 holds every page"
    )]
    Hole {
        /// The page that is missing.
        expected: PageNo,
        /// The page found instead.
        found: PageNo,
    },
    /// A file that begins at TXID 1 ends early.
    #[error("pages from {expected} of {commit} are missing, although a file from TXID 1 holds every page")]
    Incomplete {
        /// The first missing page.
        expected: PageNo,
        /// Size of the database, pages.
        commit: PageCount,
    },
}

/// A file whose bytes are not what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a part.
    #[error("the file ends inside {part} that begins at byte {at}")]
    Truncated {
        /// The part that is cut.
        part: Part,
        /// Where it begins.
        at: u64,
    },
    /// The header is impossible.
    #[error("impossible header: {0}")]
    Header(#[from] HeaderError),
    /// A page may not stand where it stands.
    #[error("at byte {at}: {source}")]
    Page {
        /// Where the page frame begins.
        at: u64,
        /// The rule it breaks.
        source: PageOrderError,
    },
    /// Page number 0 with flags, or flags this version does not know.
    #[error("at byte {at}: page header with number {number} and unknown flags {flags:#06x}")]
    PageFlags {
        /// Where the page frame begins.
        at: u64,
        /// The page number field.
        number: u32,
        /// The flags field.
        flags: u16,
    },
    /// A frame larger than any page can need.
    #[error("at byte {at}: a frame of {found} bytes or more for page {page}, which needs at most {max}")]
    FrameSize {
        /// Where the page frame begins.
        at: u64,
        /// The page number.
        page: PageNo,
        /// The size claimed or reached.
        found: u64,
        /// The most a frame of this page size can need.
        max: u64,
    },
    /// The compressed bytes are damaged.
    #[error("at byte {at}: page {page} does not decompress: {reason}")]
    Decompress {
        /// Where the page frame begins.
        at: u64,
        /// The page number.
        page: PageNo,
        /// What LZ4 says.
        reason: String,
    },
    /// The page decompresses to something that is no page.
    #[error("at byte {at}: page {page} decompresses to {found} bytes instead of {expected}")]
    PageLength {
        /// Where the page frame begins.
        at: u64,
        /// The page number.
        page: PageNo,
        /// The page size, bytes.
        expected: u64,
        /// The decompressed size, bytes.
        found: u64,
    },
    /// A range that should hold one page frame holds something else besides.
    #[error("a page frame of {frame} bytes in a range of {range}")]
    FrameRange {
        /// Size of the frame, bytes.
        frame: u64,
        /// Size of the range, bytes.
        range: u64,
    },
    /// The page index does not describe the pages of this file.
    #[error("the page index is wrong at byte {at}")]
    PageIndex {
        /// Where the first wrong entry begins.
        at: u64,
    },
    /// A post-apply checksum where none may be, or none where one must be.
    #[error("post-apply checksum {found:016x} is not allowed here")]
    PostApply {
        /// The checksum field.
        found: u64,
    },
    /// A file checksum that is none.
    #[error("the file checksum {found:016x} lacks bit 63")]
    FileChecksumFlag {
        /// The checksum field.
        found: u64,
    },
    /// The content is not what was written.
    #[error("the file's content has checksum {found} but its trailer says {expected}")]
    FileChecksum {
        /// The checksum field.
        expected: FileChecksum,
        /// The checksum of the content.
        found: FileChecksum,
    },
    /// A file with every page whose rolling checksum is not the one it names.
    #[error("the database in this file has checksum {found} but the file says {expected}")]
    DatabaseChecksum {
        /// The checksum the file names.
        expected: Checksum,
        /// The checksum of its pages.
        found: Checksum,
    },
    /// Bytes after the trailer.
    #[error("the file goes on after its trailer, at byte {at}")]
    TrailingBytes {
        /// Where the file should end.
        at: u64,
    },
}

/// Why a file could not be read: the bytes did not come, or they are wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source of the bytes failed; the file may be fine.
    #[error("could not read from byte {at}")]
    Read {
        /// How many bytes had been read.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes are wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The header is impossible.
    #[error("impossible header: {0}")]
    Header(#[from] HeaderError),
    /// A database without pages has no file.
    #[error("a database of 0 pages cannot be stored")]
    EmptyDatabase,
    /// A page may not stand here.
    #[error(transparent)]
    Page(#[from] PageOrderError),
    /// An image that is not one page long.
    #[error("page {page} has {found} bytes instead of {expected}")]
    PageLength {
        /// The page number.
        page: PageNo,
        /// The page size, bytes.
        expected: u64,
        /// The length of the image, bytes.
        found: u64,
    },
    /// A file with every page whose rolling checksum is not the one its mark names.
    #[error("the pages have checksum {found} but the mark says {expected}")]
    DatabaseChecksum {
        /// The mark's post-apply checksum.
        expected: Checksum,
        /// The checksum of the pages.
        found: Checksum,
    },
    /// A seal is one slot.
    #[error("a seal is one slot, not TXIDs {min} to {max}")]
    SealRange {
        /// The minimum TXID.
        min: Txid,
        /// The maximum TXID.
        max: Txid,
    },
    /// The destination failed.
    #[error("could not write at byte {at}")]
    Write {
        /// How many bytes had been written.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not a TXID.
    #[error("{text:?} is not a TXID: sixteen lower-case hexadecimal digits, not all 0")]
    Txid {
        /// The text.
        text: String,
    },
    /// Not a checksum.
    #[error("{text:?} is not a checksum: sixteen lower-case hexadecimal digits with bit 63 set")]
    Checksum {
        /// The text.
        text: String,
    },
    /// Not the name of an LTX file.
    #[error("{text:?} is not the name of an LTX file: <min TXID>-<max TXID>.ltx")]
    FileName {
        /// The text.
        text: String,
    },
}
