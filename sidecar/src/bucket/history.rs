//! Merged files, snapshots, and what is deleted: the part of a bucket that one writer alone ever touches.

use bytes::Bytes;
use lifeboat_ltx::{FileName, Header, Tail};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::Level;
use lifeboat_store::{Body, ETag, Listed, StoreError, Upload};
use tokio::io::AsyncRead;

use super::Bucket;
use crate::exit::Failure;

/// A file without its pages, unless it is small.
#[derive(Debug)]
pub struct FileEnds {
    /// Bytes.
    pub size: u64,
    /// Its header.
    pub header: Header,
    /// Its page index and trailer.
    pub tail: Tail,
    /// All of it, where that is not much.
    pub whole: Option<Vec<u8>>,
}

impl Bucket {
    /// Where a file of a level goes.
    #[must_use]
    pub fn file_key(&self, level: Level, name: FileName) -> String {
        self.layout.file_key(level, name)
    }

    /// Creates a merged file. One that is there already has the same name because it has the same content.
    ///
    /// # Errors
    /// [`Failure`] when the answer did not come, or was a refusal.
    pub async fn create_file(&self, key: &str, bytes: Bytes, timestamp_ms: i64) -> Result<(), Failure> {
        created(self.store.put_new(key, Body::from(bytes), Some(timestamp_ms)).await)
    }

    /// Begins a merged file that is sent in parts.
    ///
    /// # Errors
    /// As [`create_file`](Self::create_file).
    pub async fn begin_file(&self, key: &str, part_bytes: u64, timestamp_ms: i64) -> Result<Upload, Failure> {
        Ok(self.store.begin_parts(key, part_bytes, Some(timestamp_ms)).await?)
    }

    /// Creates a merged file from its parts. Says nothing about whether it is there if nobody knows of its parts any more:
    /// reading it back does.
    ///
    /// # Errors
    /// As [`create_file`](Self::create_file).
    pub async fn complete_file(&self, upload: &Upload, parts: &[ETag]) -> Result<(), Failure> {
        match self.store.complete_new(upload, parts).await {
            Err(StoreError::UploadGone { .. }) => Ok(()),
            completed => created(completed),
        }
    }

    /// Copies the slot that holds every page to where snapshots are.
    ///
    /// # Errors
    /// As [`create_file`](Self::create_file).
    pub async fn copy_to_snapshots(&self, slot: &FileEntry) -> Result<FileEntry, Failure> {
        let key = self.file_key(Level::SNAPSHOT, FileName::slot(slot.max));
        let from =
            Listed { key: slot.key.clone(), size: slot.size, etag: ETag::new(&slot.etag), modified_ms: None };
        match self.store.copy_new(&from, &key).await {
            Ok(etag) => Ok(FileEntry { level: Level::SNAPSHOT, key, etag: etag.to_string(), ..slot.clone() }),
            Err(StoreError::Exists { .. }) => {
                Ok(FileEntry { level: Level::SNAPSHOT, key, etag: String::new(), ..slot.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The header of a file that must be there.
    ///
    /// # Errors
    /// [`Failure`] when it is gone, cannot be read, or is damaged.
    pub async fn live_header(&self, file: &FileEntry) -> Result<Header, Failure> {
        let gone = || Failure::unavailable(format!("{self}: {} was listed and is gone", file.key));
        self.header(file).await?.ok_or_else(gone)
    }

    /// A file without its pages; `None` where it is proved absent.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read, or is damaged.
    pub async fn ends(&self, key: &str) -> Result<Option<FileEnds>, Failure> {
        let Some((object, mut begin)) = self.begin_of(key, WHOLE_BYTES_MAX).await? else { return Ok(None) };
        let (size, etag) = (object.size, object.etag);
        let wrong = |error: &dyn std::fmt::Display| self.damaged(key, error);
        let header = Header::decode(&begin).map_err(|error| wrong(&error))?;
        let is_whole = begin.len() as u64 == size;
        if !is_whole {
            let range = |bytes: u64| self.store.get_range(key, size.saturating_sub(bytes)..size, Some(&etag));
            begin = range(TAIL_GUESS).await?.to_vec();
            let needed = Tail::size(&begin, size).map_err(|error| wrong(&error))?;
            if needed > TAIL_GUESS {
                begin = range(needed).await?.to_vec();
            }
        }
        let tail = Tail::decode(&header, size, &begin).map_err(|error| wrong(&error))?;
        Ok(Some(FileEnds { size, header, tail, whole: is_whole.then_some(begin) }))
    }

    /// Deletes files that are dead.
    ///
    /// # Errors
    /// [`Failure`] when one of them may still be there.
    pub async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        Ok(self.store.delete(keys).await?)
    }

    /// Everything below a prefix, ours or not.
    ///
    /// # Errors
    /// [`Failure`] when the list cannot be read completely.
    pub async fn list_below(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        Ok(self.store.list(prefix).await?)
    }

    /// The bytes of an object, from front to back, of this version only.
    ///
    /// # Errors
    /// [`Failure`] when it is gone, or cannot be read.
    pub async fn open_object(
        &self,
        key: &str,
        etag: &str,
    ) -> Result<impl AsyncRead + Send + Unpin + use<>, Failure> {
        Ok(self.store.open(key, Some(&ETag::new(etag))).await?.reader)
    }

    /// Every slot after this floor, and every file of the other levels.
    ///
    /// # Errors
    /// [`Failure`] when a list cannot be read completely.
    pub async fn live_files(&self, floor: u64) -> Result<Vec<FileEntry>, Failure> {
        let mut files = Vec::new();
        for level in Level::ALL {
            let after = if level == Level::CAPTURED { floor } else { 0 };
            files.extend(self.level_after(level, after).await?);
        }
        Ok(files)
    }
}

pub(super) fn created(written: Result<ETag, StoreError>) -> Result<(), Failure> {
    match written {
        Ok(_) | Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Files up to this size are read whole: one request instead of two.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;
/// As much of a file's end as is read before it is known how much that must be.
const TAIL_GUESS: u64 = 64 * 1024;
