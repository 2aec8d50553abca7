//! What the WAL said of pages, to be held against what the database says of them after a checkpoint.
//!
//! A checkpoint copies pages from the WAL into the database file, and then the WAL is written over. Versions of SQLite that
//! most applications still use can, in a rare race, take frames for copied that were not: the commit is gone from the
//! database then, and no frame tells of it.
//!
//! So the checksums of the pages last read from the WAL are kept, of a bounded number: a page pushes out another one with
//! the same remainder. What is lost in that race are many frames at once, and so one of those that are kept.

use lifeboat_ltx::PageChecksum;
use lifeboat_wal::PageNo;

/// The last image of pages in the WAL. Empty until something is said.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    said: Vec<Option<(PageNo, PageChecksum)>>,
}

impl Audit {
    /// Nothing was said of any page.
    #[must_use]
    pub const fn new() -> Self {
        Self { said: Vec::new() }
    }

    /// A frame says that this is the page now.
    pub fn says(&mut self, page: PageNo, image: &[u8]) {
        if self.said.is_empty() {
            self.said.resize(PAGES_MAX, None);
        }
        if let Some(place) = self.said.get_mut(page.get() as usize % PAGES_MAX) {
            *place = Some((page, PageChecksum::of(page, image)));
        }
    }

    /// What was said is proved, or no longer true.
    pub fn forget(&mut self) {
        self.said.clear();
    }

    /// Whether nothing was said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// The pages of which something was said, in no order that means anything, and what their checksums must be.
    pub fn pages(&self) -> impl Iterator<Item = (PageNo, PageChecksum)> + '_ {
        self.said.iter().flatten().copied()
    }
}

/// So many pages are kept at most.
const PAGES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: usize) -> PageNo {
        PageNo::try_new(u32::try_from(number).unwrap()).unwrap()
    }

    fn said(audit: &Audit) -> Vec<(u32, PageChecksum)> {
        audit.pages().map(|(page, sum)| (page.get(), sum)).collect()
    }

    #[test]
    fn of_every_page_the_last_image_counts() {
        let mut audit = Audit::new();
        assert!(audit.is_empty());
        audit.says(page(7), b"one");
        audit.says(page(7), b"two");
        assert_eq!(said(&audit), [(7, PageChecksum::of(page(7), b"two"))]);
        audit.forget();
        assert!(audit.is_empty() && said(&audit).is_empty());
    }

    #[test]
    fn it_keeps_the_newest_of_a_bounded_number() {
        let mut audit = Audit::new();
        (1..=3 * PAGES_MAX).for_each(|number| audit.says(page(number), b"x"));
        let kept = said(&audit);
        assert_eq!(kept.len(), PAGES_MAX);
        assert!(kept.iter().all(|(number, _)| *number as usize > 2 * PAGES_MAX));
    }
}
