//! What was read from the WAL, and what of it nobody took note of yet.

use lifeboat_wal::PageSize;
use lifeboat_wal::continuity::{Discontinuity, Tally};
use lifeboat_wal::frame::frame_bytes;

/// What a look at the WAL brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Every commit since the last look was read. There may be none.
    Continued(Gained),
    /// It cannot be proved that every commit was read: every page now counts as dirty.
    Lost {
        /// Why.
        why: Discontinuity,
    },
}

/// How much was read from the WAL. Without a WAL it is only known that something was committed: one commit, one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gained {
    /// Transactions.
    pub commits: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of these frames, headers included.
    pub bytes: u64,
}

impl Followed {
    pub(super) const NOTHING: Self = Self::Continued(Gained::NOTHING);

    /// Whether every commit was read.
    pub(super) const fn is_continued(self) -> bool {
        match self {
            Self::Continued(_) => true,
            Self::Lost { .. } => false,
        }
    }

    /// As far as it is known.
    pub(super) const fn gained(self) -> Gained {
        match self {
            Self::Continued(gained) => gained,
            Self::Lost { .. } => Gained::NOTHING,
        }
    }

    /// Both looks as one.
    pub(super) const fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Lost { why }, _) | (_, Self::Lost { why }) => Self::Lost { why },
            (Self::Continued(first), Self::Continued(second)) => Self::Continued(first.and(second)),
        }
    }
}

impl Gained {
    pub(super) const NOTHING: Self = Self { commits: 0, frames: 0, bytes: 0 };

    pub(super) fn new(tally: Tally, page_size: PageSize) -> Self {
        let frames = u64::from(tally.frames);
        Self { commits: u64::from(tally.commits), frames, bytes: frames * frame_bytes(page_size) as u64 }
    }

    pub(super) const fn and(self, more: Self) -> Self {
        Self {
            commits: self.commits + more.commits,
            frames: self.frames + more.frames,
            bytes: self.bytes + more.bytes,
        }
    }

    /// What remains without a part of it.
    pub(super) const fn less(self, part: Self) -> Self {
        Self {
            commits: self.commits - part.commits,
            frames: self.frames - part.frames,
            bytes: self.bytes - part.bytes,
        }
    }
}

/// What was read since somebody took note of it, by whatever read it.
#[derive(Debug, Default)]
pub(super) struct Untold {
    gained: Gained,
    /// The part of it that the newest view may not show, and what is stored of that view may lack.
    later: Gained,
}

impl Untold {
    pub(super) const fn add(&mut self, gained: Gained) {
        self.gained = self.gained.and(gained);
    }

    /// A view was opened, which may not show the last of what was read.
    pub(super) const fn viewed(&mut self, later: Gained) {
        self.later = later;
    }

    /// A new look begins: whatever there is belongs to the next view.
    pub(super) const fn looked(&mut self) {
        self.later = Gained::NOTHING;
    }

    /// After a view only what that shows for certain; the rest after the next look.
    pub(super) const fn take(&mut self) -> Gained {
        let gained = self.gained.less(self.later);
        self.gained = self.later;
        gained
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use lifeboat_replica::dirty_pages::DirtyPages;

    use super::super::tests::{application, insert};
    use super::super::{EnforceWal, WalDatabase};
    use super::*;

    const ONE: Gained = Gained { commits: 1, frames: 2, bytes: 300 };

    #[test]
    fn what_a_view_may_not_show_is_told_after_the_next_look() {
        let mut untold = Untold::default();
        untold.add(ONE);
        untold.add(ONE);
        untold.viewed(ONE);
        assert_eq!(untold.take(), ONE);
        assert_eq!(untold.take(), Gained::NOTHING, "asked twice after one view");
        untold.add(ONE);
        untold.viewed(Gained::NOTHING);
        assert_eq!(untold.take(), ONE.and(ONE), "a view after it shows it all");
        untold.add(ONE);
        untold.viewed(ONE);
        untold.looked();
        assert_eq!((untold.take(), untold.take()), (ONE, Gained::NOTHING));
    }

    /// A look, a view of either kind and the housekeeping, in turn, while somebody commits.
    #[test]
    fn every_commit_is_counted_once_whatever_comes_across_it() {
        let (_folder, path, application) = application();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        let is_over = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut commits = 0;
                while !is_over.load(Ordering::Relaxed) || commits < 100 {
                    insert(&application);
                    commits += 1;
                }
                commits
            }
        });
        let mut counted = 0;
        for turn in 0..400 {
            match turn % 4 {
                0 => drop(database.follow(&mut dirty).unwrap()),
                1 => drop(database.view(&mut dirty).unwrap()),
                2 => drop(database.detached_view(&mut dirty).unwrap()),
                _ => drop(database.settle(&mut dirty)),
            }
            counted += database.take_gained().commits;
        }
        is_over.store(true, Ordering::Relaxed);
        let commits = writer.join().unwrap();
        assert!(counted > 0);
        database.follow(&mut dirty).unwrap();
        assert_eq!(counted + database.take_gained().commits, commits);
        assert_eq!(database.take_gained(), Gained::NOTHING);
    }
}
