//! Reads frames from WAL bytes until the valid part ends.
//!
//! In:  bytes of the `-wal` file from a known frame boundary, and the running checksum there.
//! Out: frames, and a [`ScanStop`] saying why there are no more *yet*.
//!
//! A mismatch is not an error: another process may be writing that frame now, or left it there in an earlier run through
//! the file. And a valid frame is not yet a committed one: only the WAL-index says how far commits go. This module never
//! decides what a stop means; [`continuity`](crate::continuity) does.

use crate::checksum::{ByteOrder, Checksum};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameNo, frame_bytes};
use crate::header::{Salts, WalHeader};
use crate::{PageCount, PageNo, PageSize};

/// A frame whose salts and checksum are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// Its number in the WAL.
    pub number: FrameNo,
    /// The page it holds.
    pub page: PageNo,
    /// Size of the database after the commit that this frame ends; `None` when it ends none.
    pub commit_size: Option<PageCount>,
    /// The image of the page.
    pub image: &'b [u8],
}

/// Why there is no further frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStop {
    /// The bytes end at a frame boundary.
    EndOfFile,
    /// The bytes end within a frame.
    PartialFrame,
    /// The frame belongs to another run through the file.
    SaltChange,
    /// The frame is not the continuation of the frames before it, or not wholly written.
    ChecksumMismatch,
    /// The checksum is right, but the frame names page 0, which does not exist.
    PageZero,
}

/// Stands at a frame boundary and verifies the frames after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanner {
    order: ByteOrder,
    page_size: PageSize,
    salts: Salts,
    last: FrameNo,
    checksum: Checksum,
}

impl Scanner {
    /// Stands before the first frame of a WAL.
    #[must_use]
    pub const fn begin(header: &WalHeader) -> Self {
        let WalHeader { order, page_size, salts, checksum } = *header;
        Self { order, page_size, salts, last: FrameNo::START, checksum }
    }

    /// Stands after frame `last`, up to which `checksum` runs.
    #[must_use]
    pub const fn resume(header: WalHeader, last: FrameNo) -> Self {
        let WalHeader { order, page_size, salts, checksum } = header;
        Self { order, page_size, salts, last, checksum }
    }

    /// Takes the next frame off the front of `bytes`, or says why not and leaves everything as it is.
    ///
    /// # Errors
    ///
    /// A [`ScanStop`], which is information and no failure.
    pub fn next_frame<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Frame<'b>, ScanStop> {
        if bytes.is_empty() {
            return Err(ScanStop::EndOfFile);
        }
        let (frame, rest) =
            bytes.split_at_checked(frame_bytes(self.page_size)).ok_or(ScanStop::PartialFrame)?;
        let (head, image) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(ScanStop::PartialFrame)?;
        let header = FrameHeader::decode(head);
        if header.salts != self.salts {
            return Err(ScanStop::SaltChange);
        }
        let [a, b, c, d, e, f, g, h, ..] = *head;
        let checksum = self.checksum.update(self.order, &[a, b, c, d, e, f, g, h]).update(self.order, image);
        if header.checksum != checksum {
            return Err(ScanStop::ChecksumMismatch);
        }
        let page = PageNo::try_new(header.page).ok_or(ScanStop::PageZero)?;
        self.checksum = checksum;
        self.last = self.last.next();
        *bytes = rest;
        Ok(Frame { number: self.last, page, commit_size: header.commit_size, image })
    }

    /// The last frame taken.
    #[must_use]
    pub const fn last(&self) -> FrameNo {
        self.last
    }

    /// The running checksum up to and including the last frame.
    #[must_use]
    pub const fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The salts every frame of this run carries.
    #[must_use]
    pub const fn salts(&self) -> Salts {
        self.salts
    }

    /// The byte order of the checksums.
    #[must_use]
    pub const fn order(&self) -> ByteOrder {
        self.order
    }

    /// Size of the page images.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }
}

/// Whatever the bytes are, scanning them as a whole WAL ends, without a panic, at a frame boundary.
#[doc(hidden)]
pub fn fuzz_wal_scan(bytes: &[u8]) {
    let Some((header, mut rest)) = bytes.split_first_chunk() else { return };
    let Ok(header) = WalHeader::decode(header) else { return };
    let mut scanner = Scanner::begin(&header);
    while scanner.next_frame(&mut rest).is_ok() {}
    let read = bytes.len() - rest.len();
    assert_eq!(
        scanner.last().end_offset(header.page_size),
        read as u64,
        "BUG: the scanner left a frame boundary"
    );
}

#[cfg(test)]
pub(crate) mod tests;
