//! What really happened, as no process can know it, and what must always be true of it.

use bytes::Bytes;
use lifeboat_ltx::{Checksum, PageChecksum, SEAL_SIZE, decode_whole};
use lifeboat_replica::head::{Head, HeadState};
use lifeboat_replica::inventory::Inventory;
use lifeboat_replica::restore::points::points;
use lifeboat_replica::restore::{Target, plan};
use lifeboat_wal::PageNo;

/// The pages of a database, from page 1 on.
pub(crate) type Pages = Vec<Vec<u8>>;

/// Their rolling checksum.
pub(crate) fn checksum(pages: &Pages) -> Checksum {
    let numbered = (1..).filter_map(PageNo::try_new).zip(pages);
    numbered.fold(Checksum::EMPTY, |sum, (page, image)| sum.toggle(PageChecksum::of(page, image)))
}

/// A slot, as it was created, and the database that it led to.
#[derive(Debug)]
struct Slot {
    bytes: Bytes,
    epoch: u64,
    pages: Pages,
}

/// The one line of states, and how much of it was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    slots: Vec<Slot>,
    acknowledged: usize,
    head: Option<Head>,
}

impl Truth {
    fn newest(&self) -> Pages {
        self.slots.last().map(|slot| slot.pages.clone()).unwrap_or_default()
    }

    /// The database at a slot; at 0 there is none.
    pub(crate) fn at(&self, txid: u64) -> Pages {
        let place = usize::try_from(txid).unwrap().checked_sub(1);
        place.map(|place| self.slots[place].pages.clone()).unwrap_or_default()
    }

    /// How many slots were called stored.
    pub(crate) const fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// A slot is created: behind the newest, by nobody older, and it goes on from what is there. What comes late may come
    /// where a slot was given up: nobody counts on it.
    pub(crate) fn created(&mut self, txid: u64, bytes: &Bytes) -> Result<(), String> {
        let place = usize::try_from(txid).unwrap() - 1;
        if place < self.slots.len() {
            let floor = self.head.as_ref().and_then(|head| head.floors.get(&0)).copied().unwrap_or(0);
            return if txid <= floor { Ok(()) } else { Err(format!("slot {txid} is created twice")) };
        }
        if place > self.slots.len() {
            return Err(format!("slot {txid} is created, and there are {} before it", self.slots.len()));
        }
        let file = decode_whole(bytes).map_err(|error| format!("slot {txid}: {error}"))?;
        let (before, epoch) = (self.newest(), file.header.node_id);
        if self.slots.last().is_some_and(|slot| slot.epoch > epoch) {
            return Err(format!("slot {txid} of epoch {epoch} comes after one of a later epoch"));
        }
        let mut pages = before.clone();
        if bytes.len() as u64 != SEAL_SIZE {
            overlay(&mut pages, bytes)?;
        }
        let mark = file.header.mark.ok_or_else(|| format!("slot {txid} says nothing of checksums"))?;
        if (mark.pre_apply, mark.post_apply) != (checksum(&before), checksum(&pages)) {
            return Err(format!("slot {txid} does not go on from slot {place}"));
        }
        self.slots.push(Slot { bytes: bytes.clone(), epoch, pages });
        Ok(())
    }

    /// A slot is called stored: it is the one that was created.
    pub(crate) fn acknowledge(&mut self, txid: u64, bytes: &Bytes) -> Result<(), String> {
        let place = usize::try_from(txid).unwrap();
        if self.slots.get(place - 1).is_none_or(|slot| slot.bytes != *bytes) {
            return Err(format!("slot {txid} is called stored, and another one, or none, was created"));
        }
        self.acknowledged = self.acknowledged.max(place);
        Ok(())
    }

    /// The head is written: one revision after the other, no epoch comes back, no floor sinks, and nobody opens what
    /// another one claimed.
    pub(crate) fn headed(&mut self, bytes: &Bytes) -> Result<(), String> {
        let head = Head::decode(bytes).map_err(|error| error.to_string())?;
        if let Some(before) = &self.head {
            let sinks = before.floors.iter().any(|(level, floor)| head.floors.get(level) < Some(floor));
            let is_claim = head.epoch == before.epoch.next() && head.state == HeadState::Claiming;
            let goes_on = head.epoch == before.epoch && head.state != HeadState::Claiming;
            if head.revision != before.revision + 1 || sinks || !(is_claim || goes_on) {
                return Err(format!("the head {before:?} is followed by {head:?}"));
            }
        }
        self.head = Some(head);
        Ok(())
    }

    /// A file may be deleted: the head gave it up, and it is no seal.
    pub(crate) fn deleted(&self, level: u8, max: u64, size: usize) -> Result<(), String> {
        let floor = self.head.as_ref().and_then(|head| head.floors.get(&level)).copied().unwrap_or(0);
        if max > floor || size as u64 == SEAL_SIZE {
            return Err(format!("a file of level {level} that ends at {max} is deleted, and is needed"));
        }
        Ok(())
    }

    /// Whoever restores now gets the newest state, and any other point there is, byte for byte. `read` reads a file.
    pub(crate) fn restorable(
        &self,
        inventory: &Inventory,
        read: impl Fn(&str) -> Bytes,
    ) -> Result<(), String> {
        let rebuilt = |target| {
            let plan = plan(inventory, target).map_err(|error| format!("{target:?}: {error}"))?;
            let mut pages = Pages::new();
            for file in plan.files() {
                overlay(&mut pages, &read(&file.key))?;
            }
            Ok::<_, String>((plan.target().map_or(0, |txid| txid.get()), pages))
        };
        let all = points(inventory).into_iter().map(|point| Target::Txid(point.txid));
        let newest = (self.acknowledged > 0).then_some(Target::Latest);
        for target in newest.into_iter().chain(all) {
            let (txid, pages) = rebuilt(target)?;
            let is_less = target == Target::Latest && txid < self.acknowledged as u64;
            if is_less || pages != self.at(txid) {
                return Err(format!("a restore of {target:?} gives something else than slot {txid} held"));
            }
        }
        Ok(())
    }
}

/// Puts the pages of a file over a database.
fn overlay(pages: &mut Pages, bytes: &Bytes) -> Result<(), String> {
    let file = decode_whole(bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 == SEAL_SIZE {
        return Ok(());
    }
    pages.resize(file.header.commit.get() as usize, vec![0; file.header.page_size.get() as usize]);
    for (page, image) in file.pages {
        pages[page.get() as usize - 1] = image;
    }
    Ok(())
}
