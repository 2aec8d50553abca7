use super::*;
use crate::PageSize;
use crate::scan::tests::{SALTS, append, wal};

const OTHER: Salts = Salts([0, 0, 0, 8, 1, 2, 3, 4]);

/// The index header a writer leaves after `commits` transactions, at the scanner's place.
fn header(at: &Scanner, commits: u32) -> IndexHeader {
    IndexHeader {
        change_counter: commits,
        order: at.order(),
        page_size: Some(at.page_size()),
        last_frame: at.last(),
        page_count: PageCount::new(9),
        frame_checksum: at.checksum(),
        salts: at.salts(),
    }
}

/// After a restart without frames: new salts, everything else left over.
fn restarted(header: IndexHeader, salts: Salts) -> IndexHeader {
    IndexHeader { salts, last_frame: FrameNo::START, ..header }
}

fn read(from: WalPlace, to: IndexHeader, file: &[u8]) -> Result<(WalPlace, Vec<u32>), Discontinuity> {
    let mut reading = match from.next_read(&to)? {
        NextRead::Nothing(place) => return Ok((place, vec![])),
        NextRead::After(scanner) => Reading::resume(from, to, scanner),
        NextRead::FromStart => {
            let header = WalHeader::decode(file.first_chunk().unwrap()).map_err(Discontinuity::Header)?;
            Reading::begin(from, to, &header)?
        }
    };
    let start = usize::try_from(reading.last().end_offset(PageSize::MIN)).unwrap();
    let mut pages = Vec::new();
    reading.take(&mut file.get(start..).unwrap_or_default(), &mut |page| pages.push(page.get()))?;
    Ok((reading.finish()?.0, pages))
}

/// A WAL of two transactions, a reader that has read them, and the header it read up to.
fn two_commits() -> (Vec<u8>, Scanner, IndexHeader, WalPlace) {
    let (file, writer) = wal(ByteOrder::Little, SALTS, &[(1, 0, 1), (2, 2, 2), (1, 2, 3)]);
    let header = header(&writer, 40);
    (file, writer, header, WalPlace::at(&header))
}

#[test]
fn new_commits_of_the_same_run_are_read_once() {
    let (mut file, mut writer, _, place) = two_commits();
    append(&mut file, &mut writer, &[(3, 0, 4), (4, 4, 5)]);
    let (place, pages) = read(place, header(&writer, 41), &file).unwrap();
    assert_eq!((pages, place.frame()), (vec![3, 4], FrameNo::new(5)));
    assert_eq!(read(place, header(&writer, 41), &file).unwrap().1, [0; 0]);
}

#[test]
fn a_run_that_has_begun_is_told_from_the_one_before_it() {
    let (_, _, header, read) = two_commits();
    let next = Salts([0, 0, 0, 8, 5, 5, 5, 5]);
    assert_eq!(next.first(), SALTS.first() + 1, "as after a WAL restart");
    assert!(read.is_past(SALTS) && !read.is_past(next) && !read.is_past(OTHER));
    let new = WalPlace::at(&restarted(header, next));
    assert!(new.is_past(SALTS), "the file is overwritten by whoever writes next");
    assert!(!new.is_past(next) && !new.is_past(Salts([9; 8])));
    let wrapped = WalPlace::at(&restarted(header, Salts([0; 8])));
    assert!(wrapped.is_past(Salts([255; 8])));
}

#[test]
fn checksums_in_big_endian_are_followed_too() {
    let (mut file, mut writer) = wal(ByteOrder::Big, SALTS, &[(1, 1, 1)]);
    let place = WalPlace::at(&header(&writer, 1));
    append(&mut file, &mut writer, &[(2, 2, 4)]);
    assert_eq!(read(place, header(&writer, 2), &file).unwrap().1, [2]);
}

#[test]
fn a_commit_frame_beyond_the_header_is_not_taken() {
    let (mut file, mut writer, _, place) = two_commits();
    append(&mut file, &mut writer, &[(3, 3, 4)]);
    let committed = header(&writer, 41);
    append(&mut file, &mut writer, &[(7, 7, 7)]);
    assert_eq!(read(place, committed, &file).unwrap().1, [3]);
}

#[test]
fn a_restart_without_frames_keeps_the_place_until_the_new_run_begins() {
    let (_, _, old, place) = two_commits();
    let (kept, pages) = read(place, restarted(old, OTHER), &[]).unwrap();
    assert_eq!((kept, pages), (place, vec![]));
    let (file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 6, 6)]);
    assert_eq!(read(kept, header(&writer, 41), &file).unwrap().1, [6]);
}

#[test]
fn salts_that_come_back_after_a_restart_without_frames_continue_the_old_run() {
    let (mut file, mut writer, old, place) = two_commits();
    let (place, _) = read(place, restarted(old, OTHER), &[]).unwrap();
    append(&mut file, &mut writer, &[(5, 5, 5)]);
    assert_eq!(read(place, header(&writer, 1), &file).unwrap().1, [5]);
}

#[test]
fn random_salts_of_a_new_run_are_no_loss_when_the_counter_agrees() {
    let (_, _, _, place) = two_commits();
    let (file, writer) = wal(ByteOrder::Little, Salts([0xc3; 8]), &[(6, 6, 6), (7, 0, 7), (8, 8, 8)]);
    assert_eq!(read(place, header(&writer, 42), &file).unwrap().1, [6, 7, 8]);
}

#[test]
fn a_commit_that_was_overwritten_by_two_restarts_is_noticed_by_the_counter() {
    let (_, _, _, place) = two_commits();
    let (file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 6, 6)]);
    let lost = Discontinuity::Counter { commits: 1, advance: 2 };
    assert_eq!(read(place, header(&writer, 42), &file), Err(lost));
}

#[test]
fn a_commit_that_was_overwritten_is_noticed_before_the_new_run_has_a_frame() {
    let (_, _, old, place) = two_commits();
    let header = restarted(IndexHeader { change_counter: 41, ..old }, OTHER);
    assert_eq!(read(place, header, &[]), Err(Discontinuity::Counter { commits: 0, advance: 1 }));
}

#[test]
fn a_recovery_restarts_the_counter_and_the_same_run_goes_on() {
    let (mut file, mut writer, old, place) = two_commits();
    let recovered = IndexHeader { change_counter: 0, ..old };
    let (place, _) = read(place, recovered, &file).unwrap();
    append(&mut file, &mut writer, &[(5, 5, 5)]);
    assert!(read(place, header(&writer, 1), &file).is_ok());
}

#[test]
fn a_recovery_and_a_new_run_at_once_prove_nothing() {
    let (_, _, _, place) = two_commits();
    let (file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 6, 6)]);
    assert!(matches!(read(place, header(&writer, 1), &file), Err(Discontinuity::Counter { .. })));
}

#[test]
fn a_reader_that_begins_in_a_run_without_frames_reads_its_first_one() {
    let (_, _, old, _) = two_commits();
    let place = WalPlace::at(&restarted(old, OTHER));
    let (file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 6, 6)]);
    assert_eq!(read(place, header(&writer, 41), &file).unwrap().1, [6]);
}

#[test]
fn frames_of_the_old_run_are_not_taken_for_those_of_the_new_one() {
    let (old_file, _, _, place) = two_commits();
    let (mut file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 0, 6), (6, 6, 6)]);
    file.truncate(32 + 536);
    file.extend(&old_file[file.len()..]);
    assert_eq!(read(place, header(&writer, 41), &file), Err(Discontinuity::Chain { frame: FrameNo::new(2) }));
    assert_eq!(read(place, header(&writer, 41), &old_file), Err(Discontinuity::OtherRun));
}

#[test]
fn a_wal_that_ends_before_its_index_says_or_before_the_place_reached_is_a_loss() {
    let (mut file, mut writer, old, place) = two_commits();
    let shorter = IndexHeader { last_frame: FrameNo::new(2), ..old };
    let backwards = Discontinuity::Backwards { at: FrameNo::new(3), found: FrameNo::new(2) };
    assert_eq!(read(place, shorter, &file), Err(backwards));
    append(&mut file, &mut writer, &[(5, 5, 5)]);
    file.pop();
    let short = Discontinuity::TooShort { frame: FrameNo::new(4) };
    assert_eq!(read(place, header(&writer, 41), &file), Err(short));
}

#[test]
fn a_chain_that_does_not_end_where_the_index_says_is_a_loss() {
    let (mut file, mut writer, old, place) = two_commits();
    let other_frame = IndexHeader { frame_checksum: Checksum::default(), ..old };
    assert!(matches!(read(place, other_frame, &file), Err(Discontinuity::Chain { .. })));
    let (mut whole, mut whole_writer) = (file.clone(), writer);
    append(&mut whole, &mut whole_writer, &[(5, 5, 5)]);
    let other_end = IndexHeader { frame_checksum: Checksum::default(), ..header(&whole_writer, 41) };
    assert_eq!(read(place, other_end, &whole), Err(Discontinuity::Chain { frame: FrameNo::new(4) }));
    append(&mut file, &mut writer, &[(5, 0, 5)]);
    assert!(
        matches!(read(place, header(&writer, 41), &file), Err(Discontinuity::Chain { .. })),
        "half a transaction"
    );
}

#[test]
fn padding_with_repeated_commit_frames_is_not_counted_as_commits() {
    let (_, _, _, place) = two_commits();
    let (file, writer) =
        wal(ByteOrder::Little, OTHER, &[(5, 0, 5), (6, 6, 6), (6, 6, 6), (6, 6, 6), (6, 6, 7)]);
    assert!(read(place, header(&writer, 42), &file).is_ok(), "one padded transaction, then another");
    assert!(
        read(place, header(&writer, 44), &file).is_ok(),
        "four transactions, two of them without a change"
    );
    assert!(read(place, header(&writer, 41), &file).is_err());
    assert!(read(place, header(&writer, 45), &file).is_err());
}

#[test]
fn the_transaction_counter_may_wrap_around() {
    let (_, _, old, _) = two_commits();
    let place = WalPlace::at(&IndexHeader { change_counter: u32::MAX, ..old });
    let (file, writer) = wal(ByteOrder::Little, OTHER, &[(6, 6, 6), (7, 7, 7)]);
    assert_eq!(writer.page_size(), PageSize::MIN);
    assert_eq!(read(place, header(&writer, 1), &file).unwrap().1, [6, 7]);
}

#[test]
fn a_place_kept_as_bytes_is_the_same_place() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let (_, writer) = wal(order, SALTS, &[(1, 0, 1), (2, 2, 2)]);
        let place = WalPlace::at(&header(&writer, 0xfedc_ba98));
        assert_eq!(WalPlace::decode(&place.encode()), place);
    }
}
