//! A frame: 24 bytes of header, then the image of one page.
//!
//! Six big-endian words: page number, commit size, two salts, two checksums.

use crate::checksum::Checksum;
use crate::header::{Salts, WAL_HEADER_BYTES};
use crate::{PageCount, PageSize};

/// Size of a frame's header in bytes.
pub const FRAME_HEADER_BYTES: usize = 24;

/// Number of a frame in its WAL, from 1. As a place, 0 is the one before the first frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameNo(u32);

impl FrameNo {
    /// The place before the first frame.
    pub const START: Self = Self(0);

    /// A frame number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The frame after this one; the last number there is stays itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many frames lie after `earlier`, up to and including this one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Where the frame after this one begins in the file, in bytes.
    #[must_use]
    pub fn end_offset(self, page_size: PageSize) -> u64 {
        WAL_HEADER_BYTES as u64 + u64::from(self.0) * frame_bytes(page_size) as u64
    }
}

/// Size of a whole frame in bytes.
#[must_use]
pub const fn frame_bytes(page_size: PageSize) -> usize {
    FRAME_HEADER_BYTES + page_size.get() as usize
}

/// What the header of a frame says. Nothing of it is true before the checksum proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Number of the page whose image follows; 0 in no valid frame.
    pub page: u32,
    /// Size of the database after the commit that this frame ends; `None` when it ends none.
    pub commit_size: Option<PageCount>,
    /// The run through the file that the frame belongs to.
    pub salts: Salts,
    /// The running checksum up to and including this frame.
    pub checksum: Checksum,
}

impl FrameHeader {
    /// Reads the fields.
    #[must_use]
    pub const fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, s0, s1, s2, s3, s4, s5, s6, s7, i, j, k, l, m, n, o, p] = *bytes;
        let commit_size = u32::from_be_bytes([e, f, g, h]);
        Self {
            page: u32::from_be_bytes([a, b, c, d]),
            commit_size: if commit_size == 0 { None } else { Some(PageCount::new(commit_size)) },
            salts: Salts([s0, s1, s2, s3, s4, s5, s6, s7]),
            checksum: Checksum {
                first: u32::from_be_bytes([i, j, k, l]),
                second: u32::from_be_bytes([m, n, o, p]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_after_the_wal_header() {
        assert_eq!(FrameNo::START.end_offset(PageSize::MIN), 32);
        assert_eq!(FrameNo::new(2).end_offset(PageSize::MIN), 32 + 2 * (24 + 512));
        assert_eq!(FrameNo::new(u32::MAX).end_offset(PageSize::MAX), 32 + u64::from(u32::MAX) * 65_560);
    }

    #[test]
    fn the_fields_are_where_sqlite_writes_them() {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        for (byte, value) in bytes.iter_mut().zip(1..) {
            *byte = value;
        }
        let header = FrameHeader::decode(&bytes);
        assert_eq!(header.page, 0x0102_0304);
        assert_eq!(header.commit_size, Some(PageCount::new(0x0506_0708)));
        assert_eq!(header.salts.0, [9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(header.checksum, Checksum { first: 0x1112_1314, second: 0x1516_1718 });
    }
}
