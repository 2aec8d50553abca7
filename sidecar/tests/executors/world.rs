//! A world from a seed: a bucket in memory, roads to it that lie, processes that come and die, and a clock that passes only when
//! all of them wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::{Layout, Level};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::truth::Truth;

/// What a world does wrongly on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Objects are overwritten.
    Overwrites,
    /// The head is replaced whatever stands there.
    ForgetsConditions,
    /// A request that never arrived is answered as if it had.
    AnswersForLost,
    /// A list that failed is an empty one.
    ListsNothing,
}

/// How a request fares.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It arrives and is answered.
    Answered,
    /// It never arrives, and nobody answers.
    Lost,
    /// It arrives, and nobody hears the answer.
    Unheard,
    /// It arrives after its sender gave it up, perhaps a minute later.
    Late,
    /// It is refused for now, and does nothing.
    Busy,
}

/// How often what happened that is rare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) slots: usize,
    pub(crate) fenced: usize,
    pub(crate) overtaken: usize,
    pub(crate) killed: usize,
    pub(crate) late: usize,
    pub(crate) raised: usize,
    pub(crate) deleted: usize,
    pub(crate) closed: usize,
}

impl Reached {
    pub(crate) fn add(&mut self, other: Self) {
        let Self { slots, fenced, overtaken, killed, late, raised, deleted, closed } = other;
        self.slots += slots;
        self.fenced += fenced;
        self.overtaken += overtaken;
        self.killed += killed;
        self.late += late;
        self.raised += raised;
        self.deleted += deleted;
        self.closed += closed;
    }
}

/// An object, and which of its versions it is.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) version: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Stored>,
    pub(crate) truth: Truth,
    pub(crate) dice: Dice,
    pub(crate) reached: Reached,
    /// So many of a hundred requests go wrong.
    pub(crate) rough: usize,
    versions: u64,
    trace: Vec<String>,
    violation: Option<String>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) lie: Option<Lie>,
    begun: Instant,
    state: Mutex<State>,
}

/// What became of a world.
#[derive(Debug)]
pub(crate) struct Told {
    /// Everything that happened, line by line.
    pub(crate) trace: Vec<String>,
    /// What must never happen.
    pub(crate) violation: Option<String>,
    pub(crate) reached: Reached,
}

impl World {
    pub(crate) fn new(seed: u64, lie: Option<Lie>) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        let rough = if seed.is_multiple_of(8) { 0 } else { dice.below(30) };
        let state = State {
            objects: BTreeMap::new(),
            truth: Truth::default(),
            dice,
            reached: Reached::default(),
            rough,
            versions: 0,
            trace: Vec::new(),
            violation: None,
        };
        Arc::new(Self { lie, begun: Instant::now(), state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets some of the world's time pass.
    pub(crate) async fn rest(&self, ms_max: usize) {
        let ms = self.state().dice.below(ms_max) as u64;
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// How much of the world's time passed.
    pub(crate) fn now_ms(&self) -> u128 {
        self.begun.elapsed().as_millis()
    }

    pub(crate) fn say(&self, line: &str) {
        let now = self.now_ms();
        self.state().say(now, line);
    }

    /// Something happened that must never happen, unless this is `Ok`.
    pub(crate) fn require(&self, outcome: Result<(), String>) {
        let now = self.now_ms();
        self.state().require(now, outcome);
    }

    pub(crate) fn told(&self) -> Told {
        let state = self.state();
        Told { trace: state.trace.clone(), violation: state.violation.clone(), reached: state.reached }
    }
}

impl State {
    fn say(&mut self, now_ms: u128, line: &str) {
        self.trace.push(format!("{now_ms:>8} ms  {line}"));
    }

    pub(crate) fn require(&mut self, now_ms: u128, outcome: Result<(), String>) {
        if let Err(violation) = outcome {
            self.say(now_ms, &format!("VIOLATION: {violation}"));
            self.violation.get_or_insert(violation);
        }
    }

    /// How a request fares, how long it takes there and back, and how late it is if it is late.
    pub(crate) fn draw(&mut self) -> (Fate, Duration, Duration, Duration) {
        let fate = if self.dice.percent(self.rough) {
            self.dice.one_of(&[Fate::Lost, Fate::Unheard, Fate::Late, Fate::Busy])
        } else {
            Fate::Answered
        };
        self.reached.late += usize::from(matches!(fate, Fate::Late));
        let [there, back, late] =
            [40, 40, 60_000].map(|most| Duration::from_millis(1 + self.dice.below(most) as u64));
        (fate, there, back, late)
    }

    /// Puts an object, whatever stands there; the version that it now is.
    pub(crate) fn put(&mut self, key: &str, bytes: Bytes) -> u64 {
        self.versions += 1;
        self.objects.insert(key.to_owned(), Stored { bytes, version: self.versions });
        self.versions
    }

    /// Whether everything that was promised can be restored at this moment.
    pub(crate) fn restorable(&self) -> Result<(), String> {
        let head = self.objects.get(LAYOUT.head_key()).map(|head| Head::decode(&head.bytes));
        let head = head.transpose().map_err(|error| error.to_string())?;
        let files = self.objects.iter().filter_map(|(key, stored)| entry(key, stored)).collect();
        let read = |key: &str| self.objects.get(key).map(|stored| stored.bytes.clone()).unwrap_or_default();
        self.truth.restorable(&Inventory::new(files, head), read)
    }
}

/// An object as a file of the replica; `None` where it is none.
pub(crate) fn entry(key: &str, stored: &Stored) -> Option<FileEntry> {
    let named = |level: Level| LAYOUT.parse_file_key(level, key).map(|name| (level, name));
    let (level, name) = Level::ALL.into_iter().find_map(named)?;
    Some(FileEntry {
        level,
        min: name.min(),
        max: name.max(),
        size: stored.bytes.len() as u64,
        key: key.to_owned(),
        etag: stored.version.to_string(),
    })
}

pub(crate) const LAYOUT: Layout = Layout::Bucket;
