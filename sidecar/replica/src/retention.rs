//! Which files of a replica may go.
//!
//! In:  an inventory read just now, and which points in time are promised.
//! Out: floors for `head.json`, from which the files follow that are dead. They never sink, and every promised state is
//! still reached by what is left.
//!
//! Promised are: the newest state; every slot of the last minutes; and every state that a merged file or a snapshot ends at,
//! back to the newest snapshot that is older than the recovery window. What lies between the ends of merged files is given
//! up with the slots. A seal is never deleted, dead or not: it may have to stop a writer that comes back after a year.

use std::collections::{BTreeMap, VecDeque};

use lifeboat_ltx::Txid;

use crate::claim::Millis;
use crate::head::Head;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;
use crate::reach::Reach;

/// What is known when files are to go.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The newest slot with pages, stored by this process: it stays.
    pub newest: Txid,
    /// Slots up to here are old enough to go.
    pub settled: u64,
    /// The last TXID of the newest snapshot that is older than the recovery window, if there is one.
    pub beginning: Option<Txid>,
}

/// What may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pruning {
    /// Nothing: everything is needed.
    Nothing,
    /// First the only file that a restore can begin with, a slot, must be copied to where snapshots are.
    CopyFirst(FileEntry),
    /// Raise the floors to these, then delete what is dead.
    Raise(BTreeMap<u8, u64>),
}

/// A promised state that is not reached, or would not be with new floors: files were lost or damaged, or it is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the files that can be read and are to stay do not lead to txid {lost}; nothing is deleted")]
pub struct PromiseBroken {
    /// The state.
    pub lost: u64,
}

/// Decides what may go.
///
/// # Errors
/// [`PromiseBroken`]; then nothing may.
pub fn decide(inventory: &Inventory, wish: &Wish) -> Result<Pruning, PromiseBroken> {
    let Some(head) = inventory.head() else { return Ok(Pruning::Nothing) };
    let merged = || inventory.files().iter().filter(|file| file.level > Level::CAPTURED);
    let is_snapshot = |file: &&FileEntry| file.level == Level::SNAPSHOT;
    // Everything up to the first snapshot begins with the first slot, which is about to go.
    if wish.beginning.is_none()
        && !merged().filter(is_snapshot).any(|file| file.max == Txid::FIRST)
        && let Some(first) = inventory.slots().find(|slot| slot.min == Txid::FIRST && !slot.is_seal())
    {
        return Ok(Pruning::CopyFirst(first.clone()));
    }
    let may_go = wish.settled.max(oldest(wish)).min(wish.newest.get().saturating_sub(1));
    let mut floors = head.floors.clone();
    raise(&mut floors, Level::CAPTURED, Reach::of(merged()).newest_up_to(may_go));
    if let Some(beginning) = wish.beginning {
        Level::MERGED.iter().for_each(|level| raise(&mut floors, *level, beginning.get()));
        raise(&mut floors, Level::SNAPSHOT, beginning.get() - 1);
    }
    // Also where nothing is to go: what is lost already should be known.
    match broken_promise(inventory, wish, &floors) {
        Some(lost) => Err(PromiseBroken { lost }),
        None if floors == head.floors => Ok(Pruning::Nothing),
        None => Ok(Pruning::Raise(floors)),
    }
}

/// A promised state that is reached now and would not be with these floors.
#[must_use]
pub fn broken_promise(inventory: &Inventory, wish: &Wish, floors: &BTreeMap<u8, u64>) -> Option<u64> {
    let is_live = |file: &&FileEntry| file.max.get() > floors.get(&file.level.get()).copied().unwrap_or(0);
    let (now, then) = (Reach::of(inventory.files()), Reach::of(inventory.files().iter().filter(is_live)));
    let is_promised = |file: &&FileEntry| {
        let is_merged = file.level > Level::CAPTURED;
        file.max.get() >= oldest(wish) && (is_merged || file.max.get() > wish.settled)
    };
    let promised = inventory.files().iter().filter(is_promised).map(|file| file.max.get());
    let promised = promised.filter(|txid| now.contains(*txid)).chain([wish.newest.get()]);
    promised.into_iter().find(|txid| !then.contains(*txid))
}

/// The oldest state that is promised; 0 where everything is.
fn oldest(wish: &Wish) -> u64 {
    wish.beginning.map_or(0, Txid::get)
}

/// The keys of the files that are dead by this head and no seals.
#[must_use]
pub fn dead(files: &[FileEntry], head: &Head) -> Vec<String> {
    let is_dead = |file: &&FileEntry| !head.is_live(file.level, file.max) && !file.is_seal();
    files.iter().filter(is_dead).map(|file| file.key.clone()).collect()
}

fn raise(floors: &mut BTreeMap<u8, u64>, level: Level, to: u64) {
    if to > 0 {
        let floor = floors.entry(level.get()).or_insert(to);
        *floor = to.max(*floor);
    }
}

/// Which slots are old enough to go: those whose merged file is some minutes old, so that readers that planned with the slots
/// have read them.
#[derive(Clone, Debug)]
pub struct Grace {
    lasts: Millis,
    merged: VecDeque<(Millis, u64)>,
    settled: u64,
}

impl Grace {
    /// Slots may go so long after their merged file was stored.
    #[must_use]
    pub const fn new(lasts: Millis) -> Self {
        Self { lasts, merged: VecDeque::new(), settled: 0 }
    }

    /// A merged file, or a snapshot, that ends at this TXID was stored.
    pub fn merged(&mut self, txid: u64, now: Millis) {
        self.settle(now);
        self.merged.push_back((now, txid));
    }

    /// Slots up to this one are old enough.
    pub fn settled(&mut self, now: Millis) -> u64 {
        self.settle(now);
        self.settled
    }

    fn settle(&mut self, now: Millis) {
        let lasts = self.lasts;
        while let Some((_, txid)) = self.merged.pop_front_if(|(at, _)| now.saturating_sub(*at) >= lasts) {
            self.settled = self.settled.max(txid);
        }
    }
}

#[cfg(test)]
mod tests;
