//! Bringing the WAL to rest in quiet moments, and noticing who writes to the database file while it rests.
//!
//! While the WAL is settled, our pin keeps every SQLite process from copying frames into the database file, so nobody may
//! write to it. Whoever does is not SQLite: a backup is copied over the database, or the file is damaged. No frame tells
//! of that, but the file's length and time do. Everything that was known of its pages is void then.

use std::time::{Duration, SystemTime};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::FileStamp;
use lifeboat_wal::continuity::Discontinuity;
use lifeboat_wal::wal_index::IndexHeader;

use super::calm::{self, Calm};
use super::connection::Checkpointed;
use super::file_system::{self, FileIdentity};
use super::{DatabaseError, Followed, Settled, WalDatabase};

/// The database file while no SQLite process can write to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untouched {
    /// Our pin shows this state, and the file holds all of it.
    pub(super) header: IndexHeader,
    pub(super) stamp: FileStamp,
    /// Whether somebody else than SQLite wrote to it all the same. Then the WAL-index knows nothing of its length.
    pub(super) is_overwritten: bool,
}

impl Untouched {
    /// Whether a pin that was opened before this was the newest header keeps the file as it is too.
    pub(super) fn is_kept_by(&self, newest: &IndexHeader) -> bool {
        self.header == *newest
    }
}

impl WalDatabase {
    /// The housekeeping of quiet moments, when it is worth while: brings everything into the database file, so that the
    /// next writer restarts the WAL instead of making it longer. `quiet` is the time since the last commit was seen.
    ///
    /// Never waits for anybody and never holds the write lock. Commits it comes across are added to `dirty`.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn ease(&mut self, quiet: Duration, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        let index = self.read_index()?;
        if self.settled_at == Some(index.header) {
            // The file holds everything, so it has the length for that. The next checkpoint would make it that long again,
            // with zeros for what was cut off.
            if self.untouched.is_none_or(|untouched| !untouched.is_overwritten) {
                file_system::require_length(&self.path, index.header.page_count.bytes(self.page_size))?;
            }
            return Ok(Settled::Yes);
        }
        match calm::decide(quiet, &index, self.pressure.is_long(), self.keeper.sees_checkpoint()) {
            Calm::Wait => Ok(Settled::NotYet),
            Calm::Accompany => self.accompany(dirty).map(|_| Settled::NotYet),
            Calm::Settle => self.settle(dirty),
        }
    }

    /// The same without asking whether it is worth while. Cheap when nothing was committed since the last time.
    ///
    /// Never waits for anybody and never holds the write lock. Commits it comes across are added to `dirty`.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn settle(&mut self, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        self.keeper.unguard();
        if self.settled_at == Some(self.read_index()?.header) {
            return Ok(Settled::Yes);
        }
        self.settled_at = None;
        let (_, checkpointed) = self.roll_and_checkpoint(dirty)?;
        self.give_way_if_stuck(dirty)?;
        let before = self.read_index()?;
        if checkpointed == Checkpointed::Busy || !before.is_backfilled() {
            return Ok(Settled::NotYet);
        }
        // Now the pin gets read mark 0, which lets the next writer restart the WAL.
        self.roll(dirty)?;
        let stamp = file_system::stamp(&self.path).ok();
        if self.read_index()? != before {
            return Ok(Settled::NotYet);
        }
        self.untouched = stamp.map(|stamp| Untouched { header: before.header, stamp, is_overwritten: false });
        self.settled_at = Some(before.header);
        Ok(Settled::Yes)
    }

    /// Finds out whether somebody else than SQLite wrote to the database file since it was settled. If so, every page
    /// counts as dirty.
    ///
    /// While that is going on, nothing is read: half a copy is no database.
    pub(super) fn notice_overwrite(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        let Some(untouched) = &mut self.untouched else { return Ok(Followed::NOTHING) };
        // Another file in its place is no change of this one.
        let is_ours = FileIdentity::of(&self.path).is_ok_and(|found| found == Some(self.identity));
        let found = file_system::stamp(&self.path).ok();
        let Some(found) = found.filter(|found| is_ours && *found != untouched.stamp) else {
            return Ok(Followed::NOTHING);
        };
        dirty.insert_all();
        if file_system::age(found, SystemTime::now()).is_some_and(|age| age < COPY_PAUSE_MAX) {
            return Err(DatabaseError::Busy { path: self.path.clone() });
        }
        (untouched.stamp, untouched.is_overwritten) = (found, true);
        Ok(Followed::Lost { why: Discontinuity::Overwritten })
    }
}

/// Whoever copies a file over the database writes more often than this until he is done.
const COPY_PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use rusqlite::Connection;

    use super::super::EnforceWal;
    use super::super::tests::{application, image, insert};
    use super::*;

    /// Another database, written a minute ago.
    fn other(path: &Path) {
        let other = Connection::open(path).unwrap();
        other
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES ('other')")
            .unwrap();
        drop(other);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    /// In another process: closing a file drops all locks that this one has on it.
    fn copy(options: &[&str], from: &Path, to: &Path) {
        assert!(Command::new("cp").args(options).arg(from).arg(to).status().unwrap().success());
    }

    #[test]
    fn a_file_copied_over_a_settled_database_is_noticed_and_read_whole() {
        let (folder, path, application) = application();
        insert(&application);
        let backup = folder.path().join("backup.db");
        other(&backup);
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        for _ in 0..2 {
            // Whatever SQLite may keep of the pages is in both pins then.
            assert_eq!(image(&mut database.view(&mut dirty).unwrap()).len(), 8192);
        }
        assert!(database.anchor().unwrap().is_some() && dirty.is_empty());
        drop(application);
        copy(&["-p"], &backup, &path);
        assert_eq!(database.anchor().unwrap(), None, "nothing is known of the file");
        let mut view = database.view(&mut dirty).unwrap();
        assert_eq!(view.lost(), Some(Discontinuity::Overwritten));
        assert!(image(&mut view) == std::fs::read(&backup).unwrap());
        drop(view);
        assert!(dirty.is_all());
        assert_eq!(database.follow(&mut dirty).unwrap(), Followed::NOTHING, "it is said once");
        assert!(database.anchor().unwrap().is_some());
    }

    #[test]
    fn a_copy_that_is_being_made_is_not_read() {
        let (folder, path, application) = application();
        let backup = folder.path().join("backup.db");
        other(&backup);
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        drop(application);
        copy(&[], &backup, &path);
        assert!(matches!(database.view(&mut dirty), Err(DatabaseError::Busy { .. })));
        assert!(dirty.is_all());
    }

    #[test]
    fn a_smaller_database_may_be_copied_over_a_larger_one_and_a_larger_one_is_refused() {
        let (folder, path, application) = application();
        let (small, large) = (folder.path().join("small.db"), folder.path().join("large.db"));
        other(&small);
        copy(&["-p"], &small, &large);
        Connection::open(&large).unwrap().execute_batch("CREATE TABLE u AS SELECT zeroblob(50000)").unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&large).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(30)).unwrap();
        application.execute_batch("CREATE TABLE u AS SELECT zeroblob(9000)").unwrap();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        drop(application);
        copy(&["-p"], &small, &path);
        assert!(image(&mut database.view(&mut dirty).unwrap()) == std::fs::read(&small).unwrap());
        assert_eq!(database.ease(Duration::from_secs(1), &mut dirty).unwrap(), Settled::Yes);
        copy(&["-p"], &large, &path);
        assert!(matches!(database.view(&mut dirty), Err(DatabaseError::Truncated { .. })));
    }

    #[test]
    fn checkpoints_and_commits_of_the_application_are_no_overwriting() {
        let (_folder, path, application) = application();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        for _ in 0..20 {
            assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
            insert(&application);
            super::super::tests::checkpoint(&application, "PASSIVE");
            assert!(database.follow(&mut dirty).unwrap().is_continued());
            assert!(database.view(&mut dirty).unwrap().lost().is_none());
            super::super::tests::checkpoint(&application, "PASSIVE");
            assert!(database.follow(&mut dirty).unwrap().is_continued());
        }
        assert!(!dirty.is_all());
    }
}
