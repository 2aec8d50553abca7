//! The set of pages that changed since the last file: what the next one must carry.
//!
//! In:  page numbers, one by one as frames are read, or "every page" when nothing more exact is known.
//! Out: the pages to read from a view of the database, ascending, never the lock page, never one beyond its end.
//!
//! The set holds numbers and no content, so a page changed a thousand times costs one bit, and a transaction larger
//! than memory costs nothing. Memory is at most one bit for each page of the database, plus one chunk.

use std::collections::BTreeMap;

use lifeboat_wal::{PageCount, PageNo, PageSize};

/// A set of page numbers, or every page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtyPages {
    is_all: bool,
    /// Bitmaps by page number divided by [`PAGES_PER_CHUNK`]; no chunk is empty. Without meaning while `is_all`.
    chunks: BTreeMap<u32, Box<[u64; WORDS_PER_CHUNK]>>,
}

impl DirtyPages {
    /// No page at all.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_all: false, chunks: BTreeMap::new() }
    }

    /// Adds one page.
    pub fn insert(&mut self, page: PageNo) {
        if self.is_all {
            return;
        }
        let (chunk, word, bit) = place(page);
        let words = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; WORDS_PER_CHUNK]));
        if let Some(word) = words.get_mut(word) {
            *word |= bit;
        }
    }

    /// Adds every page there is or will be: for when it is not known which ones changed.
    pub fn insert_all(&mut self) {
        self.chunks.clear();
        self.is_all = true;
    }

    /// Adds every page of the other set.
    pub fn merge(&mut self, other: Self) {
        if other.is_all {
            self.insert_all();
        }
        if self.is_all {
            return;
        }
        for (chunk, theirs) in other.chunks {
            let ours = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; WORDS_PER_CHUNK]));
            for (ours, theirs) in ours.iter_mut().zip(theirs.iter()) {
                *ours |= theirs;
            }
        }
    }

    /// Takes the set out and leaves an empty one.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Whether no page is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.is_all && self.chunks.is_empty()
    }

    /// Whether the set is every page, whatever the size of the database.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.is_all
    }

    /// Whether the page is in the set.
    #[must_use]
    pub fn contains(&self, page: PageNo) -> bool {
        let (chunk, word, bit) = place(page);
        let word = self.chunks.get(&chunk).and_then(|words| words.get(word));
        self.is_all || word.is_some_and(|word| word & bit != 0)
    }

    /// The pages of the set that a database of this size stores, ascending, without the lock page.
    pub fn iter(&self, page_count: PageCount, page_size: PageSize) -> impl Iterator<Item = PageNo> + '_ {
        let all = 1..=if self.is_all { page_count.get() } else { 0 };
        let some = self.chunks.iter().flat_map(|(&chunk, words)| numbers(chunk, words.as_ref()));
        all.chain(some)
            .filter_map(PageNo::try_new)
            .take_while(move |&page| page_count.contains(page))
            .filter(move |&page| page != page_size.lock_page())
    }

    /// How many pages [`iter`](Self::iter) gives.
    #[must_use]
    pub fn len(&self, page_count: PageCount, page_size: PageSize) -> usize {
        self.iter(page_count, page_size).count()
    }
}

/// Where the bit of a page is: chunk, word in it, and the word with only that bit.
fn place(page: PageNo) -> (u32, usize, u64) {
    let number = page.get();
    let within = number % PAGES_PER_CHUNK;
    (number / PAGES_PER_CHUNK, (within / u64::BITS) as usize, 1 << (within % u64::BITS))
}

/// The page numbers of one chunk, ascending.
fn numbers(chunk: u32, words: &[u64; WORDS_PER_CHUNK]) -> impl Iterator<Item = u32> + '_ {
    let first = chunk * PAGES_PER_CHUNK;
    words.iter().zip((first..).step_by(u64::BITS as usize)).flat_map(|(&word, first)| {
        (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
    })
}

/// Half a kilobyte of bits. Of ten thousand small databases that sleep, some sets each are kept.
const WORDS_PER_CHUNK: usize = 64;
const PAGES_PER_CHUNK: u32 = 4_096;
const _: () = assert!(WORDS_PER_CHUNK * 64 == PAGES_PER_CHUNK as usize, "a chunk is its words");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SIZE: PageSize = PageSize::MAX;
    const ENDLESS: PageCount = PageCount::new(u32::MAX);

    fn page(number: u32) -> PageNo {
        PageNo::try_new(number).unwrap()
    }

    fn set(numbers: &[u32]) -> DirtyPages {
        let mut pages = DirtyPages::new();
        numbers.iter().for_each(|&number| pages.insert(page(number)));
        pages
    }

    fn listed(pages: &DirtyPages, count: PageCount) -> Vec<u32> {
        pages.iter(count, SIZE).map(PageNo::get).collect()
    }

    #[test]
    fn the_first_and_the_last_page_number_there_are_both_fit() {
        assert_eq!(listed(&set(&[u32::MAX, 1]), ENDLESS), [1, u32::MAX]);
    }

    #[test]
    fn the_lock_page_is_never_given() {
        let lock = SIZE.lock_page().get();
        assert_eq!(listed(&set(&[lock - 1, lock, lock + 1]), ENDLESS), [lock - 1, lock + 1]);
        let mut all = DirtyPages::new();
        all.insert_all();
        assert_eq!(all.len(PageCount::new(lock + 1), SIZE), lock as usize);
    }

    #[test]
    fn pages_beyond_the_end_of_the_database_are_not_given() {
        let pages = set(&[1, 5, 6]);
        assert_eq!(listed(&pages, PageCount::new(5)), [1, 5]);
        assert_eq!(listed(&pages, PageCount::new(0)), [0; 0]);
    }

    #[test]
    fn every_page_stays_every_page_whatever_is_added() {
        let mut pages = set(&[7]);
        pages.insert_all();
        pages.insert(page(9));
        pages.merge(set(&[3]));
        assert!(pages.is_all() && pages.contains(page(1_000_000)));
        assert_eq!(listed(&pages, PageCount::new(3)), [1, 2, 3]);
        let mut some = set(&[2]);
        some.merge(pages.take());
        assert!(some.is_all());
        assert!(pages.is_empty());
    }

    proptest! {
        #[test]
        fn the_set_is_a_set(
            first in proptest::collection::vec(1..200_000_u32, 0..300),
            second in proptest::collection::vec(1..200_000_u32, 0..300),
            count in 0..200_000_u32,
        ) {
            let mut pages = set(&first);
            pages.merge(set(&second));
            let model: BTreeSet<u32> = first.iter().chain(&second).copied().filter(|&n| n != 16_385).collect();
            let within: Vec<u32> = model.iter().copied().filter(|&number| number <= count).collect();
            prop_assert_eq!(listed(&pages, PageCount::new(count)), within.clone());
            prop_assert_eq!(pages.len(PageCount::new(count), SIZE), within.len());
            prop_assert!(model.iter().all(|&number| pages.contains(page(number))));
            prop_assert_eq!(pages.contains(page(200_001)), false);
        }
    }
}
