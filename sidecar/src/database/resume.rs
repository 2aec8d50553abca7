//! Goes on where an earlier process stopped, and says where a later one could.
//!
//! In:  an [`Anchor`] of the page log; or none, to get one.
//! Out: whether everything committed since is known; or the anchor of this moment.
//!
//! **Why nothing can be missed.** An anchor speaks of a state of which every page is known, and of a place in the WAL that
//! this state is at least as new as. Nobody but SQLite wrote to the database file since it was last seen, or its time or
//! size would be another. So what differs from the state was committed after the place, and
//! - in the same run through the WAL, the frames after the place are still there, and the running checksum proves that
//!   those before it are the same ones;
//! - in another run, the file must have held everything up to the place, and nothing was copied into it since. What was
//!   committed after the place is in the new run then, whole, which SQLite's counter of transactions must confirm.
//!
//! Anything else is no error: the pages have to be compared.

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::{Anchor, FileStamp};
use lifeboat_wal::continuity::WalPlace;
use lifeboat_wal::wal_index::{Backfill, IndexHeader};

use super::file_system::stamp;
use super::{DatabaseError, WalDatabase};

impl WalDatabase {
    /// Goes on at the place of an anchor, if everything committed since can be read; says whether it could. Pages changed
    /// since are added to `dirty` then.
    ///
    /// To be called right after [`open`](Self::open): what other writers leave of the WAL later is less.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when WAL or WAL-index cannot be read.
    pub fn resume(&mut self, anchor: &Anchor, dirty: &mut DirtyPages) -> Result<bool, DatabaseError> {
        let header = self.read_index()?.header;
        if !may_resume(anchor, self.stamp()?, &header) {
            return Ok(false);
        }
        let mut since = DirtyPages::new();
        let is_continued = self.read_since(anchor, &mut since)?;
        if is_continued {
            dirty.merge(since);
        }
        Ok(is_continued)
    }

    /// From where this moment's newest commit can be followed. `None` while a writer or a checkpoint is at work, and
    /// where the file cannot be looked at.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when the WAL-index cannot be looked at.
    pub fn anchor(&self) -> Result<Option<Anchor>, DatabaseError> {
        let before = self.read_index()?;
        // A file that is gone has no anchor, and is followed to its end all the same.
        let Ok(stamp) = stamp(&self.path) else { return Ok(None) };
        let place = *self.follower.place();
        let is_here = place == WalPlace::at(&before.header);
        if !is_here || self.read_index()? != before {
            return Ok(None);
        }
        // What another program wrote since is no state of ours.
        let is_ours = self.is_as_left(stamp, before.backfill());
        Ok(is_ours.then_some(Anchor { place, stamp, is_settled: before.is_backfilled() }))
    }

    /// From where a view can be followed that was opened just now, is at least as new as this header, and was looked at when
    /// checkpoints had come this far. The file is looked at here, where it is known how SQLite left it: what is copied over it
    /// while the view is read must not count as what was seen.
    pub(super) fn anchor_at(&self, header: &IndexHeader, backfill: Backfill) -> Option<Anchor> {
        let stamp = stamp(&self.path).ok().filter(|stamp| self.is_as_left(*stamp, backfill))?;
        Some(Anchor { place: WalPlace::at(header), stamp, is_settled: false })
    }

    /// What the database file looks like from outside.
    fn stamp(&self) -> Result<FileStamp, DatabaseError> {
        stamp(&self.path).map_err(|error| DatabaseError::io(&self.path, "look at", error))
    }

    fn read_since(&mut self, anchor: &Anchor, since: &mut DirtyPages) -> Result<bool, DatabaseError> {
        let opened_at = self.follower.go_to(anchor.place);
        match self.follow_to_header(since) {
            Ok((_, followed)) if followed.is_continued() => Ok(true),
            Ok(_) => {
                self.follower.go_to(opened_at);
                Ok(false)
            }
            Err(error) => {
                self.follower.go_to(opened_at);
                Err(error)
            }
        }
    }
}

/// Whether an anchor can be true of a file with this stamp, and of this WAL.
fn may_resume(anchor: &Anchor, stamp: FileStamp, header: &IndexHeader) -> bool {
    anchor.stamp == stamp && (anchor.is_settled || anchor.place.is_in_run_of(header))
}

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageCount;
    use lifeboat_wal::checksum::{ByteOrder, Checksum};
    use lifeboat_wal::frame::FrameNo;
    use lifeboat_wal::header::Salts;

    use super::*;

    fn header(run: u8) -> IndexHeader {
        IndexHeader {
            change_counter: 9,
            order: ByteOrder::Little,
            page_size: None,
            last_frame: FrameNo::new(3),
            page_count: PageCount::new(2),
            frame_checksum: Checksum::default(),
            salts: Salts([run; 8]),
        }
    }

    #[test]
    fn another_run_is_entered_only_by_who_knows_that_the_file_held_everything() {
        let stamp = FileStamp { bytes: 1, modified: (2, 3) };
        let anchor = |is_settled| Anchor { place: WalPlace::at(&header(1)), stamp, is_settled };
        assert!(may_resume(&anchor(false), stamp, &header(1)));
        assert!(!may_resume(&anchor(false), stamp, &header(2)));
        assert!(may_resume(&anchor(true), stamp, &header(2)));
        let written = FileStamp { modified: (2, 4), ..stamp };
        assert!(!may_resume(&anchor(true), written, &header(1)));
    }
}
