//! The promises about objects that are sent in parts.

use bytes::Bytes;

use super::{Broken, Suite, broken, check, ensure};
use crate::error::StoreError;
use crate::store::{ETag, Upload};

impl Suite<'_> {
    /// Sent the way a slot is: the first part last, and one part twice.
    pub(super) async fn parts_become_one_object(&self) -> Result<(), Broken> {
        let promise = "parts sent in any order become one object, which is not there before";
        let content: Vec<u8> = (0..PART_BYTES * 2 + 1000).map(|at| at.to_le_bytes()[at % 3]).collect();
        let (first, rest) = content.split_at(PART_BYTES);
        let (second, third) = rest.split_at(PART_BYTES);
        let upload = self.begin("in-parts").await?;
        self.part(&upload, 2, &content[..PART_BYTES]).await?;
        let third = self.part(&upload, 3, third).await?;
        let second = self.part(&upload, 2, second).await?;
        let first = self.part(&upload, 1, first).await?;
        let listed = self.list("in-parts").await?;
        ensure(promise, listed.is_empty(), &listed)?;
        let parts = [first, second, third];
        let completed = self.store.complete_new(&upload, &parts).await;
        let etag = completed.map_err(|error| broken(promise, &error))?;
        self.reads_back(promise, "in-parts", &content, &etag).await?;
        let listed = self.list("in-parts").await?;
        let is_there = listed.iter().all(|listed| listed.etag == etag && listed.size == content.len() as u64);
        ensure(promise, is_there && listed.len() == 1, &listed)?;
        let again = self.store.complete_new(&upload, &parts).await;
        check("completing once more changes nothing", &again, |again| match again {
            Ok(same) => *same == etag,
            Err(error) => matches!(error, StoreError::Exists { .. } | StoreError::UploadGone { .. }),
        })?;
        self.reads_back(promise, "in-parts", &content, &etag).await
    }

    pub(super) async fn completing_is_exclusive(&self) -> Result<(), Broken> {
        let promise = "completing what exists says so, and changes nothing";
        let upload = self.begin("taken").await?;
        let part = self.part(&upload, 1, b"second").await?;
        let etag = self.create("taken", b"first").await?;
        let completed = self.store.complete_new(&upload, &[part]).await;
        check(promise, &completed, |completed| matches!(completed, Err(StoreError::Exists { .. })))?;
        self.reads_back(promise, "taken", b"first", &etag).await?;
        self.store.abandon(&upload).await.map_err(|error| broken("an upload can be given up", &error))
    }

    pub(super) async fn what_is_abandoned_is_gone(&self) -> Result<(), Broken> {
        let promise = "an upload that was given up is gone, and never becomes an object";
        let upload = self.begin("abandoned").await?;
        let part = self.part(&upload, 1, b"x").await?;
        for _ in 0..2 {
            check(promise, &self.store.abandon(&upload).await, Result::is_ok)?;
        }
        // A server may fail over it instead of saying so; what counts is that nothing comes of it.
        let completed = self.store.complete_new(&upload, &[part]).await;
        check(promise, &completed, |completed| is_gone(completed) || is_busy(completed))?;
        let sent = self.store.put_part(&upload, 1, Bytes::from_static(b"x")).await;
        check(promise, &sent, |sent| is_gone(sent) || is_busy(sent))?;
        let listed = self.list("abandoned").await?;
        ensure(promise, listed.is_empty(), &listed)
    }

    pub(super) async fn what_somebody_left_is_found(&self) -> Result<(), Broken> {
        let promise = "an upload that somebody began is found below its prefix, and can be given up";
        let (left, other) = (self.begin("left-1").await?, self.begin("other").await?);
        self.part(&left, 1, b"x").await?;
        let found = self.unfinished("left").await?;
        ensure(promise, found.len() == 1 && found.iter().all(|found| found.key == left.key), &found)?;
        for found in found {
            self.store.abandon(&found).await.map_err(|error| broken(promise, &error))?;
        }
        let found = self.unfinished("").await?;
        ensure(promise, found.iter().all(|found| found.key == other.key) && found.len() == 1, &found)?;
        let sent = self.store.put_part(&left, 1, Bytes::from_static(b"x")).await;
        check(promise, &sent, |sent| is_gone(sent) || is_busy(sent))?;
        self.store.abandon(&other).await.map_err(|error| broken(promise, &error))
    }

    async fn unfinished(&self, name: &str) -> Result<Vec<Upload>, Broken> {
        let found = self.store.unfinished(&self.key(name)).await;
        found.map_err(|error| broken("unfinished uploads are listed", &error))
    }

    async fn begin(&self, name: &str) -> Result<Upload, Broken> {
        let begun = self.store.begin_parts(&self.key(name), PART_BYTES as u64, Some(1_700_000_000_123)).await;
        begun.map_err(|error| broken("an object in parts can be begun", &error))
    }

    async fn part(&self, upload: &Upload, number: u32, bytes: &[u8]) -> Result<ETag, Broken> {
        let sent = self.store.put_part(upload, number, Bytes::copy_from_slice(bytes)).await;
        sent.map_err(|error| broken("a part is taken", &error))
    }
}

fn is_gone<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::UploadGone { .. }))
}

fn is_busy<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Busy { .. }))
}

/// The smallest part that S3 takes, except for the last.
const PART_BYTES: usize = 5 << 20;
