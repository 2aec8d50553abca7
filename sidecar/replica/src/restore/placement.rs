//! Which file gives each page: the newest that has it.
//!
//! In:  the files of a plan, newest first: how large the database is after each, and which pages it holds.
//! Out: for every page whether this is the image to restore.
//!
//! One bit for each page is all that is kept, so a history of any length costs no memory. What the database lost by
//! shrinking must not come back when it grew again: a page counts only in files younger than that.

use lifeboat_wal::{PageCount, PageNo};

use crate::dirty_pages::DirtyPages;

/// The pages that have found their file.
#[derive(Clone, Debug)]
pub struct Placement {
    taken: DirtyPages,
    size: PageCount,
    reach: PageCount,
}

impl Placement {
    /// Begins with the newest file, after which the database has so many pages.
    #[must_use]
    pub const fn begin(size: PageCount) -> Self {
        Self { taken: DirtyPages::new(), size, reach: size }
    }

    /// Goes on with the next older file, after which the database had so many pages.
    pub fn enter(&mut self, size: PageCount) {
        self.reach = self.reach.min(size);
    }

    /// Whether the image of this page in the present file is the one to restore. Each page is claimed once.
    pub fn claim(&mut self, page: PageNo) -> bool {
        let is_first = self.reach.contains(page) && !self.taken.contains(page);
        if is_first {
            self.taken.insert(page);
        }
        is_first
    }

    /// How many pages the restored database has.
    #[must_use]
    pub const fn size(&self) -> PageCount {
        self.size
    }

    /// The pages that no file gave and that the state before the present file still has, as runs of first and last page.
    pub fn left(&self) -> impl Iterator<Item = (PageNo, PageNo)> + '_ {
        let mut next = Some(PageNo::FIRST);
        std::iter::from_fn(move || {
            let is_left = |page: &PageNo| self.reach.contains(*page) && !self.taken.contains(*page);
            let inside = |page: &PageNo| self.reach.contains(*page);
            let from = std::iter::successors(next, |page| page.next());
            let first = from.take_while(inside).find(|page| is_left(page))?;
            let run = std::iter::successors(Some(first), |page| page.next()).take_while(is_left);
            let last = run.last().unwrap_or(first);
            next = last.next();
            Some((first, last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32) -> PageNo {
        PageNo::try_new(number).unwrap()
    }

    #[test]
    fn the_newest_image_wins_and_each_page_is_claimed_once() {
        let mut placement = Placement::begin(PageCount::new(3));
        assert!(placement.claim(page(2)));
        assert!(!placement.claim(page(2)));
        placement.enter(PageCount::new(3));
        assert!(!placement.claim(page(2)) && placement.claim(page(1)));
        assert!(!placement.claim(page(4)), "beyond the end");
    }

    #[test]
    fn a_page_that_was_cut_off_does_not_come_back_when_the_database_grows_again() {
        let mut placement = Placement::begin(PageCount::new(9));
        placement.enter(PageCount::new(4));
        placement.enter(PageCount::new(9));
        assert!(placement.claim(page(4)));
        assert!(!placement.claim(page(5)), "an image from before the database shrank");
    }

    #[test]
    fn what_is_left_is_told_in_runs() {
        let mut placement = Placement::begin(PageCount::new(9));
        placement.enter(PageCount::new(7));
        for taken in [1, 4, 5] {
            assert!(placement.claim(page(taken)));
        }
        let left: Vec<_> = placement.left().map(|(first, last)| (first.get(), last.get())).collect();
        assert_eq!(left, [(2, 3), (6, 7)]);
    }
}
