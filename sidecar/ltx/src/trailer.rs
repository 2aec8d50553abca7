//! The last 16 bytes of a file.

use crate::checksum::{Checksum, FileChecksum};
use crate::error::{DecodeError, Part};

/// Size of the trailer in bytes.
pub const TRAILER_SIZE: usize = 16;

/// What a file says about itself after its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Litestream's own field for the rolling checksum of the database; it refuses files that use it, so we never do.
    pub post_apply: Option<Checksum>,
    /// Checksum of the file's content.
    pub file_checksum: FileChecksum,
}

impl Trailer {
    /// Decodes a trailer. Whether the checksum is the file's, only reading the whole file can tell.
    ///
    /// # Errors
    /// When the bytes are not sixteen, or a checksum is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Ok(bytes) = <[u8; TRAILER_SIZE]>::try_from(bytes) else {
            return Err(DecodeError::Truncated { part: Part::Trailer, at: 0 });
        };
        let [p0, p1, p2, p3, p4, p5, p6, p7, f0, f1, f2, f3, f4, f5, f6, f7] = bytes;
        let post_apply = u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let file = u64::from_be_bytes([f0, f1, f2, f3, f4, f5, f6, f7]);
        let post_apply = match (post_apply, Checksum::try_new(post_apply)) {
            (0, _) => None,
            (_, Some(checksum)) => Some(checksum),
            (found, None) => return Err(DecodeError::PostApply { found }),
        };
        let file_checksum =
            FileChecksum::try_new(file).ok_or(DecodeError::FileChecksumFlag { found: file })?;
        Ok(Self { post_apply, file_checksum })
    }

    /// The trailer as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut bytes = [0; TRAILER_SIZE];
        let (post_apply, file) = bytes.split_at_mut(TRAILER_SIZE / 2);
        post_apply.copy_from_slice(&self.post_apply.map_or(0, Checksum::get).to_be_bytes());
        file.copy_from_slice(&self.file_checksum.get().to_be_bytes());
        bytes
    }
}
