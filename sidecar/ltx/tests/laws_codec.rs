//! What holds for every file: it survives its bytes, and no damage to them goes unseen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod raw;

use lifeboat_ltx::{
    Checksum, Header, IndexReader, LtxFile, Mark, PageFrameDecoder, Tail, Txid, decode_whole,
};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
use proptest::prelude::*;
use raw::{Raw, RawFrame};

/// A page: one repeated byte, or one that does not compress.
fn image(page_size: u32) -> impl Strategy<Value = Vec<u8>> {
    let length = page_size as usize;
    prop_oneof![
        any::<u8>().prop_map(move |byte| vec![byte; length]),
        prop::collection::vec(any::<u8>(), length)
    ]
}

fn pages(page_size: u32, commit: u32, all: bool) -> impl Strategy<Value = Vec<(PageNo, Vec<u8>)>> {
    let images = prop::collection::vec((any::<bool>(), image(page_size)), commit as usize);
    images.prop_map(move |images| {
        let numbered = (1..).filter_map(PageNo::try_new).zip(images);
        numbered.filter(|(_, (is_in, _))| all || *is_in).map(|(page, (_, image))| (page, image)).collect()
    })
}

fn marked(header: Header, pages: &[(PageNo, Vec<u8>)]) -> Header {
    let post_apply = pages
        .iter()
        .fold(Checksum::EMPTY, |sum, (page, image)| sum.toggle(Checksum::page_checksum(*page, image)));
    Header { mark: Some(Mark { pre_apply: Checksum::EMPTY, post_apply }), ..header }
}

prop_compose! {
    fn numbers()(
        page_size in prop::sample::select(vec![512_u32, 1024, 4096]),
        commit in 1_u32..6,
        min in prop_oneof![Just(1_u64), 2..u64::MAX - 10],
        more in 0_u64..10,
        timestamp_ms: i64,
        wal_offset in 1_u64..=i64::MAX as u64,
        wal_size in 0_u64..=i64::MAX as u64,
        salts: (u32, u32),
        node_id: u64,
    ) -> Header {
        Header {
            page_size: PageSize::try_new(page_size).unwrap(),
            commit: PageCount::new(commit),
            min_txid: Txid::try_new(min).unwrap(),
            max_txid: Txid::try_new(min + more).unwrap(),
            timestamp_ms, wal_offset, wal_size, salts, node_id, mark: None,
        }
    }
}

fn file() -> impl Strategy<Value = LtxFile> {
    (numbers(), any::<bool>()).prop_flat_map(|(header, is_marked)| {
        let all = header.holds_every_page();
        pages(header.page_size.get(), header.commit.get(), all).prop_map(move |pages| {
            let header = if is_marked { marked(header.clone(), &pages) } else { header.clone() };
            LtxFile { header, pages }
        })
    })
}

/// The same file as an old Litestream would have written it.
fn in_old_encoding(file: &LtxFile, options: &FrameInfo) -> Vec<u8> {
    let frame = |(page, image): &(PageNo, Vec<u8>)| RawFrame::frame(page.get(), image, options.clone());
    Raw::new(&file.header, file.pages.iter().map(frame).collect()).encode()
}

fn options() -> impl Strategy<Value = FrameInfo> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(blocks, content, linked)| {
        FrameInfo::new()
            .block_size(BlockSize::Max4MB)
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_checksums(blocks)
            .content_checksum(content)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_survives_its_bytes(file in file()) {
        prop_assert_eq!(decode_whole(&file.encode().unwrap()).unwrap(), file);
    }

    #[test]
    fn the_encoder_writes_what_the_format_says(file in file()) {
        let frames = file.pages.iter().map(|(page, image)| RawFrame::block(page.get(), image)).collect();
        prop_assert_eq!(file.encode().unwrap(), Raw::new(&file.header, frames).encode());
    }

    #[test]
    fn a_file_in_the_old_encoding_is_the_same_file(file in file(), options in options()) {
        prop_assert_eq!(decode_whole(&in_old_encoding(&file, &options)).unwrap(), file);
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_changes_nothing(file in file(), at: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = file.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Some bits of compressed bytes do not matter, for example which of two equal runs is copied.
        if let Ok(read) = decode_whole(&bytes) {
            prop_assert_eq!(read, file);
        }
    }

    #[test]
    fn garbage_after_a_header_is_an_error(header in numbers(), garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [header.encode().unwrap().as_slice(), &garbage].concat();
        prop_assert!(decode_whole(&bytes).is_err());
    }

    #[test]
    fn garbage_is_an_error_everywhere(header in numbers(), garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode_whole(&garbage).is_err());
        prop_assert!(PageFrameDecoder::new(header.page_size).decode(&garbage).is_err());
        prop_assert!(Tail::decode(&header, garbage.len() as u64, &garbage).is_err());
    }

    #[test]
    fn an_index_read_in_pieces_is_the_index(file in file(), piece in 1_usize..40) {
        let bytes = file.encode().unwrap();
        let size = bytes.len() as u64;
        let begin = bytes.len() - usize::try_from(Tail::size(&bytes, size).unwrap()).unwrap();
        let (mut reader, mut entries) = (IndexReader::begin(&file.header, begin as u64), Vec::new());
        for piece in bytes[begin..bytes.len() - 24].chunks(piece) {
            reader.push(piece, |entry| entries.push(entry)).unwrap();
        }
        reader.finish().unwrap();
        let tail = Tail::decode(&file.header, size, &bytes).unwrap();
        prop_assert_eq!(entries, tail.index.entries());
    }

    #[test]
    fn an_index_that_is_cut_anywhere_is_an_error(file in file(), cut: prop::sample::Index) {
        let bytes = file.encode().unwrap();
        let tail = usize::try_from(Tail::size(&bytes, bytes.len() as u64).unwrap()).unwrap();
        let index = &bytes[bytes.len() - tail..bytes.len() - 24];
        let mut reader = IndexReader::begin(&file.header, (bytes.len() - tail) as u64);
        let pushed = reader.push(&index[..cut.index(index.len())], |_| ());
        prop_assert!(pushed.and_then(|()| reader.finish()).is_err());
    }

    #[test]
    fn a_damaged_tail_is_an_error_or_names_places_inside_the_file(file in file(), at: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = file.encode().unwrap();
        let size = bytes.len() as u64;
        let at = 100 + at.index(bytes.len() - 100);
        bytes[at] ^= 1_u8 << bit;
        if let Ok(tail) = Tail::decode(&file.header, size, &bytes) {
            prop_assert!(tail.index.entries().iter().all(|entry| entry.offset + entry.size < size));
        }
    }
}

fn small() -> LtxFile {
    let pages = vec![
        (PageNo::FIRST, vec![7; 512]),
        (PageNo::try_new(2).unwrap(), (0..=255).chain(0..=255).collect()),
    ];
    let header = Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(2),
        min_txid: Txid::FIRST,
        max_txid: Txid::FIRST,
        timestamp_ms: 1_700_000_000_123,
        wal_offset: 32,
        wal_size: 1072,
        salts: (0x1111_1111, 0x2222_2222),
        node_id: 3,
        mark: None,
    };
    LtxFile { header: marked(header, &pages), pages }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let file = small();
    for bytes in [file.encode().unwrap(), in_old_encoding(&file, &FrameInfo::new())] {
        assert!(decode_whole(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(decode_whole(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }
}

#[test]
fn every_single_bit_of_a_small_file_is_guarded() {
    let file = small();
    for bytes in [file.encode().unwrap(), in_old_encoding(&file, &FrameInfo::new())] {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode_whole(&flipped) {
                Ok(read) => assert_eq!(read, file, "bit {bit}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

#[test]
fn the_bytes_of_a_small_file_are_what_they_always_were() {
    let bytes = small().encode().unwrap();
    let lines: Vec<_> = bytes.chunks(16).zip((0..).step_by(16)).map(line).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn line((bytes, at): (&[u8], usize)) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text: String =
        bytes.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '.' }).collect();
    format!("{at:04x}  {:<47}  {text}", hex.join(" "))
}
