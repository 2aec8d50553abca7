//! Laws of merged files, snapshots and retention, over random histories of a small database: whatever happens in whatever
//! order, every promised state is restored exactly, also while a deletion is broken off in the middle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use lifeboat_ltx::{Checksum, Header, Mark, SEAL_SIZE, Txid};
use lifeboat_replica::compaction::{Compaction, Job, Rules, StoredSlot, Survey};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::head::{Base, Head, Nonce, Owner};
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::retention::{Grace, Pruning, Wish, dead, decide};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use proptest::prelude::*;

const RULES: Rules = Rules { intervals: [100, 400, 1_600], snapshot_interval: 20_000, max_log_ratio: 1_000 };
const GRACE: u64 = 150;
const WINDOW: i64 = 5_000;
const PAGES: u32 = 20;

/// Each page holds the number of the slot that changed it last.
type State = BTreeMap<u32, u64>;

/// A file in the bucket.
#[derive(Clone, Debug)]
struct Stored {
    entry: FileEntry,
    pages: State,
    made: i64,
}

#[derive(Clone, Debug)]
enum Event {
    /// So many slots, so many milliseconds apart, each changing these pages.
    Slots(u8, u16, Vec<u32>),
    /// So many seconds without a commit: what was given up may be tried again.
    Rest(u8),
    /// The file on its way is in the bucket.
    Written,
    /// It is not, or nobody heard of it, and then it may yet be there.
    GivenUp { is_there: bool },
    /// Another process takes over.
    Restart,
    /// What may go goes, up to so many files; the rest stays behind.
    Prune(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let slots = (1..20_u8, 1..60_u16, prop::collection::vec(1..=PAGES, 1..4));
    let event = prop_oneof![
        6 => slots.prop_map(|(count, pause, pages)| Event::Slots(count, pause, pages)),
        2 => (1..9_u8).prop_map(Event::Rest),
        6 => Just(Event::Written),
        2 => any::<bool>().prop_map(|is_there| Event::GivenUp { is_there }),
        1 => Just(Event::Restart),
        3 => any::<u8>().prop_map(Event::Prune),
    ];
    prop::collection::vec(event, 1..60)
}

/// The bucket, the writer, and the whole history to hold both against.
struct World {
    files: Vec<Stored>,
    head: Head,
    compaction: Compaction,
    grace: Grace,
    job: Option<(Job, State)>,
    now: u64,
    /// What the database was after each slot, from slot 1 on.
    history: Vec<State>,
    newest_pages: u64,
    /// States that were promised at the last pruning: they must be there until the next.
    promised: Vec<u64>,
}

impl World {
    fn begin(is_sealed: bool) -> Self {
        let owner = Owner {
            nonce: Nonce::new([0; 16]),
            cluster: String::new(),
            namespace: String::new(),
            name: String::new(),
            pod_uid: String::new(),
        };
        let mut world = Self {
            files: Vec::new(),
            head: Head::create(String::new(), owner),
            compaction: Compaction::new(RULES, Base::NOTHING, 0, 0),
            grace: Grace::new(GRACE),
            job: None,
            now: 0,
            history: Vec::new(),
            newest_pages: 0,
            promised: Vec::new(),
        };
        if is_sealed {
            world.restart();
        }
        world.slot(&(1..=PAGES).collect::<Vec<_>>(), 1);
        world
    }

    fn newest(&self) -> u64 {
        self.history.len() as u64
    }

    fn store(&mut self, level: Level, min: u64, max: u64, pages: State) {
        let (min, max) = (Txid::try_new(min).unwrap(), Txid::try_new(max).unwrap());
        let size = if pages.is_empty() { SEAL_SIZE } else { 200 + pages.len() as u64 * 10_000 };
        let key = format!("{}/{min}-{max}", level.get());
        let entry = FileEntry { level, min, max, size, key, etag: String::new() };
        self.files.retain(|file| file.entry.key != entry.key);
        self.files.push(Stored { entry, pages, made: i64::try_from(self.now).unwrap() });
    }

    fn slot(&mut self, pages: &[u32], pause: u16) {
        self.now += u64::from(pause);
        let is_kept = self.job.is_none() && self.compaction.wants_view(self.now);
        let txid = self.newest() + 1;
        let pages: State = pages.iter().map(|page| (*page, txid)).collect();
        let mut state = self.history.last().cloned().unwrap_or_default();
        state.extend(&pages);
        self.history.push(state.clone());
        self.newest_pages = txid;
        let mut changed = DirtyPages::new();
        pages.keys().for_each(|page| changed.insert(PageNo::try_new(*page).unwrap()));
        self.store(Level::CAPTURED, txid, txid, pages);
        let bytes = self.files.last().unwrap().entry.size;
        let slot =
            StoredSlot { txid: Txid::try_new(txid).unwrap(), bytes, checksum: sum(txid), changed: &changed };
        self.compaction.stored(&slot, self.now);
        if is_kept && let Some(job) = self.compaction.begin(self.now) {
            self.job = Some((job, state));
        }
        if self.compaction.needs_past(self.now) {
            self.look_up();
        }
    }

    /// What the shell does: only what the job names is read from the view.
    fn land(&mut self) -> Option<(u64, u64)> {
        let (job, state) = self.job.take()?;
        let wanted = job.pages.iter(PageCount::new(PAGES), PageSize::MIN).map(PageNo::get);
        let pages: State = wanted.filter_map(|page| Some((page, *state.get(&page)?))).collect();
        let (min, max) = (job.name.min().get(), job.name.max().get());
        if min > 1 {
            assert_eq!(job.pre_apply, sum(min - 1), "a file begins where another ends");
        }
        assert_eq!(job.post_apply, sum(max));
        self.store(job.level, min, max, pages);
        Some((max, self.files.last().unwrap().entry.size))
    }

    fn restart(&mut self) {
        let txid = self.newest() + 1;
        self.history.push(self.history.last().cloned().unwrap_or_default());
        self.store(Level::CAPTURED, txid, txid, State::new());
        let base = Base { txid, checksum: Some(sum(txid)) };
        let floor = self.head.floor(Level::CAPTURED);
        self.compaction = Compaction::new(RULES, base, floor, self.now);
        (self.job, self.grace) = (None, Grace::new(GRACE));
    }

    fn look_up(&mut self) {
        let inventory = self.inventory();
        let survey = Survey::of(&inventory, self.compaction.past_end()).unwrap();
        let found = |entry: &FileEntry| self.files.iter().find(|file| file.entry.key == entry.key).unwrap();
        let headers = survey.headers().into_iter().map(|entry| (entry.key.clone(), header(found(entry))));
        let pages = survey.indexes().into_iter().map(|entry| {
            let mut pages = DirtyPages::new();
            found(entry).pages.keys().for_each(|page| pages.insert(PageNo::try_new(*page).unwrap()));
            (entry.key.clone(), pages)
        });
        let wall = i64::try_from(self.now).unwrap();
        let past = survey.past(&headers.collect(), &pages.collect(), wall);
        self.compaction.learned(past, self.now);
    }

    fn inventory(&self) -> Inventory {
        let files = self.files.iter().map(|file| file.entry.clone()).collect();
        Inventory::new(files, Some(self.head.clone()))
    }

    fn prune(&mut self, most: usize) {
        let inventory = self.inventory();
        let old = i64::try_from(self.now).unwrap() - WINDOW;
        let snapshots =
            self.files.iter().filter(|file| file.entry.level == Level::SNAPSHOT && file.made <= old);
        let wish = Wish {
            newest: Txid::try_new(self.newest_pages).unwrap(),
            settled: self.grace.settled(self.now),
            beginning: snapshots.map(|file| file.entry.max).max(),
        };
        match decide(&inventory, &wish).unwrap() {
            Pruning::Nothing => return,
            Pruning::CopyFirst(slot) => {
                let copied = self.files.iter().find(|file| file.entry.key == slot.key).unwrap().pages.clone();
                return self.store(Level::SNAPSHOT, 1, 1, copied);
            }
            Pruning::Raise(floors) => {
                for (level, floor) in &self.head.floors {
                    assert!(floors[level] >= *floor, "a floor sinks");
                }
                assert!(
                    floors.get(&0).is_none_or(|floor| *floor < self.newest_pages),
                    "the newest slot is dead"
                );
                self.promised = self.states_to_keep(&wish);
                self.head.floors = floors;
            }
        }
        let entries: Vec<_> = self.files.iter().map(|file| file.entry.clone()).collect();
        let dead = dead(&entries, &self.head);
        // Broken off somewhere: any part of what is dead stays behind.
        let gone: Vec<_> = dead.into_iter().take(most).collect();
        assert!(self.files.iter().all(|file| !(file.entry.is_seal() && gone.contains(&file.entry.key))));
        self.files.retain(|file| !gone.contains(&file.entry.key));
    }

    /// Said independently of the code: the newest state, slots that did not settle, and the ends of merged files since the
    /// newest snapshot before the window.
    fn states_to_keep(&self, wish: &Wish) -> Vec<u64> {
        let since = wish.beginning.map_or(0, Txid::get);
        let live = |file: &&Stored| self.head.is_live(file.entry.level, file.entry.max);
        let kept = |file: &&Stored| {
            let is_young = file.entry.max.get() > wish.settled;
            file.entry.max.get() >= since && (is_young || file.entry.level != Level::CAPTURED)
        };
        let ends = self.files.iter().filter(live).filter(kept).map(|file| file.entry.max.get());
        ends.chain([self.newest()]).filter(|txid| self.restored(*txid).is_some()).collect()
    }

    /// What a restore of `target` holds: the newest snapshot, then whatever goes furthest.
    fn restored(&self, target: u64) -> Option<State> {
        let live = |file: &&Stored| self.head.is_live(file.entry.level, file.entry.max);
        let files: Vec<_> =
            self.files.iter().filter(live).filter(|file| file.entry.max.get() <= target).collect();
        let snapshots = files.iter().filter(|file| file.entry.level == Level::SNAPSHOT);
        let first = snapshots.max_by_key(|file| file.entry.max);
        let (mut state, mut reached) =
            first.map_or((State::new(), 0), |file| (file.pages.clone(), file.entry.max.get()));
        while reached < target {
            let goes_on =
                |file: &&&Stored| file.entry.min.get() <= reached + 1 && file.entry.max.get() > reached;
            let next = files.iter().filter(goes_on).max_by_key(|file| (file.entry.max, file.entry.level))?;
            state.extend(&next.pages);
            reached = next.entry.max.get();
        }
        Some(state)
    }

    /// Every state that anything leads to is the one that was, and what was promised is led to.
    fn check(&self) {
        for promised in &self.promised {
            assert!(self.restored(*promised).is_some(), "{promised} was promised and cannot be restored");
        }
        for file in &self.files {
            let txid = file.entry.max.get();
            if let Some(state) = self.restored(txid) {
                assert_eq!(state, self.history[usize::try_from(txid).unwrap() - 1], "state {txid}");
            }
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Slots(count, pause, pages) => {
                for _ in 0..*count {
                    self.slot(pages, *pause);
                }
            }
            Event::Rest(seconds) => self.now += u64::from(*seconds) * 1_000,
            Event::Written => {
                if let Some((max, size)) = self.land() {
                    self.compaction.written(size);
                    self.grace.merged(max, self.now);
                }
            }
            Event::GivenUp { is_there } => {
                if *is_there {
                    let _ = self.land();
                }
                self.job = None;
                self.compaction.given_up(self.now);
            }
            Event::Restart => self.restart(),
            Event::Prune(most) => self.prune(usize::from(*most)),
        }
    }
}

fn sum(txid: u64) -> Checksum {
    Checksum::try_new(1 << 63 | txid).unwrap()
}

fn header(file: &Stored) -> Header {
    Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(PAGES),
        min_txid: file.entry.min,
        max_txid: file.entry.max,
        timestamp_ms: file.made,
        wal_offset: 32,
        wal_size: 0,
        salts: (0, 0),
        node_id: 1,
        mark: Some(Mark { pre_apply: sum(file.entry.min.get() - 1), post_apply: sum(file.entry.max.get()) }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn every_promised_state_is_restored_exactly_whatever_happens(is_sealed: bool, events in events()) {
        let mut world = World::begin(is_sealed);
        for event in &events {
            world.happens(event);
            prop_assert!(world.restored(world.newest()).is_some(), "the newest state cannot be restored");
            if matches!(event, Event::Prune(_)) {
                world.check();
            }
        }
        world.check();
    }
}

/// The laws can only fail if histories come that far.
#[test]
fn a_long_history_has_every_level_and_loses_files_on_each() {
    let mut world = World::begin(false);
    let mut seen = BTreeMap::<u8, u32>::new();
    for turn in 0..700_u32 {
        world.happens(&Event::Slots(10, 11, vec![turn % PAGES + 1]));
        world.happens(&Event::Written);
        *seen.entry(world.files.last().unwrap().entry.level.get()).or_default() += 1;
        if turn % 7 == 0 {
            world.happens(&Event::Prune(255));
        }
    }
    let floors: Vec<_> = world.head.floors.keys().copied().collect();
    assert_eq!(floors, [0, 1, 2, 3, 9], "{seen:?}");
    for level in [1, 2, 3, 9] {
        assert!(seen.get(&level).is_some_and(|count| *count > 3), "{seen:?}");
    }
    assert!(world.files.len() < 600, "{}", world.files.len());
    world.check();
}
