//! The checksum of every page, as the bucket has it: what changed, and the rolling checksum of the whole.
//!
//! Eight bytes for each page. A page that was rewritten with the same bytes is found to be unchanged and is not stored
//! again.

use lifeboat_ltx::{Checksum, PageChecksum};
use lifeboat_wal::{PageCount, PageNo};

use crate::dirty_pages::DirtyPages;

/// The page checksums of the state that the newest slot ends at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSums {
    sums: Vec<PageChecksum>,
    rolling: Checksum,
    is_known: bool,
}

/// What one slot changes, while its pages are looked at.
#[derive(Debug)]
pub struct Draft<'a> {
    sums: &'a mut PageSums,
    changed: DirtyPages,
    is_changed: bool,
    undo: Undo,
}

/// What one slot changes.
#[derive(Debug)]
pub struct Change {
    /// The pages it must hold.
    pub pages: DirtyPages,
    /// The rolling checksum of the database after it.
    pub post_apply: Checksum,
    /// Whether it changes anything at all, be it only the database's size.
    pub is_any: bool,
    /// Takes it back, if the slot will never be stored.
    pub undo: Undo,
}

/// What [`PageSums`] were before a slot: as large as the slot's own changes, not as the database.
#[derive(Debug)]
pub struct Undo(Option<Before>);

/// A state that was known.
#[derive(Debug)]
struct Before {
    rolling: Checksum,
    size: usize,
    gone: Vec<PageChecksum>,
    overwritten: Vec<(PageNo, PageChecksum)>,
}

impl PageSums {
    /// Of a state that is not known page by page: whatever is looked at counts as changed.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { sums: Vec::new(), rolling: Checksum::EMPTY, is_known: false }
    }

    /// Of a state whose page checksums were kept, from page 1 on; that of the lock page is 0.
    #[must_use]
    pub fn known(sums: Vec<PageChecksum>) -> Self {
        let rolling = sums.iter().fold(Checksum::EMPTY, |rolling, sum| rolling.toggle(*sum));
        Self { sums, rolling, is_known: true }
    }

    /// The rolling checksum of the state, if it is known page by page.
    #[must_use]
    pub fn checksum(&self) -> Option<Checksum> {
        self.is_known.then_some(self.rolling)
    }

    /// The checksum of every page, from page 1 on.
    #[must_use]
    pub fn all(&self) -> &[PageChecksum] {
        &self.sums
    }

    /// The checksum of one page; `None` beyond the end.
    #[must_use]
    pub fn of(&self, page: PageNo) -> Option<PageChecksum> {
        self.sums.get(page.get() as usize - 1).copied()
    }

    /// The pages that differ between two states, or are in one of them only.
    #[must_use]
    pub fn differing(&self, other: &Self) -> DirtyPages {
        let mut pages = DirtyPages::new();
        for number in 1..=self.sums.len().max(other.sums.len()) {
            let page = u32::try_from(number).ok().and_then(PageNo::try_new);
            if let Some(page) = page.filter(|page| self.of(*page) != other.of(*page)) {
                pages.insert(page);
            }
        }
        pages
    }

    /// The pages that must be looked at for a slot of a database of `page_count` pages: those that may have changed, and
    /// those that are new, because SQLite need not write a page it only made room for.
    #[must_use]
    pub fn candidates(&self, mut dirty: DirtyPages, page_count: PageCount) -> DirtyPages {
        if !self.is_known {
            dirty.insert_all();
            return dirty;
        }
        let known = u32::try_from(self.sums.len()).unwrap_or(u32::MAX);
        for page in (known + 1..=page_count.get()).filter_map(PageNo::try_new) {
            dirty.insert(page);
        }
        dirty
    }

    /// Begins the slot that brings the database to `page_count` pages; pages beyond are gone.
    pub fn begin(&mut self, page_count: PageCount) -> Draft<'_> {
        let (before, size) = (self.sums.len(), page_count.get() as usize);
        let rolling = self.rolling;
        for gone in self.sums.iter().skip(size) {
            self.rolling = self.rolling.toggle(*gone);
        }
        let gone = self.sums.get(size..).unwrap_or_default().to_vec();
        let undo = Before { rolling, size: before, gone, overwritten: Vec::new() };
        let undo = Undo(self.is_known.then_some(undo));
        self.sums.resize(size, NO_PAGE);
        Draft { sums: self, changed: DirtyPages::new(), is_changed: before != size, undo }
    }

    /// Takes the last slot back: the state is the one before it.
    pub fn undo(&mut self, undo: Undo) {
        let Some(Before { rolling, size, gone, overwritten }) = undo.0 else {
            *self = Self::unknown();
            return;
        };
        for (page, sum) in overwritten {
            if let Some(slot) = self.sums.get_mut(page.get() as usize - 1) {
                *slot = sum;
            }
        }
        self.sums.truncate(size);
        self.sums.extend(gone);
        self.rolling = rolling;
    }
}

impl Draft<'_> {
    /// Looks at the present image of a page; pages in any order, each at most once. Says whether the slot must hold it.
    pub fn look(&mut self, page: PageNo, image: &[u8]) -> bool {
        self.look_at_sum(page, PageChecksum::of(page, image))
    }

    /// The same, of a page whose present checksum is known already.
    pub fn look_at_sum(&mut self, page: PageNo, now: PageChecksum) -> bool {
        let Some(slot) = self.sums.sums.get_mut(page.get() as usize - 1) else {
            return false;
        };
        if *slot == now && self.sums.is_known {
            return false;
        }
        if let Some(before) = &mut self.undo.0 {
            before.overwritten.push((page, *slot));
        }
        self.sums.rolling = self.sums.rolling.toggle(*slot).toggle(now);
        *slot = now;
        self.changed.insert(page);
        self.is_changed = true;
        true
    }

    /// Ends the slot.
    #[must_use]
    pub fn finish(self) -> Change {
        self.sums.is_known = true;
        Change {
            pages: self.changed,
            post_apply: self.sums.rolling,
            is_any: self.is_changed,
            undo: self.undo,
        }
    }
}

/// Stands for a page that was not looked at yet. Toggling it changes nothing.
const NO_PAGE: PageChecksum = PageChecksum::from_bits(0);

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageSize;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slot_that_is_taken_back_leaves_no_trace(
            before in prop::collection::vec(any::<[u8; 4]>(), 0..9),
            after in prop::collection::vec(any::<[u8; 4]>(), 0..9),
            is_known: bool,
        ) {
            let mut sums = PageSums::unknown();
            if is_known {
                let _ = look_at(&mut sums, &[], &before);
            }
            let then = sums.clone();
            let dirty: Vec<u32> = (1..=9).collect();
            let (_, change) = look_at(&mut sums, &dirty, &after);
            sums.undo(change.undo);
            prop_assert_eq!(sums, then);
        }
    }

    fn look_at(sums: &mut PageSums, dirty: &[u32], database: &[[u8; 4]]) -> (Vec<u32>, Change) {
        let count = PageCount::new(u32::try_from(database.len()).unwrap());
        let mut set = DirtyPages::new();
        for &page in dirty {
            set.insert(PageNo::try_new(page).unwrap());
        }
        let candidates = sums.candidates(set, count);
        let mut draft = sums.begin(count);
        for page in candidates.iter(count, PageSize::MIN) {
            draft.look(page, &database[page.get() as usize - 1]);
        }
        let change = draft.finish();
        (change.pages.iter(count, PageSize::MIN).map(PageNo::get).collect(), change)
    }

    fn whole(database: &[[u8; 4]]) -> Checksum {
        database.iter().zip(1..).fold(Checksum::EMPTY, |sum, (image, number)| {
            sum.toggle(PageChecksum::of(PageNo::try_new(number).unwrap(), image))
        })
    }

    #[test]
    fn of_an_unknown_state_every_page_is_stored() {
        let mut sums = PageSums::unknown();
        let database = [[1; 4], [2; 4], [3; 4]];
        let (pages, change) = look_at(&mut sums, &[], &database);
        assert_eq!((pages, change.post_apply, change.is_any), (vec![1, 2, 3], whole(&database), true));
    }

    #[test]
    fn only_what_differs_is_stored_and_the_checksum_follows() {
        let mut sums = PageSums::unknown();
        let _ = look_at(&mut sums, &[], &[[1; 4], [2; 4], [3; 4]]);
        let after = [[1; 4], [9; 4], [3; 4]];
        let (pages, change) = look_at(&mut sums, &[1, 2], &after);
        assert_eq!((pages, change.post_apply, change.is_any), (vec![2], whole(&after), true));
        let (pages, change) = look_at(&mut sums, &[1, 2, 3], &after);
        assert_eq!((pages, change.is_any), (vec![], false));
    }

    #[test]
    fn pages_that_appear_are_stored_even_when_nobody_wrote_them() {
        let mut sums = PageSums::unknown();
        let _ = look_at(&mut sums, &[], &[[1; 4]]);
        let after = [[1; 4], [0; 4], [5; 4]];
        let (pages, change) = look_at(&mut sums, &[3], &after);
        assert_eq!((pages, change.post_apply), (vec![2, 3], whole(&after)));
    }

    #[test]
    fn pages_that_vanish_leave_the_checksum_and_shrinking_alone_is_a_change() {
        let mut sums = PageSums::unknown();
        let _ = look_at(&mut sums, &[], &[[1; 4], [2; 4], [3; 4]]);
        let (pages, change) = look_at(&mut sums, &[], &[[1; 4]]);
        assert_eq!((pages, change.post_apply, change.is_any), (vec![], whole(&[[1; 4]]), true));
    }
}
