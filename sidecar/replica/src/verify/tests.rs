//! A writer that merges, snapshots and prunes as ours does is believed; whatever is taken from it or changed is not.

use lifeboat_ltx::{Checksum, Header, Mark, PageChecksum, Txid};
use lifeboat_wal::{PageCount, PageSize};
use proptest::prelude::*;

use super::walk::{After, Copying, Step, TRACKS, Walk, sort};
use super::{Finding, Kind, listing};
use crate::adoption::Record;
use crate::epoch::Epoch;
use crate::head::{Base, Head, HeadState, Nonce, Owner};
use crate::inventory::{FileEntry, Inventory, test_file};
use crate::layout::Level;

/// A database of which only the checksum counts: that of state `txid`.
fn checksum(txid: u64) -> Checksum {
    if txid == 0 { Checksum::EMPTY } else { Checksum::EMPTY.toggle(PageChecksum::from_bits(txid * 7919)) }
}

/// An honest file: its name, its header, and the checksum that its pages lead to.
#[derive(Clone, Debug)]
struct File {
    entry: FileEntry,
    header: Header,
    found: Checksum,
}

fn file(level: u8, min: u64, max: u64) -> File {
    let entry = test_file(level, min, max);
    let header = Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(9),
        min_txid: entry.min,
        max_txid: entry.max,
        timestamp_ms: 0,
        wal_offset: 32,
        wal_size: 0,
        salts: (0, 0),
        node_id: 1,
        mark: Some(Mark { pre_apply: checksum(min - 1), post_apply: checksum(max) }),
    };
    File { entry, header, found: checksum(max) }
}

fn head(floors: &[(u8, u64)]) -> Head {
    let owner = Owner {
        nonce: Nonce::new([0; 16]),
        cluster: String::new(),
        namespace: String::new(),
        name: String::new(),
        pod_uid: String::new(),
    };
    let mut head = Head { state: HeadState::Open, ..Head::create("lineage".to_owned(), owner) };
    head.floors = floors.iter().copied().collect();
    head
}

/// What whoever walks keeps of the states: here only which they are.
#[derive(Debug)]
struct Kept([Option<u64>; TRACKS]);

impl Kept {
    fn copy(&mut self, copying: Copying) {
        self.0[copying.to] = self.0[copying.from];
    }

    fn put(&mut self, step: &Step, file: &FileEntry) {
        step.copy.into_iter().for_each(|copying| self.copy(copying));
        for onto in &step.onto {
            let at = if onto.is_emptied { 0 } else { self.0[onto.track].unwrap() };
            assert!(at + 1 >= file.min.get() && at < file.max.get(), "{} onto {at}: {step:?}", file.key);
            self.0[onto.track] = Some(file.max.get());
        }
    }
}

/// Walks through these files as whoever reads every page does.
fn walked(files: &[File], head: Option<Head>, record: Option<&Record>) -> super::walk::Walked {
    let inventory = Inventory::new(files.iter().map(|file| file.entry.clone()).collect(), head);
    let mut walk = Walk::begin(inventory.head().cloned());
    walk.knows_of(listing::look(&inventory));
    let mut order = inventory.files().to_vec();
    sort(&mut order);
    let mut kept = Kept([Some(0); TRACKS]);
    for entry in &order {
        let file = files.iter().find(|file| file.entry.key == entry.key).unwrap();
        let Some(step) = walk.enter(entry, &file.header) else { continue };
        kept.put(&step, entry);
        if file.entry.etag == DAMAGED {
            walk.damaged(entry, Some(&step), "flipped");
            step.onto.iter().for_each(|onto| kept.0[onto.track] = None);
            continue;
        }
        let found = (step.after != After::Unknown).then_some(file.found);
        walk.leave(entry, &file.header, &step, found).into_iter().for_each(|copying| kept.copy(copying));
    }
    walk.finish(record)
}

/// The version of a file that cannot be read to its end.
const DAMAGED: &str = "damaged";

fn kinds(findings: &[Finding]) -> Vec<Kind> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// What a writer stores: after each slot perhaps a file that merges since the last one of its own or a higher level.
fn history(files: &[u8]) -> Vec<File> {
    let (mut stored, mut covered) = (vec![file(0, 1, 1)], [1_u64; 3]);
    for (level, txid) in files.iter().zip(2_u64..) {
        stored.push(file(0, txid, txid));
        match level {
            1..=3 => {
                let track = usize::from(*level - 1);
                stored.push(file(*level, covered[track] + 1, txid));
                covered[..=track].fill(txid);
            }
            9 => {
                stored.push(file(9, 1, txid));
                covered.fill(txid);
            }
            _ => {}
        }
    }
    stored
}

/// The floors that a writer may raise: slots to the end of a merged file, merged files to that of a snapshot.
fn pruned(files: &[File], slots: prop::sample::Index, snapshots: prop::sample::Index) -> Head {
    let ends = |level: u8| -> Vec<u64> {
        let of_level = files.iter().filter(|file| file.entry.level.get() == level);
        of_level.map(|file| file.entry.max.get()).collect()
    };
    let newest = files.iter().map(|file| file.entry.max.get()).max().unwrap();
    let merged: Vec<u64> = [1, 2, 3, 9].into_iter().flat_map(ends).filter(|end| *end < newest).collect();
    let beginnings: Vec<u64> = ends(9).into_iter().filter(|end| *end < newest).collect();
    let mut floors = Vec::new();
    if !beginnings.is_empty() {
        let beginning = *snapshots.get(&beginnings);
        let above: Vec<u64> = merged.iter().copied().filter(|end| *end >= beginning).collect();
        floors =
            vec![(1, beginning), (2, beginning), (3, beginning), (9, beginning - 1), (0, *slots.get(&above))];
    }
    head(&floors.into_iter().filter(|(_, floor)| *floor > 0).collect::<Vec<_>>())
}

fn levels() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 0, 0, 1, 1, 2, 3, 9]), 1..60)
}

proptest! {
    #[test]
    fn what_an_honest_writer_keeps_is_believed_and_every_file_proved(
        levels in levels(), slots in any::<prop::sample::Index>(), snapshots in any::<prop::sample::Index>()
    ) {
        let files = history(&levels);
        let head = pruned(&files, slots, snapshots);
        let record = Record {
            lineage: "lineage".to_owned(),
            epoch: Some(Epoch::FIRST),
            slot: Base { txid: levels.len() as u64 + 1, checksum: Some(checksum(levels.len() as u64 + 1)) },
            boot_id: String::new(),
            file_id: String::new(),
            place: String::new(),
        };
        let walked = walked(&files, Some(head), Some(&record));
        prop_assert_eq!(&walked.findings, &[]);
        prop_assert_eq!(walked.unproved, 0);
    }

    #[test]
    fn a_file_that_leads_elsewhere_is_never_believed(
        levels in levels(), which in any::<prop::sample::Index>(), says_so in any::<bool>()
    ) {
        let mut files = history(&levels);
        let place = which.index(files.len());
        let bad = &mut files[place];
        bad.found = checksum(1_000_000);
        if says_so {
            bad.header.mark = bad.header.mark.map(|mark| Mark { post_apply: bad.found, ..mark });
        }
        let bad = bad.clone();
        let walked = walked(&files, Some(head(&[])), None);
        let names = |finding: &Finding| {
            finding.key.as_ref() == Some(&bad.entry.key) || finding.other.is_some_and(|other| other.is(&bad.entry))
        };
        let is_last_word = files.iter().all(|file| {
            file.entry.key == bad.entry.key
                || file.entry.max < bad.entry.max
                || (file.entry.min > bad.entry.max && file.entry.min.get() != bad.entry.max.get() + 1)
        });
        // The newest slot of a history that nothing goes on from may say what it likes.
        prop_assert!(is_last_word && says_so || walked.findings.iter().any(names), "{:?} {:?}", bad, walked);
    }

    #[test]
    fn a_slot_that_is_missing_is_always_said(levels in levels(), which in any::<prop::sample::Index>()) {
        let mut files = history(&levels);
        let slots: Vec<_> = (1..levels.len() as u64).map(|txid| Txid::try_new(txid).unwrap()).collect();
        prop_assume!(!slots.is_empty());
        let gone = *which.get(&slots);
        files.retain(|file| file.entry.level != Level::CAPTURED || file.entry.max != gone);
        let walked = walked(&files, Some(head(&[])), None);
        let expected = format!("slot {gone} is missing");
        prop_assert!(walked.findings.iter().any(|finding| finding.message.contains(&expected)), "{:?}", walked);
    }
}

#[test]
fn a_merged_file_that_is_missing_after_its_slots_went_is_said() {
    let files = [file(9, 1, 1), file(1, 2, 4), file(1, 5, 8), file(1, 9, 12), file(0, 13, 13)];
    let without = |key: &str| {
        let files: Vec<_> = files.iter().filter(|file| file.entry.key != key).cloned().collect();
        walked(&files, Some(head(&[(0, 12)])), None)
    };
    assert_eq!(without("").findings, []);
    for missing in ["1/2-4", "1/5-8", "1/9-12", "9/1-1"] {
        assert_eq!(kinds(&without(missing).findings), [Kind::Missing], "{missing}");
    }
    assert_eq!(kinds(&without("0/13-13").findings), [Kind::Missing], "no slot is left");
}

#[test]
fn a_beginning_that_is_missing_is_said_also_where_the_newest_state_needs_it_not() {
    let files = [file(1, 2, 4), file(9, 1, 6), file(0, 7, 7)];
    let found = walked(&files, Some(head(&[(0, 6)])), None).findings;
    assert_eq!(kinds(&found), [Kind::Missing]);
    assert_eq!(found[0].key.as_deref(), Some("1/2-4"));
}

#[test]
fn behind_a_damaged_file_the_walk_goes_on_from_where_another_leads() {
    let mut files = vec![file(0, 1, 1), file(0, 2, 2), file(0, 3, 3), file(0, 4, 4)];
    files.extend([file(1, 2, 4), file(0, 5, 5), file(0, 6, 6), file(1, 5, 6), file(2, 2, 6), file(0, 7, 7)]);
    let unproved = |damaged: &[&str]| {
        let mut files = files.clone();
        for file in &mut files {
            if damaged.contains(&file.entry.key.as_str()) {
                file.entry.etag = DAMAGED.to_owned();
            }
        }
        let walked = walked(&files, Some(head(&[])), None);
        assert_eq!(kinds(&walked.findings), vec![Kind::Damaged; damaged.len()]);
        walked.unproved
    };
    assert_eq!(unproved(&["0/3-3"]), 1, "only slot 4 hangs in the air");
    assert_eq!(unproved(&["1/2-4"]), 1, "the next of its level, whose beginning the slots have left behind");
    assert_eq!(unproved(&["0/3-3", "1/2-4"]), 4, "until level 2 leads past both");
    assert_eq!(unproved(&["2/2-6", "0/6-6"]), 0);
}

#[test]
fn who_may_not_write_is_found() {
    let of = |change: fn(&mut Vec<File>)| {
        let mut files: Vec<_> = (1..=4).map(|txid| file(0, txid, txid)).collect();
        change(&mut files);
        let head = Head { epoch: Epoch::new(3), ..head(&[]) };
        kinds(&walked(&files, Some(head), None).findings)
    };
    assert_eq!(of(|_| ()), []);
    assert_eq!(of(|files| files[3].header.node_id = 4), [Kind::Head], "a writer that the head does not know");
    assert_eq!(
        of(|files| files[1].header.node_id = 2),
        [Kind::Foreign, Kind::Foreign],
        "an older writer goes on"
    );
    assert_eq!(of(|files| files[3].header.mark = None), [Kind::Foreign], "another program");
    assert_eq!(of(|files| files[2].header.page_size = PageSize::MAX), [Kind::Foreign], "another database");
}

#[test]
fn a_head_that_is_missing_or_says_otherwise_is_found() {
    let files: Vec<_> = (1..=4).map(|txid| file(0, txid, txid)).collect();
    assert_eq!(kinds(&walked(&files, None, None).findings), [Kind::Head]);
    let based = |txid, sum| {
        let head = Head { base: Base { txid, checksum: Some(checksum(sum)) }, ..head(&[]) };
        kinds(&walked(&files, Some(head), None).findings)
    };
    assert_eq!(based(3, 3), []);
    assert_eq!(based(3, 2), [Kind::Head]);
    assert_eq!(based(6, 6), [Kind::Missing], "the slot with which the writer began");
}

#[test]
fn another_programs_leftovers_are_no_news_and_its_levels_must_agree_all_the_same() {
    let theirs = |mut file: File| {
        (file.header.mark, file.header.node_id) = (None, 0);
        file
    };
    // Slots 3 and 4 were left by age; nothing leads to 3, because 2 is merged already.
    let files = [file(9, 1, 1), file(0, 3, 3), file(0, 4, 4), file(1, 2, 4), file(2, 2, 4), file(0, 5, 5)];
    let mut files = files.map(theirs);
    let sound = walked(&files, None, None);
    assert_eq!((sound.findings, sound.unproved), (vec![], 2));
    files[4].found = checksum(99);
    assert_eq!(kinds(&walked(&files, None, None).findings), [Kind::Disagreement]);
}

#[test]
fn pages_go_onto_the_state_of_their_level_and_those_below() {
    let mut walk = Walk::begin(None);
    let mut tracks = Vec::new();
    for file in [file(0, 1, 1), file(0, 2, 2), file(1, 2, 2), file(0, 3, 3), file(2, 2, 3), file(9, 1, 3)] {
        let step = walk.enter(&file.entry, &file.header).unwrap();
        tracks.push(step.onto.iter().map(|onto| onto.track).collect::<Vec<_>>());
        walk.leave(&file.entry, &file.header, &step, Some(file.found));
    }
    assert_eq!(tracks, [vec![0, 1, 2, 3], vec![0], vec![1], vec![0], vec![1, 2], vec![3]]);
}
