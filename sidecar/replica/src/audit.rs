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

use crate::dirty_pages::DirtyPages;

/// The last image of pages in the WAL. Empty until something is said.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    said: Vec<Option<Said>>,
    /// How many runs through the WAL file began.
    run: u32,
    /// What was said in runs before this one is proved.
    proved_before: u32,
    /// How many views were audited.
    views: u32,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    page: PageNo,
    run: u32,
    sum: PageChecksum,
}

/// Of which pages the database is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent<'d> {
    /// Those that are not proved, those that are about to be read for a slot, and now and then the others.
    Due(&'d DirtyPages),
    /// All.
    Whole,
}

impl Audit {
    /// Nothing was said of any page.
    #[must_use]
    pub const fn new() -> Self {
        Self { said: Vec::new(), run: 0, proved_before: 0, views: 0 }
    }

    /// A run through the WAL file begins; what is said from here on belongs to it.
    pub const fn begin_run(&mut self) {
        self.run = self.run.saturating_add(1);
    }

    /// Frames say that these are the pages now. They come from the last to the first: of what is written again soon, as a busy
    /// application's pages are, only the last image is ever summed.
    pub fn say<'i>(&mut self, from_the_last: impl Iterator<Item = (PageNo, &'i [u8])>) {
        let mut is_newer = [false; PAGES_MAX];
        for (page, image) in from_the_last {
            if self.said.is_empty() {
                self.said.resize(PAGES_MAX, None);
            }
            let number = page.get() as usize % PAGES_MAX;
            if let (Some(place), Some(is_newer)) = (self.said.get_mut(number), is_newer.get_mut(number))
                && !std::mem::replace(is_newer, true)
            {
                *place = Some(Said { page, run: self.run, sum: PageChecksum::of(page, image) });
            }
        }
    }

    /// A view showed what is due as it was said. A view of the present run shows the pages of earlier runs from the database
    /// file: they got there, and no checkpoint can lose them any more. But a file that somebody copies over the database can
    /// still take their place, so they are held against it with every few views.
    pub const fn held(&mut self, is_of_present_run: bool) {
        self.views = self.views.wrapping_add(1);
        if is_of_present_run {
            self.proved_before = self.run;
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
    pub fn pages<'a>(&'a self, extent: Extent<'a>) -> impl Iterator<Item = (PageNo, PageChecksum)> + 'a {
        let is_due = move |said: &&Said| match extent {
            Extent::Due(dirty) => {
                said.run >= self.proved_before
                    || self.views.is_multiple_of(PROVED_EVERY)
                    || dirty.contains(said.page)
            }
            Extent::Whole => true,
        };
        self.said.iter().flatten().filter(is_due).map(|said| (said.page, said.sum))
    }
}

/// What is proved is asked for again with every so many views.
const PROVED_EVERY: u32 = 16;
/// So many pages are kept at most.
const PAGES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: usize) -> PageNo {
        PageNo::try_new(u32::try_from(number).unwrap()).unwrap()
    }

    fn said(audit: &Audit) -> Vec<(u32, PageChecksum)> {
        audit.pages(Extent::Whole).map(|(page, sum)| (page.get(), sum)).collect()
    }

    /// Frames in the order in which they were written.
    fn say(audit: &mut Audit, frames: &[(usize, &[u8])]) {
        audit.say(frames.iter().rev().map(|(number, image)| (page(*number), *image)));
    }

    #[test]
    fn of_every_page_the_last_image_counts() {
        let mut audit = Audit::new();
        say(&mut audit, &[]);
        assert!(audit.is_empty());
        say(&mut audit, &[(7, b"one"), (8, b"one"), (7, b"two")]);
        say(&mut audit, &[(8, b"two"), (8, b"three")]);
        let expected = [(7, b"two" as &[u8]), (8, b"three")];
        let expected = expected.map(|(number, image)| {
            let page = page(number);
            (page.get(), PageChecksum::of(page, image))
        });
        assert_eq!(said(&audit), expected);
        audit.forget();
        assert!(audit.is_empty() && said(&audit).is_empty());
    }

    #[test]
    fn it_keeps_the_newest_of_a_bounded_number() {
        let mut audit = Audit::new();
        let frames: Vec<(usize, &[u8])> = (1..=3 * PAGES_MAX).map(|number| (number, b"x" as &[u8])).collect();
        frames.chunks(PAGES_MAX / 3 * 2).for_each(|frames| say(&mut audit, frames));
        let kept = said(&audit);
        assert_eq!(kept.len(), PAGES_MAX);
        assert!(kept.iter().all(|(number, _)| *number as usize > 2 * PAGES_MAX));
    }

    #[test]
    fn what_a_later_run_showed_is_asked_for_only_now_and_then() {
        let mut audit = Audit::new();
        let read = |audit: &Audit, dirty: &DirtyPages| {
            audit.pages(Extent::Due(dirty)).map(|(page, _)| page.get()).collect::<Vec<_>>()
        };
        let due = |audit: &Audit| read(audit, &DirtyPages::new());
        audit.begin_run();
        say(&mut audit, &[(1, b"first"), (2, b"first")]);
        audit.held(true);
        assert_eq!(due(&audit), [1, 2], "it may still be lost");
        audit.begin_run();
        say(&mut audit, &[(2, b"second")]);
        assert_eq!(due(&audit), [1, 2], "no view showed it yet");
        audit.held(false);
        assert_eq!(due(&audit), [1, 2], "nor did this one");
        audit.held(true);
        let often: Vec<_> = (0..2 * PROVED_EVERY)
            .map(|_| {
                audit.held(true);
                due(&audit)
            })
            .collect();
        assert!(often.iter().all(|due| due == &[2] || due == &[1, 2]));
        assert_eq!(often.iter().filter(|due| due.len() == 2).count(), 2);
        audit.held(true);
        let mut dirty = DirtyPages::new();
        dirty.insert(page(1));
        assert_eq!((due(&audit), read(&audit, &dirty)), (vec![2], vec![1, 2]), "it is read for a slot");
    }
}
