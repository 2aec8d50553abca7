//! Writes one file whose header is known last: the header holds the checksum of what its pages make of the database.
//!
//! In:  a header without that checksum, pages in ascending order, then the checksum.
//! Out: the bytes behind the header while they come, and at the end the header, for whoever kept its place free.
//!
//! So every page is read once. It works because the checksum of a file can be put together from those of its pieces.

use std::io::Write;

use lifeboat_wal::PageNo;

use crate::checksum::Checksum;
use crate::encode::{Encoder, Written};
use crate::error::EncodeError;
use crate::header::{HEADER_SIZE, Header, Mark};
use crate::trailer::TRAILER_SIZE;

/// A file that is being written from behind its header on.
#[derive(Debug)]
pub struct HeaderLast<W> {
    encoder: Encoder<W>,
    header: Header,
}

/// A file that is written, except for its header.
#[derive(Debug)]
pub struct Headless<W> {
    /// Where everything behind the header was written to. Not flushed.
    pub out: W,
    /// What the header is.
    pub header: Header,
    /// The bytes that belong in front.
    pub front: [u8; HEADER_SIZE],
    /// The file's last bytes, which `out` has already.
    pub trailer: [u8; TRAILER_SIZE],
    /// Size of the file in bytes, header included.
    pub size: u64,
}

impl<W: Write> HeaderLast<W> {
    /// Begins a file. `out` gets what stands behind the first [`HEADER_SIZE`] bytes. What the mark says of the database
    /// after this file does not count yet.
    ///
    /// # Errors
    /// When the header is impossible.
    pub fn begin(header: Header, out: W) -> Result<Self, EncodeError> {
        header.encode()?;
        Ok(Self { encoder: Encoder::behind(&header, out)?, header })
    }

    /// Writes the next page.
    ///
    /// # Errors
    /// As [`Encoder::page`].
    pub fn page(self, page: PageNo, image: &[u8]) -> Result<Self, EncodeError> {
        Ok(Self { encoder: self.encoder.page(page, image)?, ..self })
    }

    /// Where the pages go.
    pub const fn out(&self) -> &W {
        self.encoder.out()
    }

    /// Writes page index and trailer, now that the checksum of the database after this file is known.
    ///
    /// # Errors
    /// As [`Encoder::finish`].
    pub fn finish(mut self, post_apply: Checksum) -> Result<Headless<W>, EncodeError> {
        self.header.mark = self.header.mark.map(|mark| Mark { post_apply, ..mark });
        let front = self.header.encode()?;
        let Written { out, size, trailer, .. } =
            self.encoder.with_front(&front, self.header.mark).write_end()?;
        Ok(Headless { out, header: self.header, front, trailer: trailer.encode(), size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::txid::Txid;

    const POST: u64 = 1 << 63 | 77;

    fn header(min: u64) -> Header {
        let mark = Mark { pre_apply: Checksum::EMPTY, post_apply: Checksum::EMPTY };
        let txid = Txid::try_new(min).unwrap();
        Header { min_txid: txid, max_txid: txid, mark: Some(mark), ..crate::header::example() }
    }

    fn header_first(header: &Header, pages: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = Encoder::begin(header, Vec::new()).unwrap();
        for (number, image) in (1..).zip(pages) {
            encoder = encoder.page(PageNo::try_new(number).unwrap(), image).unwrap();
        }
        encoder.finish().unwrap().out
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn the_bytes_are_those_of_a_file_whose_header_was_written_first(
            pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 512), 0..9),
            (pre, post) in (any::<u64>(), any::<u64>()),
        ) {
            let [pre_apply, post_apply] = [pre, post].map(|bits| Checksum::try_new(bits | 1 << 63).unwrap());
            let size = lifeboat_wal::PageSize::MIN;
            let first = Header { page_size: size, commit: lifeboat_wal::PageCount::new(9), ..header(2) };
            let known = Header { mark: Some(Mark { pre_apply, post_apply }), ..first.clone() };
            let early = Header { mark: Some(Mark { pre_apply, post_apply: Checksum::EMPTY }), ..first };
            let mut late = HeaderLast::begin(early, Vec::new()).unwrap();
            for (number, image) in (1..).zip(&pages) {
                late = late.page(PageNo::try_new(number).unwrap(), image).unwrap();
            }
            let late = late.finish(post_apply).unwrap();
            let whole = [&late.front, late.out.as_slice()].concat();
            prop_assert_eq!(&whole, &header_first(&known, &pages));
            prop_assert_eq!(whole.len() as u64, late.size);
            prop_assert!(whole.ends_with(&late.trailer));
            prop_assert_eq!(late.header, known);
        }
    }

    #[test]
    fn a_first_file_with_a_checksum_that_is_not_its_pages_is_refused() {
        let commit = lifeboat_wal::PageCount::new(1);
        let header = Header { page_size: lifeboat_wal::PageSize::MIN, commit, ..header(1) };
        let late = HeaderLast::begin(header, Vec::new()).unwrap().page(PageNo::FIRST, &[3; 512]).unwrap();
        let error = late.finish(Checksum::try_new(POST).unwrap()).unwrap_err();
        assert!(matches!(error, EncodeError::DatabaseChecksum { .. }), "{error}");
    }
}
