//! Restores of made-up replicas in a folder that changes while it is read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, PageChecksum, Txid};
use lifeboat_replica::head::Head;
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_store::{Directory, StoreError};
use lifeboat_wal::{PageCount, PageNo, PageSize};

use super::*;
use crate::args::IntegrityCheck;
use crate::faulty::{Faults, Faulty, Request};

/// Something that happens once, before a file is read.
type Event = Box<dyn FnOnce() + Send>;

/// Something happens while the replica is read.
struct Lively {
    /// Before a key, or a list, that ends so is read.
    event: Mutex<Option<(&'static str, Event)>>,
    lists: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl std::fmt::Debug for Lively {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lively")
    }
}

#[async_trait]
impl Faults for Lively {
    async fn before(&self, _store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        let (Request::GetRange(key) | Request::Get(key) | Request::List(key)) = request else {
            return Ok(());
        };
        let event = self.event.lock().unwrap().take_if(|(ending, _)| key.ends_with(*ending));
        if let Some((_, happens)) = event {
            happens();
        }
        if matches!(request, Request::GetRange(_)) {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
        }
        if matches!(request, Request::List(_)) {
            self.lists.fetch_add(usize::from(key.ends_with("/0/")), Ordering::SeqCst);
        }
        Ok(())
    }

    async fn after(&self, _store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        if matches!(request, Request::GetRange(_)) {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Whether the files carry our checksums, or are as Litestream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    Ours,
    None,
}

/// A replica in a folder, and what the database is after its newest file.
struct World {
    folder: tempfile::TempDir,
    marks: Marks,
    database: Vec<u8>,
    /// The checksum after each file.
    checksums: Vec<Checksum>,
}

impl World {
    fn new(marks: Marks) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            marks,
            database: Vec::new(),
            checksums: vec![Checksum::EMPTY],
        }
    }

    fn path(&self, level: Level, min: u64, max: u64) -> PathBuf {
        let name = FileName::try_new(txid(min), txid(max)).unwrap();
        self.folder.path().join("replica").join(Layout::Directory.file_key(level, name))
    }

    fn checksum(&self) -> Checksum {
        let pages = (1..).filter_map(PageNo::try_new).zip(self.database.chunks(SIZE));
        pages.fold(Checksum::EMPTY, |sum, (page, image)| sum.toggle(PageChecksum::of(page, image)))
    }

    /// Applies these pages, all of one byte, and writes them as a file.
    fn write(&mut self, level: Level, min: u64, max: u64, commit: u32, pages: &[(u32, u8)]) {
        let before = self.checksum();
        let pages: Vec<_> =
            pages.iter().map(|(page, byte)| (PageNo::try_new(*page).unwrap(), vec![*byte; SIZE])).collect();
        self.database.resize(commit as usize * SIZE, 0);
        for (page, image) in &pages {
            let at = (page.get() as usize - 1) * SIZE;
            self.database[at..at + SIZE].copy_from_slice(image);
        }
        let mark = Mark { pre_apply: before, post_apply: self.checksum() };
        self.checksums.push(mark.post_apply);
        self.store(level, min, max, commit, pages, mark);
    }

    /// A file of another level with the pages that some slots had, which changes nothing.
    fn merge(&self, min: u64, max: u64, pages: &[(u32, u8)]) -> (PathBuf, Vec<u8>) {
        let pages =
            pages.iter().map(|(page, byte)| (PageNo::try_new(*page).unwrap(), vec![*byte; SIZE])).collect();
        let commit = u32::try_from(self.database.len() / SIZE).unwrap();
        let before = self.checksums[usize::try_from(min).unwrap() - 1];
        let mark = Mark { pre_apply: before, post_apply: self.checksum() };
        let bytes = self.encode(min, max, commit, pages, mark);
        (self.path(Level::from_number(1).unwrap(), min, max), bytes)
    }

    fn encode(&self, min: u64, max: u64, commit: u32, pages: Vec<(PageNo, Vec<u8>)>, mark: Mark) -> Vec<u8> {
        let header = Header {
            page_size: PageSize::try_new(u32::try_from(SIZE).unwrap()).unwrap(),
            commit: PageCount::new(commit),
            min_txid: txid(min),
            max_txid: txid(max),
            timestamp_ms: i64::try_from(max).unwrap() * 1000,
            wal_offset: 32,
            wal_size: 0,
            salts: (0, 0),
            node_id: 1,
            mark: (self.marks == Marks::Ours).then_some(mark),
        };
        LtxFile { header, pages }.encode().unwrap()
    }

    fn store(
        &self,
        level: Level,
        min: u64,
        max: u64,
        commit: u32,
        pages: Vec<(PageNo, Vec<u8>)>,
        mark: Mark,
    ) {
        put(&self.path(level, min, max), &self.encode(min, max, commit, pages, mark));
    }

    async fn store_with(&self, event: Option<(&'static str, Event)>) -> Arc<Faulty<Lively>> {
        let faults = Lively {
            event: Mutex::new(event),
            lists: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        };
        Faulty::new(&self.folder.path().join("replica"), faults).await
    }

    async fn restore(&self, store: &Arc<Faulty<Lively>>, wanted: Wanted) -> Result<Restored, Failure> {
        let bucket = Bucket::new(Arc::<Faulty<_>>::clone(store), Layout::Directory);
        let finish =
            Finish { overwrite: Overwrite::Force, integrity: IntegrityCheck::None, sums: KeepSums::No };
        let how = How { wanted, parallelism: 4, patience: Duration::ZERO, finish };
        restore(&bucket, &self.target(), &how).await.map(Option::unwrap)
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("out.db")
    }

    #[track_caller]
    fn is_restored(&self) {
        assert!(std::fs::read(self.target()).unwrap() == self.database, "another database was restored");
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn txid(number: u64) -> Txid {
    Txid::try_new(number).unwrap()
}

const SIZE: usize = 512;

fn three_slots() -> World {
    let mut world = World::new(Marks::Ours);
    world.write(Level::CAPTURED, 1, 1, 3, &[(1, 11), (2, 12), (3, 13)]);
    world.write(Level::CAPTURED, 2, 2, 3, &[(2, 22)]);
    world.write(Level::CAPTURED, 3, 3, 3, &[(3, 33)]);
    world
}

#[tokio::test]
async fn a_file_that_retention_deletes_meanwhile_leads_to_a_new_plan() {
    let world = three_slots();
    let (second, (merged, bytes)) =
        (world.path(Level::CAPTURED, 2, 2), world.merge(2, 3, &[(2, 22), (3, 33)]));
    let event: Event = Box::new(move || {
        put(&merged, &bytes);
        std::fs::remove_file(second).unwrap();
    });
    let store = world.store_with(Some(("2-0000000000000002.ltx", event))).await;
    world.restore(&store, Wanted::Latest).await.unwrap();
    world.is_restored();
    assert_eq!(store.faults.lists.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_file_that_is_gone_and_replaced_by_nothing_is_an_error_once_the_lists_stand_still() {
    let world = three_slots();
    let second = world.path(Level::CAPTURED, 2, 2);
    let event: Event = Box::new(move || std::fs::remove_file(second).unwrap());
    let store = world.store_with(Some(("2-0000000000000002.ltx", event))).await;
    let failure = world.restore(&store, Wanted::Latest).await.unwrap_err();
    assert_eq!((failure.exit, failure.reason), (crate::exit::Exit::Damaged, Reason::ChainGap));
    assert!(failure.message.contains("gap"), "{failure}");
    assert!(store.faults.lists.load(Ordering::SeqCst) <= 3);
    assert!(!world.target().exists());
}

#[tokio::test]
async fn bytes_of_another_file_under_the_same_name_are_never_taken_for_those_that_were_listed() {
    let world = three_slots();
    let second = world.path(Level::CAPTURED, 2, 2);
    let event: Event = Box::new(move || {
        let bytes = std::fs::read(&second).unwrap();
        std::fs::remove_file(&second).unwrap();
        put(&second, &bytes);
    });
    let store = world.store_with(Some(("2-0000000000000002.ltx", event))).await;
    world.restore(&store, Wanted::Latest).await.unwrap();
    world.is_restored();
    assert_eq!(
        store.faults.lists.load(Ordering::SeqCst),
        2,
        "the replaced file was read as if it were the listed one"
    );
}

#[tokio::test]
async fn what_was_cut_off_by_shrinking_does_not_come_back_by_growing() {
    for marks in [Marks::Ours, Marks::None] {
        let mut world = World::new(marks);
        world.write(Level::CAPTURED, 1, 1, 4, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
        world.write(Level::CAPTURED, 2, 2, 2, &[(1, 21)]);
        // Room for page 4 was made, and nobody wrote it.
        world.write(Level::CAPTURED, 3, 3, 4, &[(1, 31), (3, 33)]);
        let store = world.store_with(None).await;
        world.restore(&store, Wanted::Latest).await.unwrap();
        world.is_restored();
    }
}

#[tokio::test]
async fn many_small_files_are_fetched_side_by_side_and_no_more_of_them_than_was_said() {
    let mut world = World::new(Marks::Ours);
    world.write(Level::CAPTURED, 1, 1, 3, &[(1, 11), (2, 12), (3, 13)]);
    for slot in 2..200_u8 {
        let (at, page) = (u64::from(slot), u32::from(slot % 3) + 1);
        world.write(Level::CAPTURED, at, at, 3, &[(page, slot)]);
    }
    let store = world.store_with(None).await;
    let restored = world.restore(&store, Wanted::Latest).await.unwrap();
    world.is_restored();
    assert_eq!(restored.files, 199);
    let most = store.faults.most_under_way.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} requests at once");
}

#[tokio::test]
async fn without_our_checksums_a_damaged_file_is_found_by_its_own() {
    let mut world = World::new(Marks::None);
    world.write(Level::CAPTURED, 1, 1, 3, &[(1, 11), (2, 12), (3, 13)]);
    world.write(Level::CAPTURED, 2, 2, 3, &[(2, 22)]);
    let first = world.path(Level::CAPTURED, 1, 1);
    let (good, mut found) = (std::fs::read(&first).unwrap(), 0);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        put(&first, &bad);
        let store = world.store_with(None).await;
        match world.restore(&store, Wanted::Latest).await {
            Err(failure) => {
                let is_named = failure.message.contains("ltx");
                assert!(failure.exit == crate::exit::Exit::Damaged && is_named, "{at}: {failure}");
                assert!(!world.target().exists());
                found += 1;
            }
            // Some bits of compressed pages mean nothing.
            Ok(_) => {
                world.is_restored();
                std::fs::remove_file(world.target()).unwrap();
            }
        }
    }
    assert!(found * 10 > good.len() * 9, "only {found} of {} were found", good.len());
}

#[tokio::test]
async fn a_time_is_found_in_the_headers() {
    let world = three_slots();
    let store = world.store_with(None).await;
    for (time, expected) in [(1000, 1), (2999, 2), (3000, 3), (i64::MAX, 3)] {
        let restored = world.restore(&store, Wanted::Time(time)).await.unwrap();
        assert_eq!(restored.txid, Some(txid(expected).to_string()), "{time}");
    }
    let failure = world.restore(&store, Wanted::Time(999)).await.unwrap_err();
    assert!(failure.message.contains("0000000000000001") && failure.message.contains("1970-01-01T00:00:01Z"));
}

#[tokio::test]
async fn a_time_whose_file_is_damaged_is_taken_from_another_one_that_ends_there_or_refused() {
    let world = three_slots();
    let (merged, bytes) = world.merge(2, 3, &[(2, 22), (3, 33)]);
    put(&merged, &bytes);
    let third = world.path(Level::CAPTURED, 3, 3);
    put(&third, &std::fs::read(&third).unwrap()[..50]);
    let store = world.store_with(None).await;
    let restored = world.restore(&store, Wanted::Time(3000)).await.unwrap();
    world.is_restored();
    let around: Vec<_> = restored.routed_around.iter().map(|around| around.file.as_str()).collect();
    assert_eq!(around, ["ltx/0/0000000000000003-0000000000000003.ltx"]);
    std::fs::remove_file(&merged).unwrap();
    let failure = world.restore(&store, Wanted::Time(3000)).await.unwrap_err();
    assert_eq!(
        failure.exit,
        crate::exit::Exit::Damaged,
        "an older state may be older than was asked for: {failure}"
    );
}

#[tokio::test]
async fn the_newest_state_does_not_become_an_older_one_because_its_only_file_is_damaged() {
    let world = three_slots();
    let third = world.path(Level::CAPTURED, 3, 3);
    put(&third, &std::fs::read(&third).unwrap()[..50]);
    let store = world.store_with(None).await;
    let failure = world.restore(&store, Wanted::Latest).await.unwrap_err();
    assert!(
        failure.exit == crate::exit::Exit::Damaged && failure.message.contains("no other files lead there"),
        "{failure}"
    );
    assert!(!world.target().exists());
}

/// A replica that is merged, and whose slots are given up, after it was listed and before its head is read.
fn merged_behind_the_lists(is_settled: bool) -> (World, Vec<u8>, Option<(&'static str, Event)>) {
    let mut world = three_slots();
    let (merged, bytes) = world.merge(2, 3, &[(2, 22), (3, 33)]);
    let third = world.database.clone();
    let first = std::fs::read(world.path(Level::CAPTURED, 1, 1)).unwrap();
    put(&world.path(Level::SNAPSHOT, 1, 1), &first);
    world.write(Level::CAPTURED, 4, 4, 3, &[(1, 41)]);
    let (_, snapshot) = world.merge(1, 4, &[(1, 41), (2, 22), (3, 33)]);
    put(&world.path(Level::SNAPSHOT, 1, 4), &snapshot);
    let fourth = world.path(Level::CAPTURED, 4, 4);
    let bytes_of_fourth = std::fs::read(&fourth).unwrap();
    if !is_settled {
        std::fs::remove_file(&fourth).unwrap();
        std::fs::remove_file(world.path(Level::SNAPSHOT, 1, 4)).unwrap();
    }
    let head_path = world.folder.path().join("replica").join(Layout::Directory.head_key());
    let mut head = Head::create("l".to_owned(), pod::new_owner().unwrap());
    put(&head_path, &head.encode());
    head.floors.insert(0, 3);
    let slots: Vec<_> = (1..=3).map(|slot| world.path(Level::CAPTURED, slot, slot)).collect();
    let event: Event = Box::new(move || {
        put(&merged, &bytes);
        if !is_settled {
            put(&fourth, &bytes_of_fourth);
        }
        put(&head_path, &head.encode());
        slots.iter().for_each(|slot| std::fs::remove_file(slot).unwrap());
    });
    (world, third, Some(("head.json", event)))
}

#[tokio::test]
async fn a_state_that_was_merged_after_its_list_was_read_is_looked_for_again() {
    for is_settled in [true, false] {
        let (world, third, event) = merged_behind_the_lists(is_settled);
        let store = world.store_with(event).await;
        world.restore(&store, Wanted::Txid(txid(3))).await.unwrap();
        assert_eq!(std::fs::read(world.target()).unwrap(), third, "{is_settled}");
        assert_eq!(store.faults.lists.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_time_does_not_become_an_older_state_because_the_lists_are_older_than_the_head() {
    let (world, third, event) = merged_behind_the_lists(true);
    let store = world.store_with(event).await;
    let restored = world.restore(&store, Wanted::Time(3500)).await.unwrap();
    assert_eq!(restored.txid, Some(txid(3).to_string()));
    assert_eq!(std::fs::read(world.target()).unwrap(), third);
}

#[tokio::test]
async fn a_plan_is_shown_only_when_the_lists_are_as_new_as_the_head() {
    let (world, _, event) = merged_behind_the_lists(false);
    let store = world.store_with(event).await;
    let bucket = Bucket::new(Arc::<Faulty<_>>::clone(&store), Layout::Directory);
    let how = How { wanted: Wanted::Txid(txid(3)), ..How::to_go_on(Duration::ZERO) };
    let plan = attempt::plan_only(&bucket, &how).await.unwrap().unwrap();
    assert_eq!(plan.target(), Some(txid(3)));
}

#[tokio::test]
async fn a_state_that_is_not_kept_is_refused_after_one_more_look() {
    let (world, _, event) = merged_behind_the_lists(true);
    event.into_iter().for_each(|(_, happens)| happens());
    let store = world.store_with(None).await;
    let failure = world.restore(&store, Wanted::Txid(txid(2))).await.unwrap_err();
    assert_eq!((failure.exit, failure.reason), (crate::exit::Exit::Refused, Reason::NothingToRestore));
    assert!(
        failure.message.contains("the nearest restorable states are 0000000000000001 before it"),
        "{failure}"
    );
    assert_eq!(store.faults.lists.load(Ordering::SeqCst), 1, "a merged file covers it: no list can have it");
    std::fs::remove_file(world.path(Level::from_number(1).unwrap(), 2, 3)).unwrap();
    let failure = world.restore(&store, Wanted::Txid(txid(3))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NothingToRestore);
    assert_eq!(store.faults.lists.load(Ordering::SeqCst), 3);
}
