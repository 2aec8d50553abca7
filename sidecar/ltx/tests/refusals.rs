//! Every way a file can be wrong has an error of its own, and costs neither a panic nor memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::wildcard_enum_match_arm, reason = "any other error fails the test")]

mod raw;

use lifeboat_ltx::{
    Checksum, DecodeError, EncodeError, Encoder, Header, LtxFile, Mark, PageFrameDecoder, PageOrderError,
    Part, Tail, Txid, decode_whole,
};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use lz4_flex::frame::FrameInfo;
use raw::{Raw, RawFrame};

const IMAGE: [u8; 512] = [7; 512];

fn header() -> Header {
    Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(3),
        min_txid: Txid::try_new(5).unwrap(),
        max_txid: Txid::try_new(5).unwrap(),
        timestamp_ms: 0,
        wal_offset: 32,
        wal_size: 0,
        salts: (0, 0),
        node_id: 1,
        mark: None,
    }
}

fn from_txid_1() -> Header {
    Header { min_txid: Txid::FIRST, ..header() }
}

fn blocks(numbers: &[u32]) -> Vec<RawFrame> {
    numbers.iter().map(|&number| RawFrame::block(number, &IMAGE)).collect()
}

fn refusal(raw: &Raw) -> DecodeError {
    decode_whole(&raw.encode()).unwrap_err()
}

fn page(number: u32) -> PageNo {
    PageNo::try_new(number).unwrap()
}

#[test]
fn pages_in_an_order_no_file_has_are_refused() {
    let order = |header: &Header, numbers: &[u32]| match refusal(&Raw::new(header, blocks(numbers))) {
        DecodeError::Page { source, .. } => source,
        other => panic!("{other}"),
    };
    assert!(matches!(order(&header(), &[2, 1]), PageOrderError::Descending { .. }));
    assert!(matches!(order(&header(), &[2, 2]), PageOrderError::Descending { .. }));
    assert!(matches!(order(&header(), &[4]), PageOrderError::OutOfBounds { .. }));
    assert!(matches!(order(&from_txid_1(), &[1, 3]), PageOrderError::Hole { .. }));
    assert!(matches!(order(&from_txid_1(), &[1, 2]), PageOrderError::Incomplete { .. }));
    let huge = Header { commit: PageCount::new(u32::MAX), ..header() };
    let lock_page = PageSize::MIN.lock_page().get();
    assert!(matches!(order(&huge, &[lock_page]), PageOrderError::LockPage { .. }));
}

#[test]
fn an_order_the_decoder_refuses_the_encoder_does_not_write() {
    let file = |header: &Header, numbers: &[u32]| {
        let pages = numbers.iter().map(|&number| (page(number), IMAGE.to_vec())).collect();
        LtxFile { header: header.clone(), pages }.encode().unwrap_err()
    };
    assert!(matches!(file(&header(), &[2, 1]), EncodeError::Page(PageOrderError::Descending { .. })));
    assert!(matches!(file(&header(), &[4]), EncodeError::Page(PageOrderError::OutOfBounds { .. })));
    assert!(matches!(file(&from_txid_1(), &[2]), EncodeError::Page(PageOrderError::Hole { .. })));
    assert!(matches!(file(&from_txid_1(), &[1]), EncodeError::Page(PageOrderError::Incomplete { .. })));
    let empty = Header { commit: PageCount::new(0), ..header() };
    assert!(matches!(file(&empty, &[]), EncodeError::EmptyDatabase));
    let short = Encoder::begin(&header(), Vec::new()).unwrap().page(page(1), &IMAGE[1..]).unwrap_err();
    assert!(matches!(short, EncodeError::PageLength { found: 511, expected: 512, .. }));
}

#[test]
fn a_mark_that_does_not_fit_the_pages_is_neither_written_nor_read() {
    let wrong = Checksum::EMPTY;
    let mark = Some(Mark { pre_apply: Checksum::EMPTY, post_apply: wrong });
    let header = Header { mark, ..from_txid_1() };
    let pages = (1..=3).map(|number| (page(number), IMAGE.to_vec())).collect();
    let written = LtxFile { header: header.clone(), pages }.encode().unwrap_err();
    assert!(matches!(written, EncodeError::DatabaseChecksum { expected, .. } if expected == wrong));
    let read = refusal(&Raw::new(&header, blocks(&[1, 2, 3])));
    assert!(matches!(read, DecodeError::DatabaseChecksum { expected, .. } if expected == wrong));
}

#[test]
fn checksum_fields_of_litestream_are_held_against_the_pages() {
    let mut raw = Raw::new(&from_txid_1(), blocks(&[1, 2, 3]));
    raw.post_apply = 1 << 63;
    assert_eq!(refusal(&raw), DecodeError::PostApply { found: 1 << 63 }, "flags 2 allow none");
    raw.header[7] = 0;
    assert!(matches!(refusal(&raw), DecodeError::DatabaseChecksum { .. }));
    // The format's own kind: a CRC over page number and page.
    raw.post_apply = (1..=3_u32).fold(1 << 63, |sum, number| {
        let bytes = [&number.to_be_bytes(), IMAGE.as_slice()].concat();
        1 << 63 | (sum ^ crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64GoIso, &bytes))
    });
    assert_eq!(decode_whole(&raw.encode()).unwrap().pages.len(), 3);
    raw.post_apply = 0;
    assert_eq!(refusal(&raw), DecodeError::PostApply { found: 0 }, "flags 0 demand one");
    raw.post_apply = 1;
    assert_eq!(refusal(&raw), DecodeError::PostApply { found: 1 });
}

#[test]
fn page_headers_with_unknown_flags_are_refused() {
    for (number, flags) in [(1, 2), (1, 0x8001), (0, 1)] {
        let mut raw = Raw::new(&header(), blocks(&[1]));
        (raw.frames[0].number, raw.frames[0].flags) = (number, flags);
        assert_eq!(refusal(&raw), DecodeError::PageFlags { at: 100, number, flags });
    }
}

#[test]
fn a_block_that_claims_gigabytes_is_refused_before_anything_is_kept() {
    let mut raw = Raw::new(&header(), blocks(&[1]));
    raw.frames[0].stored[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(refusal(&raw), DecodeError::FrameSize { at: 100, max, .. } if max < 1024));
}

#[test]
fn an_lz4_frame_that_claims_gigabytes_is_refused_before_anything_is_kept() {
    let mut raw = Raw::new(&header(), vec![RawFrame::frame(1, &IMAGE, FrameInfo::new())]);
    raw.frames[0].stored[7..11].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    assert!(matches!(refusal(&raw), DecodeError::FrameSize { at: 100, .. }));
}

#[test]
fn images_that_are_not_one_page_long_are_refused() {
    let length = |frame| match refusal(&Raw::new(&header(), vec![frame])) {
        DecodeError::PageLength { found, .. } => Some(found),
        DecodeError::Decompress { .. } => None,
        other => panic!("{other}"),
    };
    assert_eq!(length(RawFrame::block(1, &IMAGE[1..])), Some(511));
    assert_eq!(length(RawFrame::block(1, &[7; 513])), None, "an LZ4 block does not fit into the page");
    assert_eq!(length(RawFrame::frame(1, &IMAGE[1..], FrameInfo::new())), Some(511));
    assert_eq!(length(RawFrame::frame(1, &[7; 513], FrameInfo::new())), Some(513));
    let mut garbage = RawFrame::block(1, &IMAGE);
    garbage.stored = [&4_u32.to_be_bytes()[..], &[0xff; 4]].concat();
    assert_eq!(length(garbage), None);
}

#[test]
fn a_page_index_that_describes_another_file_is_refused() {
    let right = Raw::new(&header(), blocks(&[1, 3])).encode();
    let size = u64::try_from(right.len()).unwrap();
    let needed = Tail::size(right.last_chunk::<24>().unwrap(), size).unwrap();
    let tail = &right[right.len() - usize::try_from(needed).unwrap()..];
    let entries = Tail::decode(&header(), size, tail).unwrap().index;
    let places: Vec<_> =
        entries.entries().iter().map(|e| [u64::from(e.page.get()), e.offset, e.size]).collect();
    for (entry, field, value) in [(0, 0, 2), (0, 1, 101), (1, 2, 1)] {
        let mut raw = Raw::new(&header(), blocks(&[1, 3]));
        let mut places = places.clone();
        places[entry][field] = value;
        raw.index = Some(places);
        assert!(matches!(refusal(&raw), DecodeError::PageIndex { .. }), "{entry} {field} {value}");
    }
}

#[test]
fn the_end_of_the_file_is_guarded() {
    let right = Raw::new(&header(), blocks(&[2])).encode();
    let size = right.len() as u64;
    let longer = [right.as_slice(), &[0]].concat();
    assert_eq!(decode_whole(&longer), Err(DecodeError::TrailingBytes { at: size }));
    let mut flipped = right.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(decode_whole(&flipped), Err(DecodeError::FileChecksum { .. })));
    let mut unflagged = right;
    let at = unflagged.len() - 8;
    unflagged[at] &= 0x7f;
    assert!(matches!(decode_whole(&unflagged), Err(DecodeError::FileChecksumFlag { .. })));
}

#[test]
fn a_range_holds_exactly_one_page_frame() {
    let bytes = Raw::new(&header(), blocks(&[2])).encode();
    let end = 100 + 10 + lz4_flex::block::compress(&IMAGE).len();
    let mut decoder = PageFrameDecoder::new(PageSize::MIN);
    assert_eq!(decoder.decode(&bytes[100..end]).unwrap().image, IMAGE);
    assert!(matches!(decoder.decode(&bytes[100..=end]), Err(DecodeError::FrameRange { .. })));
    assert!(matches!(decoder.decode(&bytes[end..end + 6]), Err(DecodeError::FrameRange { .. })));
    assert!(matches!(decoder.decode(&bytes[100..end - 1]), Err(DecodeError::Truncated { .. })));
    assert!(matches!(decoder.decode(&[]), Err(DecodeError::Truncated { part: Part::PageHeader, at: 0 })));
}

#[test]
fn a_tail_that_claims_more_than_the_file_is_refused() {
    let bytes = Raw::new(&header(), blocks(&[2])).encode();
    let size = bytes.len() as u64;
    let mut tail = *bytes.last_chunk::<24>().unwrap();
    tail[..8].copy_from_slice(&u64::MAX.to_be_bytes());
    assert!(matches!(Tail::size(&tail, size), Err(DecodeError::PageIndex { .. })));
    assert!(matches!(Tail::size(&tail[1..], size), Err(DecodeError::Truncated { .. })));
    assert!(matches!(Tail::size(&tail, 20), Err(DecodeError::PageIndex { .. })));
    assert!(matches!(
        Tail::decode(&header(), size, &bytes[bytes.len() - 24..]),
        Err(DecodeError::Truncated { part: Part::PageIndex, .. })
    ));
    assert!(matches!(Tail::decode(&header(), size + 1, &bytes), Err(DecodeError::PageIndex { .. })));
    let smaller = Header { commit: PageCount::new(1), ..header() };
    assert!(matches!(Tail::decode(&smaller, size, &bytes), Err(DecodeError::Page { .. })));
}
