//! Plans over inventories of every kind.

use std::collections::BTreeSet;

use lifeboat_ltx::SEAL_SIZE;
use proptest::prelude::*;

use super::points::{next_to, points};
use super::time::TimeSearch;
use super::*;
use crate::head::{Head, test_head};
use crate::inventory::test_file as file;

fn seal(txid: u64) -> FileEntry {
    FileEntry { size: SEAL_SIZE, ..file(0, txid, txid) }
}

fn keys(files: Vec<FileEntry>, head: Option<Head>) -> Result<Vec<String>, PlanError> {
    plan_latest(&Inventory::new(files, head))
        .map(|plan| plan.files.into_iter().map(|file| file.key).collect())
}

fn head_with_floor(level: u8, floor: u64) -> Head {
    test_head(&[(level, floor)])
}

#[test]
fn slots_alone_are_applied_in_order() {
    assert_eq!(keys(vec![file(0, 2, 2), file(0, 1, 1), seal(3)], None).unwrap(), ["0/1-1", "0/2-2", "0/3-3"]);
}

#[test]
fn the_newest_snapshot_and_the_longest_files_win() {
    let files =
        vec![file(9, 1, 4), file(9, 1, 8), file(1, 9, 12), file(0, 9, 9), file(0, 12, 12), file(0, 13, 13)];
    assert_eq!(keys(files, None).unwrap(), ["9/1-8", "1/9-12", "0/13-13"]);
}

#[test]
fn a_gap_is_an_error_even_when_a_later_file_could_hold_every_page() {
    let error = keys(vec![file(0, 1, 1), file(0, 3, 3)], None).unwrap_err();
    assert_eq!(error, PlanError::Gap { after: Txid::FIRST, next: Txid::try_new(3).unwrap() });
}

#[test]
fn a_chain_without_its_beginning_is_an_error() {
    let error = keys(vec![file(0, 2, 2)], None).unwrap_err();
    assert_eq!(error, PlanError::NoBeginning { oldest: Txid::try_new(2).unwrap() });
}

#[test]
fn no_files_and_seals_alone_restore_to_nothing() {
    assert_eq!(keys(vec![], None), Err(PlanError::EmptyReplica));
    assert_eq!(keys(vec![seal(1), seal(2)], None), Err(PlanError::EmptyReplica));
}

#[test]
fn dead_files_are_ignored_wherever_they_stand() {
    let files = vec![file(9, 1, 8), seal(3), file(0, 8, 8), file(0, 9, 9)];
    assert_eq!(keys(files.clone(), Some(head_with_floor(0, 7))).unwrap(), ["9/1-8", "0/9-9"]);
    // A seal that a late claimant put into a pruned slot would otherwise be a file like any other.
    let dead = vec![file(9, 1, 8), seal(9), file(0, 10, 10)];
    assert_eq!(
        keys(dead, Some(head_with_floor(0, 9))),
        Err(PlanError::Gap { after: Txid::try_new(8).unwrap(), next: Txid::try_new(10).unwrap() })
    );
}

fn txid(number: u64) -> Txid {
    Txid::try_new(number).unwrap()
}

#[test]
fn a_txid_is_restored_exactly_or_its_neighbours_are_named() {
    let files = vec![file(9, 1, 4), file(1, 5, 8), file(0, 9, 9)];
    let inventory = Inventory::new(files, None);
    assert_eq!(plan(&inventory, Target::Txid(txid(8))).unwrap().target(), Some(txid(8)));
    let error = |wanted| plan(&inventory, Target::Txid(txid(wanted))).unwrap_err();
    let no_point = |wanted, before: Option<u64>, after: Option<u64>| PlanError::NoPoint {
        wanted: txid(wanted),
        before: before.map(txid),
        after: after.map(txid),
    };
    assert_eq!(error(6), no_point(6, Some(4), Some(8)));
    assert_eq!(error(3), no_point(3, None, Some(4)));
    assert_eq!(error(12), no_point(12, Some(9), None));
    assert_eq!(
        error(6).to_string(),
        "txid 0000000000000006 cannot be restored: the nearest restorable states are 0000000000000004 before it and \
         0000000000000008 after it"
    );
}

#[test]
fn a_gap_does_not_keep_from_what_lies_before_it() {
    let inventory = Inventory::new(vec![file(0, 1, 1), file(0, 2, 2), file(0, 4, 4)], None);
    assert_eq!(plan(&inventory, Target::Txid(txid(2))).unwrap().files().len(), 2);
    assert_eq!(
        plan(&inventory, Target::Txid(txid(4))),
        Err(PlanError::NoPoint { wanted: txid(4), before: Some(txid(2)), after: None })
    );
}

#[test]
fn a_state_without_pages_is_no_target() {
    let inventory = Inventory::new(vec![seal(1), file(0, 2, 2), seal(3)], None);
    assert_eq!(
        plan(&inventory, Target::Txid(txid(1))),
        Err(PlanError::NoPoint { wanted: txid(1), before: None, after: Some(txid(2)) })
    );
    assert_eq!(plan(&inventory, Target::Txid(txid(3))).unwrap().files().len(), 3);
}

#[test]
fn a_copy_is_brought_forward_without_a_snapshot_or_not_at_all() {
    let onward = |files: Vec<FileEntry>, from| {
        let inventory = Inventory::new(files, None);
        let places = onward(&inventory, txid(from), |_| true)?;
        Some(at(inventory.files(), &places).into_iter().map(|file| file.key).collect::<Vec<_>>())
    };
    let files = || vec![file(9, 1, 8), file(1, 5, 8), file(0, 8, 8), file(0, 9, 9)];
    assert_eq!(onward(files(), 6).unwrap(), ["1/5-8", "0/9-9"]);
    assert_eq!(onward(files(), 7).unwrap(), ["0/8-8", "0/9-9"]);
    assert_eq!(onward(files(), 9).unwrap(), [""; 0]);
    assert_eq!(onward(files(), 3), None);
}

#[test]
fn the_end_of_all_numbers_is_a_txid_like_any_other() {
    let inventory = Inventory::new(vec![file(9, 1, u64::MAX)], None);
    assert_eq!(plan_latest(&inventory).unwrap().target(), Some(txid(u64::MAX)));
    assert_eq!(points(&inventory).len(), 1);
}

#[test]
fn a_hundred_thousand_slots_are_planned_at_once() {
    let files = (1..=100_000).map(|txid| file(0, txid, txid)).collect();
    assert_eq!(plan_latest(&Inventory::new(files, None)).unwrap().files().len(), 100_000);
}

/// Halves its way to the answer; also says how many headers that took.
fn search(
    inventory: &Inventory,
    wanted: i64,
    time: impl Fn(&FileEntry) -> i64,
) -> (Result<Txid, PlanError>, usize) {
    let mut asked = 0;
    let mut search = match TimeSearch::begin(inventory, wanted) {
        Ok(search) => search,
        Err(error) => return (Err(error), 0),
    };
    while let Some(file) = search.ask() {
        asked += 1;
        search.answer(time(file));
    }
    (search.finish().map(|found| found.txid), asked)
}

#[test]
fn a_time_means_the_newest_state_that_is_not_younger() {
    let inventory = Inventory::new(vec![file(9, 1, 4), file(1, 5, 8), file(0, 9, 9)], None);
    let time = |file: &FileEntry| i64::try_from(file.max.get()).unwrap() * 100;
    let at = |wanted| search(&inventory, wanted, time).0;
    assert_eq!(at(400), Ok(txid(4)));
    assert_eq!(at(799), Ok(txid(4)));
    assert_eq!(at(800), Ok(txid(8)));
    assert_eq!(at(i64::MAX), Ok(txid(9)));
    assert_eq!(at(399), Err(PlanError::TooEarly { oldest: txid(4), oldest_ms: 400 }));
}

#[test]
fn a_time_beyond_a_gap_is_an_error_and_not_the_state_before_the_gap() {
    let inventory = Inventory::new(vec![file(0, 1, 1), file(0, 2, 2), file(0, 4, 4), file(0, 5, 5)], None);
    let time = |file: &FileEntry| i64::try_from(file.max.get()).unwrap();
    assert_eq!(search(&inventory, 3, time).0, Ok(txid(2)));
    assert_eq!(search(&inventory, 5, time).0, Err(PlanError::Gap { after: txid(2), next: txid(4) }));
}

#[test]
fn a_time_among_a_hundred_thousand_slots_costs_seventeen_headers() {
    let files = (1..=100_000).map(|txid| file(0, txid, txid)).collect();
    let inventory = Inventory::new(files, None);
    let (found, asked) = search(&inventory, 31_415, |file| i64::try_from(file.max.get()).unwrap());
    assert_eq!(found, Ok(txid(31_415)));
    assert!(asked <= 17, "{asked} headers");
}

/// Files of every kind, thinned out so that there are gaps.
fn any_files() -> impl Strategy<Value = Vec<FileEntry>> {
    let any_file = (prop::sample::select(vec![0_u8, 0, 0, 1, 2, 9]), 1_u64..12, 0_u64..5, any::<bool>());
    prop::collection::vec(any_file, 0..24).prop_map(|files| {
        let made = files.into_iter().map(|(level, min, more, is_seal)| match (level, is_seal) {
            (0, true) => seal(min),
            (0, false) => file(0, min, min),
            (9, _) => file(9, 1, min + more),
            _ => file(level, min, min + more),
        });
        // One file for each name, as in a bucket.
        let mut names = BTreeSet::new();
        let files: Vec<_> = made.filter(|file| names.insert(file.key.clone())).collect();
        // What is merged from a seal alone has no pages either.
        let seals: BTreeSet<_> = files.iter().filter(|file| file.is_seal()).map(|file| file.max).collect();
        let is_possible =
            |file: &FileEntry| file.is_seal() || file.min != file.max || !seals.contains(&file.max);
        files.into_iter().filter(is_possible).collect()
    })
}

/// Every TXID that can be reached, and whether pages lead there: by trying every file again and again.
fn reachable(files: &[FileEntry]) -> BTreeSet<(u64, bool)> {
    let mut found = BTreeSet::from([(0, false)]);
    loop {
        let steps = files.iter().flat_map(|file| {
            let from = found.iter().filter(|(at, _)| file.min.get() <= at + 1 && file.max.get() > *at);
            from.map(|(_, pages)| (file.max.get(), pages | !file.is_seal())).collect::<Vec<_>>()
        });
        let more: BTreeSet<_> = steps.filter(|step| !found.contains(step)).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

proptest! {
    #[test]
    fn a_plan_reaches_its_target_exactly_or_says_what_is_next_to_it(files in any_files(), wanted in 1_u64..18) {
        let targets: BTreeSet<u64> =
            reachable(&files).into_iter().filter(|(_, pages)| *pages).map(|(at, _)| at).collect();
        let inventory = Inventory::new(files, None);
        let points: Vec<u64> = points(&inventory).iter().map(|point| point.txid.get()).collect();
        let first = targets.first().copied().unwrap_or(u64::MAX);
        prop_assert_eq!(&points, &targets.iter().copied().collect::<Vec<_>>());
        match plan(&inventory, Target::Txid(txid(wanted))) {
            Ok(plan) => {
                prop_assert!(targets.contains(&wanted));
                prop_assert_eq!(plan.target(), Some(txid(wanted)));
                let mut reached = 0;
                for file in plan.files() {
                    prop_assert!(file.min.get() <= reached + 1 && file.max.get() > reached, "a hole in the plan");
                    reached = file.max.get();
                }
            }
            Err(PlanError::NoPoint { before, after, .. }) => {
                prop_assert!(!targets.contains(&wanted));
                let nearest = (targets.range(..wanted).last(), targets.range(wanted..).next());
                prop_assert_eq!((before.map(Txid::get), after.map(Txid::get)), (nearest.0.copied(), nearest.1.copied()));
            }
            Err(PlanError::EmptyReplica) => prop_assert!(first == u64::MAX),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn a_time_search_ends_where_reading_every_header_would(files in any_files(), wanted in 0_i64..18) {
        let inventory = Inventory::new(files, None);
        let time = |file: &FileEntry| i64::try_from(file.max.get()).unwrap();
        let points = points(&inventory);
        let expected = points.iter().rev().find(|point| time(point.file) <= wanted).map(|point| point.txid);
        match search(&inventory, wanted, time).0 {
            Ok(found) => prop_assert_eq!(Some(found), expected),
            Err(PlanError::Gap { .. }) if points.is_empty() => {}
            Err(PlanError::Gap { after, next }) => {
                prop_assert_eq!(next_to(&points, next).0, Some(after));
                prop_assert!(inventory.files().iter().any(|file| file.max > after && time(file) <= wanted));
            }
            Err(PlanError::TooEarly { .. }) => prop_assert_eq!(expected, None),
            Err(PlanError::EmptyReplica | PlanError::NoBeginning { .. }) => prop_assert!(points.is_empty()),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
fn lists_that_are_older_than_the_head_say_neither_that_there_is_nothing_nor_what_is_newest() {
    let planned = |files, head| plan_latest(&Inventory::new(files, Some(head)));
    assert_eq!(planned(vec![file(0, 1, 1)], head_with_floor(0, 1)), Err(PlanError::Outdated));
    assert_eq!(planned(vec![file(0, 1, 1), seal(2)], head_with_floor(0, 1)), Err(PlanError::Outdated));
    // Slots 2 and 3 were merged after level 1 was listed, and given up before the head was read.
    let merged = vec![file(0, 1, 1), file(0, 2, 2), file(0, 3, 3), file(9, 1, 1)];
    assert_eq!(planned(merged.clone(), head_with_floor(0, 3)), Err(PlanError::Outdated));
    let exact = plan(&Inventory::new(merged, Some(head_with_floor(0, 3))), Target::Txid(Txid::FIRST));
    assert_eq!(exact.unwrap().target(), Some(Txid::FIRST));
    assert_eq!(planned(vec![seal(1)], test_head(&[])), Err(PlanError::EmptyReplica));
}
