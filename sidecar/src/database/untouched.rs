//! Noticing who writes to the database file and is not SQLite: a backup is copied over it, or it is damaged.
//!
//! No frame tells of that, but the file's length and time do. SQLite writes to the file in checkpoints only, and says in
//! the WAL-index how far each came. So a file that changed while no checkpoint came any further, nobody recovered the WAL, and
//! none is under way, was changed by somebody else. Everything that was known of its pages is void then.
//!
//! While our pin shows a settled WAL nobody can checkpoint at all, whatever the WAL-index says meanwhile.
//!
//! *What cannot be seen:* a copy that begins and ends between two looks between which a checkpoint ran too, and one of the
//! same length within the grain of the file system's clock (some milliseconds) after the last checkpoint. What
//! the [audit](super::audit) then finds of it is told as damage.

use std::time::{Duration, SystemTime};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::FileStamp;
use lifeboat_wal::continuity::Discontinuity;
use lifeboat_wal::wal_index::{Backfill, IndexHeader};

use super::file_system;
use super::{DatabaseError, Followed, WalDatabase};

/// The database file as SQLite left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untouched {
    backfill: Backfill,
    stamp: FileStamp,
    /// Our pin shows this state, and the file holds all of it: until the pin is rolled on, nobody can checkpoint.
    pinned_at: Option<IndexHeader>,
    /// Whether somebody else than SQLite wrote to it all the same. Then the WAL-index knows nothing of its length.
    is_overwritten: bool,
}

impl Untouched {
    /// Whether SQLite left the file as it is, when checkpoints came this far.
    fn holds_at(&self, backfill: Backfill) -> bool {
        self.pinned_at.is_some() || self.backfill == backfill && backfill.is_proof()
    }
}

impl WalDatabase {
    /// From now on whoever changes the file, and is not SQLite, is noticed.
    pub(super) fn note_untouched(&mut self) -> Result<(), DatabaseError> {
        let at = self.read_index()?.header;
        self.untouched = self.look_at_file(&at)?.map(|(backfill, stamp)| Untouched {
            backfill,
            stamp,
            pinned_at: None,
            is_overwritten: false,
        });
        Ok(())
    }

    /// The file holds everything up to this header, and our pin shows just that.
    pub(super) const fn pinned_untouched(&mut self, header: &IndexHeader) {
        if let Some(untouched) = &mut self.untouched {
            untouched.pinned_at = Some(*header);
        }
    }

    /// The pin is rolled on, and this was the newest header after the new one began. It keeps the file as it is too if it shows
    /// the same, and needs nothing from the WAL: somebody may have recovered that, and forgotten what was copied.
    pub(super) fn rolled_untouched(&mut self, newest: &IndexHeader) -> Result<(), DatabaseError> {
        let is_backfilled = self.read_index()?.is_backfilled();
        if let Some(untouched) = &mut self.untouched {
            untouched.pinned_at.take_if(|pinned| pinned != newest || !is_backfilled);
        }
        Ok(())
    }

    /// Whether somebody else than SQLite was the last to write to the file.
    pub(super) fn is_overwritten(&self) -> bool {
        self.untouched.is_some_and(|untouched| untouched.is_overwritten)
    }

    /// Whether the file still looks as SQLite left it, when checkpoints came this far; also where that is not known.
    pub(super) fn is_as_left(&self, stamp: FileStamp, backfill: Backfill) -> bool {
        self.untouched.is_none_or(|untouched| untouched.stamp == stamp || !untouched.holds_at(backfill))
    }

    /// Finds out whether somebody else than SQLite wrote to the database file until `at` was the newest header. If so, every
    /// page counts as dirty. `is_recovered` says whether somebody recovered the WAL since the last look.
    ///
    /// While that is going on, no view is given out: half a copy is no database.
    pub(super) fn notice_overwrite(
        &mut self,
        at: &IndexHeader,
        is_recovered: bool,
        dirty: &mut DirtyPages,
    ) -> Result<Followed, DatabaseError> {
        let Some((backfill, found)) = self.look_at_file(at)? else { return Ok(Followed::NOTHING) };
        let known = self.untouched.filter(|untouched| untouched.holds_at(backfill));
        let Some(untouched) = known.filter(|untouched| untouched.pinned_at.is_some() || !is_recovered) else {
            self.note_untouched()?;
            return Ok(Followed::NOTHING);
        };
        let is_by_sqlite = found == untouched.stamp
            || untouched.pinned_at.is_none() && self.is_checkpointed_beyond(backfill)?;
        if is_by_sqlite {
            // A recovery forgets what was copied, also under our pin.
            self.untouched = Some(Untouched { backfill, ..untouched });
            return Ok(Followed::NOTHING);
        }
        dirty.insert_all();
        self.follower.forget_said();
        if file_system::age(found, SystemTime::now()).is_some_and(|age| age < COPY_PAUSE_MAX) {
            return Err(DatabaseError::Busy { path: self.path.clone() });
        }
        self.untouched = Some(Untouched { stamp: found, is_overwritten: true, ..untouched });
        Ok(self.lost(Discontinuity::Overwritten))
    }

    /// Continuity is lost. That is said here, because whoever comes across it may have been asked for something else.
    pub(super) fn lost(&self, why: Discontinuity) -> Followed {
        tracing::warn!("{}: {why}; every page is compared with the bucket", self.path.display());
        Followed::Lost { why }
    }

    /// What the file looks like, and how far checkpoints had come then. `None` while `at` is not the newest header any more, or
    /// checkpoints come further just now, and where another file is in its place, which is no change of this one.
    fn look_at_file(&self, at: &IndexHeader) -> Result<Option<(Backfill, FileStamp)>, DatabaseError> {
        let before = self.read_index()?;
        let found = file_system::look(&self.path).ok().filter(|(identity, _)| *identity == self.identity);
        let after = self.read_index()?;
        let is_quiet = before == after && before.header == *at;
        Ok(found.filter(|_| is_quiet).map(|(_, stamp)| (before.backfill(), stamp)))
    }

    /// Whether a checkpoint is under way, or ended just now. One of an old SQLite says how far it came only at its end.
    fn is_checkpointed_beyond(&self, backfill: Backfill) -> Result<bool, DatabaseError> {
        Ok(self.keeper.sees_checkpoint() || self.read_index()?.backfill() != backfill)
    }
}

/// Whoever copies a file over the database writes more often than this until he is done.
const COPY_PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use rusqlite::Connection;

    use super::super::tests::{application, image, insert};
    use super::super::{EnforceWal, Settled};
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

    /// Whoever is killed then must find a file that he does not know.
    #[test]
    fn a_file_copied_over_while_a_view_is_read_is_not_taken_for_known() {
        for is_detached in [false, true] {
            let (folder, path, application) = application();
            let backup = folder.path().join("backup.db");
            other(&backup);
            let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
            let mut dirty = DirtyPages::new();
            insert(&application);
            let mut anchor = |database: &mut WalDatabase, copied: bool| {
                let copy_over = || copied.then(|| copy(&["-p"], &backup, &path));
                if is_detached {
                    let view = database.detached_view(&mut dirty).unwrap();
                    copy_over();
                    view.anchor()
                } else {
                    let view = database.view(&mut dirty).unwrap();
                    copy_over();
                    view.anchor()
                }
            };
            let [known, unknown] = [false, true].map(|copied| {
                let anchor = anchor(&mut database, copied).unwrap();
                let mut later = WalDatabase::open(&path, EnforceWal::No).unwrap();
                later.resume(&anchor, &mut DirtyPages::new()).unwrap()
            });
            assert!(known && !unknown, "detached: {is_detached}");
            drop(application);
        }
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

    #[derive(Clone, Copy, Debug)]
    enum When {
        BeforeAnythingWasCommitted,
        AfterACommitBehindOthers,
        AfterACommitThatRestartedTheWal,
        AfterACheckpointOfTheApplication,
    }

    #[test]
    fn a_file_copied_over_a_database_that_is_not_settled_is_noticed() {
        use When::*;
        for when in [
            BeforeAnythingWasCommitted,
            AfterACommitBehindOthers,
            AfterACommitThatRestartedTheWal,
            AfterACheckpointOfTheApplication,
        ] {
            let (folder, path, application) = application();
            insert(&application);
            let backup = folder.path().join("backup.db");
            other(&backup);
            let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
            let mut dirty = DirtyPages::new();
            match when {
                BeforeAnythingWasCommitted => {}
                AfterACommitBehindOthers => insert(&application),
                AfterACommitThatRestartedTheWal => {
                    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
                    insert(&application);
                }
                AfterACheckpointOfTheApplication => {
                    insert(&application);
                    database.follow(&mut dirty).unwrap();
                    assert_eq!(super::super::tests::checkpoint(&application, "PASSIVE"), 0);
                    database.follow(&mut dirty).unwrap();
                }
            }
            assert!(!dirty.is_all());
            copy(&["-p"], &backup, &path);
            let why = Discontinuity::Overwritten;
            assert_eq!(database.follow(&mut dirty).unwrap(), Followed::Lost { why }, "{when:?}");
            assert!(dirty.is_all());
        }
    }

    #[test]
    fn a_file_copied_over_between_our_checkpoint_and_the_end_of_settling_is_noticed() {
        let (folder, path, application) = application();
        let backup = folder.path().join("backup.db");
        other(&backup);
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        insert(&application);
        database.roll_and_checkpoint(&mut dirty).unwrap();
        assert!(!dirty.is_all());
        copy(&["-p"], &backup, &path);
        database.settle(&mut dirty).unwrap();
        assert!(dirty.is_all());
    }

    #[test]
    fn an_application_that_commits_and_checkpoints_without_pause_overwrites_nothing() {
        let (_folder, path, application) = application();
        application.execute_batch("PRAGMA wal_autocheckpoint=3; PRAGMA synchronous=OFF").unwrap();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let writer = std::thread::spawn(move || (0..3_000).for_each(|_| insert(&application)));
        let mut dirty = DirtyPages::new();
        while !writer.is_finished() {
            assert!(database.follow(&mut dirty).unwrap().is_continued());
            database.ease(Duration::ZERO, &mut dirty).unwrap();
        }
        writer.join().unwrap();
        assert!(!dirty.is_all());
    }

    #[test]
    fn a_checkpoint_that_is_under_way_is_waited_for_before_anybody_is_blamed() {
        let (_folder, path, application) = application();
        insert(&application);
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        let checkpointing = super::super::keeper::Keeper::open(&path).unwrap();
        checkpointing.guard();
        assert!(Command::new("touch").arg("-d@0").arg(&path).status().unwrap().success());
        // An old SQLite says how far it came only at the end.
        let header = database.read_index().unwrap().header;
        assert_eq!(database.notice_overwrite(&header, false, &mut dirty).unwrap(), Followed::NOTHING);
        checkpointing.unguard();
        assert!(!database.notice_overwrite(&header, false, &mut dirty).unwrap().is_continued());
    }

    #[test]
    fn a_recovery_that_forgets_what_was_copied_is_no_overwriting() {
        let (_folder, path, application) = application();
        insert(&application);
        super::super::tests::checkpoint(&application, "PASSIVE");
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        for round in 0..6 {
            super::super::tests::tear(&path);
            super::super::tests::checkpoint(&application, "PASSIVE");
            let followed = database.follow(&mut dirty).unwrap();
            assert!(followed.is_continued(), "{round}: {followed:?}");
            if round == 3 {
                assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
            }
        }
        // Twice between two looks, with a checkpoint in between.
        for _ in 0..2 {
            super::super::tests::tear(&path);
            super::super::tests::checkpoint(&application, "PASSIVE");
        }
        assert!(database.follow(&mut dirty).unwrap().is_continued());
        // Under our pin, which then lets others copy again.
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        super::super::tests::tear(&path);
        drop(database.view(&mut dirty).unwrap());
        insert(&application);
        super::super::tests::checkpoint(&application, "PASSIVE");
        assert!(database.follow(&mut dirty).unwrap().is_continued());
        assert!(!dirty.is_all());
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
