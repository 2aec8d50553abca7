//! The theorem, on real SQLite: whatever another process does with its database, what we ship is what it has.
//!
//! Each test starts an application as a process of its own and follows its database while it writes. At every cut a copy
//! made only of shipped pages must equal, byte for byte, a scan of the whole view; at the end it must equal the file the
//! application leaves. Continuity must never be lost, and the commits we count must be those the application made.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells by printing"
)]

mod application;
mod model;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lifeboat::database::{Database, DatabaseError, EnforceWal, Followed, Settled};
use lifeboat::pace::{Next, Pace};
use lifeboat::watch::{Watcher, Woken};
use lifeboat_replica::dirty_pages::DirtyPages;
use rusqlite::Connection;

use application::{Applications, Done, Work, Workload};
use model::Model;

/// What takes longer than this waited for something that did not come by itself. No measure of how long anything takes: a
/// machine that stands still for some seconds is no failure of ours, and how long a checkpoint or a commit waits is measured by
/// the bench.
const HANG: Duration = Duration::from_secs(15);

/// Follows one database and ships its cuts to a model.
struct Replica {
    database: Database,
    dirty: DirtyPages,
    model: Model,
    commits: u64,
    cuts: u32,
    /// The salts of every run through the WAL that a cut saw.
    runs: BTreeSet<[u8; 8]>,
    wal_bytes_max: u64,
    /// Whether continuity may be lost: a recovery starts SQLite's counter again, and when a WAL restart follows before we
    /// look, nothing proves continuity.
    may_be_lost: bool,
}

impl Replica {
    fn open(path: &Path, may_be_lost: bool) -> Self {
        let database = Database::open(path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        dirty.insert_all();
        let (model, runs) = (Model::default(), BTreeSet::new());
        Self { database, dirty, model, commits: 0, cuts: 0, runs, wal_bytes_max: 0, may_be_lost }
    }

    fn follow(&mut self) {
        match self.database.follow(&mut self.dirty) {
            Ok(Followed::Continued(_)) => self.commits += self.database.take_gained().commits,
            Ok(Followed::Lost { .. }) if self.may_be_lost => {}
            Ok(Followed::Lost { why }) => panic!("lost: {why}"),
            // Somebody else is repairing the WAL-index.
            Err(DatabaseError::Busy { .. }) if self.may_be_lost => {}
            Err(error) => panic!("{error}"),
        }
        let wal = self.database.path().with_file_name("app.db-wal");
        self.wal_bytes_max = self.wal_bytes_max.max(fs::metadata(wal).unwrap().len());
    }

    fn cut(&mut self) {
        let mut view = match self.database.view(&mut self.dirty) {
            Err(DatabaseError::Busy { .. }) if self.may_be_lost => return,
            view => view.unwrap(),
        };
        assert!(view.lost().is_none() || self.may_be_lost, "lost: {:?}", view.lost());
        self.cuts += 1;
        self.runs.extend(view.header().map(|header| header.salts.0));
        self.model.apply(&mut view, &self.dirty);
        self.model.assert_equals(&mut view);
        let still_dirty = view.still_dirty().clone();
        drop(view);
        self.commits += self.database.take_gained().commits;
        self.dirty = still_dirty;
    }

    /// Compares with the file, when the application is gone and everything is in it.
    fn compare_with_file(&mut self) {
        let path = self.database.path().to_owned();
        let end = Connection::open(&path).unwrap();
        end.busy_timeout(Duration::ZERO).unwrap();
        assert_eq!(self.database.settle(&mut self.dirty).unwrap(), Settled::Yes);
        let busy: i64 = end.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0);
        assert!(fs::read(&path).unwrap() == self.model.image(), "the file differs from the copy");
        let check: String = end.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

/// Runs the workload to its end and compares; returns the replica and what the application did.
fn run(workload: &Workload) -> (Replica, Done) {
    run_with(workload, |replica, application| {
        for round in 0_u64.. {
            if !application.is_running() {
                break;
            }
            replica.follow();
            if round % 3 == 0 {
                replica.cut();
            }
            thread::sleep(Duration::from_micros(700 * (round % 11)));
        }
    })
}

/// The same, but looks when and as the sidecar does: on events, and settling when nothing came.
fn run_as_the_sidecar(workload: &Workload) -> (Replica, Done) {
    run_with(workload, |replica, application| {
        let watch = Watcher::start().unwrap().watch(replica.database.path());
        let (mut pace, mut is_armed, mut last_cut) = (Pace::new(), false, Instant::now());
        let mut news = Instant::now();
        while application.is_running() {
            match pace.next_wait() {
                Next::Pause(pause) => {
                    let pause = replica.database.pause_max().map_or(pause, |longest| pause.min(longest));
                    replica.database.stand_by(pause);
                    watch.pause(pause);
                }
                Next::EventWithin(_) | Next::Event if !is_armed => is_armed = watch.arm(),
                next @ (Next::EventWithin(_) | Next::Event) => {
                    let limit =
                        if let Next::EventWithin(pause) = next { pause } else { Duration::from_secs(1) };
                    replica.database.stand_by(limit);
                    if watch.wait(Some(limit)) == Woken::Event {
                        (is_armed, ..) = (false, pace.event());
                    }
                }
            }
            let before = replica.commits;
            replica.follow();
            if replica.commits > before {
                pace.news(replica.commits - before);
                news = Instant::now();
            } else {
                match replica.database.ease(news.elapsed(), &mut replica.dirty) {
                    Ok(Settled::Yes) => pace.settled(),
                    Ok(Settled::NotYet) | Err(_) => pace.hindered(),
                }
            }
            if last_cut.elapsed() > Duration::from_millis(300) {
                replica.cut();
                last_cut = Instant::now();
            }
        }
    })
}

fn run_with(workload: &Workload, follow: impl FnOnce(&mut Replica, &mut Applications)) -> (Replica, Done) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let mut application = Applications::start(&path, workload);
    let mut replica = Replica::open(&path, workload.tears);
    application.go();
    follow(&mut replica, &mut application);
    let done = application.done();
    replica.cut();
    assert!(replica.dirty.is_empty(), "nobody writes any more");
    let (cuts, runs, wal_kb) = (replica.cuts, replica.runs.len(), replica.wal_bytes_max / 1024);
    println!("{workload:?}: {done:?}, {cuts} cuts, {runs} runs through a WAL of at most {wal_kb} KiB");
    assert!(cuts > 2, "only {cuts} cuts");
    replica.compare_with_file();
    (replica, done)
}

/// Runs a workload whose every piece of work is exactly one commit.
fn run_counted(workload: &Workload) {
    let (replica, done) = run(workload);
    assert!(done.commits > 3, "the application made only {} commits", done.commits);
    assert_eq!(replica.commits, done.commits);
}

#[test]
fn one_writer_at_full_speed() {
    run_counted(&Workload::PLAIN);
}

#[test]
fn several_writers_that_sync_all_of_their_commits_some_or_none() {
    for synchronous in ["FULL", "NORMAL", "OFF"] {
        run_counted(&Workload { writers: 4, synchronous, ..Workload::PLAIN });
    }
}

#[test]
fn several_processes_with_several_writers() {
    run_counted(&Workload { processes: 3, writers: 2, rest: Duration::from_micros(300), ..Workload::PLAIN });
}

#[test]
fn writers_that_sync_every_commit_or_none() {
    run_counted(&Workload { synchronous: "FULL", ..Workload::PLAIN });
    run_counted(&Workload { synchronous: "OFF", ..Workload::PLAIN });
}

#[test]
fn the_smallest_and_the_largest_pages() {
    run_counted(&Workload { page_size: 512, ..Workload::PLAIN });
    // Not at full speed: comparing gigabytes at every cut would leave time for one cut.
    run_counted(&Workload { page_size: 65_536, rest: Duration::from_micros(300), ..Workload::PLAIN });
}

#[test]
fn the_same_page_again_and_again() {
    run_counted(&Workload { work: Work::Hot, ..Workload::PLAIN });
}

#[test]
fn an_application_with_pauses() {
    run_counted(&Workload { rest: Duration::from_millis(7), ..Workload::PLAIN });
}

#[test]
fn an_application_that_checkpoints_after_every_commit() {
    run_counted(&Workload { autocheckpoint: 1, ..Workload::PLAIN });
}

#[test]
fn an_application_that_checkpoints_all_the_time() {
    for checkpoints in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        run_counted(&Workload { checkpoints, rest: Duration::from_micros(300), ..Workload::PLAIN });
    }
}

#[test]
fn an_application_that_opens_and_closes_for_every_statement() {
    run_counted(&Workload { work: Work::OpenAndClose, ..Workload::PLAIN });
}

#[test]
fn updates_deletes_spills_rollbacks_and_vacuum() {
    for page_size in [512, 4096, 65_536] {
        run(&Workload { work: Work::Mixed, page_size, ..Workload::PLAIN });
    }
}

#[test]
fn all_of_it_with_several_writers_and_checkpoints() {
    for checkpoints in ["RESTART", "TRUNCATE"] {
        run(&Workload { work: Work::Mixed, writers: 3, checkpoints, ..Workload::PLAIN });
    }
}

#[test]
fn an_application_without_pauses_does_not_make_the_wal_grow_without_end() {
    let (replica, _) = run(&Workload { rest: Duration::from_micros(100), ..Workload::PLAIN });
    assert!(replica.runs.len() > 1, "the WAL was never restarted");
    assert!(replica.wal_bytes_max < 40 << 20, "the WAL grew to {} bytes", replica.wal_bytes_max);
}

#[test]
fn an_application_that_waits_for_its_own_checkpoints_waits_for_us_only_briefly() {
    let patient = Workload { patience: 2 * HANG, duration: Duration::from_secs(2), ..Workload::PLAIN };
    for checkpoints in ["FULL", "RESTART", "TRUNCATE"] {
        for rest in [Duration::ZERO, Duration::from_millis(3)] {
            let (_, done) = run_as_the_sidecar(&Workload { checkpoints, rest, ..patient });
            assert!(done.commit_max < HANG && done.checkpoint_max < HANG, "{done:?}");
        }
    }
}

#[test]
fn a_wal_padded_to_disk_sectors() {
    let padded = Workload { work: Work::Padded, synchronous: "FULL", ..Workload::PLAIN };
    let (replica, done) = run(&Workload { page_size: 512, checkpoints: "TRUNCATE", ..padded });
    assert!(replica.commits > done.commits, "{} commit frames for {done:?}: no padding", replica.commits);
}

#[test]
fn readers_that_stay_for_long() {
    run_counted(&Workload { readers: 3, rest: Duration::from_micros(300), ..Workload::PLAIN });
}

#[test]
fn a_transaction_larger_than_memory() {
    let (replica, _) = run(&Workload { work: Work::Huge, ..Workload::PLAIN });
    assert!(replica.wal_bytes_max > 90 << 20, "the WAL was only {} bytes long", replica.wal_bytes_max);
}

#[test]
fn a_database_that_shrinks_without_vacuum() {
    for auto_vacuum in ["FULL", "INCREMENTAL"] {
        run(&Workload { work: Work::Shrink, auto_vacuum, ..Workload::PLAIN });
    }
}

#[test]
fn headers_that_are_torn_under_load() {
    let torn = Workload { tears: true, writers: 2, duration: Duration::from_secs(2), ..Workload::PLAIN };
    for workload in [torn, Workload { rest: Duration::from_millis(2), ..torn }] {
        let (_, done) = run_as_the_sidecar(&workload);
        assert!(done.commits > 20 && done.commit_max < HANG, "{done:?}");
    }
}

#[test]
fn writers_that_are_killed_at_any_time() {
    let workload = Workload { writers: 2, work: Work::Mixed, ..Workload::PLAIN };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let mut application = Applications::start(&path, &workload);
    let mut replica = Replica::open(&path, true);
    for round in 0..10 {
        application.go();
        let until = Instant::now() + Duration::from_micros(20_000 + 13_700 * (round % 7));
        while Instant::now() < until {
            replica.follow();
            thread::sleep(Duration::from_millis(1));
        }
        application.kill();
        replica.follow();
        replica.cut();
        application = Applications::start(&path, &workload);
    }
    application.kill();
    replica.cut();
    assert!(replica.commits > 10, "{} commits", replica.commits);
    replica.compare_with_file();
}

#[test]
fn an_application_that_never_waits_is_hardly_ever_told_to() {
    let paced = Workload { is_impatient: true, rest: Duration::from_millis(1), ..Workload::PLAIN };
    let (_, done) = run_as_the_sidecar(&Workload { duration: Duration::from_secs(3), ..paced });
    assert!(done.busy * 50 < done.commits, "{done:?}");
}
