//! The replica in its store, in the words of `lifeboat_replica`: heads, slots, inventories.
//!
//! Nothing here decides. An answer that did not come stays a failure or [`WriteAnswer::Unclear`]; it never becomes
//! *absent*.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_ltx::{FileName, HEADER_SIZE, Header, SEAL_SIZE, TRAILER_SIZE, Txid, is_seal};
use lifeboat_replica::claim::SlotRead;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::head::{HEAD_BYTES_MAX, Head};
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_replica::slot::{FoundSlot, SlotIdentity, WriteAnswer};
use lifeboat_store::{Body, ETag, Listed, ObjectReader, Store, StoreError, Upload, completes_exclusively};
use lifeboat_wire::Reason;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, OnceCell};

use crate::clock::wall_ms;
use crate::exit::Failure;
use crate::pod;
use crate::slot_file::SlotFile;
use crate::streaming::StreamedSlot;
use crate::upload;

mod forks;
mod history;

pub use self::history::FileEnds;
use self::history::created;

/// One replica and the store it is in.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn Store>,
    layout: Layout,
    takes_parts: Arc<OnceCell<bool>>,
    /// Held by the one who asks whether the store answers, of all who wait for that.
    asking: Arc<Mutex<()>>,
}

/// What became of a slot whose parts are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It is created.
    Done,
    /// Something stands there.
    Taken,
    /// Nobody knows of its parts, perhaps because it was created by an earlier request.
    Gone,
}

impl Bucket {
    /// The replica at the root of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, layout: Layout) -> Self {
        Self { store, layout, takes_parts: Arc::default(), asking: Arc::default() }
    }

    /// The same, with whoever else waits for the same store: of all of them [one asks](Self::answers) at a time.
    #[must_use]
    pub fn asking_with(self, asking: Arc<Mutex<()>>) -> Self {
        Self { asking, ..self }
    }

    /// Returns when the store answers for this replica, with whatever it is; calls `away` each time it does not.
    pub async fn answers(&self, away: impl Fn()) {
        loop {
            let _asking = self.asking.lock().await;
            match self.head().await {
                Err(failure) if upload::is_passing(&failure) => away(),
                Ok(_) | Err(_) => return,
            }
            // Thousands may wait.
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// The head and its version; `None` where the key, but not the bucket, is proved absent.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read, or is none.
    pub async fn head(&self) -> Result<Option<(Head, String)>, Failure> {
        match self.store.get(self.layout.head_key(), HEAD_BYTES_MAX).await {
            Ok(object) => {
                let head = Head::decode(&object.bytes);
                let head = head
                    .map_err(|error| Failure::damaged(Reason::IntegrityFailed, format!("{self}: {error}")))?;
                Ok(Some((head, object.etag.to_string())))
            }
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the head.
    ///
    /// # Errors
    /// [`Failure`] when the answer did not come, or was a refusal.
    pub async fn create_head(&self, head: &Head) -> Result<(WriteAnswer, Option<String>), Failure> {
        let body = Body::from(head.encode());
        answer(self.store.put_new(self.layout.head_key(), body, None).await)
    }

    /// Replaces the version `etag` of the head.
    ///
    /// # Errors
    /// As [`create_head`](Self::create_head).
    pub async fn replace_head(
        &self,
        head: &Head,
        etag: &str,
    ) -> Result<(WriteAnswer, Option<String>), Failure> {
        let body = Bytes::from(head.encode());
        answer(self.store.put_if_match(self.layout.head_key(), body, &ETag::new(etag)).await)
    }

    /// Every file of every level, listed upwards, and the head, read last.
    ///
    /// # Errors
    /// [`Failure`] when anything of it cannot be read.
    pub async fn inventory(&self) -> Result<Inventory, Failure> {
        let files = self.files().await?;
        Ok(Inventory::new(files, self.head().await?.map(|(head, _)| head)))
    }

    /// Every file of every level, dead or alive.
    ///
    /// # Errors
    /// [`Failure`] when a list cannot be read completely.
    pub async fn files(&self) -> Result<Vec<FileEntry>, Failure> {
        self.live_files(0).await
    }

    /// The slots after `floor`, ascending.
    ///
    /// # Errors
    /// [`Failure`] when the list cannot be read completely.
    pub async fn slots(&self, floor: u64) -> Result<Vec<FileEntry>, Failure> {
        let mut slots = self.level_after(Level::CAPTURED, floor).await?;
        slots.sort_unstable_by_key(|file| file.max);
        Ok(slots)
    }

    /// The files of a level whose names come after those of files that begin at `txid`.
    async fn level_after(&self, level: Level, txid: u64) -> Result<Vec<FileEntry>, Failure> {
        let after = Txid::try_new(txid).map(|txid| self.layout.file_key(level, FileName::slot(txid)));
        let listed =
            self.store.list_after(&self.layout.level_prefix(level), &after.unwrap_or_default()).await?;
        Ok(listed.into_iter().filter_map(|listed| self.entry(level, listed)).collect())
    }

    fn entry(&self, level: Level, listed: Listed) -> Option<FileEntry> {
        let name = self.layout.parse_file_key(level, &listed.key)?;
        let etag = listed.etag.to_string();
        Some(FileEntry { level, min: name.min(), max: name.max(), size: listed.size, key: listed.key, etag })
    }

    /// A slot's header, and the whole of it where it is a seal; `None` where it is proved absent.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read, or is damaged.
    pub async fn slot(&self, txid: Txid) -> Result<Option<SlotRead>, Failure> {
        let key = self.layout.slot_key(txid);
        let Some((object, begin)) = self.begin_of(&key, SEAL_SIZE).await? else { return Ok(None) };
        let header = Header::decode(&begin).map_err(|error| self.damaged(&key, &error))?;
        Ok(Some(SlotRead { header, seal: is_seal(object.size).then_some(begin) }))
    }

    /// What stands where a slot of ours should go.
    ///
    /// # Errors
    /// As [`slot`](Self::slot).
    pub async fn found(&self, txid: Txid) -> Result<FoundSlot, Failure> {
        let key = self.layout.slot_key(txid);
        let Some((object, header)) = self.begin_of(&key, HEADER_SIZE as u64).await? else {
            return Ok(FoundSlot::Absent);
        };
        let size = object.size;
        let trailer = size.saturating_sub(TRAILER_SIZE as u64)..size;
        let trailer = self.store.get_range(&key, trailer, Some(&object.etag)).await?.to_vec();
        let epoch = Epoch::new(Header::decode(&header).map_or(0, |header| header.node_id));
        Ok(FoundSlot::Present { identity: SlotIdentity { size, header, trailer }, epoch })
    }

    /// An object and its first bytes, at most `max`; `None` where it is proved absent.
    async fn begin_of(&self, key: &str, max: u64) -> Result<Option<(ObjectReader, Vec<u8>)>, Failure> {
        let mut object = match self.store.open(key, None).await {
            Ok(object) => object,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut begin = Vec::new();
        let read = (&mut object.reader).take(max).read_to_end(&mut begin).await;
        read.map_err(|error| Failure::unavailable(format!("{self}: {key}: {error}")))?;
        Ok(Some((object, begin)))
    }

    /// Creates a seal.
    ///
    /// # Errors
    /// As [`create_head`](Self::create_head).
    pub async fn create_seal(&self, txid: Txid, bytes: &[u8]) -> Result<WriteAnswer, Failure> {
        let body = Body::from(bytes.to_vec());
        let written = self.store.put_new(&self.layout.slot_key(txid), body, Some(wall_ms())).await;
        answer(written).map(|(answer, _)| answer)
    }

    /// Creates a slot.
    ///
    /// # Errors
    /// As [`create_head`](Self::create_head).
    pub async fn create_slot(&self, slot: &SlotFile) -> Result<WriteAnswer, Failure> {
        let key = self.layout.slot_key(slot.header.max_txid);
        let written = self.store.put_new(&key, slot.body.clone(), Some(slot.header.timestamp_ms)).await;
        answer(written).map(|(answer, _)| answer)
    }

    /// Begins a slot that is sent in parts. Nothing stands under its key until it is completed.
    ///
    /// # Errors
    /// As [`create_head`](Self::create_head).
    pub async fn begin_slot(&self, slot: &StreamedSlot) -> Result<Upload, Failure> {
        let key = self.layout.slot_key(slot.next.txid);
        Ok(self.store.begin_parts(&key, slot.part_bytes, Some(slot.timestamp_ms)).await?)
    }

    /// Sends a part, numbered from 1.
    ///
    /// # Errors
    /// [`Failure`] when the answer did not come, or was a refusal.
    pub async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, Failure> {
        Ok(self.store.put_part(upload, number, bytes).await?)
    }

    /// Creates the slot from its parts.
    ///
    /// # Errors
    /// As [`create_head`](Self::create_head).
    pub async fn complete_slot(&self, upload: &Upload, parts: &[ETag]) -> Result<Completed, Failure> {
        match self.store.complete_new(upload, parts).await {
            Ok(_) => Ok(Completed::Done),
            Err(StoreError::Exists { .. }) => Ok(Completed::Taken),
            Err(StoreError::UploadGone { .. }) => Ok(Completed::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives up a slot that is not completed.
    ///
    /// # Errors
    /// [`Failure`] when its parts may still take up space.
    pub async fn abandon(&self, upload: &Upload) -> Result<(), Failure> {
        Ok(self.store.abandon(upload).await?)
    }

    /// Gives up what killed processes left of files of these levels that they were sending; returns how many. To be called
    /// by the owner, before it sends one of its own there: an overtaken writer that still does finds its upload gone, as it
    /// must.
    ///
    /// # Errors
    /// [`Failure`] when something may be left.
    pub async fn sweep(&self, levels: &[Level]) -> Result<usize, Failure> {
        let mut count = 0;
        for level in levels {
            let mut left = self.store.unfinished(&self.layout.level_prefix(*level)).await?;
            left.retain(|upload| self.layout.parse_file_key(*level, &upload.key).is_some());
            for upload in &left {
                self.store.abandon(upload).await?;
            }
            count += left.len();
        }
        Ok(count)
    }

    /// Whether a slot sent in parts never replaces another writer's: tried out once for each replica and process.
    ///
    /// # Errors
    /// [`Failure`] when the store did not answer.
    pub async fn takes_parts(&self) -> Result<bool, Failure> {
        let probe = || async {
            let scratch = self.layout.scratch_key(u128::from_ne_bytes(pod::random_bits()?));
            Ok::<_, Failure>(completes_exclusively(&*self.store, &scratch).await?)
        };
        self.takes_parts.get_or_try_init(probe).await.copied()
    }

    /// The header of a listed file; `None` where it is gone meanwhile, or is another one.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read, or is damaged.
    pub async fn header(&self, file: &FileEntry) -> Result<Option<Header>, Failure> {
        let begin = 0..file.size.min(HEADER_SIZE as u64);
        let Some(bytes) = self.range_of(file, begin).await? else { return Ok(None) };
        Header::decode(&bytes).map(Some).map_err(|error| self.damaged(&file.key, &error))
    }

    /// These bytes of a listed file; `None` where it is gone, or is not the one that was listed any more.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub async fn range_of(&self, file: &FileEntry, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        match self.store.get_range(&file.key, range, Some(&ETag::new(&file.etag))).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::Absent { .. } | StoreError::LostRace { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn damaged(&self, key: &str, error: &dyn fmt::Display) -> Failure {
        Failure::damaged(Reason::IntegrityFailed, format!("{self}: {key}: {error}"))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.store.describe())
    }
}

/// A condition that failed is an answer; everything else that went wrong is a failure.
fn answer(written: Result<ETag, StoreError>) -> Result<(WriteAnswer, Option<String>), Failure> {
    match written {
        Ok(etag) => Ok((WriteAnswer::Done, Some(etag.to_string()))),
        Err(StoreError::Exists { .. } | StoreError::LostRace { .. } | StoreError::Absent { .. }) => {
            Ok((WriteAnswer::Rejected, None))
        }
        Err(error) => Err(error.into()),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            // An object that goes or changes under a reader is looked at anew by whoever asked.
            StoreError::Conflict { .. }
            | StoreError::Busy { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Absent { .. }
            | StoreError::LostRace { .. }
            | StoreError::Exists { .. }
            | StoreError::Mangled { .. } => Self::unavailable(message),
            StoreError::BucketAbsent { .. } | StoreError::WrongRegion { .. } => {
                Self::refused(Reason::BucketNotFound, message)
            }
            StoreError::Denied { .. } | StoreError::NoCredentials { .. } => {
                Self::refused(Reason::StoreAccessDenied, message)
            }
            StoreError::Misconfigured { .. } => Self::usage(message),
            StoreError::TooLarge { .. } | StoreError::Refused { .. } | _ => {
                Self::refused(Reason::StoreUnavailable, message)
            }
        }
    }
}

/// How long nobody asks a store that did not answer, of those who only wait for that.
const ASK_PAUSE: Duration = Duration::from_secs(1);
