use async_trait::async_trait;
use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, TRAILER_SIZE, Txid};
use lifeboat_replica::compaction::Job;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_store::{Directory, Store, StoreError};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::exit::Exit;
use crate::faulty::{Faults, Faulty, Request};

/// What a store does to a file on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    FlipsAByte(usize),
    LosesTheEnd,
    TakesItAndHasNothing,
}

impl Fault {
    fn damaged(self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        match self {
            Self::FlipsAByte(at) => bytes[at] ^= 1,
            Self::LosesTheEnd => bytes.truncate(bytes.len() - 1),
            Self::None | Self::TakesItAndHasNothing => {}
        }
        bytes.into()
    }
}

#[async_trait]
impl Faults for Fault {
    fn sent(&self, request: Request<'_>, bytes: Bytes) -> Bytes {
        let is_faulty = matches!(request, Request::PutNew(_) | Request::PutPart(_, 2));
        if is_faulty { self.damaged(&bytes) } else { bytes }
    }

    async fn after(&self, store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        let Request::PutNew(key) = request else { return Ok(()) };
        if *self == Self::TakesItAndHasNothing { store.delete(&[key.to_owned()]).await } else { Ok(()) }
    }
}

/// A merged file of so many pages in parts of so many bytes.
fn file(pages: u32, part_bytes: usize) -> DerivedFile {
    let txid = |n| Txid::try_new(n).unwrap();
    let header = Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(pages),
        min_txid: txid(2),
        max_txid: txid(9),
        timestamp_ms: 1_700_000_000_000,
        wal_offset: 32,
        wal_size: 0,
        salts: (0, 0),
        node_id: 3,
        mark: Some(Mark { pre_apply: Checksum::EMPTY, post_apply: Checksum::EMPTY }),
    };
    let page = |n: u32| (PageNo::try_new(n).unwrap(), n.to_le_bytes().repeat(128));
    let bytes = LtxFile { header: header.clone(), pages: (1..=pages).map(page).collect() }.encode().unwrap();
    let (pieces_in, pieces) = tokio::sync::mpsc::channel(1_000);
    for part in bytes.chunks(part_bytes) {
        pieces_in.try_send(DerivedPiece::Part(Bytes::copy_from_slice(part))).unwrap();
    }
    let trailer: [u8; TRAILER_SIZE] = *bytes.last_chunk().unwrap();
    let whole = WholeFile { size: bytes.len() as u64, trailer, pages: pages as usize };
    pieces_in.try_send(DerivedPiece::End(whole)).unwrap();
    let name = FileName::try_new(txid(2), txid(9)).unwrap();
    let (level, sum) = (Level::MERGED[0], Checksum::EMPTY);
    let job = Job { level, name, pre_apply: sum, post_apply: sum, pages: DirtyPages::new() };
    DerivedFile { job, header, part_bytes: part_bytes as u64, pieces, cancelled: CancellationToken::new() }
}

async fn written(fault: Fault, file: DerivedFile) -> Result<Written, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::new(folder.path(), fault).await;
    write(&Bucket::new(store, Layout::Directory), file).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_counts_when_it_was_read_back_as_it_was_sent() {
    for (pages, part) in [(3, 1 << 20), (3, 100), (9_000, 50_000)] {
        let written = written(Fault::None, file(pages, part)).await.unwrap();
        let parts = u32::try_from(written.size.div_ceil(part as u64)).unwrap();
        assert_eq!(written.requests, if parts > 1 { parts + 9 } else { 2 });
    }
}

/// Trap 29: nothing may be deleted for the sake of a file that cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_merged_file_that_does_not_come_back_as_it_was_sent_stands_for_nothing() {
    for fault in [Fault::FlipsAByte(20), Fault::FlipsAByte(150), Fault::LosesTheEnd] {
        let failure = written(fault, file(3, 1 << 20)).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Damaged, "{fault:?}: {failure}");
    }
    let large = written(Fault::LosesTheEnd, file(9_000, 150_000)).await.unwrap_err();
    assert_eq!(large.exit, Exit::Damaged, "{large}");
    let gone = written(Fault::TakesItAndHasNothing, file(3, 1 << 20)).await.unwrap_err();
    assert!(gone.message.contains("is not there"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_reader_stops_is_not_stored() {
    let whole = file(3, 100);
    let (pieces_in, pieces) = tokio::sync::mpsc::channel(1_000);
    pieces_in.try_send(DerivedPiece::Part(Bytes::from_static(&[1; 100]))).unwrap();
    drop(pieces_in);
    let failure = written(Fault::None, DerivedFile { pieces, ..whole }).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
}
