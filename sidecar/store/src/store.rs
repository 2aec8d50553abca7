//! What a bucket must be able to do.
//!
//! Keys are relative to the root of a replica; the store puts its own path in front. They are plain names with `/`
//! between them, never empty, without `.` or `..`.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::error::StoreError;

/// A bucket, or what serves as one.
///
/// Every promise here is tested by [`crate::conformance`]. Writes whose outcome is unknown
/// ([`StoreError::is_retry`]) are not repeated inside: only the caller knows what a repetition means.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Creates an object, exclusively: of many creators at once exactly one succeeds, and nothing is overwritten.
    ///
    /// `timestamp_ms` (milliseconds since 1970) is kept beside the object as its creation time, in the way Litestream
    /// does.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the key is taken, also by an earlier attempt of this very write.
    async fn put_new(&self, key: &str, body: Body, timestamp_ms: Option<i64>) -> Result<ETag, StoreError>;

    /// Begins an object that is sent in parts, because it is large or its end is not known yet. There is no object until
    /// [`complete_new`](Store::complete_new). Every part but the last has `part_bytes` bytes: at least 5 MiB, and at most
    /// 10,000 parts.
    ///
    /// # Errors
    /// As any write. An upload that was begun and is not known to the caller stays until somebody removes it.
    async fn begin_parts(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError>;

    /// Sends one part, numbered from 1, in any order. Sent again it takes the place of the one before.
    ///
    /// # Errors
    /// [`StoreError::UploadGone`] when there is no such upload.
    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError>;

    /// Makes the parts, in order, one object, exclusively as [`put_new`](Store::put_new) does; asked again after it did, it
    /// may say so again. Not every server keeps that word here: see [`completes_exclusively`](crate::completes_exclusively).
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the key is taken, also by an earlier attempt of this very write;
    /// [`StoreError::UploadGone`] when there is no such upload, which may mean that an earlier attempt succeeded.
    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError>;

    /// Gives up an upload and its parts. One that is gone is fine.
    ///
    /// # Errors
    /// When it may still be there.
    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError>;

    /// The uploads that anybody began below `prefix` and neither completed nor gave up, to [`abandon`](Store::abandon) them;
    /// whoever still sends parts then learns that his upload is gone. Those behind a further `/` need not be among them.
    ///
    /// # Errors
    /// When the store cannot tell, or not everything.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError>;

    /// Makes one more object with the content of another, and its creation time, inside the store: no byte comes by here.
    ///
    /// `to` is a name that is used for one content only. If something stands there, the store says so, or puts the copy in
    /// its place.
    ///
    /// # Errors
    /// [`StoreError::LostRace`] when the source is another one, [`StoreError::Absent`] when there is none,
    /// [`StoreError::Exists`] as above.
    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError>;

    /// Replaces an object if it is still the one with this ETag.
    ///
    /// # Errors
    /// [`StoreError::LostRace`] when it is another one, [`StoreError::Absent`] when there is none.
    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError>;

    /// Reads a whole object of at most `max_bytes`.
    ///
    /// # Errors
    /// [`StoreError::Absent`] when there is none, [`StoreError::TooLarge`] when it is larger.
    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError>;

    /// Reads exactly these bytes of an object, if it is the one with this ETag.
    ///
    /// # Errors
    /// [`StoreError::LostRace`] when it is another one, [`StoreError::Absent`] when there is none,
    /// [`StoreError::Mangled`] when it does not have these bytes.
    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError>;

    /// Opens an object of any size for reading from front to back, if it is the one with this ETag.
    ///
    /// # Errors
    /// As [`Store::get_range`]. Failures while reading come from the reader, and mean: read again.
    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError>;

    /// Lists every object whose key begins with `prefix`, by key. Complete, or an error: a list that was cut short is
    /// never passed on.
    ///
    /// # Errors
    /// [`StoreError::BucketAbsent`] when there is no bucket, which is not the same as an empty list.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.list_after(prefix, "").await
    }

    /// The same, of the keys that come after this one only; whether it exists does not matter.
    ///
    /// # Errors
    /// As [`Store::list`].
    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError>;

    /// Deletes objects. Keys without an object are fine. After an error any of them may be gone.
    ///
    /// # Errors
    /// When an object could not be deleted.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// Where this is, for messages: bucket, path and endpoint, never a secret.
    fn describe(&self) -> String;
}

/// The content of a new object. Its length is known, and it can be sent more than once.
#[derive(Clone, Debug)]
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// The first `len` bytes of a file, which may have lost its name already.
    File {
        /// The file. Its own position is neither used nor moved.
        file: Arc<File>,
        /// How many bytes of it.
        len: u64,
    },
}

impl Body {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// An object that is being sent in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The object's key.
    pub key: String,
    /// Names this upload, as the store does.
    pub id: String,
    /// Size of every part but the last, bytes; 0 of one that somebody else began.
    pub part_bytes: u64,
}

/// Names one content of one key, as the store writes it. Only good for comparing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(String);

impl ETag {
    /// An ETag as a store wrote it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the store writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Names this content.
    pub etag: ETag,
}

/// An object that is being read.
pub struct ObjectReader {
    /// Its size in bytes.
    pub size: u64,
    /// Names this content.
    pub etag: ETag,
    /// Its content. Ends with an error, not early, when the connection breaks.
    pub reader: Pin<Box<dyn AsyncRead + Send>>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader")
            .field("size", &self.size)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key, relative to the root like every key here.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Names the content.
    pub etag: ETag,
    /// When it was stored, by the store's clock: milliseconds since 1970, where it says so. Nothing of ours is ordered by it.
    pub modified_ms: Option<i64>,
}
