//! One page inside a file: number, flags, compressed image.
//!
//! In:  bytes at the beginning of a page frame.
//! Out: the page, decompressed to exactly one page size.
//!
//! Two encodings exist: an LZ4 block with its size in front (flags 1, the only one we write), and an LZ4 frame
//! without (flags 0, Litestream 0.5.15 and older). Each page says which one it has.

use std::fmt;
use std::io::Read;

use lifeboat_wal::{PageNo, PageSize};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::error::{DecodeError, Part, ReadError};
use crate::lz4_frame;
use crate::source::{Source, from_memory};

/// A page of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Its number.
    pub no: PageNo,
    /// Its bytes, exactly one page size.
    pub image: &'a [u8],
}

/// The most bytes a page frame of this page size can take. A larger one is damaged.
#[must_use]
pub fn max_frame_size(page_size: PageSize) -> u64 {
    (PREFIX_SIZE + max_compressed(page_size)) as u64
}

/// Decodes page frames fetched one by one, by the places a [`crate::PageIndex`] names.
pub struct PageFrameDecoder(FrameBuffer);

impl PageFrameDecoder {
    /// A decoder for files of this page size.
    #[must_use]
    pub fn new(page_size: PageSize) -> Self {
        Self(FrameBuffer::new(page_size))
    }

    /// Decodes a range that holds exactly one page frame. Offsets in errors count from the range's beginning.
    ///
    /// # Errors
    /// When the range holds no page frame, a damaged one, or more than one.
    pub fn decode(&mut self, range: &[u8]) -> Result<Page<'_>, DecodeError> {
        let mut source = Source::new(range);
        let page = from_memory(self.0.read(&mut source))?;
        let (frame, range) = (source.at(), range.len() as u64);
        match page {
            Some(no) if frame == range => Ok(Page { no, image: &self.0.image }),
            Some(_) | None => Err(DecodeError::FrameRange { frame, range }),
        }
    }
}

impl fmt::Debug for PageFrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageFrameDecoder").field(&self.0.page_size).finish()
    }
}

/// Buffers for one page, used again for the next.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    page_size: PageSize,
    /// What the file's checksum covers besides the image: number, flags and, with flags 1, the size.
    prefix: Vec<u8>,
    compressed: Vec<u8>,
    image: Vec<u8>,
}

impl FrameBuffer {
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            prefix: Vec::new(),
            compressed: Vec::new(),
            image: vec![0; page_size.get() as usize],
        }
    }

    /// Reads the next page frame; `None` when the zeros that end the pages stand there instead.
    pub(crate) fn read<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<PageNo>, ReadError> {
        let at = source.at();
        let head: [u8; 6] = source.take(Part::PageHeader)?;
        self.prefix.clear();
        self.prefix.extend_from_slice(&head);
        self.compressed.clear();
        let [n0, n1, n2, n3, f0, f1] = head;
        let (number, flags) = (u32::from_be_bytes([n0, n1, n2, n3]), u16::from_be_bytes([f0, f1]));
        let length = match (PageNo::try_new(number), flags) {
            (None, 0) => return Ok(None),
            (Some(page), FLAG_FRAME) => self.read_frame(source, page, at)?,
            (Some(page), FLAG_BLOCK) => self.read_block(source, page, at)?,
            (_, flags) => return Err(DecodeError::PageFlags { at, number, flags }.into()),
        };
        match (PageNo::try_new(number), length as u64, u64::from(self.page_size.get())) {
            (Some(page), found, expected) if found != expected => {
                Err(DecodeError::PageLength { at, page, expected, found }.into())
            }
            (page, _, _) => Ok(page),
        }
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(crate) fn image(&self) -> &[u8] {
        &self.image
    }

    fn read_block<R: Read>(
        &mut self,
        source: &mut Source<R>,
        page: PageNo,
        at: u64,
    ) -> Result<usize, ReadError> {
        let size: [u8; 4] = source.take(Part::PageImage)?;
        self.prefix.extend_from_slice(&size);
        let size = u32::from_be_bytes(size) as usize;
        if size > max_compressed(self.page_size) {
            let found = (PREFIX_SIZE + size) as u64;
            return Err(
                DecodeError::FrameSize { at, page, found, max: max_frame_size(self.page_size) }.into()
            );
        }
        self.compressed.resize(size, 0);
        source.fill(Part::PageImage, &mut self.compressed)?;
        decompress_into(&self.compressed, &mut self.image)
            .map_err(|error| DecodeError::Decompress { at, page, reason: error.to_string() }.into())
    }

    fn read_frame<R: Read>(
        &mut self,
        source: &mut Source<R>,
        page: PageNo,
        at: u64,
    ) -> Result<usize, ReadError> {
        let max = max_compressed(self.page_size);
        if lz4_frame::read(source, max, &mut self.compressed)?.is_none() {
            let found = source.at() - at;
            return Err(
                DecodeError::FrameSize { at, page, found, max: max_frame_size(self.page_size) }.into()
            );
        }
        lz4_frame::decompress(&self.compressed, &mut self.image)
            .map_err(|reason| DecodeError::Decompress { at, page, reason }.into())
    }
}

/// Compresses pages, with a hash table used again for the next.
pub(crate) struct FrameWriter {
    table: CompressTable,
    compressed: Vec<u8>,
}

impl FrameWriter {
    pub(crate) fn new(page_size: PageSize) -> Self {
        let compressed = vec![0; get_maximum_output_size(page_size.get() as usize)];
        Self { table: CompressTable::default(), compressed }
    }

    /// Compresses one page. Returns what goes in front of it, and the compressed bytes.
    #[expect(
        clippy::expect_used,
        reason = "LZ4 cannot fail when the output is as large as its own bound says"
    )]
    pub(crate) fn compress(&mut self, page: PageNo, image: &[u8]) -> ([u8; PREFIX_SIZE], &[u8]) {
        let size = compress_into_with_table(image, &mut self.compressed, &mut self.table)
            .expect("BUG: the output is smaller than LZ4's own bound");
        let (compressed, _) = self.compressed.split_at(size);
        let size = u32::try_from(size).expect("BUG: a page compressed to more than 4 GiB");
        let [n0, n1, n2, n3] = page.get().to_be_bytes();
        let [f0, f1] = FLAG_BLOCK.to_be_bytes();
        let [s0, s1, s2, s3] = size.to_be_bytes();
        ([n0, n1, n2, n3, f0, f1, s0, s1, s2, s3], compressed)
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}

/// LZ4 makes incompressible input a little longer, and a frame adds its own headers and checksums.
fn max_compressed(page_size: PageSize) -> usize {
    let page_size = page_size.get() as usize;
    page_size + page_size / 8 + 128
}

const FLAG_FRAME: u16 = 0;
const FLAG_BLOCK: u16 = 1;
/// Page number, flags, size.
pub(crate) const PREFIX_SIZE: usize = 10;
/// What ends the pages: a page header of zeros.
pub(crate) const END_OF_PAGES: [u8; 6] = [0; 6];
