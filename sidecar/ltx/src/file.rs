//! A whole file as one value: for small files, and as a literal in tests.

use lifeboat_wal::PageNo;

use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::error::{DecodeError, EncodeError};
use crate::header::Header;
use crate::source::from_memory;
use crate::tail::Tail;
use crate::trailer::Trailer;

/// A whole file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LtxFile {
    /// Its header.
    pub header: Header,
    /// Its pages, ascending.
    pub pages: Vec<(PageNo, Vec<u8>)>,
}

impl LtxFile {
    /// Encodes the file.
    ///
    /// # Errors
    /// When header or pages break a rule of the format.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let begun = Encoder::begin(&self.header, Vec::new())?;
        let pages = self.pages.iter().try_fold(begun, |encoder, (page, image)| encoder.page(*page, image))?;
        Ok(pages.finish()?.out)
    }

    /// The trailer of the file these bytes hold, without reading the rest.
    ///
    /// # Errors
    /// When the bytes are too few for a file, or a checksum in it is none.
    pub fn trailer(bytes: &[u8]) -> Result<Trailer, DecodeError> {
        Trailer::decode(
            bytes.last_chunk::<{ crate::TRAILER_SIZE }>().map_or(&[], |trailer| trailer.as_slice()),
        )
    }
}

/// Decodes and proves a whole file. Memory: every page of it, so for large files use [`Decoder`].
///
/// # Errors
/// When anything in the bytes is not what was written.
pub fn decode_whole(bytes: &[u8]) -> Result<LtxFile, DecodeError> {
    let mut decoder = from_memory(Decoder::begin(bytes))?;
    let mut pages = Vec::new();
    while let Some(page) = from_memory(decoder.next_page())? {
        pages.push((page.no, page.image.to_vec()));
    }
    let decoded = from_memory(decoder.finish())?;
    Ok(LtxFile { header: decoded.header, pages })
}

/// Whatever the bytes are, decoding does not panic, what is accepted is encoded to something that decodes to the same, and
/// its tail is accepted too.
#[doc(hidden)]
pub fn fuzz_ltx_file(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let tail = Header::decode(bytes).map(|header| Tail::decode(&header, size, bytes));
    let Ok(file) = decode_whole(bytes) else { return };
    assert!(matches!(tail, Ok(Ok(_))), "BUG: a whole file was accepted, and its tail was not");
    if let Ok(encoded) = file.encode() {
        assert_eq!(decode_whole(&encoded).ok(), Some(file), "BUG: encoding changes a file");
    }
}
