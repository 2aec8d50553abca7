//! Holding what the database says of pages against what the WAL said of them.
//!
//! After a checkpoint the pages come from the database file, and should one not have got there, what is read is an old page
//! that nobody can tell from a good one. So it is held against the WAL's words before any view is given out, and once more
//! when the WAL is settled and everything is stored. It costs a read of at most as many pages as
//! [`Audit`](lifeboat_replica::audit) keeps, never a wake-up, and never any time of the application's.

use lifeboat_replica::audit::Extent;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::PageNo;
use lifeboat_wal::wal_index::IndexHeader;
use rusqlite::Connection;

use super::view::Pages;
use super::{DatabaseError, Followed, WalDatabase};

impl WalDatabase {
    /// Refuses what the current pin shows, if a page is not what the WAL said. It shows the state of `header` or a newer one;
    /// `later` are pages of frames that it may not show yet.
    pub(super) fn audit_pin(
        &mut self,
        dirty: &mut DirtyPages,
        header: &IndexHeader,
        later: &DirtyPages,
    ) -> Result<(), DatabaseError> {
        let lost = self.find_lost_page(self.current().connection(), later, Extent::Due(dirty))?;
        self.require_not_lost(lost, dirty)?;
        self.follower.said_held(header);
        Ok(())
    }

    /// The settled pin shows the database file and nothing else. Once that holds what the WAL said, there is nothing left
    /// to prove. While pages wait to be read, that is left to whoever reads them.
    pub(super) fn audit_settled(&mut self, dirty: &mut DirtyPages) -> Result<(), DatabaseError> {
        if dirty.is_empty() {
            let lost = self.find_lost_page(self.current().connection(), &DirtyPages::new(), Extent::Whole)?;
            self.require_not_lost(lost, dirty)?;
            self.follower.forget_said();
        }
        Ok(())
    }

    /// A page that an open read transaction shows otherwise than the WAL said.
    pub(super) fn find_lost_page(
        &self,
        connection: &Connection,
        later: &DirtyPages,
        extent: Extent<'_>,
    ) -> Result<Option<PageNo>, DatabaseError> {
        if self.follower.said().is_empty() {
            return Ok(None);
        }
        let pages = Pages::open(connection, &self.path, self.page_size, false)?;
        let said = self.follower.said().pages(extent).filter(|(page, _)| !later.contains(*page));
        pages.find_other(said)
    }

    /// Whoever copies a file over the database makes pages differ too, and that is another matter.
    pub(super) fn require_not_lost(
        &mut self,
        lost: Option<PageNo>,
        dirty: &mut DirtyPages,
    ) -> Result<(), DatabaseError> {
        let Some(page) = lost else { return Ok(()) };
        let newest = self.read_index()?.header;
        match self.notice_overwrite(&newest, false, dirty)? {
            Followed::Lost { .. } => Ok(()),
            Followed::Continued(_) => Err(DatabaseError::LostPage { path: self.path.clone(), page }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::tests::{application, checkpoint, insert, page_two, take_page_two_back};
    use super::super::{EnforceWal, Settled};
    use super::*;

    /// An application, its follower, which has seen everything, and what the second page was before its last commit.
    fn followed() -> (TempDir, Connection, WalDatabase, Vec<u8>) {
        let (folder, path, application) = application();
        application.execute_batch("CREATE TABLE other(x)").unwrap();
        insert(&application);
        assert_eq!(checkpoint(&application, "TRUNCATE"), 0);
        let before = page_two(&path);
        let database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        insert(&application);
        (folder, application, database, before)
    }

    /// A database whose second page did not get into its file, its application, and its follower, which read the commit.
    fn lost(is_settled_before: bool) -> (TempDir, Connection, WalDatabase, DirtyPages) {
        let (folder, application, mut database, before) = followed();
        let mut dirty = DirtyPages::new();
        database.follow(&mut dirty).unwrap();
        if is_settled_before {
            assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        } else {
            database.roll_and_checkpoint(&mut dirty).unwrap();
        }
        assert!(dirty.contains(PageNo::try_new(2).unwrap()));
        take_page_two_back(&database.path, &before);
        (folder, application, database, dirty)
    }

    fn is_page_two<T>(audited: Result<T, DatabaseError>) -> bool {
        matches!(audited, Err(DatabaseError::LostPage { page, .. }) if page.get() == 2)
    }

    #[test]
    fn a_page_that_did_not_get_into_the_database_file_is_never_shown() {
        for is_settled in [true, false] {
            let (_folder, _application, mut database, mut dirty) = lost(is_settled);
            assert!(is_page_two(database.view(&mut dirty)), "settled: {is_settled}");
            assert!(is_page_two(database.detached_view(&mut dirty)), "settled: {is_settled}");
        }
    }

    #[test]
    fn a_page_that_was_stored_from_the_wal_and_then_not_copied_is_found_when_the_wal_is_settled() {
        let (_folder, _application, mut database, _) = lost(false);
        assert!(is_page_two(database.settle(&mut DirtyPages::new())));
    }

    /// A database whose second page was shown by a view of a later run, and then taken back. It is dirty still.
    fn proved_and_taken_back() -> (TempDir, Connection, WalDatabase, DirtyPages) {
        let (folder, application, mut database, before) = followed();
        let mut dirty = DirtyPages::new();
        database.follow(&mut dirty).unwrap();
        // With a page that waits to be read nothing is forgotten when the WAL is settled.
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        application.execute_batch("INSERT INTO other VALUES (1)").unwrap();
        database.view(&mut dirty).unwrap();
        take_page_two_back(&database.path, &before);
        (folder, application, database, dirty)
    }

    #[test]
    fn a_page_that_a_later_run_showed_and_somebody_took_back_is_not_read_for_a_slot() {
        let (_folder, _application, mut database, mut dirty) = proved_and_taken_back();
        assert!(is_page_two(database.view(&mut dirty)));
        assert!(is_page_two(database.detached_view(&mut dirty)));
    }

    #[test]
    fn a_page_that_a_later_run_showed_and_somebody_took_back_is_found_within_sixteen_views() {
        let (_folder, _application, mut database, _) = proved_and_taken_back();
        let found = (0..16).position(|_| is_page_two(database.view(&mut DirtyPages::new())));
        assert!(found.is_some_and(|views| views > 0), "{found:?}");
    }

    #[test]
    fn what_was_proved_is_not_asked_for_again() {
        let (_folder, path, application) = application();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        insert(&application);
        database.follow(&mut DirtyPages::new()).unwrap();
        assert!(!database.follower.said().is_empty());
        assert_eq!(database.settle(&mut DirtyPages::new()).unwrap(), Settled::Yes);
        assert!(database.follower.said().is_empty());
    }

    #[test]
    fn a_database_that_shrinks_and_grows_again_has_lost_nothing() {
        let (_folder, path, application) = application();
        application.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").unwrap();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        for _ in 0..3 {
            for sql in [
                "CREATE TABLE b AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 90)
                 SELECT randomblob(5000) AS x FROM n",
                "DROP TABLE b",
                "PRAGMA incremental_vacuum",
                "VACUUM",
            ] {
                application.execute_batch(sql).unwrap();
                let mut dirty = DirtyPages::new();
                database.view(&mut dirty).unwrap();
                assert_eq!(database.settle(&mut DirtyPages::new()).unwrap(), Settled::Yes, "{sql}");
            }
        }
    }
}
