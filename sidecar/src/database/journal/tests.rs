use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lifeboat_replica::page_sums::PageSums;
use lifeboat_wire::{Reason, Verdict};
use tempfile::TempDir;

use super::super::{Database, EnforceWal};
use super::*;

const MODES: [&str; 5] = ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"];

fn application(mode: &str) -> (TempDir, PathBuf, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = connect(&path, mode);
    application.execute_batch("CREATE TABLE t(x)").unwrap();
    (folder, path, application)
}

fn connect(path: &Path, mode: &str) -> Connection {
    let application = Connection::open(path).unwrap();
    application.execute_batch(&format!("PRAGMA journal_mode={mode}; PRAGMA cache_size=5")).unwrap();
    application.busy_timeout(Duration::from_secs(10)).unwrap();
    application
}

fn insert(application: &Connection) {
    application.execute_batch("INSERT INTO t VALUES (randomblob(3000))").unwrap();
}

fn open(path: &Path) -> Database {
    Database::open(path, EnforceWal::No).unwrap()
}

/// What a bucket would hold.
struct Copy {
    dirty: DirtyPages,
    sums: PageSums,
    pages: BTreeMap<u32, Vec<u8>>,
}

impl Copy {
    fn new() -> Self {
        Self { dirty: DirtyPages::new(), sums: PageSums::unknown(), pages: BTreeMap::new() }
    }

    /// Ships what changed; returns how many pages that were.
    fn ship(&mut self, database: &mut Database) -> usize {
        let mut view = database.view(&mut self.dirty).unwrap();
        let candidates = self.sums.candidates(self.dirty.take(), view.page_count());
        let mut draft = self.sums.begin(view.page_count());
        let mut shipped = 0;
        view.for_each_page(&candidates, |page, image| {
            if self.pages.get(&page.get()).is_none_or(|known| known != image) {
                shipped += 1;
                self.pages.insert(page.get(), image.to_vec());
            }
            draft.look(page, image);
            Ok::<(), DatabaseError>(())
        })
        .unwrap();
        let _ = draft.finish();
        self.pages.retain(|&page, _| page <= view.page_count().get());
        shipped
    }

    fn image(&self) -> Vec<u8> {
        self.pages.values().flatten().copied().collect()
    }
}

#[test]
fn in_every_journal_mode_a_commit_is_noticed_and_only_what_differs_is_shipped() {
    for mode in MODES {
        let (_folder, path, application) = application(mode);
        (0..50).for_each(|_| insert(&application));
        let (mut database, mut copy) = (open(&path), Copy::new());
        copy.ship(&mut database);
        assert_eq!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING, "{mode}");
        assert!(copy.dirty.is_empty() && database.is_written_in_place());
        for _ in 0..20 {
            insert(&application);
            assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING, "{mode}");
            let shipped = copy.ship(&mut database);
            assert!((2..6).contains(&shipped), "{mode}: {shipped} pages for one row");
            assert!(copy.image() == fs::read(&path).unwrap(), "{mode}");
        }
    }
}

#[test]
fn what_shrinks_is_shipped_smaller() {
    let (_folder, path, application) = application("DELETE");
    (0..50).for_each(|_| insert(&application));
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    let before = copy.image().len();
    application.execute_batch("DELETE FROM t WHERE rowid > 3; VACUUM").unwrap();
    assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&path).unwrap() && copy.image().len() < before);
}

#[test]
fn a_commit_between_the_look_and_the_view_is_in_the_view_and_one_after_it_is_found_later() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    assert_eq!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
    insert(&application);
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&path).unwrap());
    insert(&application);
    assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
}

#[test]
fn while_a_view_is_open_nobody_commits_and_afterwards_the_application_has_nine_tenths_of_the_time() {
    let (_folder, path, application) = application("DELETE");
    application.busy_timeout(Duration::ZERO).unwrap();
    let mut database = open(&path);
    let mut dirty = DirtyPages::new();
    let view = database.view(&mut dirty).unwrap();
    assert!(view.blocks_writers());
    let error = application.execute_batch("INSERT INTO t VALUES (1)").unwrap_err();
    assert_eq!(error.to_string(), "database is locked");
    thread::sleep(Duration::from_millis(50));
    drop(view);
    let rest = database.rests_until().unwrap().saturating_duration_since(Instant::now());
    assert!(rest > Duration::from_millis(400), "{rest:?} after a view of at least 50 ms");
    insert(&application);
}

#[test]
fn an_open_transaction_is_not_shipped_even_when_it_has_spilled_into_the_file() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    let before = copy.image();
    application.execute_batch("BEGIN").unwrap();
    (0..200).for_each(|_| insert(&application));
    assert!(fs::read(&path).unwrap() != before, "the transaction did spill");
    let error = database.follow(&mut copy.dirty).unwrap_err();
    assert!(matches!(error, DatabaseError::Busy { .. }) && error.is_brief(), "{error}");
    application.execute_batch("ROLLBACK").unwrap();
    database.follow(&mut copy.dirty).unwrap();
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&path).unwrap());
}

#[test]
fn a_file_copied_over_the_database_is_noticed_even_when_its_change_counter_is_the_same() {
    let (folder, path, application) = application("DELETE");
    let twin = folder.path().join("twin.db");
    fs::copy(&path, &twin).unwrap();
    application.execute_batch("INSERT INTO t VALUES ('here')").unwrap();
    connect(&twin, "DELETE").execute_batch("INSERT INTO t VALUES ('there')").unwrap();
    drop(application);
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    // A process of its own: closing a descriptor here would drop SQLite's locks.
    assert!(Command::new("cp").arg(&twin).arg(&path).status().unwrap().success());
    assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&twin).unwrap());
}

/// A database as a killed writer leaves it: half of a transaction in the file, and the journal beside it.
fn killed(folder: &TempDir, path: &Path, application: &Connection) -> PathBuf {
    application.execute_batch("PRAGMA journal_mode=DELETE; BEGIN").unwrap();
    (0..200).for_each(|_| insert(application));
    let left = folder.path().join("left.db");
    fs::copy(path, &left).unwrap();
    fs::copy(with_suffix(path), with_suffix(&left)).unwrap();
    application.execute_batch("ROLLBACK").unwrap();
    left
}

fn with_suffix(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-journal", path.display()))
}

#[test]
fn a_hot_journal_is_left_to_the_application_and_nothing_is_read_meanwhile() {
    let (folder, path, application) = application("DELETE");
    let left = killed(&folder, &path, &application);
    let before = (fs::read(&left).unwrap(), fs::read(with_suffix(&left)).unwrap());
    let error = Database::open(&left, EnforceWal::No).unwrap_err();
    assert_eq!((error.verdict(), error.reason()), (Verdict::Retry, Reason::HotJournal), "{error}");
    assert!((fs::read(&left).unwrap(), fs::read(with_suffix(&left)).unwrap()) == before, "untouched");
    let again = connect(&left, "DELETE");
    assert_eq!(again.query_row("SELECT count(*) FROM t", [], |row| row.get(0)), Ok(0));
    let (mut database, mut copy) = (open(&left), Copy::new());
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&left).unwrap());
}

#[test]
fn a_journal_is_rolled_back_on_request_but_not_when_its_super_journal_is_out_of_sight() {
    let (folder, path, application) = application("DELETE");
    let left = killed(&folder, &path, &application);
    let mut journal = fs::read(with_suffix(&left)).unwrap();
    let name = b"/elsewhere/main.db-mj0123";
    let sum: u32 = name.iter().map(|&byte| u32::from(byte)).sum();
    let whole = journal.clone();
    journal.extend([0; 4]);
    journal.extend(name);
    journal.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    journal.extend(sum.to_be_bytes());
    journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    fs::write(with_suffix(&left), &journal).unwrap();
    for enforce in [EnforceWal::Yes, EnforceWal::No] {
        assert!(matches!(Database::open(&left, enforce), Err(DatabaseError::HotJournal { .. })));
    }
    assert!(matches!(super::super::roll_back(&left), Err(DatabaseError::HotJournal { .. })));
    assert!(fs::read(with_suffix(&left)).unwrap() == journal);
    fs::write(with_suffix(&left), whole).unwrap();
    super::super::roll_back(&left).unwrap();
    assert!(!with_suffix(&left).exists());
    let rows = connect(&left, "DELETE").query_row("SELECT count(*) FROM t", [], |row| row.get(0));
    assert_eq!(rows, Ok(0));
}

#[test]
fn a_database_that_the_application_switches_to_wal_is_followed_as_one_and_nothing_is_missed() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    application.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    (0..20).for_each(|_| insert(&application));
    database.follow(&mut copy.dirty).unwrap();
    assert!(copy.dirty.is_all() && !database.is_written_in_place());
    insert(&application);
    assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
    copy.ship(&mut database);
    database.settle(&mut copy.dirty).unwrap();
    application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert!(copy.image() == fs::read(&path).unwrap());
}

#[test]
fn a_switch_to_wal_between_the_look_and_the_view_is_noticed_too() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    insert(&application);
    database.follow(&mut copy.dirty).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    let error = database.view(&mut copy.dirty).unwrap_err();
    assert!(matches!(error, DatabaseError::ModeChanged { .. }) && error.is_brief(), "{error}");
    database.follow(&mut copy.dirty).unwrap();
    copy.ship(&mut database);
    assert!(!database.is_written_in_place());
}

#[test]
fn a_database_that_left_wal_mode_while_nobody_looked_is_followed_by_its_journal_or_switched_back() {
    let (_folder, path, application) = application("WAL");
    drop(open(&path));
    application.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
    insert(&application);
    let (mut database, mut copy) = (open(&path), Copy::new());
    assert!(database.is_written_in_place() && !database.switched_to_wal());
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&path).unwrap());
    drop(database);
    let database = Database::open(&path, EnforceWal::Yes).unwrap();
    assert!(!database.is_written_in_place() && database.switched_to_wal());
}

#[test]
fn an_exclusive_owner_is_named_and_followed_as_soon_as_it_lets_go() {
    for mode in ["DELETE", "WAL"] {
        let (_folder, path, mut application) = application(mode);
        if mode == "WAL" {
            application = connect(&path, mode);
        }
        application.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
        insert(&application);
        let error = Database::open(&path, EnforceWal::No).unwrap_err();
        assert_eq!((error.verdict(), error.reason()), (Verdict::Retry, Reason::LockHeld), "{mode}: {error}");
        application.execute_batch("PRAGMA locking_mode=NORMAL; SELECT * FROM t").unwrap();
        let (mut database, mut copy) = (open(&path), Copy::new());
        copy.ship(&mut database);
    }
}

#[test]
fn an_application_that_becomes_exclusive_is_waited_for() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    application.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
    insert(&application);
    for _ in 0..2 {
        assert!(database.follow(&mut copy.dirty).unwrap_err().is_brief());
    }
    application.execute_batch("PRAGMA locking_mode=NORMAL; SELECT * FROM t").unwrap();
    assert_ne!(database.follow(&mut copy.dirty).unwrap(), Followed::NOTHING);
    copy.ship(&mut database);
    assert!(copy.image() == fs::read(&path).unwrap());
}

#[test]
fn a_file_cut_short_is_not_taken_for_a_smaller_database() {
    for mode in ["DELETE", "WAL"] {
        let (_folder, path, application) = application(mode);
        (0..50).for_each(|_| insert(&application));
        let (mut database, mut dirty) = (open(&path), DirtyPages::new());
        database.settle(&mut dirty).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        assert!(Command::new("truncate").args(["-s", "-8192"]).arg(&path).status().unwrap().success());
        // With a WAL it may be the beginning of a copy over the file, which is waited for.
        while let Err(error) = database.follow(&mut dirty) {
            assert!(error.is_brief(), "{error}");
            thread::sleep(Duration::from_millis(100));
        }
        let error = database.view(&mut dirty).unwrap_err();
        let DatabaseError::Truncated { found, expected, .. } = error else { panic!("{mode}: {error}") };
        assert_eq!((found, expected), (whole - 8192, whole), "{mode}");
        drop(database);
        let mut again = open(&path);
        assert!(matches!(again.view(&mut dirty), Err(DatabaseError::Truncated { .. })), "{mode}");
    }
}

#[test]
fn an_emptied_file_is_not_taken_for_an_empty_database() {
    let (_folder, path, _application) = application("DELETE");
    let (mut database, mut dirty) = (open(&path), DirtyPages::new());
    assert!(Command::new("truncate").args(["-s", "0"]).arg(&path).status().unwrap().success());
    let _ = database.follow(&mut dirty);
    let error = database.view(&mut dirty).unwrap_err();
    assert!(matches!(error, DatabaseError::Empty { .. }) && error.can_heal(), "{error}");
}

#[test]
fn another_page_size_is_refused() {
    let (_folder, path, application) = application("DELETE");
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    application.execute_batch("PRAGMA page_size=8192; VACUUM").unwrap();
    database.follow(&mut copy.dirty).unwrap();
    let error = database.view(&mut copy.dirty).unwrap_err();
    assert_eq!((error.verdict(), error.can_heal()), (Verdict::Refuse, false), "{error}");
    database.close();
    assert!(matches!(database.follow(&mut copy.dirty), Err(DatabaseError::PageSizeChanged { .. })));
}

#[test]
fn a_replaced_file_is_noticed_while_it_is_followed_and_while_it_is_closed() {
    let (folder, path, application) = application("DELETE");
    let mut database = open(&path);
    assert!(!database.is_replaced().unwrap());
    application.execute_batch(&format!("VACUUM INTO '{}'", folder.path().join("new").display())).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(database.is_replaced().unwrap());
    database.close();
    assert!(database.is_replaced().unwrap());
    let error = database.follow(&mut DirtyPages::new()).unwrap_err();
    assert!(matches!(error, DatabaseError::Replaced { .. }) && !error.can_heal(), "{error}");
}

#[test]
fn database_and_journal_are_left_byte_for_byte_as_they_were() {
    let (_folder, path, application) = application("PERSIST");
    insert(&application);
    let before = (fs::read(&path).unwrap(), fs::read(with_suffix(&path)).unwrap());
    let (mut database, mut copy) = (open(&path), Copy::new());
    copy.ship(&mut database);
    drop(database);
    drop(application);
    assert!((fs::read(&path).unwrap(), fs::read(with_suffix(&path)).unwrap()) == before);
}
