//! Which files lead to a restore target, and what of them must be fetched.
//!
//! | module | decides |
//! |---|---|
//! | here | the files that lead to a target, by TXID |
//! | [`points`] | the targets there are, and the ones next to a target that is none |
//! | [`time`] | which target a point in time means, reading few headers |
//! | [`detour`] | another way to the same target, where a file is damaged |
//! | [`placement`] | which file gives each page: the newest that has it |
//! | [`fetches`] | which byte ranges of a large file are fetched |
//!
//! The rule is Litestream's, so that both restore the same: the newest snapshot, then again and again the file of any
//! level that extends furthest from the TXID reached. A hole is an error even when a later file holds every page;
//! overlaps are harmless, because a later file only rewrites pages with newer images.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use lifeboat_ltx::Txid;

use crate::error::PlanError;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;

pub mod detour;
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
    witness: Option<FileEntry>,
}

impl RestorePlan {
    /// The files, oldest first.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Another file that says what the state at the target is, where the last one was merged and there is one: it ends there
    /// too, or goes on from there.
    #[must_use]
    pub const fn witness(&self) -> Option<&FileEntry> {
        self.witness.as_ref()
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
    let none = BTreeSet::new();
    let chosen = choose(inventory, target, &none)?;
    Ok(RestorePlan { files: at(inventory.files(), &chosen), witness: witness(inventory, &chosen, |_| false) })
}

/// The places of the files in the inventory, oldest first, none of them with one of the keys in `without`. What the target is
/// does not depend on these.
fn choose(
    inventory: &Inventory,
    target: Target,
    without: &BTreeSet<String>,
) -> Result<Vec<usize>, PlanError> {
    require_pages(inventory, matches!(target, Target::Txid(_)))?;
    let is_usable = |file: &FileEntry| !without.contains(&file.key);
    match target {
        Target::Latest => to_the_end(inventory, is_usable),
        Target::Txid(wanted) => to_txid(inventory, wanted, is_usable),
    }
}

/// The file that confirms what the last of the chosen ones says, if that was merged. Of several one that ends where it does,
/// and of the lowest level.
fn witness(inventory: &Inventory, chosen: &[usize], is_torn: impl Fn(&str) -> bool) -> Option<FileEntry> {
    let last = inventory.files().get(*chosen.last()?)?;
    let is_usable = |file: &&FileEntry| file.key != last.key && !is_torn(&file.key);
    let mut usable = inventory.files().iter().filter(is_usable).filter(|_| last.level > Level::CAPTURED);
    let ends = usable.clone().find(|file| file.max == last.max);
    ends.or_else(|| usable.find(|file| Some(file.min) == last.max.next())).cloned()
}

/// A replica without a page has no state. Lists that are older than the head say neither that nor what the newest state is;
/// but a TXID that they lead to is the state of that TXID.
fn require_pages(inventory: &Inventory, is_exact: bool) -> Result<(), PlanError> {
    match (inventory.is_outdated(), inventory.holds_pages()) {
        (true, holds_pages) if !(is_exact && holds_pages) => Err(PlanError::Outdated),
        (_, true) => Ok(()),
        (_, false) => Err(PlanError::EmptyReplica),
    }
}

fn at(files: &[FileEntry], places: &[usize]) -> Vec<FileEntry> {
    places.iter().filter_map(|place| files.get(*place)).cloned().collect()
}

/// The places of the files that bring a copy that stands at `from` to the newest state; `None` where files are missing in
/// between. Empty for a copy that is there already.
fn onward(inventory: &Inventory, from: Txid, is_usable: impl Fn(&FileEntry) -> bool) -> Option<Vec<usize>> {
    let is_usable = |file: &FileEntry| file.level != Level::SNAPSHOT && is_usable(file);
    let (chosen, reached) = chain(inventory.files(), is_usable, from.get());
    (reached >= newest(inventory)).then_some(chosen)
}

/// The newest TXID; 0 where there is none.
fn newest(inventory: &Inventory) -> u64 {
    inventory.files().iter().map(|file| file.max.get()).max().unwrap_or(0)
}

fn to_the_end(
    inventory: &Inventory,
    is_usable: impl Fn(&FileEntry) -> bool,
) -> Result<Vec<usize>, PlanError> {
    let (chosen, reached) = from_a_snapshot(inventory.files(), is_usable, u64::MAX);
    match inventory.files().iter().filter(|file| file.max.get() > reached).map(|file| file.min).min() {
        None => Ok(chosen),
        Some(next) => Err(Txid::try_new(reached)
            .map_or(PlanError::NoBeginning { oldest: next }, |after| PlanError::Gap { after, next })),
    }
}

fn to_txid(
    inventory: &Inventory,
    wanted: Txid,
    is_usable: impl Fn(&FileEntry) -> bool,
) -> Result<Vec<usize>, PlanError> {
    let files = inventory.files();
    let (chosen, reached) = from_a_snapshot(files, is_usable, wanted.get());
    let holds_pages = || chosen.iter().filter_map(|place| files.get(*place)).any(|file| !file.is_seal());
    if reached == wanted.get() && holds_pages() {
        return Ok(chosen);
    }
    let (before, after) = points::next_to(&points::points(inventory), wanted);
    Err(PlanError::NoPoint { wanted, before, after })
}

/// The newest snapshot, and what continues it, up to a TXID: the places of the files; and the TXID reached.
fn from_a_snapshot(
    files: &[FileEntry],
    is_usable: impl Fn(&FileEntry) -> bool,
    until: u64,
) -> (Vec<usize>, u64) {
    let is_usable = |file: &FileEntry| file.max.get() <= until && is_usable(file);
    let is_snapshot = |file: &FileEntry| file.level == Level::SNAPSHOT && file.min == Txid::FIRST;
    let snapshots = files.iter().enumerate().filter(|(_, file)| is_usable(file) && is_snapshot(file));
    let snapshot = snapshots.max_by_key(|(_, file)| file.max);
    let (rest, reached) = chain(files, is_usable, snapshot.map_or(0, |(_, file)| file.max.get()));
    (snapshot.map(|(place, _)| place).into_iter().chain(rest).collect(), reached)
}

/// Again and again the file that continues from the TXID reached and ends last; of several, the smallest.
fn chain(files: &[FileEntry], is_usable: impl Fn(&FileEntry) -> bool, from: u64) -> (Vec<usize>, u64) {
    let mut usable: Vec<_> = files.iter().enumerate().filter(|(_, file)| is_usable(file)).collect();
    usable.sort_by_key(|(_, file)| file.min);
    let mut waiting = usable.into_iter().peekable();
    let (mut reached, mut best, mut chain) = (from, None::<(usize, &FileEntry)>, Vec::new());
    loop {
        while let Some(next) = waiting.next_if(|(_, file)| file.min.get() <= reached.saturating_add(1)) {
            best = best.into_iter().chain([next]).max_by_key(|(_, file)| (file.max, Reverse(file.size)));
        }
        match best.filter(|(_, file)| file.max.get() > reached) {
            Some((place, next)) => {
                reached = next.max.get();
                chain.push(place);
            }
            None => return (chain, reached),
        }
    }
}

#[cfg(test)]
mod tests;
