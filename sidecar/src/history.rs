//! The history of one replica, kept by its writer: what is merged, what may go, and the one piece of work that is under way.
//!
//! [`Compaction`] and [`Grace`] decide; the work is done by tasks beside the slots, which never wait for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_ltx::{FileName, Txid};
use lifeboat_replica::claim::Opened;
use lifeboat_replica::compaction::{Compaction, Past, StoredSlot};
use lifeboat_replica::head::Base;
use lifeboat_replica::layout::Level;
use lifeboat_replica::retention::Grace;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::Post;
use crate::bucket::Bucket;
use crate::capture::Order;
use crate::clock::millis;
use crate::compact::Written;
use crate::config::History as Rules;
use crate::deriving::DerivedFile;
use crate::exit::{Exit, Failure};
use crate::limits::Shared;
use crate::prune::{Prune, Pruned};
use crate::slot_file::SlotFile;
use crate::{compact, survey};

/// The history of one replica.
#[derive(Debug)]
pub(crate) struct History {
    name: String,
    bucket: Bucket,
    rules: Rules,
    compaction: Compaction,
    grace: Grace,
    begun: Instant,
    /// The head, which this process changes again when it gives files up.
    opened: Opened,
    /// The newest slot of this process.
    newest: Option<Txid>,
    /// The keys of files that were read back and may yet let slots go.
    proved: BTreeSet<String>,
    view: ViewState,
    /// The turn to write a file, from the moment when its view is used.
    turn: Option<OwnedSemaphorePermit>,
    work: JoinSet<Done>,
    is_pruning_due: bool,
    is_pruning: bool,
    is_first_pruning: bool,
    /// Requests that the budget of slots does not know of yet.
    requests: u32,
    /// The head is another writer's.
    is_lost: bool,
    stop: CancellationToken,
}

/// Whether a view is kept for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ViewState {
    None,
    /// The next slot is to keep it.
    Asked,
    /// A file is being read from it, or about to be.
    Used,
}

/// What a task did.
#[derive(Debug)]
pub(crate) enum Done {
    Learned(Box<Result<Past, Failure>>),
    Written { level: Level, name: FileName, time_ms: i64, written: Result<Written, Failure> },
    Pruned(Box<Pruned>),
}

impl History {
    /// Behind a claim.
    pub(crate) fn new(name: &str, bucket: &Bucket, rules: Rules, opened: &Opened, base: Base) -> Self {
        let floor = opened.head.floor(Level::CAPTURED);
        Self {
            name: name.to_owned(),
            bucket: bucket.clone(),
            rules,
            compaction: Compaction::new(rules.rules, base, floor, BEGINNING_MS),
            grace: Grace::new(millis(rules.slots)),
            begun: Instant::now(),
            opened: opened.clone(),
            newest: None,
            proved: BTreeSet::new(),
            view: ViewState::None,
            turn: None,
            work: JoinSet::new(),
            is_pruning_due: false,
            is_pruning: false,
            is_first_pruning: true,
            requests: 0,
            is_lost: false,
            stop: CancellationToken::new(),
        }
    }

    /// A slot was stored. The orders must reach the one who cut it before he hears that it was.
    pub(crate) fn stored(&mut self, slot: &SlotFile, shared: &Shared, post: &Post) -> Vec<Order> {
        let now = self.now();
        let (txid, bytes, checksum) = (slot.header.max_txid, slot.identity.size, slot.post_apply);
        self.compaction.stored(&StoredSlot { txid, bytes, checksum, changed: &slot.changed }, now);
        self.newest = Some(txid);
        if txid == Txid::FIRST {
            post.restorable_since(slot.header.timestamp_ms);
        }
        let mut orders = Vec::new();
        if self.view == ViewState::Asked {
            // Slots come first: whoever has no turn now tries again with a later slot. Whoever waits for a slot has none: it
            // may come tomorrow.
            self.turn = Arc::clone(&shared.merges).try_acquire_owned().ok();
            let job = self.turn.as_ref().and_then(|_| self.compaction.begin(now));
            self.view = if job.is_some() { ViewState::Used } else { ViewState::None };
            orders.push(Order::Derive(job.map(Box::new)));
        }
        if self.view == ViewState::None {
            self.turn = None;
            orders.extend(self.next_work());
        }
        orders
    }

    /// The database was opened again after a sleep, and nobody knows any more that a view was asked for.
    pub(crate) fn wake(&mut self) -> Option<Order> {
        if self.view == ViewState::Used {
            return None;
        }
        self.view = ViewState::None;
        self.next_work()
    }

    /// Begins whatever is due, if nothing is under way.
    fn next_work(&mut self) -> Option<Order> {
        if !self.work.is_empty() {
            return None;
        }
        let now = self.now();
        if self.compaction.needs_past(now) {
            let (bucket, head, end) =
                (self.bucket.clone(), self.opened.head.clone(), self.compaction.past_end());
            let look_up = async move { Box::new(survey::look_up(&bucket, &head, end).await) };
            self.work.spawn(async move { Done::Learned(look_up.await) });
        } else if self.is_pruning_due && !self.is_lost {
            self.prune();
        } else if self.compaction.wants_view(now) {
            self.view = ViewState::Asked;
            return Some(Order::KeepView);
        }
        None
    }

    /// The requests made since this was asked last, for the budget.
    pub(crate) fn take_requests(&mut self) -> u32 {
        std::mem::take(&mut self.requests)
    }

    /// Sends a file while it is read, if there was a view to read it from.
    pub(crate) fn write(&mut self, file: Option<Box<DerivedFile>>) {
        let Some(file) = file else { return self.give_up("the slot could not keep its view") };
        let bucket = self.bucket.clone();
        let (level, name, time_ms) = (file.job.level, file.job.name, file.header.timestamp_ms);
        self.work.spawn(async move {
            Done::Written { level, name, time_ms, written: compact::write(&bucket, *file).await }
        });
    }

    /// Waits until a piece of work is done; for ever if there is none.
    pub(crate) async fn done(&mut self) -> Option<Done> {
        match self.work.join_next().await {
            Some(Ok(done)) => Some(done),
            // A task that panicked has said so.
            Some(Err(_)) => None,
            None => std::future::pending().await,
        }
    }

    /// Takes what a task did.
    pub(crate) fn take(&mut self, done: Option<Done>, post: &Post) {
        match done {
            Some(Done::Learned(past)) => match *past {
                Ok(past) => self.compaction.learned(past, self.now()),
                Err(failure) if failure.exit == Exit::Damaged => {
                    tracing::warn!(
                        "{}: {failure}; a snapshot is taken, which needs nothing of it",
                        self.name
                    );
                    let past = Past::unreadable(self.compaction.past_end());
                    self.compaction.learned(past, self.now());
                }
                Err(failure) => self.failed(&format!("earlier files cannot be looked up: {failure}")),
            },
            Some(Done::Written { level, name, time_ms, written: Ok(Written { size, requests }) }) => {
                self.requests = self.requests.saturating_add(requests);
                tracing::debug!(
                    "{}: level {} merged up to txid {}, {size} bytes",
                    self.name,
                    level.get(),
                    name.max()
                );
                self.proved.insert(self.bucket.file_key(level, name));
                self.written(level, name.max(), size);
                if level == Level::SNAPSHOT {
                    post.snapshot_at(time_ms);
                }
            }
            Some(Done::Written { written: Err(failure), .. }) => self.give_up(&failure.to_string()),
            Some(Done::Pruned(pruned)) => self.pruned(*pruned, post),
            None if std::mem::take(&mut self.is_pruning) => {
                // What was deleted, and what of the head it knew, a list and the head itself say.
                self.is_first_pruning = true;
                self.prune_failed("the deletion ended without a word", post);
            }
            None => self.give_up("it ended without a word"),
        }
        post.merges_fail(self.compaction.failures());
    }

    fn written(&mut self, level: Level, max: Txid, size: u64) {
        let now = self.now();
        (self.view, self.turn) = (ViewState::None, None);
        self.compaction.written(size);
        self.grace.merged(max.get(), now);
        let floor = self.opened.head.floor(Level::CAPTURED);
        let is_high = level == Level::SNAPSHOT || Level::MERGED.last() == Some(&level);
        self.is_pruning_due |= is_high || self.grace.settled(now).saturating_sub(floor) >= SLOTS_MANY;
    }

    fn give_up(&mut self, why: &str) {
        (self.view, self.turn) = (ViewState::None, None);
        self.compaction.given_up(self.now());
        self.say_failure(&format!("a merged file is put off: {why}"));
    }

    fn failed(&mut self, why: &str) {
        self.compaction.failed(self.now());
        self.say_failure(why);
    }

    /// Once is nothing. If it goes on, a restore takes longer and longer, and nothing is ever deleted.
    fn say_failure(&self, what: &str) {
        let failures = self.compaction.failures();
        if failures.is_power_of_two() && failures >= FAILURES_SAID {
            tracing::warn!("{}: {what}; {failures} times in a row, slots pile up in the bucket", self.name);
        } else {
            tracing::debug!("{}: {what}", self.name);
        }
    }

    fn prune(&mut self) {
        let Some(newest) = self.newest else { return };
        let settled = self.grace.settled(self.now());
        let prune = Prune {
            bucket: self.bucket.clone(),
            opened: self.opened.clone(),
            newest,
            settled,
            window: self.rules.window,
            proved: std::mem::take(&mut self.proved),
            is_first: self.is_first_pruning,
            stop: self.stop.clone(),
        };
        (self.is_pruning_due, self.is_pruning) = (false, true);
        self.work.spawn(async move { Done::Pruned(Box::new(prune.run().await)) });
    }

    fn pruned(&mut self, pruned: Pruned, post: &Post) {
        let Pruned { opened, proved, oldest_ms, deleted, requests, failure, is_lost } = pruned;
        self.is_pruning = false;
        self.requests = self.requests.saturating_add(requests);
        self.opened = opened;
        self.proved = proved;
        self.is_lost |= is_lost;
        // What could not be deleted is found by a list of everything.
        self.is_first_pruning = failure.is_some();
        if let Some(oldest) = oldest_ms {
            post.restorable_since(oldest);
        }
        if deleted > 0 {
            tracing::debug!("{}: {deleted} files that nothing needs any more were deleted", self.name);
        }
        if is_lost {
            tracing::warn!("{}: another process claims the replica; nothing is deleted any more", self.name);
        }
        match failure {
            Some(failure) => self.prune_failed(&failure.message, post),
            None => _ = post.pruned(None),
        }
    }

    /// Nothing is lost by it, and the bucket grows.
    fn prune_failed(&self, why: &str, post: &Post) {
        let count = post.pruned(Some(why));
        if count.is_power_of_two() {
            tracing::warn!(
                "{}: files that nothing needs stay in the bucket: {why}; {count} times in a row",
                self.name
            );
        }
    }

    /// Ends what is under way, and returns the head as it is now.
    pub(crate) async fn end(&mut self, post: &Post) -> Opened {
        self.stop.cancel();
        if self.view != ViewState::None {
            // Nobody needs the file, and what it would have deleted stays.
            self.work.abort_all();
        }
        let all = async {
            while !self.work.is_empty() {
                let done = self.done().await;
                self.take(done, post);
            }
        };
        let _ = tokio::time::timeout(END_PATIENCE, all).await;
        self.opened.clone()
    }

    fn now(&self) -> u64 {
        BEGINNING_MS.saturating_add(millis(self.begun.elapsed()))
    }
}

/// Where the clock of a process begins: late enough that files of earlier processes have their age on it.
const BEGINNING_MS: u64 = 1 << 40;

/// So many slots are worth a list and a new head before the highest level is due.
const SLOTS_MANY: u64 = 1_000;
/// So many attempts may fail before somebody should know.
const FAILURES_SAID: u32 = 4;
/// How long an orderly end waits for a deletion that was begun.
const END_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use lifeboat_replica::dirty_pages::DirtyPages;
    use lifeboat_replica::head::Head;
    use lifeboat_replica::layout::Layout;
    use lifeboat_store::Directory;

    use super::*;
    use crate::board::Board;
    use crate::config::Config;
    use crate::pod;
    use crate::watch::Watcher;

    const DAYS_MS: u64 = 1 << 30;

    async fn history(folder: &std::path::Path, base: Base) -> (History, Post) {
        let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
        let post = Board::new(Watcher::start().unwrap()).add(&config.databases[0]);
        let bucket =
            Bucket::new(Arc::new(Directory::open(folder.to_owned()).await.unwrap()), Layout::Directory);
        let head = Head::create("l".to_owned(), pod::new_owner().unwrap());
        let opened = Opened { head, etag: String::new() };
        (History::new("a.db", &bucket, config.databases[0].history, &opened, base), post)
    }

    #[tokio::test]
    async fn a_deletion_that_fails_or_panics_is_counted_with_its_cause_until_one_works() {
        let folder = tempfile::tempdir().unwrap();
        let (mut history, post) = history(folder.path(), Base::NOTHING).await;
        let pruned = |failure| {
            let opened =
                Opened { head: Head::create("l".to_owned(), pod::new_owner().unwrap()), etag: String::new() };
            let (proved, oldest_ms) = (BTreeSet::new(), None);
            let pruned =
                Pruned { opened, proved, oldest_ms, deleted: 0, requests: 0, failure, is_lost: false };
            Some(Done::Pruned(Box::new(pruned)))
        };
        history.take(pruned(Some(Failure::unavailable("not allowed to delete"))), &post);
        let said = post.status().unwrap().prune_failures.unwrap();
        assert_eq!((said.count, said.message.as_str()), (1, "not allowed to delete"));
        history.is_pruning = true;
        history.work.spawn(async { panic!("in the test of a panic") });
        let done = history.done().await;
        history.take(done, &post);
        let then = post.status().unwrap().prune_failures.unwrap();
        assert_eq!((then.count, then.since), (2, said.since));
        assert!(
            then.message.contains("ended without a word") && !history.is_lost,
            "the next one tries again"
        );
        history.take(pruned(None), &post);
        assert_eq!(post.status().unwrap().prune_failures, None);
    }

    /// Trap 31: nothing is lost by it at first, and a restore takes longer and longer.
    #[tokio::test]
    async fn a_merge_that_fails_again_and_again_is_counted_in_the_status_until_one_works() {
        let folder = tempfile::tempdir().unwrap();
        let (mut history, post) = history(folder.path(), Base::NOTHING).await;
        let (level, name) = (Level::SNAPSHOT, FileName::slot(Txid::FIRST));
        let mut taken = |txid, written| {
            let now = history.now();
            let (checksum, changed) = ("8000000000000002".parse().unwrap(), DirtyPages::new());
            let slot = StoredSlot { txid, bytes: 1, checksum, changed: &changed };
            history.compaction.stored(&slot, now);
            history.compaction.begin(now + DAYS_MS).unwrap();
            history.take(Some(Done::Written { level, name, time_ms: 0, written }), &post);
            post.status().unwrap().merge_failures
        };
        for count in 1..6 {
            let txid = Txid::try_new(count.into()).unwrap();
            assert_eq!(taken(txid, Err(Failure::unavailable("no such luck"))), count);
        }
        assert_eq!(taken(Txid::try_new(6).unwrap(), Ok(Written { size: 1, requests: 2 })), 0);
    }

    #[tokio::test]
    async fn what_was_stored_before_and_is_damaged_is_made_up_for_by_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let base = Base { txid: 20, checksum: Some("8000000000000001".parse().unwrap()) };
        let (mut history, post) = history(folder.path(), base).await;
        let now = history.now();
        assert!(!history.compaction.wants_view(now), "what is there is not known yet");
        let gap = Failure::damaged(lifeboat_wire::Reason::ChainGap, "files are missing");
        history.take(Some(Done::Learned(Box::new(Err(gap)))), &post);
        assert!(history.compaction.wants_view(now) && history.compaction.failures() == 0);
        let checksum = "8000000000000002".parse().unwrap();
        let (txid, changed) = (Txid::try_new(21).unwrap(), DirtyPages::new());
        history.compaction.stored(&StoredSlot { txid, bytes: 1, checksum, changed: &changed }, now);
        assert_eq!(history.compaction.begin(now).unwrap().level, Level::SNAPSHOT);
    }
}
