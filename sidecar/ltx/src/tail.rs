//! The end of a file, fetched without the rest: where its pages lie, and its checksums.
//!
//! In:  the header, the file's size, and its last bytes.
//! Out: page index and trailer, everything checked that can be without reading the pages.
//!
//! A first guess of the tail may be too short; [`Tail::size`] says from any guess how much it must be.

use crate::error::{DecodeError, Part};
use crate::header::{HEADER_SIZE, Header};
use crate::index_reader::IndexReader;
use crate::page_frame::END_OF_PAGES;
use crate::page_index::PageIndex;
use crate::trailer::{TRAILER_SIZE, Trailer};

/// Page index and trailer of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where the pages lie.
    pub index: PageIndex,
    /// The trailer.
    pub trailer: Trailer,
}

impl Tail {
    /// The fewest bytes from the end of a file that [`Tail::size`] can work with.
    pub const MIN_SIZE: u64 = FIXED_SIZE as u64;

    /// How many bytes at the end of a file hold page index and trailer, told from at least the last
    /// [`Tail::MIN_SIZE`] of them.
    ///
    /// # Errors
    /// When the bytes are too few, or name a size the file cannot have.
    pub fn size(tail: &[u8], file_size: u64) -> Result<u64, DecodeError> {
        let Some(fixed) = tail.last_chunk::<FIXED_SIZE>() else {
            return Err(DecodeError::Truncated { part: Part::Trailer, at: file_size });
        };
        let [s0, s1, s2, s3, s4, s5, s6, s7, ..] = *fixed;
        let index = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let before = (HEADER_SIZE + END_OF_PAGES.len()) as u64;
        let room = file_size.checked_sub(before + Self::MIN_SIZE);
        match room {
            Some(room) if index <= room => Ok(index + Self::MIN_SIZE),
            Some(_) | None => Err(DecodeError::PageIndex { at: file_size.saturating_sub(Self::MIN_SIZE) }),
        }
    }

    /// Decodes the end of a file from at least as many of its last bytes as [`Tail::size`] says.
    ///
    /// # Errors
    /// When the bytes are too few, or cannot belong to a file with this header and size.
    pub fn decode(header: &Header, file_size: u64, tail: &[u8]) -> Result<Self, DecodeError> {
        let size = Self::size(tail, file_size)?;
        let at = file_size - size;
        let begin = usize::try_from(size).ok().and_then(|size| tail.len().checked_sub(size));
        let Some(begin) = begin else {
            return Err(DecodeError::Truncated { part: Part::PageIndex, at });
        };
        let (_, tail) = tail.split_at(begin);
        let (entries, fixed) = tail.split_at(tail.len() - FIXED_SIZE);
        let (_size, trailer) = fixed.split_at(FIXED_SIZE - TRAILER_SIZE);
        let (mut reader, mut index) = (IndexReader::begin(header, at), Vec::new());
        reader.push(entries, |entry| index.push(entry))?;
        reader.finish()?;
        Ok(Self { index: PageIndex::of(index), trailer: Trailer::decode(trailer)? })
    }
}

/// The index's size and the trailer.
const FIXED_SIZE: usize = 8 + TRAILER_SIZE;
