//! Objects that are sent in parts, as S3's multipart uploads.
//!
//! A part is signed with its SHA-256, so no further checksum guards it.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MultipartUpload};
use bytes::Bytes;

use super::S3;
use super::answer::Asked;
use super::patience::{Moved, unlimited};
use super::request::{TIMESTAMP, timestamp};
use crate::error::StoreError;
use crate::store::{ETag, Upload};

impl S3 {
    pub(super) async fn begin(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError> {
        let send = || {
            let request = self.writes.create_multipart_upload().bucket(&self.bucket).key(self.full_key(key));
            let request = request.set_server_side_encryption(self.kept_as.encryption());
            let request = request.set_ssekms_key_id(self.kept_as.kms_key());
            let request = request.set_storage_class(self.kept_as.storage_class());
            let request = match timestamp_ms.map(timestamp) {
                Some(text) => request.metadata(TIMESTAMP, text),
                None => request,
            };
            request.send()
        };
        let id = self.ask(key, Asked::Create, send).await?.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.mangled(key, "an upload without an id".into()))?;
        Ok(Upload { key: key.to_owned(), id, part_bytes })
    }

    pub(super) async fn put_one_part(
        &self,
        upload: &Upload,
        number: u32,
        bytes: Bytes,
    ) -> Result<ETag, StoreError> {
        let size = bytes.len() as u64;
        let send = || async {
            let request = self.writes.upload_part().bucket(&self.bucket).key(self.full_key(&upload.key));
            let request = request.upload_id(&upload.id).set_part_number(i32::try_from(number).ok());
            let request = request.set_content_length(i64::try_from(size).ok());
            let moved = Moved::new();
            let request = request.body(ByteStream::from(bytes.clone())).customize();
            let request = request.config_override(unlimited()).mutate_request(moved.watching());
            self.patience.wait(size, &moved, request.send()).await
        };
        let answer = self.ask(&upload.key, Asked::Create, send).await?;
        self.etag(&upload.key, answer.e_tag)
    }

    pub(super) async fn complete(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        let size = upload.part_bytes.saturating_mul(parts.len() as u64);
        let numbered = (1..)
            .zip(parts)
            .map(|(number, etag)| CompletedPart::builder().part_number(number).e_tag(etag.as_str()).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(numbered.collect())).build();
        let send = || {
            let request = self.writes.complete_multipart_upload().bucket(&self.bucket);
            let request = request.key(self.full_key(&upload.key)).upload_id(&upload.id);
            let request = request.multipart_upload(parts.clone()).if_none_match("*");
            // A server may put the object together only now.
            let timeouts = aws_sdk_s3::config::Builder::new().timeout_config(self.patience.for_work_on(size));
            request.customize().config_override(timeouts).send()
        };
        let answer = self.ask(&upload.key, Asked::Create, send).await?;
        self.etag(&upload.key, answer.e_tag)
    }

    pub(super) async fn abort(&self, upload: &Upload) -> Result<(), StoreError> {
        let send = || {
            let request = self.writes.abort_multipart_upload().bucket(&self.bucket);
            request.key(self.full_key(&upload.key)).upload_id(&upload.id).send()
        };
        match self.ask(&upload.key, Asked::Plain, send).await {
            Ok(_) | Err(StoreError::UploadGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn begun_below(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let full_prefix = self.full_key(prefix);
        let mut begun = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let (key, id) = marker.clone().unzip();
            let send = || {
                let request = self.reads.list_multipart_uploads().bucket(&self.bucket).prefix(&full_prefix);
                request.set_key_marker(key.clone()).set_upload_id_marker(id.clone()).send()
            };
            let answer = self.ask(prefix, Asked::Plain, send).await?;
            begun.extend(answer.uploads().iter().filter_map(|upload| self.begun(prefix, upload)));
            let next = answer.next_key_marker.zip(answer.next_upload_id_marker);
            match (answer.is_truncated, next) {
                (Some(true), Some(next)) if marker.as_ref() != Some(&next) => marker = Some(next),
                (Some(true), _) => {
                    return Err(self.mangled(prefix, "a cut list that does not go on".into()));
                }
                (Some(false) | None, _) => return Ok(begun),
            }
        }
    }

    /// An upload of the list, if it is below the prefix and has a name.
    fn begun(&self, prefix: &str, upload: &MultipartUpload) -> Option<Upload> {
        let key = upload.key()?.strip_prefix(&self.full_key(""))?;
        let is_below = key.starts_with(prefix);
        is_below.then_some(Upload { key: key.to_owned(), id: upload.upload_id()?.to_owned(), part_bytes: 0 })
    }
}
