//! Checkpoints of ours that fail, as on a full disk: when the next one is tried.
//!
//! What is open stays open, and is as good as before: frames are read, views show what was committed, and nothing is copied
//! over what was not read. Only the WAL cannot restart, and grows.

use std::time::Instant;

use lifeboat_wal_index::WalIndexError;

use super::connection::{self, Checkpointed};
use super::{DatabaseError, Synchronous, WalDatabase};
use crate::trouble::Trouble;

/// What became of the last checkpoints.
#[derive(Debug, Default)]
pub(super) struct Copying {
    trouble: Trouble,
    /// Why the last one failed, if it did.
    error: Option<DatabaseError>,
}

impl Copying {
    /// Whether none came to anything since the last one failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.error.is_some()
    }

    /// Sorts out the failures that leave everything as it was.
    fn ended(
        &mut self,
        checkpointed: Result<Checkpointed, DatabaseError>,
    ) -> Result<Checkpointed, DatabaseError> {
        match checkpointed {
            Err(error @ DatabaseError::Uncopied { .. }) => {
                // Whoever asks why is told, as often as he asks.
                let _ = self.trouble.lasting(Instant::now());
                self.error = Some(error);
                Ok(Checkpointed::Failed)
            }
            Ok(Checkpointed::Ran) => {
                *self = Self::default();
                Ok(Checkpointed::Ran)
            }
            other => other,
        }
    }
}

impl WalDatabase {
    /// Why what was committed cannot be copied into the database file at present, if it cannot.
    #[must_use]
    pub const fn uncopied(&self) -> Option<&DatabaseError> {
        self.copying.error.as_ref()
    }

    /// Copies what the pin allows, unless that failed a moment ago.
    pub(super) fn checkpoint(&mut self) -> Result<Checkpointed, DatabaseError> {
        if self.copying.trouble.pause(Instant::now()).is_some() {
            return Ok(Checkpointed::Failed);
        }
        let checkpoint = || connection::checkpoint_passive(&self.checkpointer, &self.path);
        let checkpointed = self.pulse.at_disk(|| self.keeper.unguarded(checkpoint));
        self.copying.ended(checkpointed)
    }

    /// A checkpoint that is not complete leaves the syncing of the database to the one that is. Better now than under the
    /// lock.
    pub(super) fn sync_early(&mut self) -> Result<Checkpointed, DatabaseError> {
        if self.synchronous == Synchronous::Off {
            return Ok(Checkpointed::Ran);
        }
        // It may take long, and whoever has to repair the WAL-index meanwhile waits for the guard.
        let synced = self.pulse.at_disk(|| self.keeper.unguarded(|| self.sync()));
        self.copying.ended(synced.map(|()| Checkpointed::Ran))
    }

    fn sync(&self) -> Result<(), DatabaseError> {
        lifeboat_wal_index::sync_database(&self.checkpointer).map_err(|error| {
            if let WalIndexError::Sqlite { code, .. } = error {
                let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
                DatabaseError::checkpoint(&self.path, source)
            } else {
                DatabaseError::wal_index(&self.path, error)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use lifeboat_replica::dirty_pages::DirtyPages;
    use lifeboat_wal::frame::FrameNo;
    use lifeboat_wal::wal_index::IndexHeader;
    use lifeboat_wire::Verdict;
    use rusqlite::Connection;

    use super::super::tests::{application, checkpoint, gained, image, insert};
    use super::super::{EnforceWal, Settled};
    use super::*;
    use crate::pulse::Pulse;

    /// A checkpointer that reads as the real one does, and whose checkpoints fail.
    fn fail(database: &mut WalDatabase) -> Connection {
        let failing = connection::open_read_only(&database.path).unwrap();
        failing.query_row("PRAGMA user_version", [], |_| Ok(())).unwrap();
        std::mem::replace(&mut database.checkpointer, failing)
    }

    fn long(header: IndexHeader) -> IndexHeader {
        IndexHeader { last_frame: FrameNo::new(10_000), ..header }
    }

    #[test]
    fn while_checkpoints_fail_every_commit_is_followed_and_read_and_nothing_counts_as_settled() {
        let (_folder, path, application) = application();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        let working = fail(&mut database);
        for _ in 0..3 {
            insert(&application);
            assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
            assert!(!dirty.is_all() && !dirty.is_empty());
            assert_eq!(database.settle(&mut dirty).unwrap(), Settled::NotYet);
            let error = database.uncopied().expect("it says why");
            assert_eq!(error.verdict(), Verdict::Retry, "{error}");
            let mut view = database.view(&mut dirty).unwrap();
            assert!(image(&mut view).starts_with(b"SQLite format 3"));
        }
        assert_eq!(checkpoint(&application, "PASSIVE"), 0);
        assert!(database.read_index().unwrap().is_backfilled());
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::NotYet, "only who ran one knows");
        database.checkpointer = working;
        thread::sleep(Duration::from_millis(1_700));
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        assert!(database.uncopied().is_none(), "it heals by itself");
    }

    /// Else a process that waits for a slow disk is ended for it, and the next one waits for the same.
    #[test]
    fn a_checkpoint_and_a_sync_show_that_the_thread_gets_on() {
        let (_folder, path, application) = application();
        let pulse = Pulse::default();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap().with_pulse(pulse.clone());
        insert(&application);
        pulse.stop();
        assert_eq!(database.checkpoint().unwrap(), Checkpointed::Ran);
        assert!(pulse.is_alive());
        pulse.stop();
        assert_eq!(database.sync_early().unwrap(), Checkpointed::Ran);
        assert!(pulse.is_alive());
    }

    #[test]
    fn after_failures_the_next_attempt_waits_for_its_time() {
        let (_folder, path, application) = application();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let working = fail(&mut database);
        insert(&application);
        database.roll_and_checkpoint(&mut DirtyPages::new()).unwrap();
        database.checkpointer = working;
        // So that it is seconds.
        for _ in 0..5 {
            database.copying.trouble.lasting(Instant::now());
        }
        assert_eq!(database.checkpoint().unwrap(), Checkpointed::Failed, "it is too early");
        database.copying.trouble = Trouble::default();
        assert_eq!(database.checkpoint().unwrap(), Checkpointed::Ran);
        assert!(!database.copying.is_failing());
    }

    #[test]
    fn while_checkpoints_fail_no_writer_is_kept_out_for_one_and_nobody_stands_guard() {
        let (_folder, path, application) = application();
        application.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF").unwrap();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let working = fail(&mut database);
        let mut dirty = DirtyPages::new();
        (0..600).for_each(|_| insert(&application));
        database.looked_at = Instant::now();
        database.follow(&mut dirty).unwrap();
        assert!(database.uncopied().is_some() && database.pause_max().is_some());
        database.stand_by(Duration::ZERO);
        assert_eq!(checkpoint(&application, "PASSIVE"), 0, "the application may try");
        // Even where frames come faster than they can be copied.
        let header = database.read_index().unwrap().header;
        database.pressure.copied(&IndexHeader { last_frame: FrameNo::START, ..header }, &long(header));
        (0..4_000).for_each(|_| insert(&application));
        database.follow(&mut dirty).unwrap();
        assert_eq!(database.take_kept_writers_out(), None);
        database.checkpointer = working;
        thread::sleep(Duration::from_millis(900));
        insert(&application);
        database.follow(&mut dirty).unwrap();
        assert!(database.uncopied().is_none());
    }
}
