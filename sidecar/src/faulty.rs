//! A folder that is a store, and of which a test says what goes wrong with it.

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Body, Directory, ETag, Listed, Object, ObjectReader, Place, Store, StoreError, Upload};

/// What a store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    PutNew(&'a str),
    BeginParts(&'a str),
    PutPart(&'a Upload, u32),
    CompleteNew(&'a Upload),
    Abandon(&'a Upload),
    Unfinished(&'a str),
    PutIfMatch(&'a str),
    Get(&'a str),
    GetRange(&'a str),
    Open(&'a str),
    List(&'a str),
    CopyNew(&'a str),
    Delete,
}

/// What goes wrong. Where a test says nothing, nothing does.
#[async_trait]
pub(crate) trait Faults: Debug + Send + Sync {
    /// Before the store hears of a request; after an error it never does.
    async fn before(&self, _store: &Directory, _request: Request<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// When the store has done it; after an error nobody hears of its answer.
    async fn after(&self, _store: &Directory, _request: Request<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// What becomes of bytes on their way to the store.
    fn sent(&self, _request: Request<'_>, bytes: Bytes) -> Bytes {
        bytes
    }
}

/// An honest folder behind a faulty road.
#[derive(Debug)]
pub(crate) struct Faulty<F> {
    store: Directory,
    pub(crate) faults: F,
}

impl<F: Faults> Faulty<F> {
    /// The store in this folder, which is made if it is not there.
    pub(crate) async fn new(folder: &Path, faults: F) -> Arc<Self> {
        Arc::new(Self { store: Directory::create(folder.into()).await.unwrap(), faults })
    }

    async fn before(&self, request: Request<'_>) -> Result<(), StoreError> {
        self.faults.before(&self.store, request).await
    }

    async fn after<T>(&self, request: Request<'_>, done: Result<T, StoreError>) -> Result<T, StoreError> {
        self.faults.after(&self.store, request).await?;
        done
    }
}

/// Nobody hears of the request, or of the answer.
pub(crate) fn no_answer(key: &str) -> StoreError {
    StoreError::Unreachable { place: place(key), reason: "cut".to_owned() }
}

/// An object in the words of an error.
pub(crate) fn place(key: &str) -> Place {
    Place { key: key.to_owned(), store: "a faulty store".into() }
}

#[async_trait]
impl<F: Faults> Store for Faulty<F> {
    async fn put_new(&self, key: &str, body: Body, time: Option<i64>) -> Result<ETag, StoreError> {
        let request = Request::PutNew(key);
        self.before(request).await?;
        let body = match body {
            Body::Bytes(bytes) => self.faults.sent(request, bytes).into(),
            Body::File { .. } => body,
        };
        self.after(request, self.store.put_new(key, body, time).await).await
    }

    async fn begin_parts(&self, key: &str, bytes: u64, time: Option<i64>) -> Result<Upload, StoreError> {
        let request = Request::BeginParts(key);
        self.before(request).await?;
        self.after(request, self.store.begin_parts(key, bytes, time).await).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError> {
        let request = Request::PutPart(upload, number);
        self.before(request).await?;
        let bytes = self.faults.sent(request, bytes);
        self.after(request, self.store.put_part(upload, number, bytes).await).await
    }

    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        let request = Request::CompleteNew(upload);
        self.before(request).await?;
        self.after(request, self.store.complete_new(upload, parts).await).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        let request = Request::Abandon(upload);
        self.before(request).await?;
        self.after(request, self.store.abandon(upload).await).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let request = Request::Unfinished(prefix);
        self.before(request).await?;
        self.after(request, self.store.unfinished(prefix).await).await
    }

    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        let request = Request::PutIfMatch(key);
        self.before(request).await?;
        self.after(request, self.store.put_if_match(key, body, expected).await).await
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError> {
        let request = Request::Get(key);
        self.before(request).await?;
        self.after(request, self.store.get(key, max_bytes).await).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        let request = Request::GetRange(key);
        self.before(request).await?;
        self.after(request, self.store.get_range(key, range, etag).await).await
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        let request = Request::Open(key);
        self.before(request).await?;
        self.after(request, self.store.open(key, if_match).await).await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let request = Request::List(prefix);
        self.before(request).await?;
        self.after(request, self.store.list_after(prefix, after).await).await
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        let request = Request::CopyNew(to);
        self.before(request).await?;
        self.after(request, self.store.copy_new(from, to).await).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.before(Request::Delete).await?;
        self.after(Request::Delete, self.store.delete(keys).await).await
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
