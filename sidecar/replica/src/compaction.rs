//! When merged files and snapshots are due, and which pages they hold.
//!
//! In:  every slot that is stored, with the pages it changes, and what became of each file.
//! Out: the next file: its level, the TXIDs it covers, the pages to read from a view of its last slot.
//!
//! Each level remembers which pages changed since its last file, and nothing of their content, which is read from the live
//! database. A file is due when a slot is stored, never because time passes: a database that rests costs nothing. It covers
//! everything since the last file of its own or any higher level, and ends at a slot that this process stored, read from a
//! view that shows exactly that slot: then it is true however late it arrives, and its name is nobody else's.
//!
//! ```text
//! slot stored ─► wants a file? ─► next slot keeps its view ─► stored ─► begin ─► written, or given up
//! ```

mod past;
#[cfg(test)]
mod tests;

use lifeboat_ltx::{Checksum, FileName, Txid};

pub use self::past::{Covered, Past, Survey};

use crate::claim::Millis;
use crate::dirty_pages::DirtyPages;
use crate::head::Base;
use crate::layout::Level;

/// When files are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The shortest time between two files of level 1, 2 and 3.
    pub intervals: [Millis; MERGED],
    /// The longest time without a snapshot in which something changed.
    pub snapshot_interval: Millis,
    /// How many bytes a restore may have to fetch beyond the snapshot, in thousandths of the snapshot's size.
    pub max_log_ratio: u32,
}

/// A slot that was stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredSlot<'a> {
    /// Its number.
    pub txid: Txid,
    /// Bytes of its file.
    pub bytes: u64,
    /// The rolling checksum after it.
    pub checksum: Checksum,
    /// The pages it holds.
    pub changed: &'a DirtyPages,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its level.
    pub level: Level,
    /// The TXIDs it covers.
    pub name: FileName,
    /// The rolling checksum before it.
    pub pre_apply: Checksum,
    /// The rolling checksum after it: that of its last slot.
    pub post_apply: Checksum,
    /// The pages it holds, as far as the database has them at its last slot.
    pub pages: DirtyPages,
}

/// The merged files and snapshots of one replica, as its writer sees them.
#[derive(Clone, Debug)]
pub struct Compaction {
    rules: Rules,
    /// The newest slot.
    newest: u64,
    newest_checksum: Option<Checksum>,
    /// Levels 1, 2 and 3.
    merged: [Track; MERGED],
    /// The newest file that a restore can begin with.
    base: Option<Snapshot>,
    /// Slots that were there before this process, of which nothing is known yet.
    unknown: u64,
    running: Option<Running>,
    not_before: Millis,
    failures: u32,
}

/// What one level has, and lacks.
#[derive(Clone, Debug)]
struct Track {
    /// The last TXID in a file of this or a higher level.
    covered: u64,
    /// The rolling checksum there.
    checksum: Option<Checksum>,
    /// When that file was made.
    since: Millis,
    /// The pages that changed since.
    pages: DirtyPages,
    /// The bytes that a restore fetches beyond it.
    bytes: u64,
}

/// What a restore begins with: a snapshot, or the slot that holds every page.
#[derive(Clone, Debug)]
struct Snapshot {
    size: u64,
    since: Millis,
    /// The bytes that a restore fetches beyond it.
    bytes: u64,
}

/// A file that is being written.
#[derive(Clone, Debug)]
struct Running {
    level: Level,
    end: u64,
    checksum: Checksum,
    since: Millis,
    /// What the levels up to its own lacked, until it is known whether they have it now.
    lacked: Vec<DirtyPages>,
    /// Slots stored since.
    later_bytes: u64,
}

impl Compaction {
    /// Behind a claim whose chain ends at `base`. What was stored before it is not known yet, if anything was.
    #[must_use]
    pub fn new(rules: Rules, base: Base, floor: u64, now: Millis) -> Self {
        let track = || Track {
            covered: base.txid,
            checksum: base.checksum,
            since: now,
            pages: DirtyPages::new(),
            bytes: 0,
        };
        Self {
            rules,
            newest: base.txid,
            newest_checksum: base.checksum,
            merged: [track(), track(), track()],
            base: None,
            unknown: base.txid.saturating_sub(floor),
            running: None,
            not_before: 0,
            failures: 0,
        }
    }

    /// A slot of this process was stored, the one after the newest.
    pub fn stored(&mut self, slot: &StoredSlot<'_>, now: Millis) {
        self.newest = slot.txid.get();
        self.newest_checksum = Some(slot.checksum);
        if slot.txid == Txid::FIRST {
            // It holds every page, as its format demands.
            self.base = Some(Snapshot { size: slot.bytes, since: now, bytes: 0 });
            self.merged.iter_mut().for_each(|track| track.begin(1, slot.checksum, now));
            return;
        }
        for track in &mut self.merged {
            track.pages.merge(slot.changed.clone());
            track.bytes += slot.bytes;
        }
        if let Some(base) = &mut self.base {
            base.bytes += slot.bytes;
        }
        if let Some(running) = &mut self.running {
            running.later_bytes += slot.bytes;
        }
    }

    /// Whether what was there before this process must be looked up before anything can be due.
    #[must_use]
    pub fn needs_past(&self, now: Millis) -> bool {
        let is_worth_it = self.fresh() > 0 && self.unknown + self.fresh() >= SLOTS_MIN;
        self.unknown > 0 && is_worth_it && now >= self.not_before
    }

    /// The newest slot that was there before this process; 0 for none.
    #[must_use]
    pub fn past_end(&self) -> u64 {
        if self.unknown > 0 { self.merged.first().map_or(0, |track| track.covered) } else { 0 }
    }

    /// What was there before this process.
    pub fn learned(&mut self, past: Past, now: Millis) {
        self.unknown = 0;
        let fresh_bytes = self.merged.first().map_or(0, |track| track.bytes);
        for (track, covered) in self.merged.iter_mut().zip(past.levels) {
            track.covered = covered.to;
            track.checksum = covered.checksum;
            track.since = now.saturating_sub(covered.age);
            track.pages.merge(covered.pages);
            track.bytes += covered.bytes;
        }
        self.base = past.snapshot.map(|(size, age, bytes)| Snapshot {
            size,
            since: now.saturating_sub(age),
            bytes: bytes + fresh_bytes,
        });
    }

    /// Whether the next slot should keep its view, because a file is to end there.
    #[must_use]
    pub fn wants_view(&self, now: Millis) -> bool {
        self.due(self.newest.saturating_add(1), now).is_some()
    }

    /// The file that ends at the newest slot, whose view was kept; `None` where none is due any more.
    pub fn begin(&mut self, now: Millis) -> Option<Job> {
        let level = self.due(self.newest, now)?;
        let (max, post_apply) = (Txid::try_new(self.newest)?, self.newest_checksum?);
        let (min, pre_apply, pages) = match self.merged.get(track_of(level)) {
            Some(track) => (Txid::try_new(track.covered + 1)?, track.checksum?, track.pages.clone()),
            None => (Txid::FIRST, Checksum::EMPTY, all_pages()),
        };
        let name = FileName::try_new(min, max)?;
        let lacked = self.up_to(level).iter_mut().map(|track| track.pages.take()).collect();
        let end = self.newest;
        self.running = Some(Running { level, end, checksum: post_apply, since: now, lacked, later_bytes: 0 });
        Some(Job { level, name, pre_apply, post_apply, pages })
    }

    /// The file is proved to be in the bucket and has this size.
    pub fn written(&mut self, size: u64) {
        let Some(Running { level, end, checksum, since, later_bytes, .. }) = self.running.take() else {
            return;
        };
        self.failures = 0;
        let before = self.merged.get(track_of(level)).map(|track| track.bytes);
        for track in self.up_to(level) {
            (track.covered, track.checksum, track.since) = (end, Some(checksum), since);
            track.bytes = later_bytes;
        }
        // For those above, the new file stands for everything that it merges.
        let Some(before) = before else {
            self.base = Some(Snapshot { size, since, bytes: later_bytes });
            return;
        };
        let merged = |bytes: u64| bytes.saturating_sub(before).saturating_add(size + later_bytes);
        self.merged.iter_mut().skip(track_of(level) + 1).for_each(|track| track.bytes = merged(track.bytes));
        if let Some(base) = &mut self.base {
            base.bytes = merged(base.bytes);
        }
    }

    /// The file is not in the bucket, or not known to be: what it would have held is lacking still. The next attempt waits,
    /// longer each time.
    pub fn given_up(&mut self, now: Millis) {
        let Some(Running { level, lacked, .. }) = self.running.take() else { return };
        for (track, pages) in self.up_to(level).iter_mut().zip(lacked) {
            track.pages.merge(pages);
        }
        self.failed(now);
    }

    /// The past could not be looked up, or no view be kept.
    pub fn failed(&mut self, now: Millis) {
        let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(RETRY_DOUBLINGS)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(pause);
    }

    /// How many attempts in a row came to nothing.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn due(&self, end: u64, now: Millis) -> Option<Level> {
        if self.unknown > 0 || self.running.is_some() || now < self.not_before {
            return None;
        }
        if self.is_snapshot_due(now) {
            return Some(Level::SNAPSHOT);
        }
        let levels = Level::MERGED.into_iter().zip(&self.merged).zip(self.rules.intervals);
        let is_due = |track: &Track, interval| {
            end.saturating_sub(track.covered) >= SLOTS_MIN && now.saturating_sub(track.since) >= interval
        };
        let due = levels.rev().find(|((_, track), interval)| is_due(track, *interval));
        due.map(|((level, track), _)| {
            // What is as large as the database had better be a beginning.
            if track.pages.is_all() || track.checksum.is_none() { Level::SNAPSHOT } else { level }
        })
    }

    fn is_snapshot_due(&self, now: Millis) -> bool {
        let Some(base) = &self.base else { return true };
        let allowed = base.size.saturating_mul(self.rules.max_log_ratio.into()) / 1_000;
        base.bytes > allowed.max(LOG_BYTES_MIN)
            || now.saturating_sub(base.since) >= self.rules.snapshot_interval
    }

    /// Slots that this process stored.
    fn fresh(&self) -> u64 {
        self.merged.first().map_or(0, |track| self.newest.saturating_sub(track.covered))
    }

    /// The levels that a file of `level` brings up to date: its own and those below.
    fn up_to(&mut self, level: Level) -> &mut [Track] {
        let count = (track_of(level) + 1).min(MERGED);
        self.merged.get_mut(..count).unwrap_or_default()
    }
}

impl Track {
    fn begin(&mut self, covered: u64, checksum: Checksum, since: Millis) {
        *self = Self { covered, checksum: Some(checksum), since, pages: DirtyPages::new(), bytes: 0 };
    }
}

/// Where a merged level stands among the tracks; behind all of them for snapshots.
fn track_of(level: Level) -> usize {
    Level::MERGED.iter().position(|merged| *merged == level).unwrap_or(MERGED)
}

fn all_pages() -> DirtyPages {
    let mut pages = DirtyPages::new();
    pages.insert_all();
    pages
}

/// How many levels are merged.
pub const MERGED: usize = Level::MERGED.len();
/// A file that would merge fewer slots is not worth its requests.
const SLOTS_MIN: u64 = 8;
/// A restore may always fetch so much beyond the snapshot, or small databases would be snapshots more than anything else.
const LOG_BYTES_MIN: u64 = 1 << 20;
const RETRY_MIN: Millis = 5_000;
const RETRY_MAX: Millis = 60 * 60 * 1_000;
const RETRY_DOUBLINGS: u32 = 16;
