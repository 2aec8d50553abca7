use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::thread;

use super::*;

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

/// A database with a WAL, watched.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (database, wal) = (folder.path().join("app.db"), folder.path().join("app.db-wal"));
    fs::write(&database, "x").unwrap();
    fs::write(&wal, "x").unwrap();
    (folder, database, wal)
}

fn append(path: &Path) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
}

fn without_inotify() -> Watcher {
    Watcher::start_with(Err(io::Error::from(rustix::io::Errno::MFILE))).unwrap()
}

#[test]
fn the_database_may_come_later_and_so_may_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("later/app.db");
    let watch = Watcher::start().unwrap().watch(&database);
    assert!(!watch.arm(), "there is no folder to watch");
    assert_eq!(watch.wait(SHORT), Woken::Timeout);
    fs::create_dir(database.parent().unwrap()).unwrap();
    assert_eq!(watch.wait(LONG), Woken::Event, "the folder was found");
    assert!(watch.arm());
    fs::write(&database, "x").unwrap();
    assert_eq!(watch.wait(LONG), Woken::Event);
}

#[test]
fn a_write_to_the_wal_rings_once_until_it_is_armed_again() {
    let (_folder, database, wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    for _ in 0..3 {
        assert!(watch.arm());
        append(&wal);
        assert_eq!(watch.wait(LONG), Woken::Event);
        append(&wal);
        append(&wal);
        assert_eq!(watch.wait(SHORT), Woken::Timeout, "a busy database produces no events");
    }
}

#[test]
fn a_wal_that_is_deleted_and_made_again_rings_each_time() {
    let (_folder, database, wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    for _ in 0..3 {
        watch.arm();
        fs::remove_file(&wal).unwrap();
        assert_eq!(watch.wait(LONG), Woken::Event);
        watch.arm();
        fs::write(&wal, "y").unwrap();
        assert_eq!(watch.wait(LONG), Woken::Event);
        watch.arm();
        append(&wal);
        assert_eq!(watch.wait(LONG), Woken::Event);
    }
}

#[test]
fn a_database_without_a_wal_is_watched_itself() {
    let (_folder, database, wal) = place();
    fs::remove_file(&wal).unwrap();
    let watch = Watcher::start().unwrap().watch(&database);
    assert!(watch.arm());
    append(&database);
    assert_eq!(watch.wait(LONG), Woken::Event);
}

#[test]
fn a_database_behind_a_link_is_watched_where_it_lies() {
    let (folder, database, wal) = place();
    let link = folder.path().join("link");
    symlink(&database, &link).unwrap();
    let watch = Watcher::start().unwrap().watch(&link);
    watch.arm();
    append(&wal);
    assert_eq!(watch.wait(LONG), Woken::Event);
}

#[test]
fn other_files_and_shared_memory_wake_nobody() {
    let (folder, database, _wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.arm();
    fs::write(folder.path().join("other.db-wal"), "x").unwrap();
    fs::write(folder.path().join("app.db-shm"), "x").unwrap();
    assert_eq!(watch.wait(Some(Duration::from_millis(1_300))), Woken::Timeout);
}

#[test]
fn a_file_copied_over_the_database_rings() {
    let (_folder, database, _wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.arm();
    fs::OpenOptions::new().write(true).open(&database).unwrap().write_all(b"y").unwrap();
    assert_eq!(watch.wait(Some(Duration::from_secs(20))), Woken::Event);
}

#[test]
fn a_replaced_database_rings() {
    let (folder, database, _wal) = place();
    fs::write(folder.path().join("new"), "x").unwrap();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.arm();
    fs::rename(folder.path().join("new"), &database).unwrap();
    assert_eq!(watch.wait(LONG), Woken::Event);
}

#[test]
fn a_call_is_heard_before_and_during_the_wait_and_two_are_one() {
    let (_folder, database, _wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.call();
    watch.call();
    assert_eq!(watch.pause(LONG.unwrap()), Woken::Called);
    assert_eq!(watch.wait(SHORT), Woken::Timeout);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SHORT.unwrap());
            watch.call();
        });
        assert_eq!(watch.wait(None), Woken::Called);
    });
}

#[test]
fn who_looks_on_his_own_is_not_woken_by_events() {
    let (_folder, database, wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.arm();
    append(&wal);
    assert_eq!(watch.pause(SHORT.unwrap()), Woken::Timeout);
    assert_eq!(watch.wait(LONG), Woken::Event, "it is kept");
}

#[test]
fn without_inotify_a_change_is_seen_within_seconds() {
    let (_folder, database, wal) = place();
    let watch = without_inotify().watch(&database);
    assert!(!watch.arm());
    append(&wal);
    assert_eq!(watch.wait(LONG), Woken::Event);
    watch.arm();
    assert_eq!(watch.wait(Some(Duration::from_millis(1_300))), Woken::Timeout);
    fs::remove_file(&database).unwrap();
    assert_eq!(watch.wait(LONG), Woken::Event);
}

#[test]
fn two_names_of_one_database_both_hear_of_a_write() {
    let (folder, database, wal) = place();
    let link = folder.path().join("link");
    symlink(&database, &link).unwrap();
    let watcher = Watcher::start().unwrap();
    let watches = [watcher.watch(&database), watcher.watch(&link)];
    assert_eq!(watches.each_ref().map(Watch::arm), [true, false], "the second is looked at");
    append(&wal);
    watches.iter().for_each(|watch| assert_eq!(watch.wait(LONG), Woken::Event));
}

#[tokio::test]
async fn a_task_is_woken_like_a_thread() {
    let (_folder, database, wal) = place();
    let watch = Watcher::start().unwrap().watch(&database);
    watch.arm();
    append(&wal);
    assert_eq!(watch.rung().await, Woken::Event);
    watch.call();
    assert_eq!(watch.rung().await, Woken::Called);
}

#[tokio::test]
async fn a_lookout_hears_of_new_files_and_not_of_watched_ones() {
    let (folder, database, wal) = place();
    let watcher = Watcher::start().unwrap();
    let (_watch, lookout) = (watcher.watch(&database), watcher.lookout());
    lookout.add(folder.path());
    fs::remove_file(&wal).unwrap();
    fs::write(&wal, "x").unwrap();
    tokio::time::timeout(SHORT.unwrap(), lookout.rung()).await.unwrap_err();
    fs::write(folder.path().join("new.db"), "x").unwrap();
    lookout.rung().await;
}

#[test]
fn every_armed_database_has_its_turn_within_a_minute() {
    let mut register = Register::new(None);
    let bell = Arc::new(Bell::default());
    let mut last = HashMap::new();
    for n in 0..30_000 {
        let path = PathBuf::from(format!("/nowhere/{n}.db"));
        register.add(&path, path.clone(), Arc::clone(&bell));
    }
    for second in 0..200 {
        for key in register.turn() {
            let before = last.insert(key, second).unwrap_or(-1);
            assert!(second - before <= 60, "database {key} was looked at {} s ago", second - before);
        }
    }
    assert_eq!(last.len(), 30_000);
}

#[test]
fn who_is_dropped_leaves_nothing_behind() {
    let (folder, database, _wal) = place();
    let watcher = Watcher::start().unwrap();
    let (watch, lookout) = (watcher.watch(&database), watcher.lookout());
    lookout.add(folder.path());
    watch.arm();
    drop((watch, lookout));
    assert!(watcher.register().is_empty());
}
