//! The rolling checksums of a file that holds every page, compared with what the file says they are.
//!
//! A file that holds only some pages cannot be checked this way, and a seal restates the checksum of pages it does
//! not hold.

use lifeboat_wal::PageNo;

use crate::checksum::{Checksum, PageChecksum};
use crate::header::Header;

/// How the pages of a database are summed.
pub(crate) type OfPage = fn(PageNo, &[u8]) -> PageChecksum;

/// Adds up the pages of one file in one way.
#[derive(Debug)]
pub(crate) struct Rolling {
    is_complete: bool,
    of: OfPage,
    pages: Option<Checksum>,
}

impl Rolling {
    pub(crate) fn new(header: &Header, of: OfPage) -> Self {
        Self { is_complete: header.holds_every_page(), of, pages: None }
    }

    pub(crate) fn put(&mut self, page: PageNo, image: &[u8]) {
        if self.is_complete {
            let before = self.pages.unwrap_or(Checksum::EMPTY);
            self.pages = Some(before.toggle((self.of)(page, image)));
        }
    }

    /// The checksum of the pages, when it is known and not the expected one.
    pub(crate) fn differs_from(&self, expected: Checksum) -> Option<Checksum> {
        self.pages.filter(|&found| found != expected)
    }
}
