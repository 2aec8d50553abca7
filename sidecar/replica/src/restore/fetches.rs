//! Which byte ranges of a large file are fetched: those of the pages that are wanted, joined over small gaps.

use std::ops::Range;

use lifeboat_ltx::PageEntry;

/// The most bytes fetched at once; only a single larger frame is longer.
pub const FETCH_BYTES_MAX: u64 = 1024 * 1024;
/// A gap of at most so many unwanted bytes is fetched too: they cost less than a request.
pub const GAP_BYTES_MAX: u64 = 64 * 1024;

/// One range, and the wanted pages in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The bytes of the file.
    pub range: Range<u64>,
    /// The wanted pages, ascending.
    pub pages: Vec<PageEntry>,
}

/// Joins wanted pages, given in the order in which they lie, to ranges.
#[derive(Clone, Debug, Default)]
pub struct Fetches {
    open: Option<Fetch>,
}

impl Fetches {
    /// Adds the next wanted page; returns a range that is complete.
    pub fn add(&mut self, page: PageEntry) -> Option<Fetch> {
        let end = page.offset.saturating_add(page.size);
        let joins = |open: &&mut Fetch| {
            let is_near = page.offset <= open.range.end.saturating_add(GAP_BYTES_MAX);
            is_near && end.saturating_sub(open.range.start) <= FETCH_BYTES_MAX
        };
        if let Some(open) = self.open.as_mut().filter(joins) {
            open.range.end = end;
            open.pages.push(page);
            return None;
        }
        self.open.replace(Fetch { range: page.offset..end, pages: vec![page] })
    }

    /// The last range.
    #[must_use]
    pub fn finish(self) -> Option<Fetch> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageNo;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_wanted_page_is_fetched_once_in_ranges_of_bounded_size_and_waste(
            frames in prop::collection::vec((1_u64..200_000, any::<bool>()), 0..200)
        ) {
            let (mut wanted, mut at) = (Vec::new(), 100);
            for ((size, is_wanted), number) in frames.into_iter().zip(1..) {
                if is_wanted {
                    wanted.push(PageEntry { page: PageNo::try_new(number).unwrap(), offset: at, size });
                }
                at += size;
            }
            let mut fetches = Fetches::default();
            let mut ranges: Vec<_> = wanted.iter().filter_map(|page| fetches.add(*page)).collect();
            ranges.extend(fetches.finish());
            let fetched: Vec<_> = ranges.iter().flat_map(|fetch| fetch.pages.clone()).collect();
            prop_assert_eq!(fetched, wanted);
            for fetch in &ranges {
                prop_assert!(fetch.range.end - fetch.range.start <= FETCH_BYTES_MAX);
                let (first, last) = (fetch.pages[0], fetch.pages[fetch.pages.len() - 1]);
                prop_assert_eq!(&fetch.range, &(first.offset..last.offset + last.size));
                for pair in fetch.pages.windows(2) {
                    prop_assert!(pair[1].offset - (pair[0].offset + pair[0].size) <= GAP_BYTES_MAX);
                }
            }
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].range.end <= pair[1].range.start);
            }
        }
    }
}
