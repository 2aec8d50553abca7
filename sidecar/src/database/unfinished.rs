//! Whether there is something to wait for: a commit becomes visible without a further write, and so without an event.
//!
//! A transaction writes its frames, which is the event, perhaps syncs them, which may take minutes, and only then names
//! them in the WAL-index, of which nobody tells. So whoever rests asks first whether there are frames that nobody may see
//! yet, and looks again and again as long as there are.

use lifeboat_wal::continuity::NextRead;
use lifeboat_wal::wal_index::IndexHeader;

use super::{DatabaseError, WalDatabase, poll_index};

impl WalDatabase {
    /// Whether more may become visible than the last look saw, without a further write: frames of a transaction that is
    /// being written or synced, or frames that became visible since. What a transaction left that was rolled back looks
    /// alike: see [`is_left_behind`](Self::is_left_behind).
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when WAL or WAL-index cannot be read.
    pub fn has_unfinished(&self) -> Result<bool, DatabaseError> {
        let header = self.read_index()?.header;
        if !self.is_read_to(&header) {
            return Ok(true);
        }
        self.follower.goes_on(&header).map_err(|error| DatabaseError::io(&self.wal_path, "read", error))
    }

    /// Whether what is [unfinished](Self::has_unfinished) will never be finished, because nobody is writing: its
    /// transaction was rolled back, or its writer was killed.
    ///
    /// The proof takes the write lock for the moment of a look, and an application that begins to write at that moment and
    /// never waits is refused. So it is for whoever has looked in vain for long, and once.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`] when the WAL-index cannot be read.
    pub fn is_left_behind(&self) -> Result<bool, DatabaseError> {
        // Who commits has the lock until everybody can see the commit. A torn WAL-index says nothing, and it is not
        // repaired here: that needs the lock too.
        let looked = self.keeper.while_nobody_writes(|| poll_index(&self.checkpointer, &self.path));
        let index = looked.transpose()?.flatten();
        Ok(index.is_some_and(|index| self.is_read_to(&index.header)))
    }

    /// Whether every frame that the header names was read.
    fn is_read_to(&self, header: &IndexHeader) -> bool {
        matches!(self.follower.place().next_read(header), Ok(NextRead::Nothing(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use lifeboat_replica::dirty_pages::DirtyPages;
    use rusqlite::Connection;

    use super::super::tests::{application, checkpoint, insert};
    use super::super::{EnforceWal, Settled};
    use super::*;

    /// A transaction that is larger than its cache, and not committed: its frames are in the WAL.
    const SPILLED: &str = "PRAGMA cache_size=2; BEGIN; CREATE TABLE IF NOT EXISTS b(x);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) INSERT INTO b SELECT randomblob(900) FROM n";

    #[derive(Clone, Copy, Debug)]
    enum Before {
        /// The WAL goes on behind frames.
        Commit,
        /// The next writer restarts the WAL in place.
        Restart,
        /// The WAL is empty.
        Truncate,
    }

    /// A database without a frame that nobody may see, its application, and its follower.
    fn scene(before: Before) -> (tempfile::TempDir, Connection, WalDatabase) {
        let (folder, path, application) = application();
        insert(&application);
        if matches!(before, Before::Truncate) {
            checkpoint(&application, "TRUNCATE");
        }
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        if matches!(before, Before::Restart) {
            assert_eq!(database.settle(&mut DirtyPages::new()).unwrap(), Settled::Yes);
        }
        (folder, application, database)
    }

    #[test]
    fn frames_that_nobody_may_see_yet_are_waited_for_wherever_they_are() {
        for before in [Before::Commit, Before::Restart, Before::Truncate] {
            let (_folder, application, mut database) = scene(before);
            assert!(!database.has_unfinished().unwrap(), "{before:?}: nothing is on its way");
            application.execute_batch(SPILLED).unwrap();
            assert!(database.has_unfinished().unwrap(), "{before:?}: a transaction is on its way");
            assert!(!database.is_left_behind().unwrap(), "{before:?}: its writer lives");
            application.execute_batch("COMMIT").unwrap();
            assert!(database.has_unfinished().unwrap(), "{before:?}: it was not read yet");
            assert!(!database.is_left_behind().unwrap(), "{before:?}: it is committed");
            database.follow(&mut DirtyPages::new()).unwrap();
            assert!(!database.has_unfinished().unwrap(), "{before:?}: it was read");
        }
    }

    #[test]
    fn what_a_transaction_left_that_was_rolled_back_is_told_from_one_that_is_under_way() {
        for before in [Before::Commit, Before::Restart, Before::Truncate] {
            let (_folder, application, database) = scene(before);
            application.execute_batch(SPILLED).unwrap();
            application.execute_batch("ROLLBACK").unwrap();
            assert!(database.has_unfinished().unwrap(), "{before:?}");
            assert!(database.is_left_behind().unwrap(), "{before:?}");
            application.busy_timeout(Duration::ZERO).unwrap();
            insert(&application);
        }
    }

    #[test]
    fn a_wal_restart_without_a_commit_is_nothing_to_wait_for() {
        let (_folder, application, mut database) = scene(Before::Commit);
        assert_eq!(database.settle(&mut DirtyPages::new()).unwrap(), Settled::Yes);
        assert_eq!(checkpoint(&application, "TRUNCATE"), 0);
        database.follow(&mut DirtyPages::new()).unwrap();
        assert!(!database.has_unfinished().unwrap());
    }

    #[test]
    fn a_header_that_is_half_written_is_waited_for() {
        let (folder, _application, database) = scene(Before::Truncate);
        fs::write(folder.path().join("app.db-wal"), [1; 32]).unwrap();
        assert!(database.has_unfinished().unwrap());
        assert!(database.is_left_behind().unwrap(), "and if nobody writes it, not for long");
    }
}
