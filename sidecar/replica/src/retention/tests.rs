use super::*;
use crate::head::test_head as head;
use crate::inventory::test_file as file;

fn wish(newest: u64, settled: u64, beginning: Option<u64>) -> Wish {
    let txid = |txid| Txid::try_new(txid).unwrap();
    Wish { newest: txid(newest), settled, beginning: beginning.map(txid) }
}

fn slots(range: std::ops::RangeInclusive<u64>) -> Vec<FileEntry> {
    range.map(|txid| file(0, txid, txid)).collect()
}

fn decided(files: Vec<FileEntry>, floors: &[(u8, u64)], wish: &Wish) -> Pruning {
    decide(&Inventory::new(files, Some(head(floors))), wish).unwrap()
}

fn raised(files: Vec<FileEntry>, floors: &[(u8, u64)], wish: &Wish) -> Vec<(u8, u64)> {
    match decided(files, floors, wish) {
        Pruning::Raise(floors) => floors.into_iter().collect(),
        other @ (Pruning::Nothing | Pruning::CopyFirst(_)) => panic!("{other:?}"),
    }
}

#[test]
fn slots_go_up_to_the_last_merged_file_that_is_old_enough() {
    let files =
        [slots(1..=30), vec![file(9, 1, 1), file(1, 2, 10), file(1, 11, 20), file(1, 21, 28)]].concat();
    assert_eq!(raised(files.clone(), &[], &wish(30, 20, None)), [(0, 20)]);
    assert_eq!(raised(files.clone(), &[], &wish(30, 19, None)), [(0, 10)]);
    assert_eq!(raised(files.clone(), &[], &wish(30, 30, None)), [(0, 28)]);
    assert_eq!(decided(files, &[(0, 28)], &wish(30, 30, None)), Pruning::Nothing);
}

#[test]
fn the_newest_slot_stays_even_when_a_merged_file_holds_it() {
    let files = [slots(1..=20), vec![file(9, 1, 1), file(1, 2, 10), file(1, 11, 20)]].concat();
    assert_eq!(raised(files, &[], &wish(20, 20, None)), [(0, 10)]);
}

#[test]
fn the_only_beginning_is_copied_before_anything_goes() {
    let files = [slots(1..=20), vec![file(1, 2, 10)]].concat();
    assert_eq!(decided(files, &[], &wish(20, 20, None)), Pruning::CopyFirst(file(0, 1, 1)));
    let sealed = [vec![FileEntry { size: 131, ..file(0, 1, 1) }], slots(2..=20)].concat();
    assert_eq!(decided(sealed, &[], &wish(20, 20, None)), Pruning::Nothing);
}

#[test]
fn what_is_before_the_window_goes_on_every_level() {
    let merged = vec![file(1, 2, 10), file(1, 11, 20), file(2, 2, 20), file(3, 21, 40), file(1, 41, 50)];
    let snapshots = vec![file(9, 1, 1), file(9, 1, 20), file(9, 1, 40)];
    let files = [slots(45..=50), merged, snapshots].concat();
    let floors = raised(files, &[(0, 44)], &wish(50, 44, Some(20)));
    assert_eq!(floors, [(0, 44), (1, 20), (2, 20), (3, 20), (9, 19)]);
}

#[test]
fn floors_never_sink() {
    let files = [slots(1..=30), vec![file(9, 1, 1), file(1, 2, 10), file(1, 11, 25)]].concat();
    assert_eq!(decided(files, &[(0, 25), (9, 0)], &wish(30, 10, None)), Pruning::Nothing);
}

#[test]
fn a_newest_state_that_is_not_reached_any_more_is_said_even_when_nothing_is_to_go() {
    let files = [slots(5..=9), vec![file(1, 2, 4)]].concat();
    let decided = decide(&Inventory::new(files, Some(head(&[(0, 4)]))), &wish(9, 0, None));
    assert_eq!(decided, Err(PromiseBroken { lost: 9 }));
}

#[test]
fn a_merged_file_that_is_lost_keeps_the_slots_it_would_stand_for() {
    // Level 1 lost 11-20: what comes behind leads nowhere without the slots.
    let files = [slots(1..=30), vec![file(9, 1, 1), file(1, 2, 10), file(1, 21, 30)]].concat();
    assert_eq!(raised(files, &[], &wish(30, 30, None)), [(0, 10)]);
}

/// Every floor that is one too high is found out: the guard that `decide` has against itself can fail.
#[test]
fn floors_that_take_a_promised_state_away_are_found_out() {
    let merged = vec![file(1, 2, 10), file(1, 11, 20), file(9, 1, 1), file(9, 1, 20)];
    let inventory = Inventory::new([slots(11..=25), merged].concat(), Some(head(&[(0, 10)])));
    let wish = wish(25, 20, None);
    let is_broken =
        |floors: &[(u8, u64)]| broken_promise(&inventory, &wish, &floors.iter().copied().collect());
    assert_eq!(is_broken(&[(0, 20)]), None);
    assert_eq!(is_broken(&[(0, 21)]), Some(21));
    assert_eq!(is_broken(&[(0, 20), (1, 10)]), Some(10));
    assert_eq!(is_broken(&[(0, 20), (9, 1)]), Some(10));
    assert_eq!(is_broken(&[(0, 25)]), Some(21));
    let later = Wish { beginning: Txid::try_new(20), ..wish };
    assert_eq!(broken_promise(&inventory, &later, &[(0, 20), (1, 20), (9, 19)].into()), None);
    assert_eq!(broken_promise(&inventory, &later, &[(0, 20), (1, 20), (9, 20)].into()), Some(21));
}

#[test]
fn seals_are_never_deleted_however_dead() {
    let files = vec![file(0, 1, 1), FileEntry { size: 131, ..file(0, 2, 2) }, file(0, 3, 3), file(1, 1, 2)];
    assert_eq!(dead(&files, &head(&[(0, 2), (1, 2)])), ["0/1-1", "1/1-2"]);
}

#[test]
fn slots_settle_some_time_after_they_were_merged() {
    let mut grace = Grace::new(300);
    grace.merged(10, 0);
    grace.merged(20, 100);
    assert_eq!(grace.settled(299), 0);
    assert_eq!(grace.settled(300), 10);
    assert_eq!(grace.settled(400), 20);
}
