//! A page index that is read piece by piece, however large it is.
//!
//! In:  the header, where the index lies, and its bytes in pieces of any size.
//! Out: the entries, everything checked that can be without reading the pages: order, places and sizes.

use crate::error::{DecodeError, Part};
use crate::header::{HEADER_SIZE, Header};
use crate::page_frame::{END_OF_PAGES, max_frame_size};
use crate::page_index::{ENTRY_BYTES_MAX, PageEntry, take_entry};
use crate::page_order::PageOrder;

/// Takes the bytes of a page index and gives its entries. Memory: less than one entry.
#[derive(Debug)]
pub struct IndexReader {
    order: PageOrder,
    frame_bytes_max: u64,
    /// Where the index begins in the file.
    begin: u64,
    /// Where the next entry begins.
    at: u64,
    /// The beginning of an entry whose end has not come yet.
    cut: Vec<u8>,
    /// Where the frame after the last one must begin.
    frames_end: u64,
    has_ended: bool,
}

impl IndexReader {
    /// Begins the index that lies at byte `begin` of a file with this header.
    #[must_use]
    pub fn begin(header: &Header, begin: u64) -> Self {
        Self {
            order: PageOrder::new(header),
            frame_bytes_max: max_frame_size(header.page_size),
            begin,
            at: begin,
            cut: Vec::new(),
            frames_end: HEADER_SIZE as u64,
            has_ended: false,
        }
    }

    /// Takes the next bytes and gives the entries that are complete, pages ascending.
    ///
    /// # Errors
    /// When the bytes are no index, or name pages that cannot lie in this file.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(PageEntry)) -> Result<(), DecodeError> {
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend_from_slice(bytes);
        let mut rest = joined.as_slice();
        while !rest.is_empty() {
            let before = rest;
            let wrong = DecodeError::PageIndex { at: self.at };
            match take_entry(&mut rest) {
                Ok(_) if self.has_ended => return Err(wrong),
                Ok(Some(entry)) => {
                    self.admit(entry)?;
                    each(entry);
                }
                Ok(None) => self.has_ended = true,
                Err(_) if rest.is_empty() && before.len() < ENTRY_BYTES_MAX && !self.has_ended => {
                    self.cut = before.to_vec();
                    return Ok(());
                }
                Err(_) => return Err(wrong),
            }
            self.at += (before.len() - rest.len()) as u64;
        }
        Ok(())
    }

    /// Ends the index.
    ///
    /// # Errors
    /// When it is not complete, or the pages do not reach up to it.
    pub fn finish(self) -> Result<(), DecodeError> {
        if !self.has_ended {
            return Err(DecodeError::Truncated { part: Part::PageIndex, at: self.begin });
        }
        if self.frames_end.checked_add(END_OF_PAGES.len() as u64) != Some(self.begin) {
            return Err(DecodeError::PageIndex { at: self.begin });
        }
        let at = self.frames_end;
        self.order.end().map_err(|source| DecodeError::Page { at, source })
    }

    fn admit(&mut self, entry: PageEntry) -> Result<(), DecodeError> {
        let (at, max) = (entry.offset, self.frame_bytes_max);
        if at != self.frames_end || !entry.fits() {
            return Err(DecodeError::PageIndex { at: self.at });
        }
        self.order.admit(entry.page).map_err(|source| DecodeError::Page { at, source })?;
        if entry.size > max {
            return Err(DecodeError::FrameSize { at, page: entry.page, found: entry.size, max });
        }
        self.frames_end = entry.offset + entry.size;
        Ok(())
    }
}

/// Whatever the bytes are, an index of them does not panic, and gives the same however it is cut into pieces. The first
/// bytes are a header, and where the index lies.
#[doc(hidden)]
pub fn fuzz_page_index(bytes: &[u8]) {
    let Ok(header) = Header::decode(bytes) else { return };
    let Some((place, index)) = bytes.get(HEADER_SIZE..).and_then(|rest| rest.split_first_chunk()) else {
        return;
    };
    let begin = u64::from_be_bytes(*place);
    let read = |piece: usize| {
        let (mut reader, mut entries) = (IndexReader::begin(&header, begin), Vec::new());
        let pushed =
            index.chunks(piece).try_for_each(|piece| reader.push(piece, |entry| entries.push(entry)));
        (pushed.and_then(|()| reader.finish()).is_ok(), entries)
    };
    let whole = read(index.len().max(1));
    for piece in [1, 7] {
        let cut = read(piece);
        assert_eq!(cut.0, whole.0, "BUG: an index is accepted or not by how it is cut");
        assert!(!whole.0 || cut.1 == whole.1, "BUG: entries depend on how an index is cut");
    }
}
