//! What really happened, as nobody in a world can know it, and what must always be true of it.

use std::rc::Rc;

use lifeboat_ltx::Checksum;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::restore::points::points;
use lifeboat_replica::restore::{Target, plan};

use crate::bucket::Bucket;
use crate::content::{Commits, File, Place};
use crate::image::{Image, rebuild};
use crate::invariant::{Invariant, Violation};
use crate::rules::Rule;

/// The one line of states, and how much of it was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// The last TXID before the first slot here, and the state there: of a replica that was there already.
    before: (u64, Commits),
    /// What each slot held when it was created for the first time, and the state it led to.
    slots: Vec<(Rc<File>, Commits)>,
    /// The newest acknowledged slot.
    pub acknowledged: u64,
}

impl Truth {
    /// Of a replica that was in this state at this TXID.
    #[must_use]
    pub fn begin(txid: u64, state: Commits) -> Self {
        Self { before: (txid, state), ..Self::default() }
    }

    /// The state at a slot; 0 is the empty database.
    #[must_use]
    pub fn at(&self, txid: u64) -> Option<Commits> {
        if txid == 0 {
            return Some(Commits::default());
        }
        let (before, state) = &self.before;
        match usize::try_from(txid.checked_sub(*before)?).ok()?.checked_sub(1) {
            None => Some(state.clone()),
            Some(index) => self.slots.get(index).map(|(_, state)| state.clone()),
        }
    }

    /// A file was created. Slots come one after the other, and each goes on from the one before.
    ///
    /// # Errors
    /// It does not.
    pub fn created(&mut self, file: &Rc<File>) -> Result<(), Violation> {
        let (txid, newest) = (file.place.max.get(), self.before.0 + self.slots.len() as u64);
        if file.place.level != Level::CAPTURED || txid <= newest {
            return Ok(());
        }
        let before = self.at(newest).unwrap_or_default();
        if txid > newest + 1 {
            return Err(Violation::new(
                Invariant::Contiguous,
                format!("slot {txid} is stored and slot {} is not", newest + 1),
            ));
        }
        let state = if file.seal.is_some() { before.clone() } else { file.to.clone() };
        let is_linked = file.header.mark.is_some_and(|mark| mark.pre_apply == before.checksum());
        if !is_linked || !state.continue_from(&before) || state.checksum() != file.checksum() {
            return Err(Violation::new(
                Invariant::OneWriter,
                format!(
                    "two lineages: slot {txid} holds commits {:?} and does not continue {:?}",
                    file.to.numbers, before.numbers
                ),
            ));
        }
        self.slots.push((Rc::clone(file), state));
        Ok(())
    }

    /// A writer acknowledges the commits in its slot.
    ///
    /// # Errors
    /// The slot is another writer's, or not stored: whoever restores will not have them.
    pub fn acknowledge(&mut self, file: &File) -> Result<(), Violation> {
        let txid = file.place.max.get();
        let place = txid.checked_sub(self.before.0 + 1).and_then(|place| usize::try_from(place).ok());
        if place.and_then(|place| self.slots.get(place)).is_none_or(|(stored, _)| **stored != *file) {
            return Err(Violation::new(
                Invariant::OneWriter,
                format!(
                    "epoch {} acknowledges commits {:?}, and slot {txid} does not hold them",
                    file.epoch(),
                    file.to.numbers
                ),
            ));
        }
        self.acknowledged = self.acknowledged.max(txid);
        Ok(())
    }

    /// Every point there is, restored page by page.
    ///
    /// # Errors
    /// One gives something else.
    pub fn require_every_page(&self, bucket: &Bucket) -> Result<(), Violation> {
        let inventory = bucket.inventory();
        for point in points(&inventory) {
            let lost = |error| Violation::new(Invariant::Durable, format!("txid {}: {error}", point.txid));
            let plan = plan(&inventory, Target::Txid(point.txid)).map_err(|error| lost(error.to_string()))?;
            let files = plan.files().iter().filter_map(|file| bucket.files.get(&place_of(file)).cloned());
            let files: Vec<_> = files.collect();
            if let Some(commits) = self.at(point.txid.get()).filter(|commits| !commits.numbers.is_empty()) {
                require_pages(&files, &commits)?;
            }
        }
        Ok(())
    }

    /// Whoever restores at this moment gets the newest state, any other point there is, and every state that a live merged
    /// file ends at.
    ///
    /// # Errors
    /// It would not.
    pub fn require_restorable(&self, bucket: &Bucket, without: Option<Rule>) -> Result<(), Violation> {
        let mut inventory = bucket.inventory();
        if without == Some(Rule::DeadFilesIgnored) {
            inventory = Inventory::new(bucket.list(&Level::ALL), None);
        }
        if self.acknowledged > 0 {
            self.require(bucket, &inventory, Target::Latest)?;
        }
        let points = points(&inventory);
        for point in &points {
            self.require(bucket, &inventory, Target::Txid(point.txid))?;
        }
        let merged = inventory.files().iter().filter(|file| file.level > Level::CAPTURED);
        match merged.into_iter().find(|file| points.iter().all(|point| point.txid != file.max)) {
            Some(file) => Err(Violation::new(
                Invariant::SafePruning,
                format!("{} cannot be restored any more", place_of(file)),
            )),
            None => Ok(()),
        }
    }

    fn require(&self, bucket: &Bucket, inventory: &Inventory, target: Target) -> Result<(), Violation> {
        let plan = plan(inventory, target).map_err(|error| {
            Violation::new(Invariant::Durable, format!("a restore at this moment fails: {error}"))
        })?;
        let files = plan.files().iter().filter_map(|file| bucket.files.get(&place_of(file)));
        let reached = plan.target().map_or(0, |txid| txid.get());
        let least = if target == Target::Latest { self.acknowledged } else { 0 };
        self.require_state(files.map(Rc::as_ref), reached, least)
    }

    /// What these files, oldest first, lead to is the state at `reached`, and that is not older than the slot `least`.
    ///
    /// # Errors
    /// It is not.
    pub fn require_state<'f>(
        &self,
        files: impl IntoIterator<Item = &'f File>,
        reached: u64,
        least: u64,
    ) -> Result<(), Violation> {
        let (mut state, mut checksum) = (Commits::default(), Checksum::EMPTY);
        for file in files {
            checksum = file.checksum();
            if file.seal.is_some() {
                continue;
            }
            if !state.continue_from(&file.from) || !file.to.continue_from(&state) {
                return Err(Violation::new(
                    Invariant::Exact,
                    format!(
                        "a restore mixes two lineages: {} with commits {:?} over {:?}",
                        file.place, file.to.numbers, state.numbers
                    ),
                ));
            }
            state = file.to.clone();
        }
        if state.checksum() != checksum {
            return Err(Violation::new(
                Invariant::Exact,
                format!("a restore ends at commits {:?}, and its last file says otherwise", state.numbers),
            ));
        }
        if self.at(reached).as_ref() != Some(&state) {
            return Err(Violation::new(
                Invariant::Exact,
                format!(
                    "a restore to txid {reached} gives commits {:?}, and there was never that state",
                    state.numbers
                ),
            ));
        }
        if reached < least {
            return Err(Violation::new(
                Invariant::Durable,
                format!(
                    "a restore ends at txid {reached}, and {least} was acknowledged: commits {:?} are lost",
                    self.at(least).unwrap_or_default().numbers
                ),
            ));
        }
        Ok(())
    }
}

/// What these files, oldest first, hold page by page is what these commits make, and nothing else.
///
/// # Errors
/// It is not.
pub fn require_pages(files: &[Rc<File>], commits: &Commits) -> Result<Image, Violation> {
    let of =
        |what: String| Violation::new(Invariant::Exact, format!("commits {:?}: {what}", commits.numbers));
    let bytes = files.iter().rev().map(|file| file.bytes.0.as_deref().unwrap_or_default());
    let rebuilt = rebuild(bytes).map_err(|error| of(format!("they are not restored: {error}")))?;
    match &commits.image.0 {
        Some(image) if **image == rebuilt => Ok(rebuilt),
        Some(_) | None => Err(of("a restore gives other pages".to_owned())),
    }
}

/// Where a listed file is.
#[must_use]
pub fn place_of(file: &FileEntry) -> Place {
    Place { level: file.level, min: file.min, max: file.max }
}
