//! Which files lead to a restore target, and what of them must be fetched.
//!
//! | module | decides |
//! |---|---|
//! | here | the files that lead to a target, by TXID |
//! | [`points`] | the targets there are, and the ones next to a target that is none |
//! | [`time`] | which target a point in time means, reading few headers |
//! | [`placement`] | which file gives each page: the newest that has it |
//! | [`fetches`] | which byte ranges of a large file are fetched |
//!
//! The rule is Litestream's, so that both restore the same: the newest snapshot, then again and again the file of any
//! level that extends furthest from the TXID reached. A hole is an error even when a later file holds every page;
//! overlaps are harmless, because a later file only rewrites pages with newer images.

use std::cmp::Reverse;

use lifeboat_ltx::Txid;

use crate::error::PlanError;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;

pub mod fetches;
pub mod placement;
pub mod points;
pub mod time;

/// What is to be restored. A point in time is turned into a TXID first, by [`time::TimeSearch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Latest,
    /// Exactly the state that this TXID ended at.
    Txid(Txid),
}

/// The files that reach a target, oldest first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    files: Vec<FileEntry>,
}

impl RestorePlan {
    /// The files, oldest first.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The TXID that the last file ends at.
    #[must_use]
    pub fn target(&self) -> Option<Txid> {
        self.files.last().map(|file| file.max)
    }

    /// Size of all its files. What a restore fetches of them may be less.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Plans the restore of the newest state.
///
/// # Errors
/// [`PlanError`] where there is no database, or the files do not reach the newest one.
pub fn plan_latest(inventory: &Inventory) -> Result<RestorePlan, PlanError> {
    plan(inventory, Target::Latest)
}

/// Plans the restore of a target.
///
/// # Errors
/// [`PlanError`] where there is no database, or the files do not reach the target; then it names the targets next to it.
pub fn plan(inventory: &Inventory, target: Target) -> Result<RestorePlan, PlanError> {
    if !inventory.holds_pages() {
        return Err(PlanError::EmptyReplica);
    }
    match target {
        Target::Latest => to_the_end(inventory),
        Target::Txid(wanted) => to_txid(inventory, wanted),
    }
}

/// Plans how a copy that stands at `from` is brought to the newest state; `None` where files are missing in between, and
/// only a whole restore leads there. Empty for a copy that is there already.
#[must_use]
pub fn plan_onward(inventory: &Inventory, from: Txid) -> Option<Vec<FileEntry>> {
    let usable = |file: &&FileEntry| file.level != Level::SNAPSHOT;
    let (files, reached) = chain(inventory.files().iter().filter(usable), from.get());
    let newest = inventory.files().iter().map(|file| file.max.get()).max().unwrap_or(0);
    (reached >= newest).then_some(files)
}

fn to_the_end(inventory: &Inventory) -> Result<RestorePlan, PlanError> {
    let (files, reached) = from_a_snapshot(inventory, u64::MAX);
    match inventory.files().iter().filter(|file| file.max.get() > reached).map(|file| file.min).min() {
        None => Ok(RestorePlan { files }),
        Some(next) => Err(Txid::try_new(reached)
            .map_or(PlanError::NoBeginning { oldest: next }, |after| PlanError::Gap { after, next })),
    }
}

fn to_txid(inventory: &Inventory, wanted: Txid) -> Result<RestorePlan, PlanError> {
    let (files, reached) = from_a_snapshot(inventory, wanted.get());
    if reached == wanted.get() && files.iter().any(|file| !file.is_seal()) {
        return Ok(RestorePlan { files });
    }
    let (before, after) = points::next_to(&points::points(inventory), wanted);
    Err(PlanError::NoPoint { wanted, before, after })
}

/// The newest snapshot, and what continues it, up to a TXID; and the TXID reached.
fn from_a_snapshot(inventory: &Inventory, until: u64) -> (Vec<FileEntry>, u64) {
    let early = || inventory.files().iter().filter(|file| file.max.get() <= until);
    let snapshots = early().filter(|file| file.level == Level::SNAPSHOT && file.min == Txid::FIRST);
    let snapshot = snapshots.max_by_key(|file| file.max);
    let (rest, reached) = chain(early(), snapshot.map_or(0, |file| file.max.get()));
    (snapshot.cloned().into_iter().chain(rest).collect(), reached)
}

/// Again and again the file that continues from the TXID reached and ends last; of several, the smallest.
fn chain<'a>(files: impl Iterator<Item = &'a FileEntry>, from: u64) -> (Vec<FileEntry>, u64) {
    let mut files: Vec<_> = files.collect();
    files.sort_by_key(|file| file.min);
    let mut waiting = files.into_iter().peekable();
    let (mut reached, mut best, mut chain) = (from, None::<&FileEntry>, Vec::new());
    loop {
        while let Some(file) = waiting.next_if(|file| file.min.get() <= reached.saturating_add(1)) {
            best = best.into_iter().chain([file]).max_by_key(|file| (file.max, Reverse(file.size)));
        }
        match best.filter(|file| file.max.get() > reached) {
            Some(next) => {
                reached = next.max.get();
                chain.push(next.clone());
            }
            None => return (chain, reached),
        }
    }
}

#[cfg(test)]
mod tests;
