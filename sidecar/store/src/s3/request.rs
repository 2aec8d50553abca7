//! The calls of [`Store`] as S3 requests.

use std::future::Future;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use async_trait::async_trait;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat, Length};
use aws_sdk_s3::types;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};

use super::S3;
use super::answer::{Asked, Failure, chain};
use super::patience::{Moved, unlimited};
use crate::error::StoreError;
use crate::store::{Body, ETag, Listed, Object, ObjectReader, Store, Upload};

#[async_trait]
impl Store for S3 {
    async fn put_new(&self, key: &str, body: Body, timestamp_ms: Option<i64>) -> Result<ETag, StoreError> {
        let (size, max) = (body.len(), PUT_BYTES_MAX);
        if size > max {
            return Err(StoreError::TooLarge { place: self.place(key), size, max });
        }
        let md5 = self.md5(key, &body).await?;
        let send = || async {
            let request = self.put(key, size).if_none_match("*").set_content_md5(md5.clone());
            let request = request.set_storage_class(self.kept_as.storage_class());
            let request = match timestamp_ms.map(timestamp) {
                Some(text) => request.metadata(TIMESTAMP, text),
                None => request,
            };
            let content = content(&body).await.map_err(SdkError::construction_failure)?;
            let moved = Moved::new();
            let request = request.body(content).customize().config_override(unlimited());
            self.patience.wait(size, &moved, request.mutate_request(moved.watching()).send()).await
        };
        let answer = self.ask(key, Asked::Create, send).await?;
        self.etag(key, answer.e_tag)
    }

    async fn begin_parts(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError> {
        self.begin(key, part_bytes, timestamp_ms).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError> {
        self.put_one_part(upload, number, bytes).await
    }

    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        self.complete(upload, parts).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        self.abort(upload).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        self.begun_below(prefix).await
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        if from.size > self.copy_bytes_max {
            self.copy_in_parts(from, to).await
        } else {
            self.copy_whole(from, to).await
        }
    }

    /// Without the storage class: those for what is rarely read charge a month for every version of what is replaced.
    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        let send = || {
            let request = self.put(key, body.len() as u64).if_match(expected.as_str());
            request.body(ByteStream::from(body.clone())).send()
        };
        let answer = self.ask(key, Asked::IfMatch, send).await?;
        self.etag(key, answer.e_tag)
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError> {
        let answer = self.ask(key, Asked::Plain, || self.get_object(key, None).send()).await?;
        let size = self.size(key, &answer)?;
        if size > max_bytes {
            return Err(StoreError::TooLarge { place: self.place(key), size, max: max_bytes });
        }
        let etag = self.etag(key, answer.e_tag.clone())?;
        Ok(Object { bytes: self.collect(key, answer.body, size).await?, etag })
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        let Some(last) = range.end.checked_sub(1).filter(|&last| last >= range.start) else {
            return Ok(Bytes::new());
        };
        let header = format!("bytes={}-{last}", range.start);
        let send = || self.get_object(key, if_match).range(header.clone()).send();
        let answer = self.ask(key, Asked::IfMatch, send).await?;
        let expected = format!("bytes {}-{last}/", range.start);
        let found = answer.content_range().unwrap_or("none");
        if !found.starts_with(&expected) {
            return Err(self.mangled(key, format!("asked for {header}, it sent the range {found}")));
        }
        self.collect(key, answer.body, range.end - range.start).await
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        let answer = self.ask(key, Asked::IfMatch, || self.get_object(key, if_match).send()).await?;
        let size = self.size(key, &answer)?;
        let etag = self.etag(key, answer.e_tag.clone())?;
        Ok(ObjectReader { size, etag, reader: Box::pin(answer.body.into_async_read()) })
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let full_prefix = self.full_key(prefix);
        let full_after = (!after.is_empty()).then(|| self.full_key(after));
        let mut listed = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let send = || {
                let request = self.reads.list_objects_v2().bucket(&self.bucket).prefix(&full_prefix);
                request.set_start_after(full_after.clone()).set_continuation_token(token.clone()).send()
            };
            let answer = self.ask(prefix, Asked::Plain, send).await?;
            for object in answer.contents() {
                listed.push(self.listed(prefix, object)?);
            }
            // Not every server knows where to start.
            listed.retain(|listed| listed.key.as_str() > after);
            let next = self.next_token(prefix, &answer, token.as_deref())?;
            if next.is_none() {
                listed.sort_by(|a, b| a.key.cmp(&b.key));
                return Ok(listed);
            }
            token = next;
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        // One by one: deleting many in one request needs a checksum that not every server understands.
        let requests = keys.iter().map(|key| async move {
            let send = || self.reads.delete_object().bucket(&self.bucket).key(self.full_key(key)).send();
            match self.ask(key, Asked::Plain, send).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_absent() => Ok(()),
                Err(error) => Err(error),
            }
        });
        let requests: Vec<_> = requests.collect();
        stream::iter(requests).buffer_unordered(DELETES_AT_ONCE).try_collect().await
    }

    fn describe(&self) -> String {
        self.store.to_string()
    }
}

impl S3 {
    /// Sends a request, and once more when it was refused with credentials that have been replaced since.
    pub(super) async fn ask<T, E, F>(
        &self,
        key: &str,
        asked: Asked,
        send: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let used = self.credentials.as_ref().map(|credentials| (credentials, credentials.version()));
        let first = self.judge(key, asked, send().await);
        match (&first, used) {
            (Err(StoreError::Denied { .. }), Some((credentials, used)))
                if credentials.are_newer_than(used).await =>
            {
                self.judge(key, asked, send().await)
            }
            (_, _) => first,
        }
    }

    fn judge<T, E>(
        &self,
        key: &str,
        asked: Asked,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, StoreError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        answer.map_err(|error| Failure::from_sdk(&error).into_error(asked, self.place(key)))
    }

    fn put(
        &self,
        key: &str,
        size: u64,
    ) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
        let request = self.writes.put_object().bucket(&self.bucket).key(self.full_key(key));
        let request = request.set_server_side_encryption(self.kept_as.encryption());
        let request = request.set_ssekms_key_id(self.kept_as.kms_key());
        request.set_content_length(i64::try_from(size).ok())
    }

    fn get_object(
        &self,
        key: &str,
        if_match: Option<&ETag>,
    ) -> aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder {
        let request = self.reads.get_object().bucket(&self.bucket).key(self.full_key(key));
        request.set_if_match(if_match.map(ToString::to_string))
    }

    pub(super) fn mangled(&self, key: &str, reason: String) -> StoreError {
        StoreError::Mangled { place: self.place(key), reason }
    }

    pub(super) fn etag(&self, key: &str, etag: Option<String>) -> Result<ETag, StoreError> {
        etag.filter(|etag| !etag.is_empty()).map(ETag::new).ok_or_else(|| self.mangled(key, "no ETag".into()))
    }

    fn size(&self, key: &str, answer: &GetObjectOutput) -> Result<u64, StoreError> {
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.mangled(key, "no content length".into()))
    }

    async fn collect(&self, key: &str, mut body: ByteStream, size: u64) -> Result<Bytes, StoreError> {
        // Grown by doubling, a large one would take up to twice its room. What a server only claims is not reserved.
        let room = usize::try_from(size).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut bytes = BytesMut::with_capacity(room);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                let reason = chain(&error);
                StoreError::Unreachable { place: self.place(key), reason }
            })?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > size {
                break;
            }
        }
        if bytes.len() as u64 == size {
            Ok(bytes.freeze())
        } else {
            Err(self.mangled(key, format!("{} bytes instead of {size}", bytes.len())))
        }
    }

    fn listed(&self, prefix: &str, object: &types::Object) -> Result<Listed, StoreError> {
        let mangled = |what: &str| self.mangled(prefix, format!("a listed object without {what}"));
        let full_key = object.key().ok_or_else(|| mangled("a key"))?;
        let key = full_key.strip_prefix(&self.full_key("")).filter(|key| key.starts_with(prefix));
        let key = key.ok_or_else(|| self.mangled(prefix, format!("a list of something else: {full_key}")))?;
        let size =
            object.size().and_then(|size| u64::try_from(size).ok()).ok_or_else(|| mangled("a size"))?;
        let etag = object.e_tag().ok_or_else(|| mangled("an ETag"))?;
        let modified_ms = object.last_modified().and_then(|time| time.to_millis().ok());
        Ok(Listed { key: key.to_owned(), size, etag: ETag::new(etag), modified_ms })
    }

    /// Where a list goes on. A list that says it is cut, but not where it goes on, must not pass for a whole one.
    fn next_token(
        &self,
        prefix: &str,
        answer: &ListObjectsV2Output,
        before: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(false), _) | (None, None) => Ok(None),
            (_, Some(next)) if Some(next) != before => Ok(Some(next.to_owned())),
            (Some(true) | None, _) => Err(self.mangled(prefix, "a cut list that does not go on".into())),
        }
    }

    /// The checksum of a body the signature does not cover; one in memory is covered.
    async fn md5(&self, key: &str, body: &Body) -> Result<Option<String>, StoreError> {
        let Body::File { file, len } = body.clone() else {
            return Ok(None);
        };
        let sum = tokio::task::spawn_blocking(move || {
            let mut sum = Md5::new();
            let mut buffer = vec![0; READ_BYTES];
            let mut at = 0;
            while at < len {
                let want = usize::try_from(len - at).unwrap_or(READ_BYTES).min(READ_BYTES);
                let (chunk, _) = buffer.split_at_mut(want);
                file.read_exact_at(chunk, at)?;
                sum.update(&*chunk);
                at += want as u64;
            }
            Ok::<_, std::io::Error>(aws_smithy_types::base64::encode(sum.finalize()))
        });
        let failed = |reason: String| StoreError::Misconfigured { place: self.place(key), reason };
        let sum = sum.await.map_err(|error| failed(error.to_string()))?;
        sum.map(Some).map_err(|error| failed(format!("the file to upload cannot be read: {error}")))
    }
}

/// A new stream over the body. A file is opened anew through its descriptor, which gives the stream a position of its
/// own, also when the file has no name any more.
async fn content(body: &Body) -> Result<ByteStream, aws_sdk_s3::primitives::ByteStreamError> {
    match body {
        Body::Bytes(bytes) => Ok(ByteStream::from(bytes.clone())),
        Body::File { file, len } => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            ByteStream::read_from()
                .path(path)
                .length(Length::Exact(*len))
                .buffer_size(READ_BYTES)
                .build()
                .await
        }
    }
}

pub(super) fn timestamp(ms: i64) -> String {
    let time = DateTime::from_millis(ms);
    // Only years beyond 9999 do not fit; a file from then has no time worth keeping.
    time.fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

/// The key Litestream reads it by.
pub(super) const TIMESTAMP: &str = "litestream-timestamp";
/// What S3 takes in one request: 5 GiB.
const PUT_BYTES_MAX: u64 = 5 << 30;
const READ_BYTES: usize = 1 << 20;
const DELETES_AT_ONCE: usize = 16;
