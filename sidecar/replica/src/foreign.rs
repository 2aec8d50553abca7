//! Continuing a replica that another program has written: what of it may be counted on from then on.
//!
//! Litestream merges its level-0 files and deletes them by age, so they begin anywhere and may have holes below. A claim
//! wants slots without a hole from the floor on. So the floor goes to where the newest unbroken run of slots begins; what
//! is below is in the merged files, and whether that is so is proved by a plan before anything is written.

use lifeboat_ltx::Txid;

use crate::error::PlanError;
use crate::head::{Base, Head, HeadState, Owner};
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;
use crate::restore::plan_latest;

/// Where a replica of another program ends, and what may be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignEnd {
    /// Its newest file.
    pub newest: FileEntry,
    /// Its newest file with pages. Only seals of ours may be behind it.
    pub pages: FileEntry,
    /// Slots up to this TXID are given up.
    pub floor: u64,
}

impl ForeignEnd {
    /// Finds the end; `None` where no file has a page.
    ///
    /// # Errors
    /// [`PlanError`] when what is left above the floor does not lead to the newest state.
    pub fn find(inventory: &Inventory) -> Result<Option<Self>, PlanError> {
        let newest_of = |is_meant: fn(&&FileEntry) -> bool| {
            inventory.files().iter().filter(is_meant).max_by_key(|file| (file.max, file.level)).cloned()
        };
        let (newest, pages) = (newest_of(|_| true), newest_of(|file| !file.is_seal()));
        let Some((newest, pages)) = newest.zip(pages) else { return Ok(None) };
        let end = newest.max.get();
        let mut floor = end;
        for slot in inventory.slots().rev() {
            if slot.min != slot.max || slot.max.get() != floor {
                break;
            }
            floor -= 1;
        }
        let before = inventory.head().map_or(0, |head| head.floor(Level::CAPTURED));
        let found = Self { newest, pages, floor: floor.max(before) };
        let is_live = |file: &&FileEntry| file.level != Level::CAPTURED || file.max.get() > found.floor;
        let live = inventory.files().iter().filter(is_live).cloned().collect();
        plan_latest(&Inventory::new(live, inventory.head().cloned()))?;
        Ok(Some(found))
    }

    /// Whether the newest pages may be another program's: they are not before what the head says is ours. Seals behind them may
    /// be those of attempts that did not come to the head.
    #[must_use]
    pub fn is_beyond(&self, head: Option<&Head>) -> bool {
        self.pages.max.get() > head.map_or(0, |head| head.base.txid)
    }

    /// The newest slot with pages above the floor; 0 where there is none.
    #[must_use]
    pub fn newest_slot(&self, inventory: &Inventory) -> u64 {
        let newest = inventory.slots().rfind(|slot| !slot.is_seal() && slot.max.get() > self.floor);
        newest.map_or(0, |slot| slot.max.get())
    }

    /// The head that says so, once a seal stands at `base`. It is closed: whoever claims need not wait for anybody.
    #[must_use]
    pub fn head(&self, before: Option<&Head>, lineage: String, owner: Owner, base: Base) -> Head {
        let mut head = match before {
            Some(head) => Head { revision: head.revision + 1, owner, ..head.clone() },
            None => Head::create(lineage, owner),
        };
        (head.state, head.base) = (HeadState::Closed, base);
        if self.floor > 0 {
            head.floors.insert(Level::CAPTURED.get(), self.floor);
        }
        head
    }

    /// The slot in which the seal goes.
    #[must_use]
    pub fn seal(&self) -> Option<Txid> {
        crate::slot::next(self.newest.max.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::test_file as file;

    fn floor(files: Vec<FileEntry>) -> Result<Option<u64>, PlanError> {
        Ok(ForeignEnd::find(&Inventory::new(files, None))?.map(|found| found.floor))
    }

    #[test]
    fn the_floor_goes_to_where_the_newest_unbroken_run_of_slots_begins() {
        assert_eq!(floor(vec![file(0, 1, 1), file(0, 2, 2)]), Ok(Some(0)));
        let pruned = vec![file(9, 1, 4), file(1, 5, 7), file(0, 2, 2), file(0, 7, 7), file(0, 8, 8)];
        assert_eq!(floor(pruned), Ok(Some(6)));
        assert_eq!(floor(vec![file(9, 1, 4), file(1, 5, 7)]), Ok(Some(7)), "no slot is left");
        assert_eq!(floor(vec![]), Ok(None));
    }

    #[test]
    fn what_does_not_lead_to_the_newest_state_is_not_continued() {
        assert!(floor(vec![file(9, 1, 4), file(0, 6, 6)]).is_err());
        assert!(floor(vec![file(0, 1, 1), file(0, 3, 3)]).is_err());
        // The slots below the hole would reach it; but they are given up.
        assert!(floor(vec![file(0, 1, 1), file(0, 2, 2), file(1, 2, 3)]).is_err());
    }

    #[test]
    fn pages_are_found_below_the_seals_of_attempts_that_did_not_come_to_the_head() {
        let seal = |txid| FileEntry { size: lifeboat_ltx::SEAL_SIZE, ..file(0, txid, txid) };
        let files = vec![file(9, 1, 4), file(1, 5, 7), seal(8), seal(9)];
        let inventory = Inventory::new(files, None);
        let found = ForeignEnd::find(&inventory).unwrap().unwrap();
        assert_eq!((found.newest.max.get(), found.pages.max.get(), found.floor), (9, 7, 7));
        assert_eq!(found.newest_slot(&inventory), 0);
        let based = |txid| {
            let mut head = crate::head::test_head(&[]);
            head.base.txid = txid;
            head
        };
        assert!(found.is_beyond(None) && found.is_beyond(Some(&based(6))));
        assert!(!found.is_beyond(Some(&based(9))), "the head knows them");
        assert_eq!(floor(vec![seal(1), seal(2)]), Ok(None), "nobody has stored a page");
    }

    #[test]
    fn a_floor_never_sinks() {
        let owner = || Owner {
            nonce: crate::head::Nonce::new([0; 16]),
            cluster: String::new(),
            namespace: String::new(),
            name: String::new(),
            pod_uid: String::new(),
        };
        let mut before = Head::create(String::new(), owner());
        before.floors.insert(0, 5);
        let files = vec![file(9, 1, 6), file(0, 5, 5), file(0, 6, 6), file(0, 7, 7)];
        let found = ForeignEnd::find(&Inventory::new(files, Some(before.clone()))).unwrap().unwrap();
        assert_eq!(found.floor, 5);
        let head = found.head(Some(&before), String::new(), owner(), Base { txid: 8, checksum: None });
        assert_eq!((head.floor(Level::CAPTURED), head.revision, head.epoch), (5, 2, before.epoch));
        assert_eq!((head.state, head.base.txid), (HeadState::Closed, 8));
    }
}
