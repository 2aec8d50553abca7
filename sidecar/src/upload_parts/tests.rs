use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lifeboat_ltx::{Checksum, Header, Mark, Txid};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::layout::Layout;
use lifeboat_replica::slot::SlotIdentity;
use lifeboat_store::{Directory, Store, StoreError};
use lifeboat_wal::{PageCount, PageSize};
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::board::Board;
use crate::config::Config;
use crate::faulty::{Faults, Faulty, Request, no_answer, place};
use crate::slot_file::NextSlot;
use crate::watch::Watcher;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The first two requests of each part get no answer.
    PartsAreSlow,
    PartsAreRefused,
    /// The object is created, but nobody hears of it.
    AnswerIsLost,
    /// As before, and then nobody knows of the upload any more.
    AnswerAndUploadAreLost,
    /// The upload vanishes instead of becoming an object.
    UploadIsLost,
    /// It is never completed; the words for that are an error of the server, or a refusal.
    CompletionFails,
    CompletionIsRefused,
    /// Parts, and then everything, get no answer.
    BucketIsAway,
}

/// A bucket with which this goes wrong.
#[derive(Debug)]
struct Unlucky {
    fault: Fault,
    asked: AtomicUsize,
}

#[async_trait]
impl Faults for Unlucky {
    async fn before(&self, store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        let key = if let Request::PutPart(upload, _) | Request::CompleteNew(upload) = request {
            upload.key.as_str()
        } else if let Request::Get(key) = request {
            key
        } else {
            return Ok(());
        };
        let refused =
            |reason: &str| Err(StoreError::Refused { place: place(key), reason: reason.to_owned() });
        match (self.fault, request) {
            (Fault::PartsAreSlow, Request::PutPart(..))
                if self.asked.fetch_add(1, Ordering::Relaxed) % 3 < 2 =>
            {
                Err(no_answer(key))
            }
            (Fault::PartsAreRefused, Request::PutPart(_, 3)) => refused("too good"),
            (Fault::CompletionIsRefused, Request::CompleteNew(_)) => refused("not this one"),
            (Fault::CompletionFails, Request::CompleteNew(_)) | (Fault::BucketIsAway, Request::Get(_)) => {
                Err(no_answer(key))
            }
            (Fault::AnswerIsLost, Request::CompleteNew(_)) if self.asked.load(Ordering::Relaxed) > 0 => {
                Err(StoreError::Exists { place: place(key) })
            }
            (Fault::AnswerAndUploadAreLost, Request::CompleteNew(_))
                if self.asked.load(Ordering::Relaxed) == 0 =>
            {
                Ok(())
            }
            (Fault::UploadIsLost | Fault::AnswerAndUploadAreLost, Request::CompleteNew(upload)) => {
                store.abandon(upload).await?;
                Err(StoreError::UploadGone { place: place(key) })
            }
            _ => Ok(()),
        }
    }

    async fn after(&self, _store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        match (self.fault, request) {
            (Fault::AnswerIsLost | Fault::AnswerAndUploadAreLost, Request::CompleteNew(upload)) => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                Err(no_answer(&upload.key))
            }
            _ => Ok(()),
        }
    }
}

struct World {
    folder: tempfile::TempDir,
    bucket: Bucket,
    post: Post,
    shared: Shared,
    content: Vec<u8>,
}

const PART: usize = 1000;
const KEY: &str = "ltx/0/0000000000000002-0000000000000002.ltx";

impl World {
    async fn new(fault: Fault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Faulty::new(folder.path(), Unlucky { fault, asked: AtomicUsize::new(0) }).await;
        let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
        let shared = Shared::new(Arc::new(Config::default()), Watcher::start().unwrap(), Arc::default());
        let post = Board::new(Watcher::start().unwrap()).add(&config.databases[0]);
        let content = [header().encode().unwrap().as_slice(), &[7; 3500]].concat();
        Self { folder, bucket: Bucket::new(store, Layout::Directory), post, shared, content }
    }

    fn slot(&self) -> SlotFile {
        let trailer = self.content[self.content.len() - 16..].to_vec();
        SlotFile {
            header: header(),
            post_apply: Checksum::EMPTY,
            changed: DirtyPages::new(),
            body: Body::from(self.content[..PART].to_vec()),
            identity: SlotIdentity {
                size: self.content.len() as u64,
                header: self.content[..100].to_vec(),
                trailer,
            },
        }
    }

    /// Sends the content as the reader does.
    async fn store(&self) -> Result<Streamed, Failure> {
        let (slot, sender) = self.streamed().await;
        let parts: Vec<_> = self.content.chunks(PART).skip(1).map(Bytes::copy_from_slice).collect();
        let end = self.slot();
        tokio::spawn(async move {
            for part in parts {
                let _ = sender.send(Piece::Part(part)).await;
            }
            let _ = sender.send(Piece::Slot(Box::new(end))).await;
        });
        store(&self.bucket, slot, &self.post, &self.shared).await
    }

    async fn streamed(&self) -> (StreamedSlot, Sender<Piece>) {
        let (sender, pieces) = channel(1);
        let txid = Txid::try_new(2).unwrap();
        let next = NextSlot { txid, epoch: Epoch::new(4), pre_apply: Checksum::EMPTY };
        let (cancelled, turn) = (CancellationToken::new(), self.shared.large_upload().await);
        (StreamedSlot { next, timestamp_ms: 0, part_bytes: PART as u64, pieces, cancelled, turn }, sender)
    }

    fn stored(&self) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(KEY)).ok()
    }

    /// Every file there is, hidden ones too.
    fn files(&self) -> usize {
        self.folder.path().join("ltx/0").read_dir().map_or(0, Iterator::count)
    }
}

fn header() -> Header {
    let txid = Txid::try_new(2).unwrap();
    Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(1),
        min_txid: txid,
        max_txid: txid,
        timestamp_ms: 0,
        wal_offset: 32,
        wal_size: 0,
        salts: (0, 0),
        node_id: 4,
        mark: Some(Mark { pre_apply: Checksum::EMPTY, post_apply: Checksum::EMPTY }),
    }
}

#[tokio::test]
async fn the_parts_are_the_slot() {
    for fault in [Fault::None, Fault::PartsAreSlow] {
        let world = World::new(fault).await;
        let stored = world.store().await.unwrap();
        assert!(matches!(stored, Streamed::Stored { requests: 6, .. }), "{fault:?}: {stored:?}");
        assert_eq!(world.stored().unwrap(), world.content);
        assert_eq!(world.files(), 1);
    }
}

#[tokio::test]
async fn a_slot_that_fits_into_its_first_part_is_an_ordinary_one() {
    let world = World::new(Fault::PartsAreRefused).await;
    let (slot, sender) = world.streamed().await;
    sender.send(Piece::Slot(Box::new(world.slot()))).await.unwrap();
    let stored = store(&world.bucket, slot, &world.post, &world.shared).await.unwrap();
    assert!(matches!(stored, Streamed::Stored { .. }));
    assert_eq!(world.stored().unwrap(), world.content[..PART]);
}

#[tokio::test]
async fn a_refused_part_gives_the_slot_up_and_leaves_nothing() {
    let world = World::new(Fault::PartsAreRefused).await;
    let stored = world.store().await.unwrap();
    assert!(matches!(stored, Streamed::GivenUp { is_spooled: true, .. }), "{stored:?}");
    assert_eq!((world.stored(), world.files()), (None, 0));
}

#[tokio::test]
async fn a_reader_that_stops_gives_the_slot_up_and_leaves_nothing() {
    let world = World::new(Fault::None).await;
    for is_cancelled in [false, true] {
        let (slot, sender) = world.streamed().await;
        let cancelled = slot.cancelled.clone();
        tokio::spawn(async move {
            // When there is room for the third, the upload is begun.
            for _ in 0..3 {
                sender.send(Piece::Part(Bytes::from(vec![1; PART]))).await.unwrap();
            }
            if is_cancelled {
                cancelled.cancel();
                sender.closed().await;
            }
        });
        let stored = store(&world.bucket, slot, &world.post, &world.shared).await.unwrap();
        assert!(matches!(stored, Streamed::GivenUp { is_spooled: false, .. }), "{stored:?}");
        assert_eq!((world.stored(), world.files()), (None, 0));
    }
}

#[tokio::test]
async fn nothing_to_store_asks_the_bucket_nothing() {
    let world = World::new(Fault::PartsAreRefused).await;
    let (slot, sender) = world.streamed().await;
    sender.send(Piece::Nothing).await.unwrap();
    assert!(matches!(
        store(&world.bucket, slot, &world.post, &world.shared).await.unwrap(),
        Streamed::Nothing
    ));
}

#[tokio::test]
async fn a_lost_answer_is_found_out_by_reading_the_slot() {
    for fault in [Fault::AnswerIsLost, Fault::AnswerAndUploadAreLost] {
        let world = World::new(fault).await;
        let stored = world.store().await.unwrap();
        assert!(matches!(stored, Streamed::Stored { .. }), "{fault:?}: {stored:?}");
        assert_eq!(world.stored().unwrap(), world.content);
    }
}

#[tokio::test]
async fn an_upload_that_vanished_without_a_slot_is_not_known_to_have_failed() {
    let world = World::new(Fault::UploadIsLost).await;
    let stored = world.store().await.unwrap();
    let Streamed::Unknown { failure, is_refused: false } = stored else { panic!("{stored:?}") };
    assert_eq!((failure.exit, failure.reason), (Exit::Unavailable, Reason::StoreUnavailable));
    assert!(failure.message.contains("claiming the replica anew"), "{failure}");
}

#[tokio::test]
async fn a_bucket_that_answers_and_never_completes_is_not_asked_for_ever() {
    for fault in [Fault::CompletionIsRefused, Fault::CompletionFails] {
        let world = World::new(fault).await;
        let stored = tokio::time::timeout(Duration::from_secs(50), world.store()).await.unwrap().unwrap();
        assert!(matches!(stored, Streamed::Unknown { is_refused: true, .. }), "{fault:?}: {stored:?}");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_bucket_that_is_away_keeps_nobody_from_his_turn() {
    let world = World::new(Fault::BucketIsAway).await;
    let (slot, sender) = world.streamed().await;
    // The reader stops; what follows asks the bucket until it answers.
    drop(sender);
    let mut stored = std::pin::pin!(store(&world.bucket, slot, &world.post, &world.shared));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut stored).await;
    assert!(waited.is_err(), "{waited:?}");
    for _ in 0..world.shared.config.max_concurrent_uploads.div_ceil(2) {
        let turn = tokio::time::timeout(Duration::from_millis(100), world.shared.large_upload());
        std::mem::forget(turn.await.unwrap());
    }
    assert!(world.post.status().unwrap().away_since.is_some(), "the status says so");
}

#[tokio::test]
async fn another_writers_slot_fences() {
    let world = World::new(Fault::None).await;
    let theirs = Header { node_id: 5, ..header() };
    let theirs = [theirs.encode().unwrap().as_slice(), &[7; 100]].concat();
    let path = world.folder.path().join(KEY);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &theirs).unwrap();
    let failure = world.store().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Fenced, "{failure}");
    assert_eq!(world.stored().unwrap(), theirs);
}
