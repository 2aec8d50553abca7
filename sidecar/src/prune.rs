//! Gives up what no promised state needs any more: raises the floors, then deletes what is dead, and nothing else.
//!
//! ```text
//! list ─► decide ─► (copy the first slot, read it back, list again) ─► raise the floors ─► delete in batches
//! ```
//!
//! What stands in for slots that go was read back: by this process when it wrote it, else now. A merged file that cannot be read
//! stands for nothing, and the slots that it merged stay.
//!
//! Killed between any two steps it leaves files that are dead and still there; the next one deletes them. Whoever finds
//! another writer's head stops pruning and deletes nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_ltx::{Txid, decode_whole};
use lifeboat_replica::claim::{Action, Fact, Opened};
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::raising::{Raising, RaisingStep};
use lifeboat_replica::retention::{Pruning, Wish, dead, decide};
use lifeboat_replica::slot::WriteAnswer;
use lifeboat_wire::Reason;
use tokio_util::sync::CancellationToken;

use crate::bucket::{Bucket, FileEnds};
use crate::clock::{millis, wall_ms};
use crate::exit::{Exit, Failure};
use crate::retry;

/// One round of pruning.
#[derive(Debug)]
pub struct Prune {
    /// The replica.
    pub bucket: Bucket,
    /// The head as this process wrote it last.
    pub opened: Opened,
    /// The newest slot with pages, stored by this process.
    pub newest: Txid,
    /// Slots up to here are old enough to go.
    pub settled: u64,
    /// How far back restores must be possible.
    pub window: Duration,
    /// The keys of files that this process wrote and read back.
    pub proved: BTreeSet<String>,
    /// Whether dead files of earlier processes may be left.
    pub is_first: bool,
    /// Cancelled when the process ends: nothing new is begun.
    pub stop: CancellationToken,
}

/// What came of it.
#[derive(Debug)]
pub struct Pruned {
    /// The head now.
    pub opened: Opened,
    /// The keys of files that were read back, as far as slots are left that they merge.
    pub proved: BTreeSet<String>,
    /// The oldest state that can be restored, milliseconds since 1970, where it was looked at.
    pub oldest_ms: Option<i64>,
    /// How many files were deleted.
    pub deleted: usize,
    /// How many requests it took, without the deletions.
    pub requests: u32,
    /// Why it did not come to its end.
    pub failure: Option<Failure>,
    /// Whether the head is another writer's: this process must not prune any more.
    pub is_lost: bool,
}

impl Prune {
    /// Does what may be done.
    pub async fn run(mut self) -> Pruned {
        let mut pruned = Pruned {
            opened: self.opened.clone(),
            proved: BTreeSet::new(),
            oldest_ms: None,
            deleted: 0,
            requests: 0,
            failure: None,
            is_lost: false,
        };
        let outcome = self.prune(&mut pruned).await;
        (pruned.opened, pruned.proved) = (self.opened, self.proved);
        pruned.failure = outcome.err();
        pruned
    }

    async fn prune(&mut self, pruned: &mut Pruned) -> Result<(), Failure> {
        for _ in 0..ROUNDS_MAX {
            let files = self.files().await?;
            pruned.requests += LISTS;
            let readable = self.readable(&files, pruned).await?;
            let (beginning, readable) = self.beginning(readable, pruned).await?;
            let inventory = Inventory::new(readable, Some(self.opened.head.clone()));
            let wish = Wish { newest: self.newest, settled: self.settled, beginning };
            let decided = match decide(&inventory, &wish) {
                Ok(decided) => decided,
                // Files that are missing may have been given up by whoever took over.
                Err(_) if !self.is_ours().await? => {
                    pruned.is_lost = true;
                    return Ok(());
                }
                Err(broken) => {
                    return Err(Failure::damaged(Reason::ChainGap, format!("{}: {broken}", self.bucket)));
                }
            };
            match decided {
                Pruning::CopyFirst(slot) => {
                    self.copy_first(&slot).await?;
                    pruned.requests += COPY;
                    continue;
                }
                Pruning::Raise(floors) => {
                    pruned.requests += 1;
                    if self.stop.is_cancelled() || !self.raise(floors).await? {
                        pruned.is_lost = !self.stop.is_cancelled();
                        return Ok(());
                    }
                }
                Pruning::Nothing => {}
            }
            return self.delete(&dead(&files, &self.opened.head), pruned).await;
        }
        Err(Failure::bug("the first slot was copied to where snapshots are, and is not there"))
    }

    /// Whether the head is still this process's.
    async fn is_ours(&self) -> Result<bool, Failure> {
        let found = retry::lasting(PATIENCE, || self.bucket.head()).await?;
        Ok(found.is_some_and(|(head, _)| head.is_by_the_same_writer(&self.opened.head)))
    }

    async fn files(&self) -> Result<Vec<FileEntry>, Failure> {
        let floor = if self.is_first { 0 } else { self.opened.head.floor(Level::CAPTURED) };
        retry::lasting(PATIENCE, || self.bucket.live_files(floor)).await
    }

    /// The files without those that were never read back and cannot be. What earlier slots went for is all there is of them.
    async fn readable(
        &mut self,
        files: &[FileEntry],
        pruned: &mut Pruned,
    ) -> Result<Vec<FileEntry>, Failure> {
        let floor = self.opened.head.floor(Level::CAPTURED);
        let is_new = |file: &FileEntry| file.level > Level::CAPTURED && file.max.get() > floor;
        let (mut readable, mut proved) = (Vec::new(), BTreeSet::new());
        for file in files {
            if is_new(file) {
                if !self.proved.contains(&file.key) && !self.reads_back(file, pruned).await? {
                    continue;
                }
                proved.insert(file.key.clone());
            }
            readable.push(file.clone());
        }
        self.proved = proved;
        Ok(readable)
    }

    async fn reads_back(&self, file: &FileEntry, pruned: &mut Pruned) -> Result<bool, Failure> {
        pruned.requests += 1;
        let is_read = match retry::lasting(PATIENCE, || self.bucket.ends(&file.key)).await {
            Ok(ends) => ends.is_some_and(|ends| is_named(file, &ends)),
            Err(failure) if failure.exit == Exit::Damaged => false,
            Err(failure) => return Err(failure),
        };
        if !is_read {
            tracing::warn!("{}: {} is not what it should be; what it merged stays", self.bucket, file.key);
        }
        Ok(is_read)
    }

    /// The newest snapshot that is older than the window, by the time in its header; and the files without the snapshots whose
    /// headers cannot be decoded, as nothing can begin with them. A time that is still to come says nothing.
    async fn beginning(
        &self,
        mut files: Vec<FileEntry>,
        pruned: &mut Pruned,
    ) -> Result<(Option<Txid>, Vec<FileEntry>), Failure> {
        let now = wall_ms();
        let since = now.saturating_sub_unsigned(millis(self.window));
        let is_live = |file: &&FileEntry| self.opened.head.is_live(file.level, file.max);
        let snapshots = files.iter().filter(is_live).filter(|file| file.level == Level::SNAPSHOT);
        let mut snapshots: Vec<_> = snapshots.cloned().collect();
        snapshots.sort_by_key(|file| file.max);
        let mut beginning = None;
        for snapshot in snapshots {
            pruned.requests += 1;
            let made = match retry::lasting(PATIENCE, || self.bucket.live_header(&snapshot)).await {
                Ok(header) => header.timestamp_ms,
                Err(failure) if failure.exit == Exit::Damaged => {
                    tracing::warn!("{failure}; no restore begins with it");
                    files.retain(|file| file.key != snapshot.key);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if made > now {
                continue;
            }
            if made > since {
                pruned.oldest_ms = pruned.oldest_ms.or(Some(made));
                break;
            }
            (beginning, pruned.oldest_ms) = (Some(snapshot.max), Some(made));
        }
        Ok((beginning, files))
    }

    async fn copy_first(&self, slot: &FileEntry) -> Result<(), Failure> {
        let copy = retry::lasting(PATIENCE, || self.bucket.copy_to_snapshots(slot)).await?;
        let [source, copied] = [&slot.key, &copy.key].map(|key| async move {
            let ends = retry::lasting(PATIENCE, || self.bucket.ends(key)).await?;
            ends.ok_or_else(|| Failure::unavailable(format!("{}: {key} is not there", self.bucket)))
        });
        let (source, copied) = (source.await?, copied.await?);
        if (source.size, &source.header, &source.tail) != (copied.size, &copied.header, &copied.tail) {
            let what = format!("{}: {} is no copy of {}", self.bucket, copy.key, slot.key);
            return Err(Failure::damaged(Reason::IntegrityFailed, what));
        }
        Ok(())
    }

    /// Whether the head has the new floors.
    async fn raise(&mut self, floors: BTreeMap<u8, u64>) -> Result<bool, Failure> {
        let (mut raising, mut action) = Raising::begin(self.opened.clone(), floors);
        let later = |what: &str| Failure::unavailable(format!("{}: {what}", self.bucket));
        loop {
            match raising.handle(self.perform(action).await?)? {
                RaisingStep::Do(next) => action = next,
                RaisingStep::Raised(opened) => {
                    self.opened = opened;
                    return Ok(true);
                }
                RaisingStep::Moved(opened) => {
                    self.opened = opened;
                    return Err(later("floors were raised meanwhile"));
                }
                RaisingStep::Later(opened) => {
                    self.opened = opened;
                    return Err(later("the head could not be written"));
                }
                RaisingStep::Lost => return Ok(false),
            }
        }
    }

    /// A write that was not answered, for whatever reason, is told as unclear.
    async fn perform(&self, action: Action) -> Result<Fact, Failure> {
        match action {
            Action::ReplaceHead { head, etag } => {
                let written = self.bucket.replace_head(&head, &etag).await;
                let (answer, etag) = written.unwrap_or((WriteAnswer::Unclear, None));
                Ok(Fact::HeadWritten(answer, etag))
            }
            Action::ReadHead => Ok(Fact::Head(retry::lasting(PATIENCE, || self.bucket.head()).await?)),
            other @ (Action::CountFiles
            | Action::CreateHead(_)
            | Action::ListSlots { .. }
            | Action::ReadSlot(_)
            | Action::PutSeal { .. }
            | Action::Pause(_)) => Err(Failure::bug(format!("raising floors wants {other:?}"))),
        }
    }

    async fn delete(&self, dead: &[String], pruned: &mut Pruned) -> Result<(), Failure> {
        for batch in dead.chunks(BATCH) {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            retry::lasting(PATIENCE, || self.bucket.delete(batch)).await?;
            pruned.deleted += batch.len();
        }
        Ok(())
    }
}

/// Whether a file is what its name and the list say, and all of it can be read where that is not much.
fn is_named(file: &FileEntry, ends: &FileEnds) -> bool {
    let FileEnds { size, header, whole, .. } = ends;
    let is_readable = whole.as_ref().is_none_or(|bytes| decode_whole(bytes).is_ok());
    is_readable && (*size, header.min_txid, header.max_txid) == (file.size, file.min, file.max)
}

/// Copying the first slot needs a second look.
const ROUNDS_MAX: usize = 5;
const BATCH: usize = 100;
/// One for each level.
const LISTS: u32 = 5;
/// The copy, and reading both.
const COPY: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
