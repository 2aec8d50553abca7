use proptest::prelude::*;

use super::*;
use crate::header::tests::encode as encode_header;

pub(crate) const SALTS: Salts = Salts([0, 0, 0, 7, 0xde, 0xad, 0xbe, 0xef]);

/// Appends frames of (page, commit size, byte that fills the image) as SQLite would.
pub(crate) fn append(wal: &mut Vec<u8>, scanner: &mut Scanner, frames: &[(u32, u32, u8)]) {
    for &(page, commit_size, fill) in frames {
        let image = vec![fill; scanner.page_size.get() as usize];
        let mut head = [page.to_be_bytes(), commit_size.to_be_bytes()].concat();
        scanner.checksum = scanner.checksum.update(scanner.order, &head).update(scanner.order, &image);
        scanner.last = scanner.last.next();
        head.extend(scanner.salts.0);
        head.extend(scanner.checksum.first.to_be_bytes());
        head.extend(scanner.checksum.second.to_be_bytes());
        wal.extend(head);
        wal.extend(image);
    }
}

/// A whole WAL file with these frames, and the scanner at its end.
pub(crate) fn wal(order: ByteOrder, salts: Salts, frames: &[(u32, u32, u8)]) -> (Vec<u8>, Scanner) {
    let mut bytes = encode_header(order, 512, salts).to_vec();
    let mut scanner = Scanner::begin(&WalHeader::decode(bytes.first_chunk().unwrap()).unwrap());
    append(&mut bytes, &mut scanner, frames);
    (bytes, scanner)
}

fn scan(bytes: &[u8]) -> (Vec<(u32, u32)>, ScanStop) {
    let header = WalHeader::decode(bytes.first_chunk().unwrap()).unwrap();
    let mut scanner = Scanner::begin(&header);
    let mut rest = &bytes[32..];
    let mut found = Vec::new();
    loop {
        match scanner.next_frame(&mut rest) {
            Ok(frame) => found.push((frame.page.get(), frame.commit_size.map_or(0, PageCount::get))),
            Err(stop) => return (found, stop),
        }
    }
}

#[test]
fn frames_are_read_in_both_byte_orders() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let (bytes, _) = wal(order, SALTS, &[(1, 0, 1), (2, 2, 2)]);
        assert_eq!(scan(&bytes), (vec![(1, 0), (2, 2)], ScanStop::EndOfFile));
    }
}

#[test]
fn a_frame_of_an_earlier_run_is_not_taken() {
    let (mut bytes, _) = wal(ByteOrder::Little, SALTS, &[(1, 1, 1), (2, 2, 2)]);
    let (other, _) = wal(ByteOrder::Little, Salts([9; 8]), &[(1, 1, 9)]);
    bytes[..other.len()].copy_from_slice(&other);
    assert_eq!(scan(&bytes), (vec![(1, 1)], ScanStop::SaltChange));
}

#[test]
fn a_half_written_frame_stops_the_scan_wherever_it_is_cut() {
    let (bytes, _) = wal(ByteOrder::Little, SALTS, &[(1, 1, 1)]);
    for cut in [33, 55, 56, bytes.len() - 1] {
        assert_eq!(scan(&bytes[..cut]), (vec![], ScanStop::PartialFrame));
    }
    assert_eq!(scan(&bytes[..32]), (vec![], ScanStop::EndOfFile));
}

#[test]
fn page_zero_is_no_frame_even_with_a_right_checksum() {
    let (bytes, _) = wal(ByteOrder::Little, SALTS, &[(0, 1, 1)]);
    assert_eq!(scan(&bytes), (vec![], ScanStop::PageZero));
}

#[test]
fn a_flipped_bit_anywhere_in_a_frame_stops_the_scan_there() {
    let (bytes, _) = wal(ByteOrder::Big, SALTS, &[(1, 0, 1), (2, 2, 2)]);
    for at in 32 + 536..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert_eq!(scan(&flipped).0, [(1, 0)], "bit at {at}");
    }
}

#[test]
fn a_resumed_scan_finds_what_a_scan_from_the_start_finds() {
    let (mut bytes, mut writer) = wal(ByteOrder::Little, SALTS, &[(1, 0, 1), (2, 2, 2)]);
    let header = WalHeader {
        order: writer.order,
        page_size: writer.page_size,
        salts: SALTS,
        checksum: writer.checksum,
    };
    let mut resumed = Scanner::resume(header, writer.last);
    let from = bytes.len();
    append(&mut bytes, &mut writer, &[(3, 3, 3)]);
    let frame = resumed.next_frame(&mut &bytes[from..]).unwrap();
    assert_eq!((frame.number, frame.page.get(), frame.image), (FrameNo::new(3), 3, &[3; 512][..]));
    assert_eq!(resumed, writer);
}

proptest! {
    #[test]
    fn no_bytes_make_the_scanner_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        fuzz_wal_scan(&bytes);
        let (mut wal, _) = wal(ByteOrder::Little, SALTS, &[(1, 1, 1)]);
        wal.extend(bytes);
        fuzz_wal_scan(&wal);
    }

    #[test]
    fn a_prefix_of_a_wal_holds_a_prefix_of_its_frames(
        frames in proptest::collection::vec((1..9_u32, 0..2_u32, any::<u8>()), 0..12),
        cut in 32..6500_usize,
    ) {
        let (bytes, _) = wal(ByteOrder::Little, SALTS, &frames);
        let (whole, _) = scan(&bytes);
        let (part, _) = scan(&bytes[..cut.min(bytes.len())]);
        prop_assert_eq!(whole.len(), frames.len());
        prop_assert_eq!(part.len(), (cut.min(bytes.len()) - 32) / 536);
        prop_assert_eq!(&part[..], &whole[..part.len()]);
    }
}
