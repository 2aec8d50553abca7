//! The page encoding of Litestream 0.5.15 and older: a whole LZ4 frame, without a size in front.
//!
//! In:  bytes that begin with an LZ4 frame.
//! Out: the frame's bytes, found by walking its blocks, and what they decompress to.
//!
//! The walk comes first because nothing else says where the frame ends, and because it bounds what is kept.

use std::io::{self, Read};

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

/// Decompresses one LZ4 frame that is all there is to read. One that was cut short is an error, wherever the cut is: the
/// decoder alone takes a cut between two blocks for the end.
#[derive(Debug)]
pub struct WholeFrame<R: Read>(FrameDecoder<Watched<R>>);

impl<R: Read> WholeFrame<R> {
    /// Reads the frame that `reader` holds.
    pub fn new(reader: R) -> Self {
        let place = Place { part: FramePart::Magic, left: MAGIC.len(), field: 0, flags: 0 };
        Self(FrameDecoder::new(Watched { reader, place }))
    }
}

impl<R: Read> Read for WholeFrame<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        if read > 0 || into.is_empty() {
            return Ok(read);
        }
        // The decoder does not look at what comes behind the frame.
        let behind = self.0.get_mut().read(&mut [0])?;
        if behind > 0 || !self.0.get_ref().place.is_end() {
            let what = "it is not one whole LZ4 frame: cut short, or longer than itself";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(read)
    }
}

/// A reader that knows where in the frame it is.
#[derive(Debug)]
struct Watched<R> {
    reader: R,
    place: Place,
}

/// Where in a frame: in which part, and how much of that is left.
#[derive(Debug)]
struct Place {
    part: FramePart,
    left: usize,
    /// The last bytes of the part, lowest first.
    field: u32,
    flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramePart {
    Magic,
    Flags,
    Descriptor,
    BlockSize,
    Block,
    Checksum,
    End,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        let (bytes, _) = into.split_at(read);
        self.place.pass(bytes);
        Ok(read)
    }
}

impl Place {
    fn is_end(&self) -> bool {
        self.part == FramePart::End
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            let count = match self.part {
                FramePart::Block => self.left.min(bytes.len()),
                FramePart::End => return,
                FramePart::Magic
                | FramePart::Flags
                | FramePart::Descriptor
                | FramePart::BlockSize
                | FramePart::Checksum => 1,
            };
            self.field = self.field >> 8 | u32::from(byte) << 24;
            (_, bytes) = bytes.split_at(count);
            self.left -= count;
            while self.left == 0 && self.part != FramePart::End {
                (self.part, self.left) = self.next();
            }
        }
    }

    fn next(&mut self) -> (FramePart, usize) {
        let checksum_if = |flag| if self.flags & flag == 0 { 0 } else { CHECKSUM };
        match self.part {
            FramePart::Magic => (FramePart::Flags, 1),
            FramePart::Flags => {
                [.., self.flags] = self.field.to_le_bytes();
                let content_size = if self.flags & CONTENT_SIZE == 0 { 0 } else { 8 };
                let dictionary = if self.flags & DICTIONARY == 0 { 0 } else { 4 };
                (FramePart::Descriptor, 2 + content_size + dictionary)
            }
            FramePart::Descriptor | FramePart::Block => (FramePart::BlockSize, 4),
            FramePart::BlockSize if self.field == 0 => (FramePart::Checksum, checksum_if(CONTENT_CHECKSUM)),
            FramePart::BlockSize => {
                let size = (self.field & !BLOCK_IS_PLAIN) as usize;
                (FramePart::Block, size.saturating_add(checksum_if(BLOCK_CHECKSUMS)))
            }
            FramePart::Checksum | FramePart::End => (FramePart::End, 0),
        }
    }
}

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const BLOCK_IS_PLAIN: u32 = 1 << 31;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
const CHECKSUM: usize = 4;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    #[test]
    fn a_frame_that_is_cut_anywhere_or_longer_than_itself_is_an_error() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for (content_checksum, block_checksums) in
            [(true, false), (false, false), (true, true), (false, true)]
        {
            let info = FrameInfo::new()
                .block_size(BlockSize::Max64KB)
                .content_checksum(content_checksum)
                .block_checksums(block_checksums);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&content).unwrap();
            let frame = encoder.finish().unwrap();
            let read = |bytes: &[u8]| {
                let mut read = Vec::new();
                WholeFrame::new(bytes).read_to_end(&mut read).map(|_| read)
            };
            assert!(read(&frame).unwrap() == content);
            // Every cut near a block's edge, and some elsewhere.
            for cut in (0..frame.len()).filter(|cut| *cut < 200 || *cut > frame.len() - 200 || cut % 997 == 0)
            {
                assert!(read(&frame[..cut]).is_err(), "cut at {cut} of {}", frame.len());
            }
            let mut at = 7;
            while at + 4 < frame.len() {
                assert!(read(&frame[..at]).is_err(), "cut between two blocks at {at}");
                let size = u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) & !BLOCK_IS_PLAIN;
                at += 4 + size as usize + if block_checksums { 4 } else { 0 };
            }
            assert!(read(&[&frame[..], b"x"].concat()).is_err());
            assert!(read(&[&frame[..], &frame[..]].concat()).is_err(), "two frames");
        }
    }
}
