use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_wal::frame::FrameNo;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::database::connection;
use crate::database::keeper::Keeper;
use crate::database::tests::{application, checkpoint, gained, insert, tear};
use crate::database::{EnforceWal, Settled};

/// An application that never waits, whose WAL has become long, and its follower, which stands guard.
fn on_guard() -> (TempDir, PathBuf, Connection, WalDatabase) {
    let (folder, path, application) = application();
    application.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF").unwrap();
    application.busy_timeout(Duration::ZERO).unwrap();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    let until = Instant::now() + PATIENCE;
    while database.pause_max().is_none() && Instant::now() < until {
        (0..600).for_each(|_| insert(&application));
        // On a slow machine these came slowly.
        database.looked_at = Instant::now();
        assert_eq!(gained(database.follow(&mut DirtyPages::new()).unwrap()), 600);
    }
    assert_eq!(database.pause_max(), Some(SHORT));
    database.stand_by(SHORT);
    (folder, path, application, database)
}

fn is_kept_away(application: &Connection) -> bool {
    checkpoint(application, "PASSIVE") == 1
}

#[test]
fn on_guard_the_application_does_not_checkpoint_and_goes_on_writing() {
    let (_folder, _path, application, mut database) = on_guard();
    assert!(is_kept_away(&application));
    insert(&application);
    assert_eq!(gained(database.follow(&mut DirtyPages::new()).unwrap()), 1);
    assert!(is_kept_away(&application), "a look leaves the guard where it is");
}

#[test]
fn a_short_wal_is_not_guarded() {
    let (_folder, path, application) = application();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    (0..400).for_each(|_| insert(&application));
    database.looked_at = Instant::now();
    database.follow(&mut DirtyPages::new()).unwrap();
    database.stand_by(SHORT);
    assert_eq!(database.pause_max(), None);
    assert!(!is_kept_away(&application));
}

#[test]
fn nobody_sleeps_long_or_reads_a_view_or_ends_on_guard() {
    let (_folder, _path, application, database) = on_guard();
    database.stand_by(SHORT + Duration::from_millis(1));
    assert!(!is_kept_away(&application), "a long pause");
    let (_folder, _path, application, mut database) = on_guard();
    let _view = database.view(&mut DirtyPages::new()).unwrap();
    assert!(!is_kept_away(&application), "a view");
    let (_folder, _path, application, database) = on_guard();
    drop(database);
    assert!(!is_kept_away(&application), "the end");
    let (_folder, _path, application, mut database) = on_guard();
    assert_eq!(database.ease(Duration::ZERO, &mut DirtyPages::new()).unwrap(), Settled::Yes);
    assert!(!is_kept_away(&application), "a settled WAL");
}

#[test]
fn our_own_checkpoint_runs_although_we_stand_guard() {
    let (_folder, _path, application, mut database) = on_guard();
    let (_, checkpointed) = database.roll_and_checkpoint(&mut DirtyPages::new()).unwrap();
    assert_eq!(checkpointed, Checkpointed::Ran);
    assert!(database.read_index().unwrap().is_backfilled());
    assert!(is_kept_away(&application), "and then we stand guard again");
}

/// A sync may take seconds.
#[test]
fn the_database_is_synced_off_guard() {
    let (_folder, path, application, mut database) = on_guard();
    let other = Keeper::open(&path).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let looks_on = Arc::clone(&is_over);
    let looking = thread::spawn(move || {
        while !looks_on.load(Ordering::Relaxed) {
            if !other.sees_checkpoint() {
                return true;
            }
        }
        false
    });
    let begun = Instant::now();
    while !looking.is_finished() && begun.elapsed() < 4 * PATIENCE {
        insert(&application);
        assert_eq!(database.sync_early().unwrap(), Checkpointed::Ran);
        database.stand_by(SHORT);
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(looking.join().unwrap(), "the guard was never given back");
}

#[test]
fn an_error_ends_the_guard() {
    let (_folder, _path, application, mut database) = on_guard();
    database.page_size = lifeboat_wal::PageSize::MIN;
    database.follow(&mut DirtyPages::new()).unwrap_err();
    assert!(!is_kept_away(&application));
}

#[test]
fn a_torn_header_is_repaired_although_we_stand_guard() {
    let (_folder, path, application, mut database) = on_guard();
    tear(&path);
    application.busy_timeout(PATIENCE).unwrap();
    let application = thread::spawn(move || {
        let start = Instant::now();
        insert(&application);
        start.elapsed()
    });
    thread::sleep(SHORT);
    database.follow(&mut DirtyPages::new()).unwrap();
    assert!(application.join().unwrap() < PATIENCE / 2, "the application waited for our guard");
}

#[test]
fn a_pin_that_has_to_repair_the_header_does_not_wait_for_our_guard() {
    let (_folder, path, application, database) = on_guard();
    tear(&path);
    let start = Instant::now();
    database.begin_spare().unwrap();
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(is_kept_away(&application), "and then we stand guard again");
}

#[test]
fn a_torn_header_found_under_the_write_lock_is_left_to_others() {
    let (_folder, path, application, mut database) = on_guard();
    tear(&path);
    assert!(database.keeper.lock_writers_out());
    let start = Instant::now();
    assert_eq!(database.finish_under_lock(&mut DirtyPages::new()).unwrap(), Followed::NOTHING);
    database.keeper.let_writers_in();
    assert!(start.elapsed() < PATIENCE / 2);
    database.keeper.unguard();
    insert(&application);
}

#[test]
fn the_write_lock_is_held_only_when_little_is_left_to_copy() {
    let (_folder, path, application) = application();
    application.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF").unwrap();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    (0..4_200).for_each(|_| insert(&application));
    let (keeper, index) = (Keeper::open(&path).unwrap(), connection::open(&path).unwrap());
    index.query_row("PRAGMA user_version", [], |_| Ok(())).unwrap();
    let follower = thread::spawn(move || {
        database.follow(&mut DirtyPages::new()).unwrap();
        database.read_index().unwrap()
    });
    let mut most = 0;
    while !follower.is_finished() {
        if keeper.while_nobody_writes(|| ()).is_none() {
            let index = crate::database::poll_index(&index, &path).unwrap().unwrap();
            most = most.max(index.header.last_frame.since(index.backfilled));
        }
    }
    assert!(follower.join().unwrap().is_backfilled(), "the lock was taken, and all is copied");
    assert!(most < FEW_FRAMES, "{most} frames were copied while nobody could write");
}

#[test]
fn giving_way_to_a_checkpoint_loses_no_commit() {
    let (_folder, path, application) = application();
    application.busy_timeout(Duration::ZERO).unwrap();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    insert(&application);
    database.busy_since = Instant::now().checked_sub(Duration::from_secs(1));
    let writer = thread::spawn(move || {
        let until = Instant::now() + Duration::from_millis(200);
        let mut commits = 1;
        while Instant::now() < until {
            insert(&application);
            checkpoint(&application, "RESTART");
            commits += 1;
        }
        commits
    });
    let meanwhile = gained(database.give_way_if_stuck(&mut dirty).unwrap());
    assert!(meanwhile > 0 && !database.current().connection().is_autocommit());
    let commits = writer.join().unwrap();
    assert_eq!(meanwhile + gained(database.follow(&mut dirty).unwrap()), commits);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes, "nothing is held any more");
}

#[test]
fn nobody_gives_way_on_guard() {
    let (_folder, _path, application, mut database) = on_guard();
    assert!(is_kept_away(&application));
    database.busy_since = Instant::now().checked_sub(Duration::from_secs(1));
    database.give_way_if_stuck(&mut DirtyPages::new()).unwrap();
    assert!(!is_kept_away(&application));
}

#[test]
fn a_checkpoint_that_is_over_does_not_make_the_next_one_look_stuck() {
    let (_folder, path, application) = application();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    insert(&application);
    let checkpointing = Keeper::open(&path).unwrap();
    checkpointing.guard();
    database.follow(&mut dirty).unwrap();
    assert!(database.busy_since.is_some(), "it was accompanied, and is not over");
    checkpointing.unguard();
    database.follow(&mut dirty).unwrap();
    assert_eq!(database.busy_since, None, "nobody is waited with any more");
}

#[test]
fn a_truncate_that_waits_for_our_pin_is_accompanied_to_its_end() {
    let (_folder, path, mut application) = application();
    application.busy_timeout(PATIENCE).unwrap();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    for _ in 0..5 {
        let waiting = thread::spawn(move || {
            insert(&application);
            let (start, busy) = (Instant::now(), checkpoint(&application, "TRUNCATE"));
            (application, busy, start.elapsed())
        });
        while !waiting.is_finished() {
            thread::sleep(SHORT / 2);
            // So soon after a commit, nothing else would move the pin.
            database.ease(Duration::ZERO, &mut DirtyPages::new()).unwrap();
        }
        let (again, busy, took) = waiting.join().unwrap();
        assert!(busy == 0 && took < PATIENCE / 2, "busy: {busy}, after {took:?}");
        application = again;
    }
}

#[test]
fn the_write_lock_is_taken_only_when_nobody_checkpoints_and_keeps_others_from_it() {
    let (_folder, path, application) = application();
    let (checkpointing, keeper) = (Keeper::open(&path).unwrap(), Keeper::open(&path).unwrap());
    checkpointing.guard();
    assert!(!keeper.lock_writers_out() && !keeper.keeps_writers_out());
    checkpointing.unguard();
    assert!(!is_kept_away(&application), "nothing is left of the attempt");
    assert!(keeper.lock_writers_out());
    assert!(is_kept_away(&application));
    keeper.let_writers_in();
}

#[test]
fn a_writer_that_began_to_read_too_early_is_waited_for_under_the_write_lock() {
    let (_folder, path, application) = application();
    let keeper = Keeper::open(&path).unwrap();
    application.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let begun = Instant::now();
    keeper.await_no_reader();
    assert!(begun.elapsed() >= Duration::from_micros(200), "it reads on");
    application.execute_batch("ROLLBACK").unwrap();
    keeper.await_no_reader();
    insert(&application);
    assert_eq!(checkpoint(&application, "TRUNCATE"), 0, "nothing is held afterwards");
}

#[test]
fn while_a_view_of_ours_is_open_the_write_lock_is_not_taken_for_nothing() {
    let (_folder, _path, application, mut database) = on_guard();
    let mut dirty = DirtyPages::new();
    let view = database.detached_view(&mut dirty).unwrap();
    (0..4000).for_each(|_| insert(&application));
    let long = database.read_index().unwrap().header;
    database.follow(&mut dirty).unwrap();
    assert_eq!(database.pressure.decide(&long), Relief::Restart, "nothing was tried that could be in vain");
    drop(view);
    database.follow(&mut dirty).unwrap();
    insert(&application);
    assert_ne!(database.read_index().unwrap().header.salts, long.salts, "the WAL was restarted");
}

#[test]
fn who_begins_a_checkpoint_right_after_a_quiet_time_is_not_disturbed() {
    let (_folder, path, application) = application();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    insert(&application);
    let checkpointing = Keeper::open(&path).unwrap();
    checkpointing.guard();
    database.follow(&mut dirty).unwrap();
    assert_eq!(database.busy_since, None, "the first look asks for no lock");
    database.follow(&mut dirty).unwrap();
    assert!(database.busy_since.is_some(), "the second one does");
}

#[test]
fn each_copy_finds_out_whether_the_application_still_writes_faster_than_that() {
    let (_folder, _path, application, mut database) = on_guard();
    let now = database.read_index().unwrap().header;
    let before = IndexHeader { last_frame: FrameNo::START, ..now };
    let far = IndexHeader { last_frame: FrameNo::new(10_000), ..now };
    database.pressure.copied(&before, &far);
    assert_eq!(database.pressure.copy_rounds(), 0, "only more would be found");
    insert(&application);
    let (_, checkpointed) = database.roll_and_checkpoint(&mut DirtyPages::new()).unwrap();
    assert_eq!(checkpointed, Checkpointed::Ran);
    assert!(database.pressure.copy_rounds() > 0, "it writes slowly now");
}

#[test]
fn for_a_wal_that_an_old_reader_holds_back_no_writer_is_kept_out() {
    let (_folder, path, application) = application();
    application.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF").unwrap();
    let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
    let reader = Connection::open(&path).unwrap();
    insert(&application);
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    (0..4_200).for_each(|_| insert(&application));
    database.follow(&mut DirtyPages::new()).unwrap();
    assert_eq!(database.take_kept_writers_out(), None);
    reader.execute_batch("COMMIT").unwrap();
    // The lock is tried again when the WAL is longer.
    (0..2_200).for_each(|_| insert(&application));
    database.follow(&mut DirtyPages::new()).unwrap();
    assert!(database.take_kept_writers_out().is_some());
}

const SHORT: Duration = Duration::from_millis(10);
/// Only who waits for something that never comes waits so long.
const PATIENCE: Duration = Duration::from_secs(8);
