//! A directory as a store, for people without a bucket and for tests without a server.
//!
//! Objects are files. A new one is written beside its place under a hidden name, made durable, and then put in place by
//! an operation that fails when the name is taken. Replacing holds a lock on the folder while it compares and renames.
//! Everything is durable before success is reported: file first, then the folder that names it.

mod etag;
mod files;
mod parts;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Place, StoreError};
use crate::store::{Body, ETag, Listed, Object, ObjectReader, Store, Upload};

/// A directory as a store.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<Path>,
    store: Arc<str>,
}

impl Directory {
    /// Uses a directory that must exist: whoever reads wants to know that a name was mistyped.
    ///
    /// # Errors
    /// [`StoreError::BucketAbsent`] when there is no such directory.
    pub async fn open(root: PathBuf) -> Result<Self, StoreError> {
        let directory = Self::new(root);
        directory.run("", |root, _| files::check_root(root)).await?;
        Ok(directory)
    }

    /// Uses a directory, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Denied`] and others when it cannot be created.
    pub async fn create(root: PathBuf) -> Result<Self, StoreError> {
        let directory = Self::new(root);
        directory.run("", |root, _| files::create_folder(root)).await?;
        Ok(directory)
    }

    fn new(root: PathBuf) -> Self {
        let store = format!("file://{}", root.display()).into();
        Self { root: root.into(), store }
    }

    /// Runs file operations on a thread that may wait for the disk.
    async fn run<T, F>(&self, key: &str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Path, &str) -> Result<T, Trouble> + Send + 'static,
    {
        let (root, key) = (self.root.clone(), key.to_owned());
        let place = Place { key: key.clone(), store: self.store.clone() };
        let outcome = tokio::task::spawn_blocking(move || operation(&root, &key)).await;
        match outcome {
            Ok(outcome) => outcome.map_err(|trouble| trouble.into_error(place)),
            Err(stopped) => Err(StoreError::Unreachable { place, reason: stopped.to_string() }),
        }
    }
}

#[async_trait]
impl Store for Directory {
    async fn put_new(&self, key: &str, body: Body, timestamp_ms: Option<i64>) -> Result<ETag, StoreError> {
        self.run(key, move |root, key| files::put_new(root, key, &body, timestamp_ms)).await
    }

    async fn begin_parts(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError> {
        let id = self.run(key, move |root, key| parts::begin(root, key, timestamp_ms)).await?;
        Ok(Upload { key: key.to_owned(), id, part_bytes })
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError> {
        let of = upload.clone();
        self.run(&upload.key, move |root, _| parts::put(root, &of, number, &bytes)).await
    }

    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        let (of, parts) = (upload.clone(), parts.to_vec());
        self.run(&upload.key, move |root, _| parts::complete(root, &of, &parts)).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        let of = upload.clone();
        self.run(&upload.key, move |root, _| parts::abandon(root, &of)).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        self.run(prefix, parts::unfinished).await
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        let from = from.clone();
        self.run(to, move |root, to| files::link(root, &from, to)).await
    }

    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        let expected = expected.clone();
        self.run(key, move |root, key| files::put_if_match(root, key, &body, &expected)).await
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError> {
        self.run(key, move |root, key| files::get(root, key, max_bytes)).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        let if_match = if_match.cloned();
        self.run(key, move |root, key| files::get_range(root, key, range, if_match.as_ref())).await
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        let if_match = if_match.cloned();
        let opened = self.run(key, move |root, key| files::open(root, key, if_match.as_ref())).await?;
        let (file, size, etag) = opened;
        Ok(ObjectReader { size, etag, reader: Box::pin(tokio::fs::File::from_std(file)) })
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let after = after.to_owned();
        self.run(prefix, move |root, prefix| files::list(root, prefix, &after)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            self.run(key, files::delete).await?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.store.to_string()
    }
}

/// Why a file operation did not do what it was asked, before it is known where.
#[derive(Debug)]
pub(crate) enum Trouble {
    Absent,
    RootAbsent,
    NoFolder,
    Exists,
    LostRace,
    UploadGone,
    WrongParts,
    TooLarge { size: u64, max: u64 },
    OutOfRange { size: u64 },
    LockHeld,
    BadKey,
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Trouble {
    fn into_error(self, place: Place) -> StoreError {
        match self {
            Self::Absent => StoreError::Absent { place },
            Self::RootAbsent => StoreError::BucketAbsent { place: Place { key: String::new(), ..place } },
            Self::NoFolder => StoreError::Misconfigured {
                place,
                reason: "a file is where a folder is needed; name another place".to_owned(),
            },
            Self::Exists => StoreError::Exists { place },
            Self::LostRace => StoreError::LostRace { place },
            Self::UploadGone => StoreError::UploadGone { place },
            Self::WrongParts => {
                StoreError::Mangled { place, reason: "its parts are not those that were sent".to_owned() }
            }
            Self::TooLarge { size, max } => StoreError::TooLarge { place, size, max },
            Self::OutOfRange { size } => {
                StoreError::Mangled { place, reason: format!("it has only {size} bytes") }
            }
            Self::LockHeld => {
                let reason = "another process holds the lock on its folder".to_owned();
                StoreError::Busy { place, reason, retry_after: None }
            }
            Self::BadKey => StoreError::Misconfigured { place, reason: "this is no key".to_owned() },
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                StoreError::Denied { place, reason: error.to_string() }
            }
            // A full or failing disk; whether a write took effect is unknown.
            Self::Io(error) => StoreError::Busy { place, reason: error.to_string(), retry_after: None },
        }
    }
}

#[cfg(test)]
mod tests;
