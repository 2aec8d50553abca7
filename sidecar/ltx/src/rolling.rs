//! The rolling checksum of a file that holds every page, compared with what the file says it is.
//!
//! A file that holds only some pages cannot be checked this way, and a seal restates the checksum of pages it does
//! not hold.

use lifeboat_wal::PageNo;

use crate::checksum::Checksum;
use crate::header::Header;

/// Adds up the pages of one file.
#[derive(Debug)]
pub(crate) struct Rolling {
    is_complete: bool,
    pages: Option<Checksum>,
}

impl Rolling {
    pub(crate) fn new(header: &Header) -> Self {
        Self { is_complete: header.holds_every_page(), pages: None }
    }

    pub(crate) fn put(&mut self, page: PageNo, image: &[u8]) {
        if self.is_complete {
            let before = self.pages.unwrap_or(Checksum::EMPTY);
            self.pages = Some(before.toggle(Checksum::page_checksum(page, image)));
        }
    }

    /// The checksum of the pages, when it is known and not the expected one.
    pub(crate) fn differs_from(&self, expected: Checksum) -> Option<Checksum> {
        self.pages.filter(|&found| found != expected)
    }
}
