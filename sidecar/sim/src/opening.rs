//! What a bucket holds when a world from a seed begins: nothing, or a replica that somebody left near one of its edges.

use std::collections::BTreeMap;
use std::rc::Rc;

use lifeboat_ltx::{Checksum, Header, Mark, Txid};
use lifeboat_replica::claim::{NO_WAL_OFFSET, seal_bytes};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::head::{Base, Head, Nonce, Owner};
use lifeboat_replica::layout::Level;

use crate::bucket::Bucket;
use crate::content::{Commits, File, Place};
use crate::dice::Dice;
use crate::image::{Change, Image, Unseen};
use crate::truth::Truth;
use crate::world::Shape;

/// A replica that was there before anybody in the world: a snapshot, the slot after it, and who wrote them.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The newest slot with pages.
    pub newest: Txid,
    /// Whose it is.
    pub epoch: Epoch,
    /// How its last writer ended.
    pub ended: Ended,
    /// Whether a deletion was broken off: a slot below the floor is still there.
    pub is_broken_off: bool,
}

/// How the last writer of a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// In order.
    Closed,
    /// It was killed.
    Killed,
    /// It was killed after it took the head, and perhaps after its seal.
    Claiming {
        /// Whether its seal is there.
        is_sealed: bool,
    },
}

impl Opening {
    /// One that is a few slots before an edge of numbers.
    #[must_use]
    pub fn draw(dice: &mut Dice) -> Self {
        let edge = EDGES.get(dice.place(EDGES.len())).copied().unwrap_or(2);
        let newest = edge.saturating_sub(dice.below(NEAR)).max(2);
        let epoch = EPOCHS.get(dice.place(EPOCHS.len())).copied().unwrap_or(1);
        let ended = match dice.below(4) {
            0 => Ended::Closed,
            1 => Ended::Killed,
            drawn => Ended::Claiming { is_sealed: drawn == 2 },
        };
        Self {
            newest: Txid::try_new(newest).unwrap_or(Txid::FIRST),
            epoch: Epoch::new(epoch),
            ended,
            is_broken_off: dice.one_in(2),
        }
    }

    /// The bucket with it, and what is true of it. Both are empty where something cannot be made, which a test excludes.
    #[must_use]
    pub fn made(&self, shape: &Shape) -> (Bucket, Truth) {
        self.make(shape).unwrap_or_default()
    }

    fn make(&self, shape: &Shape) -> Option<(Bucket, Truth)> {
        let before = self.newest.previous()?;
        let older = commit(shape, &Commits::default(), FIRST_COMMIT);
        let newer = commit(shape, &older, FIRST_COMMIT + 1);
        let snapshot = Place { level: Level::SNAPSHOT, min: Txid::FIRST, max: before };
        let snapshot = self.file(snapshot, (Commits::default(), older.clone()))?;
        let slot = self.file(Place::slot(self.newest), (older.clone(), newer))?;
        let mut truth = Truth::begin(before.get(), older.clone());
        truth.created(&slot).and_then(|()| truth.acknowledge(&slot)).ok()?;
        let mut files = vec![snapshot, Rc::clone(&slot)];
        if self.is_broken_off {
            files.push(self.file(Place::slot(before), (Commits::default(), older))?);
        }
        if self.ended == (Ended::Claiming { is_sealed: true }) {
            let (header, bytes) = seal_bytes(self.epoch.next(), Some(&slot.header), 0).ok()?;
            let seal = Rc::new(File::seal(header, bytes));
            truth.created(&seal).ok()?;
            files.push(seal);
        }
        let bucket = Bucket {
            head: Some(Rc::new(self.head(before.get()))),
            files: files.into_iter().map(|file| (file.place, file)).collect(),
        };
        Some((bucket, truth))
    }

    fn head(&self, floor: u64) -> Head {
        let owner = Owner {
            nonce: Nonce::new([1; 16]),
            cluster: "cluster".to_owned(),
            namespace: "namespace".to_owned(),
            name: "replica".to_owned(),
            pod_uid: "pod before".to_owned(),
        };
        let created = Head::create("lineage".to_owned(), owner.clone());
        let floors = BTreeMap::from([(Level::CAPTURED.get(), floor)]);
        let opened = Head { revision: 1_000, epoch: self.epoch, floors, ..created };
        let opened = opened.open(owner.clone(), Base::NOTHING);
        match self.ended {
            Ended::Closed => opened.close(),
            Ended::Killed => opened,
            Ended::Claiming { .. } => {
                let owner =
                    Owner { nonce: Nonce::new([2; 16]), pod_uid: "another pod before".to_owned(), ..owner };
                opened.claim(owner)
            }
        }
    }

    /// A file of real bytes, with every page of what it leads to.
    fn file(&self, place: Place, (from, to): (Commits, Commits)) -> Option<Rc<File>> {
        let image = Rc::clone(to.image.0.as_ref()?);
        let header = Header {
            page_size: image.page_size,
            commit: image.size(),
            min_txid: place.min,
            max_txid: place.max,
            timestamp_ms: LONG_AGO,
            wal_offset: NO_WAL_OFFSET,
            wal_size: 0,
            salts: (0, 0),
            node_id: self.epoch.get(),
            mark: Some(Mark { pre_apply: checksum_at(place, &from), post_apply: to.checksum() }),
        };
        let mut all = DirtyPages::new();
        all.insert_all();
        let bytes = image.encode(header.clone(), &all).ok()?;
        Some(Rc::new(File::with_bytes(place, header, bytes, (from, to))))
    }
}

/// A file that begins with the first slot goes on from nothing.
fn checksum_at(place: Place, from: &Commits) -> Checksum {
    if place.min == Txid::FIRST { Checksum::EMPTY } else { from.checksum() }
}

fn commit(shape: &Shape, before: &Commits, number: u16) -> Commits {
    let empty = || Rc::new(Image::new(shape.page_size, Vec::new()));
    let image = before.image.0.clone().unwrap_or_else(empty);
    let image = image.after(&Change::draw(shape.seed, number, &image));
    let numbers = before.numbers.iter().copied().chain([number]).collect();
    Commits { numbers, image: Unseen(Some(Rc::new(image))) }
}

/// Where numbers need one more digit, byte or bit, and where they end.
const EDGES: [u64; 8] =
    [16, 256, 4_096, 1 << 16, 1 << 31, 1 << 32, 1 << 63, u64::MAX - MORE_THAN_ANY_WORLD_STORES];
const MORE_THAN_ANY_WORLD_STORES: u64 = 5_000;
const NEAR: u64 = 12;
const EPOCHS: [u64; 4] = [1, 255, u32::MAX as u64, 1 << 53];
/// No application of a world has a commit of this number.
const FIRST_COMMIT: u16 = 60_000;
/// Some time before every world, in milliseconds since 1970.
const LONG_AGO: i64 = 1_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_wal::PageSize;

    #[test]
    fn whatever_is_drawn_can_be_made_and_restored() {
        let shape =
            Shape { seed: 7, page_size: PageSize::MIN, window_ms: 0, clocks: Vec::new(), opening: None };
        for seed in 0..200 {
            let opening = Opening::draw(&mut Dice::of(seed, 0));
            let (bucket, truth) = opening.make(&shape).unwrap();
            assert_eq!(truth.acknowledged, opening.newest.get());
            truth.require_restorable(&bucket, None).unwrap();
            truth.require_every_page(&bucket).unwrap();
        }
    }
}
