use std::collections::BTreeMap;

use lifeboat_ltx::{Header, Mark, SEAL_SIZE};
use lifeboat_wal::{PageCount, PageSize};

use super::*;
use crate::claim::NO_WAL_OFFSET;
use crate::head::{Base, test_head};
use crate::inventory::test_file;

/// A bucket that answers, and what it was asked.
struct Bucket {
    head: Option<Head>,
    files: Vec<FileEntry>,
    slots: BTreeMap<u64, SlotRead>,
    asked: Vec<Ask>,
}

fn sum(bits: u64) -> Checksum {
    format!("{:016x}", bits | 1 << 63).parse().unwrap()
}

fn slot(txid: u64, epoch: u64, mark: Option<u64>) -> SlotRead {
    let txid = Txid::try_new(txid).unwrap();
    let header = Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(1),
        min_txid: txid,
        max_txid: txid,
        timestamp_ms: 0,
        wal_offset: NO_WAL_OFFSET,
        wal_size: 0,
        salts: (0, 0),
        node_id: epoch,
        mark: mark.map(|mark| Mark { pre_apply: sum(0), post_apply: sum(mark) }),
    };
    SlotRead { header, seal: None }
}

impl Bucket {
    /// Slots from 1 on, of these epochs; 0 stands for a seal. Each has its TXID as its checksum.
    fn new(head: Option<Head>, epochs: &[u64]) -> Self {
        let mut bucket = Self { head, files: Vec::new(), slots: BTreeMap::new(), asked: Vec::new() };
        for (txid, epoch) in (1..).zip(epochs) {
            let size = if *epoch == 0 { SEAL_SIZE } else { 1_000 };
            bucket.files.push(FileEntry { size, ..test_file(0, txid, txid) });
            bucket.slots.insert(txid, slot(txid, *epoch, Some(txid)));
        }
        bucket
    }

    fn without(mut self, txid: u64) -> Self {
        self.files.retain(|file| file.max.get() != txid);
        self.slots.remove(&txid);
        self
    }

    fn look(&mut self, record: Option<u64>) -> Result<Chain, ClaimError> {
        let record = record.map(|txid| Record {
            lineage: String::new(),
            epoch: Some(Epoch::FIRST),
            slot: Base { txid, checksum: None },
            boot_id: String::new(),
            file_id: String::new(),
            place: String::new(),
        });
        let (mut look, mut ask) = Look::begin(record);
        loop {
            self.asked.push(ask);
            let told = match ask {
                Ask::Head => Told::Head(self.head.clone()),
                Ask::Slots { after } => {
                    let is_after =
                        |file: &&FileEntry| file.level == Level::CAPTURED && file.min.get() > after;
                    Told::Files(self.files.iter().filter(is_after).cloned().collect())
                }
                Ask::Everything => Told::Files(self.files.clone()),
                Ask::Slot(txid) => Told::Slot(self.slots.get(&txid.get()).cloned()),
            };
            match look.handle(told)? {
                LookStep::Ask(next) => ask = next,
                LookStep::Chain(chain) => return Ok(chain),
            }
        }
    }
}

fn since(chain: &Chain) -> Vec<(u64, u64, bool)> {
    chain.since_record.iter().map(|slot| (slot.txid, slot.epoch.get(), slot.is_seal)).collect()
}

#[test]
fn an_empty_bucket_is_asked_for_everything_before_it_is_called_empty() {
    let mut bucket = Bucket::new(None, &[]);
    let chain = bucket.look(None).unwrap();
    assert!(!chain.holds_pages && chain.newest == 0 && chain.checksum.is_none());
    let everything = [Ask::Head, Ask::Slots { after: 0 }, Ask::Head, Ask::Everything, Ask::Head];
    assert_eq!(bucket.asked, everything);
}

#[test]
fn files_without_a_head_are_nobodys() {
    assert_eq!(Bucket::new(None, &[1, 1]).look(None), Err(ClaimError::UnclaimedData { files: 2 }));
}

#[test]
fn a_slot_of_another_program_is_no_end_to_go_on_from() {
    let mut bucket = Bucket::new(Some(test_head(&[])), &[1]);
    bucket.slots.insert(1, slot(1, 0, None));
    let txid = Txid::FIRST;
    assert_eq!(bucket.look(None), Err(ClaimError::ForeignFile { txid }));
}

#[test]
fn a_database_in_merged_files_alone_is_seen() {
    let mut bucket = Bucket::new(Some(test_head(&[(0, 2)])), &[1, 1, 0]).without(1).without(2);
    bucket.files.push(test_file(9, 1, 2));
    let chain = bucket.look(None).unwrap();
    assert!(chain.holds_pages);
    assert_eq!((chain.newest, chain.newest_pages, chain.checksum), (3, 0, Some(sum(3))));
}

#[test]
fn what_came_after_the_record_is_told_apart_by_owner() {
    let mut bucket = Bucket::new(Some(test_head(&[])), &[1, 1, 0, 2]);
    let chain = bucket.look(Some(1)).unwrap();
    assert_eq!((chain.at_record, chain.checksum), (Some(sum(1)), Some(sum(4))));
    assert_eq!(since(&chain), [(2, 1, false), (3, 0, true), (4, 2, false)]);
}

#[test]
fn a_record_of_the_newest_slot_costs_no_further_request() {
    let mut bucket = Bucket::new(Some(test_head(&[])), &[1, 1]);
    let chain = bucket.look(Some(2)).unwrap();
    assert_eq!((chain.at_record, since(&chain)), (Some(sum(2)), vec![]));
    let newest = Ask::Slot(Txid::try_new(2).unwrap());
    assert_eq!(bucket.asked, [Ask::Head, Ask::Slots { after: 0 }, newest]);
}

#[test]
fn a_missing_slot_is_a_strangers() {
    let mut bucket = Bucket::new(Some(test_head(&[])), &[1, 1, 1, 1]).without(3);
    assert_eq!(since(&bucket.look(Some(1)).unwrap()), [(2, 1, false), (3, 0, false)]);
    bucket.slots.remove(&2);
    assert_eq!(since(&bucket.look(Some(1)).unwrap()), [(2, 0, false), (3, 0, false)]);
}
