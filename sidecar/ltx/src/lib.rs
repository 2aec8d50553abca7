//! The LTX file format as Litestream 0.5 stores it, as values.
//!
//! In:  a [`Header`] and pages, or the bytes of a file.
//! Out: the bytes of a file, or header and pages, with every length, order and checksum verified.
//!
//! The format is described byte by byte in `docs/formats/ltx.md`. This crate never opens a file and never talks to
//! a bucket; it reads from and writes to what the caller hands it. It knows nothing about levels, retention or who
//! may write.

mod checksum;
mod decode;
mod encode;
mod error;
mod file;
mod file_name;
mod header;
mod header_last;
mod index_reader;
mod lz4_frame;
mod page_frame;
mod page_index;
mod page_order;
mod rolling;
mod seal;
mod source;
mod tail;
mod trailer;
mod txid;

pub use checksum::{Checksum, FileChecksum, PageChecksum};
pub use decode::{Decoded, Decoder};
pub use encode::{Encoder, Finished};
pub use error::{DecodeError, EncodeError, HeaderError, PageOrderError, ParseError, Part, ReadError};
#[doc(hidden)]
pub use file::fuzz_ltx_file;
pub use file::{LtxFile, decode_whole};
pub use file_name::FileName;
pub use header::{HEADER_SIZE, Header, Mark};
pub use header_last::{HeaderLast, Headless};
pub use index_reader::IndexReader;
#[doc(hidden)]
pub use index_reader::fuzz_page_index;
pub use lz4_frame::WholeFrame;
pub use page_frame::{Page, PageFrameDecoder, max_frame_size};
pub use page_index::{PageEntry, PageIndex};
pub use seal::{SEAL_SIZE, is_seal, seal};
pub use tail::Tail;
pub use trailer::{TRAILER_SIZE, Trailer};
pub use txid::Txid;
