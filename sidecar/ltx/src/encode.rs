//! Writes one file, from front to back.
//!
//! In:  a header, then pages in ascending order.
//! Out: the bytes of a file that every reader accepts, or an error and bytes that no reader accepts.
//!
//! Each step consumes the encoder, so pages after the end, or going on after an error, do not compile.

use std::io::Write;

use lifeboat_wal::PageNo;

use crate::checksum::{FileChecksum, FileDigest, PageChecksum};
use crate::error::EncodeError;
use crate::header::{HEADER_SIZE, Header, Mark};
use crate::page_frame::{END_OF_PAGES, FrameWriter};
use crate::page_index::{IndexBytes, PageEntry, PageIndex};
use crate::page_order::PageOrder;
use crate::rolling::Rolling;
use crate::trailer::Trailer;

/// A file that is being written: the header is out, pages may follow.
#[derive(Debug)]
pub struct Encoder<W> {
    sink: Sink<W>,
    order: PageOrder,
    index: IndexBytes,
    frames: FrameWriter,
    rolling: Rolling,
    mark: Option<Mark>,
    page_bytes: usize,
}

/// A file that is written.
#[derive(Debug)]
pub struct Finished<W> {
    /// Where it was written to. Not flushed.
    pub out: W,
    /// Its size in bytes.
    pub size: u64,
    /// Checksum of its content, as in its trailer.
    pub file_checksum: FileChecksum,
    /// Where its pages lie.
    pub index: PageIndex,
}

impl<W: Write> Encoder<W> {
    /// Begins a file by writing its header.
    ///
    /// # Errors
    /// When the header is impossible or cannot be written.
    pub fn begin(header: &Header, out: W) -> Result<Self, EncodeError> {
        let bytes = header.encode()?;
        let mut encoder = Self::new(header, Sink { out, at: 0, digest: FileDigest::new() })?;
        encoder.sink.put(&bytes)?;
        Ok(encoder)
    }

    /// Begins a file behind its header, which comes by [`with_front`](Self::with_front).
    pub(crate) fn behind(header: &Header, out: W) -> Result<Self, EncodeError> {
        Self::new(header, Sink { out, at: HEADER_SIZE as u64, digest: FileDigest::new() })
    }

    fn new(header: &Header, sink: Sink<W>) -> Result<Self, EncodeError> {
        if header.commit.get() == 0 {
            return Err(EncodeError::EmptyDatabase);
        }
        Ok(Self {
            sink,
            order: PageOrder::new(header),
            index: IndexBytes::default(),
            frames: FrameWriter::new(header.page_size),
            rolling: Rolling::new(header, PageChecksum::of),
            mark: header.mark,
            page_bytes: header.page_size.get() as usize,
        })
    }

    /// Writes the next page.
    ///
    /// # Errors
    /// When the page may not stand here, is not one page long, or cannot be written.
    pub fn page(mut self, page: PageNo, image: &[u8]) -> Result<Self, EncodeError> {
        if image.len() != self.page_bytes {
            let (expected, found) = (self.page_bytes as u64, image.len() as u64);
            return Err(EncodeError::PageLength { page, expected, found });
        }
        self.order.admit(page)?;
        self.rolling.put(page, image);
        let offset = self.sink.at;
        let (prefix, compressed) = self.frames.compress(page, image);
        self.sink.put(&prefix)?;
        self.sink.put_as(compressed, image)?;
        self.index.push(PageEntry { page, offset, size: self.sink.at - offset });
        Ok(self)
    }

    /// Lets the header count that the caller writes in front of what was written so far.
    pub(crate) fn with_front(mut self, front: &[u8; HEADER_SIZE], mark: Option<Mark>) -> Self {
        let mut digest = FileDigest::new();
        digest.update(front);
        digest.append(&self.sink.digest);
        self.sink.digest = digest;
        Self { mark, ..self }
    }

    pub(crate) const fn out(&self) -> &W {
        &self.sink.out
    }

    /// Writes page index and trailer.
    ///
    /// # Errors
    /// When pages are missing, do not have the checksum the mark names, or cannot be written.
    #[expect(clippy::expect_used, reason = "the index was encoded by this very encoder")]
    pub fn finish(self) -> Result<Finished<W>, EncodeError> {
        let Written { out, size, trailer, index } = self.write_end()?;
        let (entries, _size) = index.split_at(index.len() - size_of::<u64>());
        let index =
            PageIndex::decode(entries, 0).expect("BUG: the encoder wrote a page index it cannot read");
        Ok(Finished { out, size, file_checksum: trailer.file_checksum, index })
    }

    pub(crate) fn write_end(mut self) -> Result<Written<W>, EncodeError> {
        self.order.end()?;
        if let Some(Mark { post_apply: expected, .. }) = self.mark
            && let Some(found) = self.rolling.differs_from(expected)
        {
            return Err(EncodeError::DatabaseChecksum { expected, found });
        }
        self.sink.put(&END_OF_PAGES)?;
        let index = self.index.finish();
        self.sink.put(&index)?;
        let trailer = self.sink.trailer()?;
        Ok(Written { out: self.sink.out, size: self.sink.at, trailer, index })
    }
}

/// A file that is written, its page index still as it stands there.
pub(crate) struct Written<W> {
    pub(crate) out: W,
    pub(crate) size: u64,
    pub(crate) trailer: Trailer,
    index: Vec<u8>,
}

/// Bytes going out, counted and digested.
#[derive(Debug)]
struct Sink<W> {
    out: W,
    at: u64,
    digest: FileDigest,
}

impl<W: Write> Sink<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_as(bytes, bytes)
    }

    /// Writes some bytes and lets others count for the checksum: pages count uncompressed.
    fn put_as(&mut self, bytes: &[u8], counted: &[u8]) -> Result<(), EncodeError> {
        self.out.write_all(bytes).map_err(|source| EncodeError::Write { at: self.at, source })?;
        self.digest.update(counted);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn trailer(&mut self) -> Result<Trailer, EncodeError> {
        self.digest.update(&[0; 8]);
        let trailer = Trailer { post_apply: None, file_checksum: self.digest.finish() };
        self.put(&trailer.encode())?;
        Ok(trailer)
    }
}
