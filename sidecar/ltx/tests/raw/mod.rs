//! A writer without rules: files with right checksums and anything else wrong, and pages in the old encoding.

use std::io::Write;

use crc_fast::{CrcAlgorithm, Digest};
use lifeboat_ltx::Header;

/// A file under construction. Every field may lie.
pub(crate) struct Raw {
    pub(crate) header: [u8; 100],
    pub(crate) frames: Vec<RawFrame>,
    pub(crate) post_apply: u64,
    /// What stands in the page index for each frame: page number, offset, size.
    pub(crate) index: Option<Vec<[u64; 3]>>,
}

pub(crate) struct RawFrame {
    pub(crate) number: u32,
    pub(crate) flags: u16,
    /// What stands in the file after number and flags.
    pub(crate) stored: Vec<u8>,
    /// What counts for the checksum of it.
    pub(crate) counted: Vec<u8>,
}

impl RawFrame {
    /// The encoding with a size: an LZ4 block.
    pub(crate) fn block(number: u32, image: &[u8]) -> Self {
        let compressed = lz4_flex::block::compress(image);
        let size = u32::try_from(compressed.len()).unwrap().to_be_bytes();
        Self {
            number,
            flags: 1,
            stored: [&size, compressed.as_slice()].concat(),
            counted: [&size, image].concat(),
        }
    }

    /// The encoding without: an LZ4 frame.
    pub(crate) fn frame(number: u32, image: &[u8], options: lz4_flex::frame::FrameInfo) -> Self {
        let mut writer = lz4_flex::frame::FrameEncoder::with_frame_info(options, Vec::new());
        writer.write_all(image).unwrap();
        Self { number, flags: 0, stored: writer.finish().unwrap(), counted: image.to_vec() }
    }
}

impl Raw {
    pub(crate) fn new(header: &Header, frames: Vec<RawFrame>) -> Self {
        Self { header: header.encode().unwrap(), frames, post_apply: 0, index: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut digest = Digest::new(CrcAlgorithm::Crc64GoIso);
        let mut bytes = self.header.to_vec();
        digest.update(&bytes);
        let mut places = Vec::new();
        for frame in &self.frames {
            let offset = bytes.len() as u64;
            let head = [&frame.number.to_be_bytes()[..], &frame.flags.to_be_bytes()].concat();
            digest.update(&head);
            digest.update(&frame.counted);
            bytes.extend(head);
            bytes.extend(&frame.stored);
            places.push([u64::from(frame.number), offset, bytes.len() as u64 - offset]);
        }
        let tail = [&[0; 6], index_bytes(self.index.as_ref().unwrap_or(&places)).as_slice()].concat();
        let tail = [tail.as_slice(), &self.post_apply.to_be_bytes()].concat();
        digest.update(&tail);
        bytes.extend(tail);
        bytes.extend((digest.finalize() | 1 << 63).to_be_bytes());
        bytes
    }
}

fn index_bytes(places: &[[u64; 3]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut number in places.iter().flatten().copied().chain([0]) {
        while number > 0x7f {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
    }
    let size = bytes.len() as u64;
    bytes.extend(size.to_be_bytes());
    bytes
}
