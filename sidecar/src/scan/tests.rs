use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use lifeboat_wal::PageCount;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::database::EnforceWal;

/// Somewhere to wait at, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database in WAL mode whose table has this many rows of a page each.
fn application(rows: u32) -> (TempDir, Connection, Database) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = connect(&path);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                INSERT INTO t SELECT i, randomblob(3000) FROM n";
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(i INTEGER PRIMARY KEY, x)").unwrap();
    application.execute(fill, [rows]).unwrap();
    let database = Database::open(&path, EnforceWal::No).unwrap();
    (folder, application, database)
}

fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(PATIENCE / 2).unwrap();
    connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
    connection
}

fn change(application: &Connection, row: u32) {
    application.execute("UPDATE t SET x = randomblob(3000) WHERE i = ?1", [row]).unwrap();
}

/// What SQLite itself says the pages are now.
fn sums_now(application: &Connection) -> Vec<PageChecksum> {
    let mut pages = application.prepare("SELECT data FROM sqlite_dbpage").unwrap();
    let images = pages.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let numbers = (1..).filter_map(PageNo::try_new);
    numbers.zip(images).map(|(page, image)| PageChecksum::of(page, &image.unwrap())).collect()
}

/// A page that is not dirty is what was read.
fn assert_right(scanned: &Scanned, dirty: &DirtyPages, application: &Connection) {
    let now = PageSums::known(sums_now(application));
    let size = PageCount::new(u32::try_from(now.all().len()).unwrap());
    let wrong = scanned
        .sums
        .differing(&now)
        .iter(size, lifeboat_wal::PageSize::MIN)
        .find(|page| !dirty.contains(*page));
    assert_eq!(wrong, None, "read wrongly, and not dirty");
}

#[test]
fn a_checkpoint_of_the_application_does_not_wait_until_everything_is_read() {
    [0, u64::MAX].into_iter().for_each(a_checkpoint_does_not_wait);
}

fn a_checkpoint_does_not_wait(large: u64) {
    const ROWS: u32 = 6000;
    let (folder, application, mut database) = application(ROWS);
    let path = folder.path().join("app.db");
    let (read, is_through) = (AtomicU32::new(0), AtomicBool::new(false));
    // As long as the checkpoint waits, reading everything would take longer than it waits.
    let is_wanted = || {
        if read.fetch_add(1, Ordering::Relaxed) >= 100 && !is_through.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        true
    };
    let mut dirty = DirtyPages::new();
    let scanned = thread::scope(|scope| {
        let checkpointing = scope.spawn(|| {
            let application = connect(&path);
            let begun = Instant::now();
            while read.load(Ordering::Relaxed) < 200 {
                assert!(begun.elapsed() < PATIENCE, "nothing is read");
                thread::sleep(Duration::from_millis(1));
            }
            // One page that was read already, and one that was not.
            change(&application, 1);
            change(&application, ROWS);
            // It has less patience than a view may cost otherwise.
            application.busy_timeout(Duration::from_millis(500)).unwrap();
            let is_done = (0..40).any(|_| {
                // Long enough to be seen as another one.
                thread::sleep(Duration::from_millis(60));
                let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
                application.query_row(checkpoint, [], |row| row.get::<_, i64>(0)).unwrap() == 0
            });
            is_through.store(true, Ordering::Relaxed);
            is_done
        });
        let surroundings = Surroundings { free: &|| None, is_wanted: &is_wanted, large };
        let scanned = scan_in(&mut database, &mut dirty, &surroundings).unwrap().unwrap();
        assert!(checkpointing.join().unwrap(), "the checkpoint waited in vain");
        scanned
    });
    assert_right(&scanned, &dirty, &application);
    assert_eq!(scanned.sums.all(), sums_now(&application), "it is the state after the checkpoint");
    assert!(scanned.anchor.is_some());
}

#[test]
fn while_everything_is_read_the_wal_of_an_application_that_writes_on_stays_bounded() {
    const MIB: u64 = 1 << 20;
    let (folder, application, mut database) = application(3000);
    let wal = folder.path().join("app.db-wal");
    let is_over = AtomicBool::new(false);
    let is_wanted = || {
        if !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        true
    };
    let mut dirty = DirtyPages::new();
    let (scanned, longest) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let longest = (0..120).map(|round| {
                for row in 0..350 {
                    change(&application, 1 + (round * 350 + row) % 3000);
                }
                thread::sleep(Duration::from_millis(20));
                wal.metadata().unwrap().len()
            });
            let longest = longest.max().unwrap();
            is_over.store(true, Ordering::Relaxed);
            (application, longest)
        });
        // Half of it may be committed while a view is open.
        let surroundings = Surroundings { free: &|| Some(2 * MIB), is_wanted: &is_wanted, large: 0 };
        let scanned = scan_in(&mut database, &mut dirty, &surroundings).unwrap().unwrap();
        let (application, longest) = writing.join().unwrap();
        assert_right(&scanned, &dirty, &application);
        (scanned, longest)
    });
    assert!(scanned.sums.checksum().is_some());
    assert!(longest < 120 * MIB, "{} MiB", longest / MIB);
}

#[test]
fn without_a_wal_everything_is_read_at_once() {
    let (folder, application, database) = application(20);
    drop(database);
    application.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
    let mut database = Database::open(&folder.path().join("app.db"), EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    let scanned = scan(&mut database, &mut dirty, &|| true).unwrap().unwrap();
    assert_eq!((scanned.sums.all(), scanned.anchor), (sums_now(&application).as_slice(), None));
    assert!(dirty.is_empty());
}

#[test]
fn two_threads_read_what_one_reads() {
    let (_folder, application, mut database) = application(301);
    for large in [0, u64::MAX] {
        let threads = Mutex::new(BTreeSet::new());
        let is_wanted = || {
            threads.lock().unwrap().insert(format!("{:?}", thread::current().id()));
            true
        };
        let mut dirty = DirtyPages::new();
        let surroundings = Surroundings { free: &|| None, is_wanted: &is_wanted, large };
        let scanned = scan_in(&mut database, &mut dirty, &surroundings).unwrap().unwrap();
        assert_eq!(scanned.sums.all(), sums_now(&application));
        assert_eq!(threads.lock().unwrap().len(), if large == 0 { 2 } else { 1 });
    }
}

#[test]
fn who_is_not_wanted_any_more_reads_no_further() {
    const ROWS: u32 = 600;
    for (mode, large) in [("WAL", 0), ("WAL", u64::MAX), ("DELETE", u64::MAX)] {
        let (folder, application, database) = application(ROWS);
        drop(database);
        application.execute_batch(&format!("PRAGMA journal_mode={mode}")).unwrap();
        let mut database = Database::open(&folder.path().join("app.db"), EnforceWal::No).unwrap();
        let asked = AtomicU32::new(0);
        let is_wanted = || asked.fetch_add(1, Ordering::Relaxed) < 20;
        let surroundings = Surroundings { free: &|| None, is_wanted: &is_wanted, large };
        let scanned = scan_in(&mut database, &mut DirtyPages::new(), &surroundings).unwrap();
        assert!(scanned.is_none(), "{mode}: half of it is not what the database holds");
        let asked = asked.into_inner();
        assert!(asked < 30, "{mode}: it read on, and asked {asked} times");
    }
}

#[test]
fn a_view_of_another_commit_is_no_twin() {
    let (_folder, application, mut database) = application(20);
    let mut dirty = DirtyPages::new();
    let mut view = || database.detached_view(&mut dirty).unwrap().unwrap();
    let older = view();
    assert!(view().is_twin_of(&older));
    change(&application, 1);
    assert!(!view().is_twin_of(&older));
}
