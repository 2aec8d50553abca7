use lifeboat_wal::PageCount;
use lifeboat_wal::checksum::{ByteOrder, Checksum as WalChecksum};
use lifeboat_wal::frame::FrameNo;
use lifeboat_wal::header::Salts;
use lifeboat_wal::wal_index::IndexHeader;
use proptest::prelude::*;

use super::*;

fn sums(bits: &[u64]) -> PageSums {
    PageSums::known(bits.iter().map(|bits| PageChecksum::from_bits(*bits)).collect())
}

fn identity() -> LogIdentity {
    LogIdentity { lineage: "l".to_owned(), boot_id: "boot-1".to_owned(), file_id: "1:2:3".to_owned() }
}

fn anchored(frame: u32, modified: i64) -> Anchor {
    let header = IndexHeader {
        change_counter: frame * 7,
        order: ByteOrder::Big,
        page_size: Some(PageSize::MIN),
        last_frame: FrameNo::new(frame),
        page_count: PageCount::new(3),
        frame_checksum: WalChecksum { first: frame, second: !frame },
        salts: Salts([1, 2, 3, 4, 5, 6, 7, 8]),
    };
    let stamp = FileStamp { bytes: 1024, modified: (modified, 5) };
    Anchor { place: WalPlace::at(&header), stamp, is_settled: false }
}

fn settled(frame: u32, modified: i64) -> Anchor {
    Anchor { is_settled: true, ..anchored(frame, modified) }
}

fn pages(numbers: &[u32]) -> impl Iterator<Item = PageNo> {
    numbers.iter().filter_map(|number| PageNo::try_new(*number))
}

const FIRST: [u64; 3] = [10, 20, 30];
const SECOND: [u64; 4] = [10, 21, 30, 40];
const THIRD: [u64; 2] = [10, 22];

/// A log of three states, and where its entries end.
fn log() -> (Vec<u8>, [usize; 3]) {
    let mut log = base(&identity(), PageSize::MIN, 1, &sums(&FIRST), Some(&anchored(5, 100))).unwrap();
    let first = log.len();
    log.extend(delta(2, &sums(&SECOND), pages(&[2, 4]), Some(&anchored(6, 100))).unwrap());
    let second = log.len();
    log.extend(delta(3, &sums(&THIRD), pages(&[2]), Some(&anchored(7, 200))).unwrap());
    let third = log.len();
    (log, [first, second, third])
}

fn found(log: &[u8], txid: u64, bits: &[u64]) -> Option<KnownState> {
    find(log, txid, sums(bits).checksum().unwrap())
}

#[test]
fn every_state_of_the_log_is_found_by_its_checksum() {
    let (log, _) = log();
    for (txid, bits) in [(1, &FIRST[..]), (2, &SECOND), (3, &THIRD)] {
        let state = found(&log, txid, bits).unwrap();
        assert_eq!((state.txid, state.sums, state.identity), (txid, sums(bits), identity()));
    }
    assert_eq!(found(&log, 3, &[1, 2, 4]), None);
    assert_eq!(found(&log, 4, &THIRD), None);
}

#[test]
fn a_log_cut_off_anywhere_has_the_states_that_are_whole() {
    let (log, ends) = log();
    for length in 0..log.len() {
        for (txid, bits, end) in [(1, &FIRST[..], ends[0]), (2, &SECOND, ends[1]), (3, &THIRD, ends[2])] {
            assert_eq!(found(&log[..length], txid, bits).is_some(), length >= end, "{length}");
        }
    }
}

#[test]
fn one_flipped_bit_never_makes_another_state() {
    let (log, _) = log();
    for bit in 0..log.len() * 8 {
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for (txid, bits) in [(1, &FIRST[..]), (2, &SECOND), (3, &THIRD)] {
            if let Some(state) = found(&flipped, txid, bits) {
                assert_eq!(state.sums, sums(bits));
            }
        }
    }
}

#[test]
fn pages_that_do_not_add_up_to_the_checksum_are_no_state() {
    let wrong = sums(&[1, 2]);
    let mut log = base(&identity(), PageSize::MIN, 1, &sums(&FIRST), Some(&anchored(5, 100))).unwrap();
    // A delta that forgets a page it changes.
    log.extend(delta(2, &wrong, pages(&[2]), Some(&anchored(6, 100))).unwrap());
    assert_eq!(find(&log, 2, wrong.checksum().unwrap()), None);
    assert!(found(&log, 1, &FIRST).is_some());
}

#[test]
fn two_states_with_one_checksum_are_told_apart_by_their_slots() {
    let alike = [11, 21, 30];
    let mut log = base(&identity(), PageSize::MIN, 1, &sums(&FIRST), Some(&anchored(5, 100))).unwrap();
    log.extend(delta(2, &sums(&alike), pages(&[1, 2]), Some(&anchored(9, 300))).unwrap());
    assert_eq!(sums(&FIRST).checksum(), sums(&alike).checksum());
    assert_eq!(found(&log, 1, &FIRST).unwrap().sums, sums(&FIRST));
    assert_eq!(found(&log, 2, &FIRST).unwrap().sums, sums(&alike));
}

#[test]
fn a_better_place_is_that_of_the_newest_state_only() {
    let (mut log, _) = log();
    log.extend(moved(Some(&settled(8, 200))));
    assert_eq!(found(&log, 3, &THIRD).unwrap().anchor, Some(settled(8, 200)));
    assert_eq!(
        found(&log, 2, &SECOND).unwrap().anchor,
        Some(anchored(6, 200)),
        "its own place, the file's last stamp"
    );
}

#[test]
fn a_settled_file_that_was_written_to_later_is_not_settled_any_more() {
    let (mut log, _) = log();
    log.extend(moved(Some(&settled(8, 200))));
    let mut unchanged = log.clone();
    unchanged.extend(delta(4, &sums(&[1]), pages(&[1]), Some(&anchored(9, 200))).unwrap());
    assert_eq!(found(&unchanged, 3, &THIRD).unwrap().anchor, Some(settled(8, 200)));
    log.extend(delta(4, &sums(&[1]), pages(&[1]), Some(&anchored(9, 300))).unwrap());
    assert_eq!(found(&log, 3, &THIRD).unwrap().anchor, Some(anchored(8, 300)));
}

#[test]
fn a_state_that_the_file_had_left_already_is_followed_from_nowhere_whatever_was_seen_later() {
    let mut log = base(&identity(), PageSize::MIN, 1, &sums(&FIRST), None).unwrap();
    assert_eq!(found(&log, 1, &FIRST).unwrap().anchor, None);
    log.extend(delta(2, &sums(&SECOND), pages(&[2, 4]), Some(&anchored(6, 100))).unwrap());
    assert_eq!(found(&log, 1, &FIRST).unwrap().anchor, None);
}

#[test]
fn after_an_interruption_no_state_before_it_is_followed_whatever_was_seen_later() {
    let (mut log, _) = log();
    log.extend(moved(None));
    log.extend(delta(4, &sums(&[1]), pages(&[1]), Some(&anchored(9, 200))).unwrap());
    for (txid, bits) in [(1, &FIRST[..]), (2, &SECOND), (3, &THIRD)] {
        assert_eq!(found(&log, txid, bits).unwrap().anchor, None);
    }
    assert_eq!(found(&log, 4, &[1]).unwrap().anchor, Some(anchored(9, 200)));
}

#[test]
fn an_anchor_counts_for_its_own_file_in_its_own_boot_only() {
    let (log, _) = log();
    let mut state = found(&log, 3, &THIRD).unwrap();
    assert_eq!(state.anchor_in("boot-1", "1:2:3"), Some(&anchored(7, 200)));
    assert_eq!(state.anchor_in("boot-2", "1:2:3"), None);
    assert_eq!(state.anchor_in("boot-1", "1:2:4"), None);
    state.identity.file_id.clear();
    assert_eq!(state.anchor_in("boot-1", ""), None, "inodes are used again");
}

#[test]
fn what_is_not_known_page_by_page_is_not_written_down() {
    assert_eq!(base(&identity(), PageSize::MIN, 1, &PageSums::unknown(), None), None);
    assert_eq!(delta(1, &PageSums::unknown(), pages(&[]), Some(&anchored(1, 1))), None);
}

#[test]
fn a_delta_asks_for_no_more_memory_than_it_fills() {
    let mut log = base(&identity(), PageSize::MIN, 1, &sums(&FIRST), Some(&anchored(5, 100))).unwrap();
    let mut payload = Vec::new();
    put_state(&mut payload, 2, Checksum::EMPTY, u32::MAX as usize, None);
    put_entry(&mut log, DELTA, &payload);
    assert_eq!(find(&log, 2, Checksum::EMPTY), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic_or_a_state_that_does_not_add_up(
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        kind in 0..5_u8,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut log, _) = log();
        put_entry(&mut log, kind, &payload);
        for (place, byte) in noise {
            let place = place.index(log.len());
            log[place] = byte;
        }
        fuzz_page_log(&log);
        fuzz_page_log(&payload);
    }
}
