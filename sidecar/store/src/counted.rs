//! A store whose requests are counted, by what was asked and how it ended.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::store::{Body, ETag, Listed, Object, ObjectReader, Store, Upload};

/// How often what was asked of stores, and how it ended. Shared by all stores that count into it.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Requests {
    /// Every pair of operation and outcome that happened, and how often.
    #[must_use]
    pub fn counts(&self) -> Vec<((&'static str, &'static str), u64)> {
        self.lock().iter().map(|(pair, count)| (*pair, *count)).collect()
    }

    fn count<T>(&self, operation: &'static str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let outcome = answer.as_ref().map_or_else(StoreError::outcome, |_| "ok");
        *self.lock().entry((operation, outcome)).or_default() += 1;
        answer
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, &'static str), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same store, counting. One call is one request here, also where the store makes several of it: a long list, a read
/// that is tried twice.
#[derive(Debug)]
pub struct Counted<S> {
    store: S,
    requests: Arc<Requests>,
}

impl<S> Counted<S> {
    /// Counts what is asked of `store` into `requests`.
    #[must_use]
    pub const fn new(store: S, requests: Arc<Requests>) -> Self {
        Self { store, requests }
    }
}

#[async_trait]
impl<S: Store> Store for Counted<S> {
    async fn put_new(&self, key: &str, body: Body, timestamp_ms: Option<i64>) -> Result<ETag, StoreError> {
        self.requests.count("put_new", self.store.put_new(key, body, timestamp_ms).await)
    }

    async fn begin_parts(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError> {
        self.requests.count("begin_parts", self.store.begin_parts(key, part_bytes, timestamp_ms).await)
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError> {
        self.requests.count("put_part", self.store.put_part(upload, number, bytes).await)
    }

    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        self.requests.count("complete_new", self.store.complete_new(upload, parts).await)
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        self.requests.count("abandon", self.store.abandon(upload).await)
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        self.requests.count("unfinished", self.store.unfinished(prefix).await)
    }

    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        self.requests.count("put_if_match", self.store.put_if_match(key, body, expected).await)
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError> {
        self.requests.count("get", self.store.get(key, max_bytes).await)
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        self.requests.count("get_range", self.store.get_range(key, range, if_match).await)
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        self.requests.count("open", self.store.open(key, if_match).await)
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        self.requests.count("copy_new", self.store.copy_new(from, to).await)
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        self.requests.count("list", self.store.list_after(prefix, after).await)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.requests.count("delete", self.store.delete(keys).await)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directory;

    #[tokio::test]
    async fn a_counting_store_keeps_every_promise_and_counts_by_operation_and_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Arc::new(Requests::default());
        let directory = Directory::create(folder.path().join("replica")).await.unwrap();
        let store = Counted::new(directory, Arc::clone(&requests));
        crate::conformance::run(&store).await.unwrap();
        let before: BTreeMap<_, _> = requests.counts().into_iter().collect();
        assert!(before[&("put_new", "exists")] > 0 && before[&("list", "ok")] > 0, "{before:?}");
        assert!(store.get("nowhere", 1).await.unwrap_err().is_absent());
        let after: BTreeMap<_, _> = requests.counts().into_iter().collect();
        assert_eq!(after[&("get", "absent")], before.get(&("get", "absent")).unwrap_or(&0) + 1);
    }
}
