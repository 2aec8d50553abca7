//! Which page may come next in a file: the one rule that writing and reading share.
//!
//! Pages ascend, none lies beyond the database, the lock page never appears. A file that begins at TXID 1 has no
//! earlier file to lean on, so it holds every page; only a seal in slot 1 holds none.

use lifeboat_wal::{PageCount, PageNo};

use crate::error::PageOrderError;
use crate::header::Header;

/// Watches the page numbers of one file go by.
#[derive(Debug)]
pub(crate) struct PageOrder {
    commit: PageCount,
    lock_page: PageNo,
    holds_every_page: bool,
    is_slot: bool,
    previous: Option<PageNo>,
}

impl PageOrder {
    pub(crate) fn new(header: &Header) -> Self {
        Self {
            commit: header.commit,
            lock_page: header.page_size.lock_page(),
            holds_every_page: header.holds_every_page(),
            is_slot: header.min_txid == header.max_txid,
            previous: None,
        }
    }

    /// Admits the next page, or says which rule it breaks.
    pub(crate) fn admit(&mut self, page: PageNo) -> Result<(), PageOrderError> {
        if page == self.lock_page {
            return Err(PageOrderError::LockPage { page });
        }
        if !self.commit.contains(page) {
            return Err(PageOrderError::OutOfBounds { page, commit: self.commit });
        }
        match self.previous {
            Some(previous) if page <= previous => {
                return Err(PageOrderError::Descending { previous, next: page });
            }
            Some(_) | None => {}
        }
        match self.expected() {
            Some(expected) if self.holds_every_page && page != expected => {
                return Err(PageOrderError::Hole { expected, found: page });
            }
            Some(_) | None => {}
        }
        self.previous = Some(page);
        Ok(())
    }

    /// Whether the file may end here.
    pub(crate) fn end(&self) -> Result<(), PageOrderError> {
        let is_seal = self.previous.is_none() && self.is_slot;
        match self.expected() {
            Some(expected) if self.holds_every_page && !is_seal && self.commit.contains(expected) => {
                Err(PageOrderError::Incomplete { expected, commit: self.commit })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The page that follows when none is left out.
    fn expected(&self) -> Option<PageNo> {
        let next = match self.previous {
            None => Some(PageNo::FIRST),
            Some(previous) => previous.next(),
        };
        next.and_then(|page| if page == self.lock_page { page.next() } else { Some(page) })
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageSize;

    use super::*;
    use crate::txid::Txid;

    fn order(min: u64, max: u64, commit: u32) -> PageOrder {
        let header = Header {
            min_txid: Txid::try_new(min).unwrap(),
            max_txid: Txid::try_new(max).unwrap(),
            commit: PageCount::new(commit),
            page_size: PageSize::MAX,
            ..crate::header::example()
        };
        PageOrder::new(&header)
    }

    fn page(number: u32) -> PageNo {
        PageNo::try_new(number).unwrap()
    }

    const LOCK_PAGE: u32 = 0x4000_0000 / 65_536 + 1;

    #[test]
    fn a_file_from_txid_1_skips_the_lock_page_and_nothing_else() {
        let mut order = order(1, 1, LOCK_PAGE + 1);
        for number in 1..LOCK_PAGE {
            order.admit(page(number)).unwrap();
        }
        assert_eq!(order.admit(page(LOCK_PAGE)), Err(PageOrderError::LockPage { page: page(LOCK_PAGE) }));
        assert!(matches!(order.end(), Err(PageOrderError::Incomplete { .. })));
        order.admit(page(LOCK_PAGE + 1)).unwrap();
        order.end().unwrap();
    }

    #[test]
    fn a_database_that_ends_with_the_lock_page_is_complete_without_it() {
        let mut order = order(1, 7, LOCK_PAGE);
        for number in 1..LOCK_PAGE {
            order.admit(page(number)).unwrap();
        }
        order.end().unwrap();
    }

    #[test]
    fn a_file_from_txid_1_has_no_hole_and_no_early_end() {
        let mut order = order(1, 2, 3);
        assert!(matches!(order.end(), Err(PageOrderError::Incomplete { .. })), "not a slot, so no seal");
        order.admit(page(1)).unwrap();
        assert_eq!(order.admit(page(3)), Err(PageOrderError::Hole { expected: page(2), found: page(3) }));
        assert!(matches!(order.end(), Err(PageOrderError::Incomplete { .. })));
    }

    #[test]
    fn later_files_may_leave_pages_out_but_must_ascend() {
        let mut order = order(2, 2, 9);
        order.end().unwrap();
        order.admit(page(4)).unwrap();
        order.admit(page(9)).unwrap();
        order.end().unwrap();
        assert!(matches!(order.admit(page(9)), Err(PageOrderError::Descending { .. })));
        assert!(matches!(order.admit(page(10)), Err(PageOrderError::OutOfBounds { .. })));
    }
}
