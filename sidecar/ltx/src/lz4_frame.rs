//! The page encoding of Litestream 0.5.15 and older: a whole LZ4 frame, without a size in front.
//!
//! In:  bytes that begin with an LZ4 frame.
//! Out: the frame's bytes, found by walking its blocks, and what they decompress to.
//!
//! The walk comes first because nothing else says where the frame ends, and because it bounds what is kept.

use std::io::Read;

use lz4_flex::frame::FrameDecoder;

use crate::error::{Part, ReadError};
use crate::source::Source;

/// Appends one LZ4 frame to `frame`. `None`: these bytes begin no frame, or one of more than `max` bytes.
pub(crate) fn read<R: Read>(
    source: &mut Source<R>,
    max: usize,
    frame: &mut Vec<u8>,
) -> Result<Option<()>, ReadError> {
    let mut walk = Walk { source, frame, max };
    let Some(descriptor) = walk.descriptor()? else {
        return Ok(None);
    };
    loop {
        let size = walk.take::<4>()?.map(u32::from_le_bytes);
        match size {
            None => return Ok(None),
            Some(0) => break,
            Some(size) => {
                let block = (size & !BLOCK_IS_PLAIN) as usize;
                let checksum = if descriptor & BLOCK_CHECKSUMS == 0 { 0 } else { CHECKSUM };
                if walk.append(block.saturating_add(checksum))?.is_none() {
                    return Ok(None);
                }
            }
        }
    }
    let checksum = if descriptor & CONTENT_CHECKSUM == 0 { 0 } else { CHECKSUM };
    walk.append(checksum)
}

/// Decompresses one frame into `image`, or says how long its content is (at least) when it is not as long.
pub(crate) fn decompress(frame: &[u8], image: &mut [u8]) -> Result<usize, String> {
    let mut decoder = FrameDecoder::new(frame);
    let mut length = 0;
    while let Some(rest) = image.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match decoder.read(rest).map_err(|error| error.to_string())? {
            0 => return Ok(length),
            more => length += more,
        }
    }
    // Reading on makes the decoder check the end mark and the checksum of the content.
    let surplus = decoder.read(&mut [0]).map_err(|error| error.to_string())?;
    Ok(length + surplus)
}

struct Walk<'a, R> {
    source: &'a mut Source<R>,
    frame: &'a mut Vec<u8>,
    max: usize,
}

impl<R: Read> Walk<'_, R> {
    /// Magic number and descriptor; returns the descriptor's flags.
    fn descriptor(&mut self) -> Result<Option<u8>, ReadError> {
        if self.take()? != Some(MAGIC) {
            return Ok(None);
        }
        let Some([flags, _block_size]) = self.take()? else {
            return Ok(None);
        };
        let content_size = if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
        let dictionary = if flags & DICTIONARY == 0 { 0 } else { 4 };
        let header_checksum = 1;
        Ok(self.append(content_size + dictionary + header_checksum)?.map(|()| flags))
    }

    fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ReadError> {
        Ok(self.append(N)?.and_then(|()| self.frame.last_chunk().copied()))
    }

    fn append(&mut self, count: usize) -> Result<Option<()>, ReadError> {
        let begin = self.frame.len();
        if count > self.max.saturating_sub(begin) {
            return Ok(None);
        }
        self.frame.resize(begin + count, 0);
        let (_, place) = self.frame.split_at_mut(begin);
        self.source.fill(Part::PageImage, place)?;
        Ok(Some(()))
    }
}

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const BLOCK_IS_PLAIN: u32 = 1 << 31;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
const CHECKSUM: usize = 4;
