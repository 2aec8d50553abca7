use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_wal::PageNo;
use rusqlite::Connection;

use super::*;
use crate::board::Board;
use crate::config::Config;
use crate::damage;
use crate::database::DatabaseError;
use crate::database::tests::{checkpoint, insert, page_two, take_page_two_back};
use crate::disk;
use crate::exit::Exit;
use crate::places::Places;
use crate::scan::scan;
use crate::watch::Watcher;

/// The longest pause with the guard.
const SHORT: Duration = Duration::from_millis(10);

fn is_kept_from_checkpointing(application: &Connection) -> bool {
    application.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0)).unwrap() == 1
}

/// A follower whose application floods it.
fn flooded(path: &Path, application: &Connection) -> Database {
    application
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; CREATE TABLE t(x)",
        )
        .unwrap();
    let mut database = Database::open(path, EnforceWal::No).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while database.pause_max().is_none() && Instant::now() < until {
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO t SELECT randomblob(4000) FROM n";
        application.execute_batch(many).unwrap();
        database.follow(&mut DirtyPages::new()).unwrap();
    }
    database
}

/// What a follower needs besides its database.
struct Scene {
    folder: tempfile::TempDir,
    path: PathBuf,
    board: Arc<Board>,
    post: Post,
    watch: Arc<Watch>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let watcher = Watcher::start().unwrap();
        let board = Board::new(watcher.clone());
        let post = board.add(&config().databases[0]);
        let watch = Arc::new(watcher.watch(&path));
        Self { folder, path, board, post, watch }
    }

    fn task(&self, expected: Expected) -> Task {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Task {
            path: self.path.clone(),
            enforce: EnforceWal::No,
            synchronous: Synchronous::Normal,
            rhythm: config().databases[0].rhythm(),
            expected,
            place: runtime.block_on(Places::new(1).take(std::future::ready(()))),
            boot_id: String::new(),
            reserve: Reserve::default(),
            folder: self.folder.path().to_owned(),
        }
    }

    fn capture(&self, database: Database) -> Capture<'_> {
        let notes = Notes::new(self.folder.path(), "", "", database.page_size());
        Capture::new(database, self.task(Expected::Nothing), notes, &self.post, &self.watch)
    }

    fn lag(&self) -> Option<f64> {
        self.board.status().databases.remove(0).lag_seconds
    }
}

fn config() -> Config {
    Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap()
}

fn write_some_pages(path: &Path) {
    let application = Connection::open(path).unwrap();
    application
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x);
            INSERT INTO t VALUES (randomblob(20000))",
        )
        .unwrap();
}

#[test]
fn no_order_is_carried_out_on_guard() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    let mut capture = scene.capture(flooded(&scene.path, &application));
    let (give, orders) = std::sync::mpsc::channel();
    let (reports, _reports) = tokio::sync::mpsc::channel(1);
    capture.database.stand_by(SHORT);
    capture.take_orders(&orders, &reports).unwrap();
    assert!(is_kept_from_checkpointing(&application), "without an order the guard stays where it is");
    give.send(Order::Hurry).unwrap();
    capture.take_orders(&orders, &reports).unwrap();
    assert!(!is_kept_from_checkpointing(&application));
}

/// Who begins anew claims anew, and each claim leaves a seal for ever.
#[test]
fn what_cannot_be_read_at_the_first_look_is_waited_for() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let whole = std::fs::read(&scene.path).unwrap();
    std::fs::write(&scene.path, &whole[..whole.len() - 4096]).unwrap();
    let (give, orders) = std::sync::mpsc::channel();
    let (reports, mut reported) = tokio::sync::mpsc::channel(8);
    std::thread::scope(|scope| {
        let task = scene.task(Expected::Something);
        let (watch, post) = (&scene.watch, &scene.post);
        scope.spawn(move || run(task, watch, &orders, &reports, post));
        let first = reported.blocking_recv();
        std::fs::write(&scene.path, &whole).unwrap();
        let second = reported.blocking_recv();
        // Whoever is abandoned ends.
        drop(give);
        scene.watch.call();
        reported.close();
        let waited = matches!(&first, Some(Report::Waiting(failure)) if failure.exit == Exit::Unavailable);
        assert!(waited, "{first:?}");
        let is_open = matches!(&second, Some(Report::Opened { content: Content::Read(_), .. }));
        assert!(is_open, "{second:?}");
    });
}

/// Else it would go in turn through a file that never fits, and in parts that do not get through.
#[test]
fn a_large_slot_that_finds_no_room_beside_the_reserve_goes_on_trying_in_parts() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    let fill = "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(5000000))";
    application.execute_batch(fill).unwrap();
    for (reserve, is_in_parts) in [(u64::MAX, true), (0, false)] {
        let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
        capture.task.reserve = Reserve::of(reserve);
        // Its last attempt in parts asked for a file.
        capture.given_up(true, 1).unwrap();
        let report = capture.cut(next()).unwrap();
        let as_expected = match &report {
            Some(Report::Large) => is_in_parts,
            Some(Report::Slot(_)) => !is_in_parts,
            _ => false,
        };
        assert!(as_expected, "{report:?}, with {reserve} bytes to be left");
    }
}

#[test]
fn without_a_wal_no_view_is_opened_only_to_learn_that_what_a_start_stores_goes_through_a_file() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    application.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(5000000))").unwrap();
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    capture.dirty.insert_all();
    let report = capture.cut(next()).unwrap();
    assert!(matches!(report, Some(Report::Spool)), "{report:?}");
    assert_eq!(capture.database.rests_until(), None, "a view was opened");
    capture.large.answer(Way::Whole);
    let report = capture.cut(next()).unwrap();
    assert!(matches!(report, Some(Report::Slot(_))), "{report:?}");
    // What a later start found to differ.
    let viewed = capture.database.rests_until();
    assert!(viewed.is_some());
    (2..1200).filter_map(PageNo::try_new).for_each(|page| capture.dirty.insert(page));
    let report = capture.cut(next()).unwrap();
    assert!(matches!(report, Some(Report::Spool)), "{report:?}");
    assert_eq!(capture.database.rests_until(), viewed, "a view was opened");
}

/// The first slot of all.
fn next() -> NextSlot {
    NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY }
}

#[test]
fn what_is_committed_while_a_slot_goes_through_a_file_is_in_the_next_one() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    application
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(x);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
            INSERT INTO t SELECT randomblob(4000) FROM n",
        )
        .unwrap();
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    capture.dirty.insert_all();
    let first = NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // So few rows that the next slot fits into memory, however slow the machine is.
        let anywhere = "UPDATE t SET x = randomblob(4000) WHERE rowid = 1 + 200 * (abs(random()) % 200)";
        let writing = scope.spawn(|| {
            let (application, mut commits) = (application, 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                application.execute_batch(anywhere).unwrap();
                commits += 1;
            }
            commits
        });
        // On a slow machine the first attempts may have too little patience.
        let report = (0..10).find_map(|_| capture.spool(first).transpose());
        is_over.store(true, Ordering::Relaxed);
        assert!(matches!(report, Some(Ok(Report::Slot(_)))), "{report:?}");
        assert!(capture.waiting.commits > 0, "a look meanwhile found some");
        assert!(capture.look().unwrap() && !capture.dirty.is_all());
        let commits = writing.join().unwrap();
        assert!(capture.look().unwrap());
        assert_eq!(capture.waiting.commits + capture.flying.commits, commits);
    });
    let second = capture.next.unwrap();
    assert!(matches!(capture.cut(second), Ok(Some(Report::Slot(_)))));
    let whole = scan(&mut capture.database, &mut DirtyPages::new(), &|| true).unwrap().unwrap();
    assert_eq!(capture.sums.checksum(), whole.sums.checksum());
}

/// For however many hours the bucket is away, the WAL could not restart.
#[test]
fn no_view_is_kept_for_a_bucket_that_does_not_take_the_slot_before() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    capture.dirty.insert_all();
    let next = NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY };
    assert!(matches!(capture.cut_and_keep_view(next), Ok(Some(Report::Slot(_)))));
    capture.watch_over_derived();
    assert!(capture.derived.look_within().is_some(), "it is on its way");
    scene.post.away();
    capture.watch_over_derived();
    assert_eq!(capture.derived.look_within(), None);
}

/// Reading it all may take minutes.
#[test]
fn a_thread_that_reads_a_large_database_without_a_wal_is_seen_to_get_on() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    application.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(3000000))").unwrap();
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    let next = NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY };
    capture.dirty.insert_all();
    scene.post.pulse().stop();
    assert!(!scene.board.is_alive());
    assert!(matches!(capture.cut(next), Ok(Some(Report::Slot(_)))));
    assert!(scene.board.is_alive());
}

#[test]
fn who_is_abandoned_while_a_database_is_read_for_the_first_time_does_not_read_to_its_end() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let (_give, orders) = std::sync::mpsc::channel();
    for is_abandoned in [false, true] {
        let mut task = scene.task(Expected::Something);
        let (reports, reported) = tokio::sync::mpsc::channel(8);
        // As long as there is somebody, it is as if nothing happened.
        let listening = (!is_abandoned).then_some(reported);
        let opened = opening::open(&mut task, &scene.watch, &orders, &reports).unwrap();
        assert_eq!(opened.is_none(), is_abandoned);
        drop(listening);
    }
}

#[test]
fn what_a_first_look_came_across_and_read_does_not_wait() {
    for mode in ["DELETE", "WAL"] {
        let scene = Scene::new();
        let application = Connection::open(&scene.path).unwrap();
        application.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x)")).unwrap();
        let database = Database::open(&scene.path, EnforceWal::No).unwrap();
        // In WAL mode this is found when it is followed, without one any look finds something.
        insert(&application);
        let mut task = scene.task(Expected::Something);
        let mut opened = opening::look_into(database, &mut task, &|| true).unwrap().unwrap();
        assert!(opened.dirty.is_empty(), "{mode}");
        assert_eq!(opened.database.take_gained().bytes, 0, "{mode}");
    }
}

/// The WAL does not speak of it any more when another process comes.
#[test]
fn a_page_that_is_found_lost_by_the_first_look_is_written_down_for_whoever_comes_later() {
    let scene = Scene::new();
    let application = Connection::open(&scene.path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    insert(&application);
    assert_eq!(checkpoint(&application, "TRUNCATE"), 0);
    let before = page_two(&scene.path);
    let mut database = Database::open(&scene.path, EnforceWal::No).unwrap();
    // What is committed between two views of a scan, and then not copied.
    insert(&application);
    let mut dirty = DirtyPages::new();
    database.follow(&mut dirty).unwrap();
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    take_page_two_back(&scene.path, &before);
    let file_id = disk::file_id(&scene.path).unwrap().unwrap();
    damage::require_none(scene.folder.path(), &file_id).unwrap();
    let mut task = scene.task(Expected::Something);
    let error = opening::look_into(database, &mut task, &|| true).unwrap_err();
    assert!(matches!(error, DatabaseError::LostPage { .. }), "{error}");
    let later = damage::require_none(scene.folder.path(), &file_id).unwrap_err();
    assert_eq!(later.exit, Exit::Damaged, "{later}");
}

#[test]
fn while_it_cannot_be_read_it_lags() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    let mut turn = |happens: &mut dyn FnMut(&mut Capture<'_>)| {
        happens(&mut capture);
        std::thread::sleep(SHORT);
        scene.post.turned(0, capture.waiting.since);
        scene.lag()
    };
    assert_eq!(turn(&mut |_| {}), Some(0.0));
    let path = scene.path.clone();
    let unreadable = |capture: &mut Capture<'_>| {
        capture.endure(DatabaseError::Truncated { path: path.clone(), found: 1, expected: 2 }).unwrap();
    };
    assert!(turn(&mut { unreadable }).is_some_and(|lag| lag > 0.0));
    assert_eq!(turn(&mut |capture| capture.healed()), Some(0.0));
}

#[test]
fn a_commit_that_only_the_view_finds_is_on_its_way_too() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    write_some_pages(&scene.path);
    let next = NextSlot { txid: Txid::try_new(1).unwrap(), epoch: Epoch::new(1), pre_apply: Checksum::EMPTY };
    assert!(matches!(capture.cut(next).unwrap(), Some(Report::Slot(_))));
    assert_eq!((capture.waiting.commits, capture.flying.commits), (0, 1));
}

/// After a loss of continuity nobody knows how much was committed.
#[test]
fn whatever_waits_is_a_page_at_least() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    let unreplicated = || scene.board.status().databases.remove(0).unreplicated_bytes;
    capture.tell_backlog();
    assert_eq!(unreplicated(), Some(0));
    capture.dirty.insert_all();
    capture.tell_backlog();
    assert_eq!(unreplicated(), Some(4096));
}

#[test]
fn a_commit_that_only_the_housekeeping_finds_waits() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    write_some_pages(&scene.path);
    capture.news_at = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    assert!(capture.settle().unwrap());
    assert_eq!(capture.waiting.commits, 1);
}

/// What kept it from being read is over, and what waited is not stored for that.
#[test]
fn a_slot_that_follows_trouble_lags_until_it_is_stored() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    let path = scene.path.clone();
    capture.endure(DatabaseError::Truncated { path, found: 1, expected: 2 }).unwrap();
    std::thread::sleep(SHORT);
    assert!(matches!(capture.cut(next()).unwrap(), Some(Report::Slot(_))));
    capture.tell_backlog();
    let status = scene.board.status().databases.remove(0);
    assert!(status.lag_seconds.unwrap() >= SHORT.as_secs_f64(), "{status:?}");
    assert!(status.unreplicated_bytes.unwrap() > 0 && status.verdict.is_none(), "{status:?}");
}

/// It is cut in the turn that finds everything dirty, before anybody said that something waits.
#[test]
fn the_first_slot_lags_from_the_beginning() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    capture.dirty.insert_all();
    assert!(matches!(capture.cut(next()).unwrap(), Some(Report::Slot(_))));
    std::thread::sleep(SHORT);
    capture.tell_backlog();
    assert!(scene.lag().unwrap() >= SHORT.as_secs_f64());
}

/// Somebody was told that the bucket is away, and then there was nothing to store.
#[test]
fn trouble_with_the_bucket_ends_where_the_bucket_has_it_all() {
    let scene = Scene::new();
    write_some_pages(&scene.path);
    let mut capture = scene.capture(Database::open(&scene.path, EnforceWal::No).unwrap());
    scene.post.away();
    scene.post.troubled(&Failure::unavailable("away"));
    capture.is_cut(next(), None).unwrap();
    let status = scene.board.status().databases.remove(0);
    assert_eq!((status.away_since, status.verdict), (None, None));
}
