//! Reads one file, from front to back, and believes nothing.
//!
//! In:  a reader.
//! Out: the header, then the pages one by one, and at the end proof that all of it is what was written.
//!
//! Pages come out before the file's checksum is known. Whoever keeps them must throw them away unless
//! [`Decoder::finish`] succeeds. Memory: a few pages, however many there are.

use std::io::Read;

use crate::checksum::{Checksum, FileDigest, PageChecksum};
use crate::error::{DecodeError, Part, ReadError};
use crate::header::{self, HEADER_SIZE, Header, Tracking};
use crate::page_frame::{FrameBuffer, Page};
use crate::page_index::{ExpectedIndex, IndexDigest, PageEntry};
use crate::page_order::PageOrder;
use crate::rolling::Rolling;
use crate::source::Source;
use crate::trailer::{TRAILER_SIZE, Trailer};

/// A file that is being read: the header is known, pages follow.
#[derive(Debug)]
pub struct Decoder<R> {
    source: Source<R>,
    header: Header,
    tracking: Tracking,
    digest: FileDigest,
    order: PageOrder,
    index: ExpectedIndex,
    /// By the mark's kind of checksum.
    rolling: Rolling,
    /// By that of the trailer, where it has one.
    by_crc: Option<Rolling>,
    frame: FrameBuffer,
    has_ended: bool,
}

/// A file that was read to its end and is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its header.
    pub header: Header,
    /// Its trailer, the checksum verified.
    pub trailer: Trailer,
    /// Its size in bytes.
    pub size: u64,
}

impl<R: Read> Decoder<R> {
    /// Begins a file by reading its header.
    ///
    /// # Errors
    /// When the reader fails, or the bytes are no header this version knows.
    pub fn begin(reader: R) -> Result<Self, ReadError> {
        let mut source = Source::new(reader);
        let bytes: [u8; HEADER_SIZE] = source.take(Part::Header)?;
        let (header, tracking) = header::decode(&bytes).map_err(DecodeError::from)?;
        let mut digest = FileDigest::new();
        digest.update(&bytes);
        Ok(Self {
            source,
            tracking,
            digest,
            order: PageOrder::new(&header),
            index: ExpectedIndex::default(),
            rolling: Rolling::new(&header, PageChecksum::of),
            by_crc: (tracking == Tracking::Checksums).then(|| Rolling::new(&header, PageChecksum::by_crc)),
            frame: FrameBuffer::new(header.page_size),
            has_ended: false,
            header,
        })
    }

    /// The file's header. Not proved before [`Decoder::finish`].
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next page, or `None` after the last. Not proved before [`Decoder::finish`].
    ///
    /// # Errors
    /// When the reader fails, or the bytes are no page that may stand here.
    pub fn next_page(&mut self) -> Result<Option<Page<'_>>, ReadError> {
        if self.has_ended {
            return Ok(None);
        }
        let offset = self.source.at();
        let Some(no) = self.frame.read(&mut self.source)? else {
            self.digest.update(self.frame.prefix());
            self.order.end().map_err(|source| DecodeError::Page { at: offset, source })?;
            self.has_ended = true;
            return Ok(None);
        };
        self.order.admit(no).map_err(|source| DecodeError::Page { at: offset, source })?;
        self.digest.update(self.frame.prefix());
        let image = self.frame.image();
        self.digest.update(image);
        self.rolling.put(no, image);
        if let Some(by_crc) = &mut self.by_crc {
            by_crc.put(no, image);
        }
        self.index.push(PageEntry { page: no, offset, size: self.source.at() - offset });
        Ok(Some(Page { no, image: self.frame.image() }))
    }

    /// Reads what is left and proves the file.
    ///
    /// # Errors
    /// When the reader fails, or anything in the file is not what was written.
    pub fn finish(mut self) -> Result<Decoded, ReadError> {
        while self.next_page()?.is_some() {}
        self.read_index()?;
        let trailer = self.read_trailer()?;
        if !self.source.is_at_end()? {
            return Err(DecodeError::TrailingBytes { at: self.source.at() }.into());
        }
        self.check_database_checksum(&trailer)?;
        Ok(Decoded { size: self.source.at(), header: self.header, trailer })
    }

    /// The page index must be, byte for byte, the one these pages lead to.
    fn read_index(&mut self) -> Result<(), ReadError> {
        let at = self.source.at();
        let expected = std::mem::take(&mut self.index).finish();
        let (mut found, mut left) = (IndexDigest::default(), expected.bytes);
        let mut chunk = [0; INDEX_CHUNK];
        while left > 0 {
            let (chunk, _) = chunk.split_at_mut(usize::try_from(left).unwrap_or(usize::MAX).min(INDEX_CHUNK));
            self.source.fill(Part::PageIndex, chunk)?;
            found.update(chunk);
            self.digest.update(chunk);
            left -= chunk.len() as u64;
        }
        if found == expected { Ok(()) } else { Err(DecodeError::PageIndex { at }.into()) }
    }

    fn read_trailer(&mut self) -> Result<Trailer, ReadError> {
        let bytes: [u8; TRAILER_SIZE] = self.source.take(Part::Trailer)?;
        let (post_apply, _) = bytes.split_at(TRAILER_SIZE / 2);
        self.digest.update(post_apply);
        let trailer = Trailer::decode(&bytes)?;
        let found = self.digest.finish();
        if found != trailer.file_checksum {
            return Err(DecodeError::FileChecksum { expected: trailer.file_checksum, found }.into());
        }
        Ok(trailer)
    }

    fn check_database_checksum(&self, trailer: &Trailer) -> Result<(), DecodeError> {
        let from_trailer = match (self.tracking, trailer.post_apply) {
            (Tracking::NoChecksums, None) => None,
            (Tracking::Checksums, Some(expected)) => Some(expected),
            (Tracking::NoChecksums | Tracking::Checksums, post_apply) => {
                return Err(DecodeError::PostApply { found: post_apply.map_or(0, Checksum::get) });
            }
        };
        let from_mark = self.header.mark.map(|mark| mark.post_apply);
        let compare = |rolling: Option<&Rolling>, expected: Option<Checksum>| {
            let (rolling, expected) = rolling.zip(expected)?;
            rolling.differs_from(expected).map(|found| DecodeError::DatabaseChecksum { expected, found })
        };
        let wrong =
            compare(self.by_crc.as_ref(), from_trailer).or_else(|| compare(Some(&self.rolling), from_mark));
        wrong.map_or(Ok(()), Err)
    }
}

const INDEX_CHUNK: usize = 4096;
