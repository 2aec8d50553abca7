use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use lifeboat_wal::PageNo;
use lifeboat_wal::continuity::Discontinuity;
use lifeboat_wal::wal_index::WalIndex;
use lifeboat_wire::{Reason, Verdict};
use tempfile::TempDir;

use super::WalDatabase as Database;
use super::*;

/// An application with its database in WAL mode and one table.
pub(crate) fn application() -> (TempDir, PathBuf, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    (folder, path, application)
}

pub(crate) fn insert(application: &Connection) {
    application.execute_batch("INSERT INTO t VALUES (randomblob(50))").unwrap();
}

pub(crate) fn checkpoint(application: &Connection, mode: &str) -> i64 {
    application.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap()
}

pub(super) fn gained(followed: Followed) -> u64 {
    match followed {
        Followed::Continued(gained) => gained.commits,
        Followed::Lost { why } => panic!("lost: {why}"),
    }
}

/// Leaves the header of the WAL-index as a writer does that is killed between its two copies.
pub(super) fn tear(database: &Path) {
    let mut shared = fs::OpenOptions::new().write(true).open(database.with_file_name("app.db-shm")).unwrap();
    shared.seek(SeekFrom::Start(16)).unwrap();
    shared.write_all(&[0xff; 4]).unwrap();
    // Closing it would drop SQLite's locks.
    std::mem::forget(shared);
}

/// The second page in the file, which is that of the table. To be read before anybody follows the database.
pub(crate) fn page_two(database: &Path) -> Vec<u8> {
    fs::read(database).unwrap()[4096..8192].to_vec()
}

/// Takes that page back to what it was, and the file's time with it, as if it had never been copied there.
pub(crate) fn take_page_two_back(database: &Path, page: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(database).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(page, 4096).unwrap();
    file.set_modified(modified).unwrap();
    // Closing it would drop SQLite's locks.
    std::mem::forget(file);
}

/// Every page of a view, in one piece.
pub(super) fn image(view: &mut View<'_>) -> Vec<u8> {
    let (mut all, mut image) = (DirtyPages::new(), Vec::new());
    all.insert_all();
    view.for_each_page(&all, |_, page| {
        image.extend_from_slice(page);
        Ok::<(), DatabaseError>(())
    })
    .unwrap();
    image
}

#[test]
fn every_commit_is_seen_once_and_names_its_pages() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 0);
    assert!(dirty.is_empty());
    insert(&application);
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 2);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 0);
    let root: u32 =
        application.query_row("SELECT rootpage FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert!(dirty.contains(PageNo::try_new(root).unwrap()) && !dirty.is_all());
    assert!(!database.switched_to_wal());
    assert_eq!(database.page_size().get(), 4096);
}

#[test]
fn an_open_transaction_is_not_seen_even_when_its_frames_are_in_the_wal() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    application.execute_batch("PRAGMA cache_size=5; BEGIN").unwrap();
    for _ in 0..2000 {
        insert(&application);
    }
    assert!(fs::metadata(&database.wal_path).unwrap().len() > 40_000, "the transaction did spill");
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 0);
    assert!(database.has_unfinished().unwrap());
    application.execute_batch("ROLLBACK").unwrap();
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
}

#[test]
fn a_first_transaction_that_is_not_committed_is_known_to_be_there() {
    let (_folder, path, application) = application();
    application.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(application);
    let application = Connection::open(&path).unwrap();
    let database = Database::open(&path, EnforceWal::No).unwrap();
    assert!(!database.has_unfinished().unwrap());
    application.execute_batch("PRAGMA cache_size=5; BEGIN").unwrap();
    for _ in 0..2000 {
        insert(&application);
    }
    assert!(database.has_unfinished().unwrap());
}

#[test]
fn a_view_stays_as_it_is_while_the_application_writes_and_checkpoints() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    let mut view = database.view(&mut dirty).unwrap();
    let before = image(&mut view);
    for _ in 0..100 {
        insert(&application);
        checkpoint(&application, "PASSIVE");
    }
    assert_eq!(image(&mut view), before);
    assert!(view.still_dirty().is_empty() && view.lost().is_none());
    drop(view);
    let mut view = database.view(&mut dirty).unwrap();
    assert_ne!(image(&mut view), before);
    drop(view);
    assert_eq!(database.take_gained().commits, 100);
}

#[test]
fn pages_one_by_one_are_those_of_a_scan_and_a_page_beyond_the_end_is_an_error() {
    let (_folder, path, application) = application();
    (0..100).for_each(|_| insert(&application));
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut view = database.view(&mut DirtyPages::new()).unwrap();
    let scanned = image(&mut view);
    assert_eq!(scanned.len() as u64, view.page_count().bytes(view.page_size()));
    let (mut page, mut single) = (PageNo::FIRST, vec![0; 4096]);
    for expected in scanned.chunks(4096) {
        view.read_page(page, &mut single).unwrap();
        assert!(single == expected, "page {page}");
        page = page.next().unwrap();
    }
    let error = view.read_page(page, &mut single).unwrap_err();
    assert!(matches!(error, DatabaseError::PageBeyondEnd { .. }), "{error}");
}

#[test]
fn with_a_pin_no_checkpoint_of_the_application_loses_a_commit() {
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (_folder, path, application) = application();
        application.busy_timeout(Duration::ZERO).unwrap();
        let mut database = Database::open(&path, EnforceWal::No).unwrap();
        let mut dirty = DirtyPages::new();
        for commits in [0, 1, 3] {
            (0..commits).for_each(|_| insert(&application));
            checkpoint(&application, mode);
            insert(&application);
            checkpoint(&application, mode);
            assert_eq!(gained(database.follow(&mut dirty).unwrap()), commits + 1, "{mode}");
        }
    }
}

#[test]
fn without_a_pin_commits_are_lost_and_that_is_noticed() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    database.current().end();
    insert(&application);
    assert_eq!(checkpoint(&application, "RESTART"), 0);
    insert(&application);
    let followed = database.follow(&mut dirty).unwrap();
    let why = Discontinuity::Counter { commits: 1, advance: 2 };
    assert_eq!(followed, Followed::Lost { why });
    assert!(dirty.is_all());
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1, "it goes on from there");
}

#[test]
fn once_settled_the_next_writer_restarts_the_wal_and_nothing_is_missed() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    for _ in 0..20 {
        (0..10).for_each(|_| insert(&application));
        let before = database.read_index().unwrap();
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        assert!(!dirty.take().is_empty(), "commits that settling came across are dirty");
        assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
        insert(&application);
        let after = database.read_index().unwrap();
        assert_eq!(after.header.last_frame.get(), 1, "one frame since the restart");
        assert_ne!(after.header.salts, before.header.salts);
        assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
    }
    assert!(fs::metadata(&database.wal_path).unwrap().len() < 200_000);
}

#[test]
fn once_settled_a_truncate_of_the_application_succeeds_at_once() {
    let (_folder, path, application) = application();
    application.busy_timeout(Duration::ZERO).unwrap();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    insert(&application);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    assert_eq!(checkpoint(&application, "TRUNCATE"), 0);
    assert_eq!(fs::metadata(&database.wal_path).unwrap().len(), 0);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
}

#[test]
fn an_old_reader_of_the_application_keeps_the_wal_unsettled_until_it_ends() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    insert(&application);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::NotYet);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
}

#[test]
fn closing_as_the_last_one_neither_checkpoints_nor_deletes_the_wal() {
    let (_folder, path, application) = application();
    insert(&application);
    let database = Database::open(&path, EnforceWal::No).unwrap();
    let wal = database.wal_path.clone();
    drop(application);
    let before = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
    drop(database);
    assert!((fs::read(&path).unwrap(), fs::read(&wal).unwrap()) == before);
    let again = Connection::open(&path).unwrap();
    assert_eq!(again.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_settled_database_is_left_byte_for_byte_as_it_was() {
    let (_folder, path, application) = application();
    insert(&application);
    drop(application);
    let before = fs::read(&path).unwrap();
    let mut database = Database::open(&path, EnforceWal::Yes).unwrap();
    let mut dirty = DirtyPages::new();
    assert_eq!(image(&mut database.view(&mut dirty).unwrap()), before);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    drop(database);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_database_in_another_journal_mode_is_switched_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("CREATE TABLE t(x)").unwrap();
    let error = Database::open(&path, EnforceWal::No).unwrap_err();
    assert_eq!((error.verdict(), error.reason()), (Verdict::Refuse, Reason::NotWal));
    assert!(error.to_string().contains("journal mode \"delete\""), "{error}");
    let mut database = Database::open(&path, EnforceWal::Yes).unwrap();
    assert!(database.switched_to_wal());
    insert(&application);
    assert_eq!(gained(database.follow(&mut DirtyPages::new()).unwrap()), 1);
}

#[test]
fn what_is_not_there_yet_is_waited_for_and_what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let open = || Database::open(&path, EnforceWal::Yes).unwrap_err();
    assert_eq!((open().verdict(), open().reason()), (Verdict::Retry, Reason::WaitingForDatabase));
    assert!(!path.exists(), "looking must not create it");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("BEGIN; CREATE TABLE t(x)").unwrap();
    assert!(matches!(open(), DatabaseError::Empty { .. }));
    drop(application);
    fs::write(&path, "not a database ".repeat(100)).unwrap();
    assert!(matches!(open(), DatabaseError::NotADatabase { .. }), "{}", open());
    assert_eq!(open().verdict(), Verdict::Refuse);
}

#[test]
fn an_exclusive_owner_is_named_as_such() {
    let (_folder, path, application) = application();
    application.execute_batch("PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    drop(application);
    let application = Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    let error = Database::open(&path, EnforceWal::Yes).unwrap_err();
    assert!(matches!(error, DatabaseError::LockHeld { .. }), "{error}");
    assert_eq!(error.reason(), Reason::LockHeld);
}

#[test]
fn a_replaced_database_and_a_deleted_wal_are_noticed() {
    let (folder, path, application) = application();
    let database = Database::open(&path, EnforceWal::No).unwrap();
    assert!(!database.is_replaced().unwrap());
    application.execute_batch(&format!("VACUUM INTO '{}'", folder.path().join("new").display())).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(database.is_replaced().unwrap());
    let (_folder, path, _application) = self::application();
    let database = Database::open(&path, EnforceWal::No).unwrap();
    fs::remove_file(&database.wal_path).unwrap();
    assert!(database.is_replaced().unwrap());
}

#[test]
fn a_schema_that_cannot_be_parsed_is_replicated_all_the_same() {
    let (_folder, path, application) = application();
    let damage =
        "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql='CREATE TABLE t(x) FROM THE FUTURE'";
    application.execute_batch(damage).unwrap();
    assert!(Connection::open(&path).unwrap().execute_batch("SELECT * FROM t").is_err());
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    insert(&application);
    let mut view = database.view(&mut dirty).unwrap();
    assert_eq!(image(&mut view).len(), 8192);
    drop(view);
    assert_eq!(database.take_gained().commits, 1);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
}

#[test]
fn a_header_left_torn_by_a_killed_writer_is_repaired_and_following_goes_on() {
    let (_folder, path, application) = application();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
    insert(&application);
    tear(&path);
    assert!(WalIndex::decode(&lifeboat_wal_index::read(&application).unwrap()).is_err());
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
    insert(&application);
    assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
}

#[test]
fn a_database_behind_a_link_is_followed_where_it_lies() {
    let (folder, path, application) = application();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut database = Database::open(&link, EnforceWal::No).unwrap();
    insert(&application);
    assert_eq!(gained(database.follow(&mut DirtyPages::new()).unwrap()), 1);
}

#[test]
fn the_application_cannot_leave_wal_mode_while_it_is_followed() {
    let (_folder, path, application) = application();
    application.busy_timeout(Duration::ZERO).unwrap();
    let mut database = Database::open(&path, EnforceWal::No).unwrap();
    let error = application.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "database is locked");
    insert(&application);
    assert_eq!(gained(database.follow(&mut DirtyPages::new()).unwrap()), 1);
}

#[test]
fn what_a_killed_application_left_is_read_with_its_wal() {
    let (folder, path, application) = application();
    (0..50).for_each(|_| insert(&application));
    let left = folder.path().join("left.db");
    fs::copy(wal_path(&path), wal_path(&left)).unwrap();
    fs::copy(&path, &left).unwrap();
    let mut database = Database::open(&left, EnforceWal::No).unwrap();
    let mut dirty = DirtyPages::new();
    let mut view = database.view(&mut dirty).unwrap();
    let image = image(&mut view);
    drop(view);
    assert_eq!(database.settle(&mut dirty).unwrap(), Settled::Yes);
    assert!(fs::read(&left).unwrap() == image);
    let rows = Connection::open(&left).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0));
    assert_eq!(rows, Ok(50));
}

#[test]
fn a_wal_that_was_deleted_under_an_open_application_is_refused_until_it_restarts() {
    for restarts in [false, true] {
        let (_folder, path, application) = application();
        if restarts {
            // Then the WAL-index names no frame when we open.
            checkpoint(&application, "TRUNCATE");
        }
        fs::remove_file(wal_path(&path)).unwrap();
        let opened = WalDatabase::open(&path, EnforceWal::No);
        insert(&application);
        let mut dirty = DirtyPages::new();
        let error = opened.and_then(|mut database| database.follow(&mut dirty)).unwrap_err();
        assert!(matches!(error, DatabaseError::StrayWal { .. }), "{restarts} {error:?}");
        assert!(error.can_heal() && dirty.is_empty());
        drop(application);
        let application = Connection::open(&path).unwrap();
        let mut database = WalDatabase::open(&path, EnforceWal::No).unwrap();
        insert(&application);
        assert_eq!(gained(database.follow(&mut dirty).unwrap()), 1);
        let rows = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        assert_eq!(rows, Ok(2), "the application saved what was in the deleted file");
    }
}

#[test]
fn a_wal_that_was_replaced_under_an_open_application_is_refused() {
    let (folder, path, application) = application();
    (0..5).for_each(|_| insert(&application));
    fs::copy(wal_path(&path), folder.path().join("copy")).unwrap();
    fs::rename(folder.path().join("copy"), wal_path(&path)).unwrap();
    insert(&application);
    let error = WalDatabase::open(&path, EnforceWal::No).unwrap_err();
    assert!(matches!(error, DatabaseError::StrayWal { .. }), "{error}");
}

/// What is logged meanwhile.
fn logged(work: impl FnOnce()) -> String {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = {
        let lines = Arc::clone(&lines);
        move || Lines(Arc::clone(&lines))
    };
    tracing::subscriber::with_default(tracing_subscriber::fmt().with_writer(writer).finish(), work);
    String::from_utf8(lines.lock().unwrap().clone()).unwrap()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_comes_across_a_loss_says_so_whatever_he_was_asked_for() {
    type Ask = fn(&mut Database, &mut DirtyPages);
    let asks: [Ask; 4] = [
        |database, dirty| assert!(!database.follow(dirty).unwrap().is_continued()),
        |database, dirty| assert_eq!(database.settle(dirty).unwrap(), Settled::Yes),
        |database, dirty| drop(database.view(dirty).unwrap()),
        |database, dirty| drop(database.detached_view(dirty).unwrap()),
    ];
    for ask in asks {
        let (_folder, path, application) = application();
        let mut database = Database::open(&path, EnforceWal::No).unwrap();
        database.current().end();
        insert(&application);
        assert_eq!(checkpoint(&application, "RESTART"), 0);
        insert(&application);
        let mut dirty = DirtyPages::new();
        let said = logged(|| ask(&mut database, &mut dirty));
        assert!(dirty.is_all());
        assert_eq!(said.matches("every page is compared").count(), 1, "{said}");
    }
}
