//! What every database's follower last said of itself: the source of `/v1/status` and of the probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_replica::head::Base;
use lifeboat_store::Requests;
use lifeboat_wal::sqlite_version::SqliteVersion;
use lifeboat_wire::{AtStake, DatabaseStatus, Position, PruneFailures, Status};
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseConfig;
use crate::demand::Demand;
use crate::exit::Failure;
use crate::measures::Measures;
use crate::pulse::Pulse;
use crate::watch::Watcher;
use entry::{Entry, lose};

mod entry;
#[cfg(test)]
mod tests;

/// One entry for each database, shared by all followers and the endpoints.
#[derive(Debug)]
pub struct Board {
    entries: Mutex<BTreeMap<usize, Entry>>,
    /// What was counted of databases that are gone: totals never sink.
    gone: Mutex<Measures>,
    config: Mutex<Reloads>,
    watcher: Watcher,
    /// What was asked of stores.
    pub requests: Arc<Requests>,
    /// Cancelled when the pod is about to end: nothing waits for an interval any more.
    pub hurry: CancellationToken,
    /// Cancelled when every database that was there at the start has its place.
    pub all_known: CancellationToken,
}

/// What became of changes of the config.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    /// How many were taken over.
    pub taken: u64,
    /// How many could not be, so that the config before them stayed.
    pub refused: u64,
    /// What is wrong with the newest, if it was refused.
    pub wrong: Option<String>,
}

/// Whether an application may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Waiting,
    /// Every database is followed, or waited for; of those that were found in folders some may be refused.
    Ready,
    /// Never: a database that the config names will not be followed.
    Refused,
}

/// One database, as it stands on the board now.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is said of it.
    pub status: DatabaseStatus,
    /// What was counted.
    pub measures: Measures,
    /// Whether it is closed until something happens to it.
    pub is_asleep: bool,
}

/// The place on the board where one follower writes.
#[derive(Clone, Debug)]
pub struct Post {
    board: Arc<Board>,
    number: usize,
    demand: Arc<Demand>,
    pulse: Pulse,
}

impl Board {
    /// A board without a database.
    #[must_use]
    pub fn new(watcher: Watcher) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            gone: Mutex::default(),
            config: Mutex::default(),
            watcher,
            requests: Arc::default(),
            hurry: CancellationToken::new(),
            all_known: CancellationToken::new(),
        })
    }

    /// A new place on the board, below all others, where nothing is known yet.
    #[must_use]
    pub fn add(self: &Arc<Self>, database: &DatabaseConfig) -> Post {
        let entry = Entry::new(database);
        let mut entries = self.entries();
        let number = entries.last_key_value().map_or(0, |(number, _)| number + 1);
        let post = self.post(number, &entry);
        entries.insert(number, entry);
        post
    }

    /// The place of the database of that name.
    #[must_use]
    pub fn find(self: &Arc<Self>, name: &str) -> Option<Post> {
        let entries = self.entries();
        let (&number, entry) = entries.iter().find(|(_, entry)| entry.status.name == name)?;
        Some(self.post(number, entry))
    }

    /// The present status.
    #[must_use]
    pub fn status(&self) -> Status {
        let databases = self.entries().values().map(Entry::status).collect();
        let config_error = self.reloads().wrong;
        Status { version: env!("CARGO_PKG_VERSION").to_owned(), config_error, databases }
    }

    /// Every database with what was counted of it.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let sample = |entry: &Entry| Sample {
            status: entry.status(),
            measures: entry.measures.clone(),
            is_asleep: entry.is_asleep,
        };
        self.entries().values().map(sample).collect()
    }

    /// What was counted of databases that are not on the board any more.
    #[must_use]
    pub fn gone(&self) -> Measures {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What became of changes of the config.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A change of the config was taken over, or refused because of what is `wrong` with it.
    pub fn reloaded(&self, wrong: Option<String>) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.is_some() {
            config.refused += 1;
        } else {
            config.taken += 1;
        }
        config.wrong = wrong;
    }

    /// The places of all databases.
    #[must_use]
    pub fn posts(self: &Arc<Self>) -> Vec<Post> {
        self.entries().iter().map(|(&number, entry)| self.post(number, entry)).collect()
    }

    fn post(self: &Arc<Self>, number: usize, entry: &Entry) -> Post {
        let (demand, pulse) = (Arc::clone(&entry.demand), entry.pulse.clone());
        Post { board: Arc::clone(self), number, demand, pulse }
    }

    /// Whether every database's claim is open, and its file is followed or waited for.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.entries().values().all(|entry| entry.is_open && entry.is_started)
    }

    /// Whether an application may begin that uses these databases.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let entries = self.entries();
        if entries.values().any(|entry| !entry.is_found && entry.is_over()) {
            return Readiness::Refused;
        }
        let is_begun = |entry: &Entry| (entry.is_open && entry.is_started) || entry.is_over();
        if self.all_known.is_cancelled() && entries.values().all(is_begun) {
            Readiness::Ready
        } else {
            Readiness::Waiting
        }
    }

    /// Whether every follower's loop turns or rests, and the watcher that would wake it turns.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.watcher.is_alive() && self.entries().values().all(|entry| entry.pulse.is_alive())
    }

    /// Whether every database is open and stored once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.entries().values().all(|entry| entry.is_open && entry.status.position.is_some())
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<usize, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    /// The writer's claim is open.
    pub fn opened(&self, epoch: u64) {
        self.write(|entry| {
            entry.is_open = true;
            entry.status.epoch = Some(epoch);
        });
    }

    /// The database is followed, or its application has not created it yet: the application may begin.
    pub fn started(&self) {
        self.write(|entry| entry.is_started = true);
    }

    /// Everything up to `position` is proved to be in the bucket.
    pub fn stored(&self, position: Position) {
        self.write(|entry| {
            entry.status.position = Some(position);
            entry.status.away_since = None;
            entry.clear();
        });
    }

    /// One more slot of so many bytes is in the bucket.
    pub fn stored_slot(&self, bytes: u64) {
        self.write(|entry| entry.measures.stored(bytes));
    }

    /// Writers of the application were kept out for so long.
    pub fn kept_writers_out(&self, time: Duration) {
        self.write(|entry| entry.measures.kept_writers_out.add(time));
    }

    /// The database is closed until something happens to it.
    pub fn falls_asleep(&self) {
        self.write(|entry| entry.is_asleep = true);
    }

    /// The database is to be opened again. What woke it may be a commit, and waits from now on, until more is known.
    pub fn wakes_up(&self) {
        self.write(|entry| {
            entry.is_asleep = false;
            let _ = entry.waits_since.get_or_insert_with(Instant::now);
        });
    }

    /// The follower's loop turned; `unstored_bytes` wait to be stored, the oldest of them `since` then.
    pub fn turned(&self, unstored_bytes: u64, since: Option<Instant>) {
        self.pulse.beats();
        self.write(|entry| {
            entry.status.unreplicated_bytes = Some(unstored_bytes);
            entry.waits_since = since;
        });
    }

    /// The follower's loop has nothing to do until it is woken. Its waker is the [`Watcher`].
    pub fn rests(&self) {
        self.pulse.rests();
    }

    /// The follower's loop was woken.
    pub fn wakes(&self) {
        self.pulse.beats();
    }

    /// Of the thread with the follower's loop.
    #[must_use]
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// A slot was cut; at this pace that many requests a day are made, if that is more than the budget allows.
    pub fn paced(&self, requests_per_day: Option<u64>) {
        self.write(|entry| entry.pace = requests_per_day.map(|requests| (requests, Instant::now())));
    }

    /// The oldest state that can be restored was captured then, milliseconds since 1970.
    pub fn restorable_since(&self, ms: i64) {
        self.write(|entry| entry.status.oldest_restorable = told(ms));
    }

    /// A snapshot was stored, of the database as it was then, milliseconds since 1970.
    pub fn snapshot_at(&self, ms: i64) {
        self.write(|entry| entry.status.last_snapshot = told(ms));
    }

    /// So many attempts in a row to merge files came to nothing.
    pub fn merges_fail(&self, failures: u32) {
        self.write(|entry| entry.status.merge_failures = failures);
    }

    /// What nothing needs could be deleted, or why not. Returns how many attempts in a row have failed.
    #[must_use]
    pub fn pruned(&self, failure: Option<&str>) -> u32 {
        let mut count = 0;
        self.write(|entry| {
            let before = entry.status.prune_failures.take();
            entry.status.prune_failures = failure.map(|message| {
                let (before, since) = before.map_or_else(
                    || (0, jiff::Timestamp::now().to_string()),
                    |before| (before.count, before.since),
                );
                count = before.saturating_add(1);
                PruneFailures { count, since, message: message.to_owned() }
            });
        });
        count
    }

    /// The store does not take a slot.
    pub fn away(&self) {
        self.write(|entry| {
            let _ = entry.status.away_since.get_or_insert_with(|| jiff::Timestamp::now().to_string());
        });
    }

    /// What kept a slot from being stored is over: there is nothing to store, as the bucket has it all.
    pub fn nothing_to_store(&self) {
        self.write(|entry| {
            entry.status.away_since = None;
            entry.clear();
        });
    }

    /// Whether the store did not take a slot, and none since.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let entries = self.board.entries();
        entries.get(&self.number).is_some_and(|entry| entry.status.away_since.is_some())
    }

    /// Commits that waited for this long were put into one slot just now. Says whether that is a new span, and not the
    /// last one that goes on.
    #[must_use]
    pub fn squashed(&self, waited: Duration) -> bool {
        let to = jiff::Timestamp::now();
        let from = jiff::SignedDuration::try_from(waited).map_or(to, |waited| to - waited);
        let mut is_new = true;
        self.write(|entry| is_new = lose(&mut entry.status.lost, from, to));
        is_new
    }

    /// The application writes with this SQLite. Says whether that is news.
    #[must_use]
    pub fn written_by(&self, version: SqliteVersion) -> bool {
        let mut is_news = false;
        self.write(|entry| {
            let said = entry.status.sqlite_version.replace(version.to_string());
            entry.status.has_wal_reset_race = version.has_wal_reset_race();
            is_news = said != entry.status.sqlite_version;
        });
        is_news
    }

    /// The follower's loop ended in order.
    pub fn ended(&self) {
        self.pulse.rests();
        self.write(|entry| entry.standing = None);
    }

    /// Nobody reads what is committed: from now on that waits, however much it is.
    pub fn unfollowed(&self) {
        self.write(|entry| {
            entry.status.unreplicated_bytes = None;
            let _ = entry.waits_since.get_or_insert_with(Instant::now);
        });
    }

    /// There is no database, so nothing waits.
    pub fn nothing_waits(&self) {
        self.write(|entry| (entry.status.unreplicated_bytes, entry.waits_since) = (None, None));
    }

    /// The database is not simply well.
    pub fn troubled(&self, failure: &Failure) {
        self.write(|entry| entry::tell(&mut entry.status, failure));
    }

    /// The replica is lost to another writer, and so much could not be stored.
    pub fn lost(&self, transactions: Option<u64>, fork: Option<String>) {
        self.write(|entry| entry.status.at_stake = Some(AtStake { transactions, fork }));
    }

    /// What is wrong that keeps no commit from being stored, so that no stored slot says it is over; `None` when it is.
    pub fn stands(&self, failure: Option<Failure>) {
        self.write(|entry| entry.standing = failure);
    }

    /// What the database waits for, which is no trouble, and says nothing where there is trouble; empty when that is over.
    pub fn waits(&self, message: &str) {
        self.write(|entry| {
            if entry.status.verdict.is_none() {
                message.clone_into(&mut entry.status.message);
            }
        });
    }

    /// The trouble is over.
    pub fn recovered(&self) {
        self.write(Entry::clear);
    }

    /// What is demanded of the follower.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// Cancelled when nothing may wait for an interval any more.
    #[must_use]
    pub fn hurry(&self) -> &CancellationToken {
        &self.board.hurry
    }

    /// The entry as it stands.
    #[must_use]
    pub fn status(&self) -> Option<DatabaseStatus> {
        self.board.entries().get(&self.number).map(Entry::status)
    }

    /// Takes the entry away: the database is gone, and nobody has to be told of it any more.
    pub fn remove(&self) {
        if let Some(entry) = self.board.entries().remove(&self.number) {
            self.board.gone.lock().unwrap_or_else(PoisonError::into_inner).add(&entry.measures);
        }
    }

    fn write(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.board.entries().get_mut(&self.number) {
            change(entry);
        }
    }
}

/// A slot in the words of the wire, and when it was stored.
#[must_use]
pub fn position(slot: Base, time: Option<jiff::Timestamp>) -> Position {
    Position {
        txid: format!("{:016x}", slot.txid),
        checksum: slot.checksum.map(|checksum| checksum.to_string()),
        time: time.map(|time| time.to_string()),
    }
}

fn told(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}
