//! The theorem under random interleavings, on real SQLite: whatever happens between two looks, no commit is missed, and
//! what is shipped is what the database has.
//!
//! Everything runs in one thread, one step after the other, so a failure shrinks to a short story.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use lifeboat::database::{Database, DatabaseError, EnforceWal, Followed};
use lifeboat_replica::dirty_pages::DirtyPages;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The application commits this many small transactions.
    Commit(u8),
    /// The application commits one that is larger than its cache.
    CommitMuch,
    /// The application writes a lot and takes it back.
    Rollback,
    /// The application deletes most rows and gives the pages back.
    Shrink,
    /// The application checkpoints.
    Checkpoint(&'static str),
    /// The application's only connection closes and opens again.
    Reopen,
    /// Another connection of the application begins, or ends, to read.
    Reader,
    /// A writer is killed while it changes the header of the WAL-index.
    Tear,
    Follow,
    Settle,
    View,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u8).prop_map(Step::Commit),
        1 => Just(Step::CommitMuch),
        1 => Just(Step::Rollback),
        1 => Just(Step::Shrink),
        6 => prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]).prop_map(Step::Checkpoint),
        1 => Just(Step::Reopen),
        2 => Just(Step::Reader),
        1 => Just(Step::Tear),
        4 => Just(Step::Follow),
        4 => Just(Step::Settle),
        3 => Just(Step::View),
    ]
}

struct World {
    _folder: TempDir,
    path: PathBuf,
    application: Connection,
    reader: Option<Connection>,
    database: Database,
    dirty: DirtyPages,
    image: Vec<u8>,
    /// A recovery starts SQLite's counter again. When a WAL restart follows before we look, nothing proves continuity any
    /// more, and "every page" is the right answer.
    may_be_lost: bool,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let application = connect(&path);
        application.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").unwrap();
        application.execute_batch("CREATE TABLE t(x)").unwrap();
        let database = Database::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        dirty.insert_all();
        let (reader, image) = (None, Vec::new());
        Self { _folder: folder, path, application, reader, database, dirty, image, may_be_lost: false }
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Commit(commits) => {
                (0..commits).for_each(|_| self.write("INSERT INTO t VALUES (randomblob(900))"))
            }
            Step::CommitMuch => self.write(&format!("BEGIN; {MUCH}; COMMIT")),
            Step::Rollback => self.write(&format!("BEGIN; {MUCH}; ROLLBACK")),
            Step::Shrink => self.write("DELETE FROM t WHERE rowid % 5 > 0; PRAGMA incremental_vacuum"),
            Step::Checkpoint(mode) => {
                let pragma = format!("PRAGMA wal_checkpoint({mode})");
                self.application.query_row(&pragma, [], |_| Ok(())).unwrap();
            }
            Step::Reopen => self.application = connect(&self.path),
            Step::Reader => {
                self.reader = match self.reader.take() {
                    Some(_) => None,
                    None => Some(begin_to_read(&self.path)),
                };
            }
            Step::Tear => self.tear(),
            Step::Follow => {
                let followed = self.database.follow(&mut self.dirty).unwrap();
                self.check(followed);
            }
            Step::Settle => {
                self.database.settle(&mut self.dirty).unwrap();
            }
            Step::View => self.view(),
        }
    }

    fn write(&self, sql: &str) {
        self.application.execute_batch(sql).unwrap();
    }

    fn tear(&mut self) {
        let mut shared = OpenOptions::new().write(true).open(self.path.with_file_name("app.db-shm")).unwrap();
        shared.seek(SeekFrom::Start(8)).unwrap();
        shared.write_all(&[0xaa; 4]).unwrap();
        // Closing it would drop the locks of every connection in this process.
        std::mem::forget(shared);
        self.may_be_lost = true;
    }

    fn check(&mut self, followed: Followed) {
        match followed {
            Followed::Continued(_) => {}
            Followed::Lost { .. } if self.may_be_lost => assert!(self.dirty.is_all()),
            Followed::Lost { why } => panic!("lost: {why}"),
        }
        self.may_be_lost = false;
    }

    /// Ships a cut, and compares with everything the view has.
    fn view(&mut self) {
        let mut view = self.database.view(&mut self.dirty).unwrap();
        assert!(view.lost().is_none() || self.may_be_lost, "lost: {:?}", view.lost());
        let size = view.page_size().get() as usize;
        self.image.resize(view.page_count().get() as usize * size, 0);
        let mut all = DirtyPages::new();
        all.insert_all();
        for (pages, is_check) in [(&self.dirty, false), (&all, true)] {
            view.for_each_page(pages, |page, image| {
                let ours = &mut self.image[(page.get() as usize - 1) * size..][..size];
                assert!(!is_check || ours == image, "page {page} is not what the database has");
                ours.copy_from_slice(image);
                Ok::<(), DatabaseError>(())
            })
            .unwrap();
        }
        let still_dirty = view.still_dirty().clone();
        drop(view);
        self.dirty = still_dirty;
        self.may_be_lost = false;
    }
}

fn connect(path: &PathBuf) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection.execute_batch("PRAGMA cache_size=5; PRAGMA synchronous=OFF").unwrap();
    connection
}

fn begin_to_read(path: &PathBuf) -> Connection {
    let reader = connect(path);
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
    reader
}

const MUCH: &str = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 80)
    SELECT randomblob(2000) FROM n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_between_two_looks_no_commit_is_missed(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.perform(step);
        }
        world.view();
    }
}
