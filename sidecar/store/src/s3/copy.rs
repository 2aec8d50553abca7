//! Copies inside the bucket.
//!
//! One request copies up to 5 GiB, and the metadata with it. Beyond that the copy is put together from ranges of the source.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::S3;
use super::answer::Asked;
use crate::error::StoreError;
use crate::store::{ETag, Listed};

impl S3 {
    pub(super) async fn copy_whole(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        let send = || {
            let request = self.writes.copy_object().bucket(&self.bucket).key(self.full_key(to));
            let request = request.copy_source(self.source(from)).copy_source_if_match(from.etag.as_str());
            // A copy is encrypted and classed as its own request says, not as its source is.
            let request = request.set_server_side_encryption(self.kept_as.encryption());
            let request = request.set_ssekms_key_id(self.kept_as.kms_key());
            let request = request.set_storage_class(self.kept_as.storage_class());
            request.customize().config_override(self.time_for(from.size)).send()
        };
        let answer = self.ask(&from.key, Asked::IfMatch, send).await?;
        self.etag(to, answer.copy_object_result.and_then(|result| result.e_tag))
    }

    pub(super) async fn copy_in_parts(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        let send = || self.reads.head_object().bucket(&self.bucket).key(self.full_key(&from.key)).send();
        let metadata = self.ask(&from.key, Asked::IfMatch, send).await?.metadata;
        let send = || {
            let request = self.writes.create_multipart_upload().bucket(&self.bucket).key(self.full_key(to));
            let request = request.set_server_side_encryption(self.kept_as.encryption());
            let request = request.set_ssekms_key_id(self.kept_as.kms_key());
            let request = request.set_storage_class(self.kept_as.storage_class());
            request.set_metadata(metadata.clone()).send()
        };
        let id = self.ask(to, Asked::Plain, send).await?.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.mangled(to, "an upload without an id".into()))?;
        let copied = self.copy_parts(from, to, &id).await;
        if copied.is_err() {
            // What stays of it costs money until the bucket removes it, and nothing else.
            let request = self.writes.abort_multipart_upload().bucket(&self.bucket);
            let _ = request.key(self.full_key(to)).upload_id(&id).send().await;
        }
        copied
    }

    async fn copy_parts(&self, from: &Listed, to: &str, id: &str) -> Result<ETag, StoreError> {
        let (mut at, mut parts) = (0, Vec::new());
        while at < from.size {
            let end = from.size.min(at + self.copy_bytes_max);
            let number = i32::try_from(parts.len() + 1).ok();
            let send = || {
                let request = self.writes.upload_part_copy().bucket(&self.bucket).key(self.full_key(to));
                let request = request.upload_id(id).set_part_number(number).copy_source(self.source(from));
                let request = request.copy_source_if_match(from.etag.as_str());
                let request = request.copy_source_range(format!("bytes={at}-{}", end - 1));
                request.customize().config_override(self.time_for(end - at)).send()
            };
            let answer = self.ask(&from.key, Asked::IfMatch, send).await?;
            let etag = self.etag(to, answer.copy_part_result.and_then(|result| result.e_tag))?;
            parts.push(CompletedPart::builder().set_part_number(number).e_tag(etag.as_str()).build());
            at = end;
        }
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let send = || {
            let request = self.writes.complete_multipart_upload().bucket(&self.bucket).key(self.full_key(to));
            let request = request.upload_id(id).multipart_upload(whole.clone());
            request.customize().config_override(self.time_for(from.size)).send()
        };
        let answer = self.ask(to, Asked::Plain, send).await?;
        self.etag(to, answer.e_tag)
    }

    /// The server works for as long as it copies.
    fn time_for(&self, bytes: u64) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::config::Builder::new().timeout_config(self.patience.for_work_on(bytes))
    }

    fn source(&self, from: &Listed) -> String {
        let key = self.full_key(&from.key);
        format!("{}/{}", self.bucket, utf8_percent_encode(&key, IN_A_SOURCE))
    }
}

/// The most that is copied in one request.
pub(super) const BYTES_MAX: u64 = 5 << 30;
const IN_A_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
