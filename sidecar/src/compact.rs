//! Writes a merged file or a snapshot while it is read, and reads it back.

use bytes::Bytes;
use lifeboat_ltx::decode_whole;
use lifeboat_replica::layout::Level;
use lifeboat_store::{ETag, Upload};
use lifeboat_wire::Reason;

use crate::bucket::{Bucket, FileEnds};
use crate::deriving::{DerivedFile, DerivedPiece, WholeFile};
use crate::exit::Failure;
use crate::retry;

/// A file that is proved to be in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// How many requests it took, attempts without an answer left out.
    pub requests: u32,
}

/// Returns when the file is proved to be in the bucket.
///
/// # Errors
/// [`Failure`]; then it may be there or not, and if it is, it is true.
pub async fn write(bucket: &Bucket, file: DerivedFile) -> Result<Written, Failure> {
    let key = bucket.file_key(file.job.level, file.job.name);
    write_to(bucket, key, file).await
}

/// The same under another key than that of its name.
///
/// # Errors
/// As [`write()`].
pub async fn write_to(bucket: &Bucket, key: String, mut file: DerivedFile) -> Result<Written, Failure> {
    let cancelled = file.cancelled.clone();
    let mut sending = Sending { bucket, key: &key, upload: None, parts: Vec::new() };
    let sent = tokio::select! {
        sent = sending.send(&mut file) => sent,
        () = cancelled.cancelled() => Err(Failure::unavailable("its view could not be kept open any longer")),
    };
    // The reader must not wait for whatever follows.
    let header = file.header.clone();
    drop(file);
    match sent {
        Ok(whole) => {
            let ends = patiently(|| bucket.ends(&key)).await?;
            require_same(&key, &header, &whole, ends)?;
            Ok(Written { size: whole.size, requests: sending.requests() })
        }
        Err(failure) => {
            sending.give_up().await;
            Err(failure)
        }
    }
}

struct Sending<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    /// `None` until there is a second part.
    upload: Option<Upload>,
    parts: Vec<ETag>,
}

impl Sending<'_> {
    async fn send(&mut self, file: &mut DerivedFile) -> Result<WholeFile, Failure> {
        let mut waiting: Option<Bytes> = None;
        loop {
            match (file.pieces.recv().await, waiting.take()) {
                (Some(DerivedPiece::Part(next)), None) => waiting = Some(next),
                (Some(DerivedPiece::Part(next)), Some(part)) => {
                    self.put_part(file, part).await?;
                    waiting = Some(next);
                }
                (Some(DerivedPiece::End(whole)), Some(last)) => {
                    self.end(file, last).await?;
                    return Ok(whole);
                }
                (Some(DerivedPiece::End(_)), None) => return Err(Failure::bug("a file without a byte")),
                (None, _) => return Err(Failure::unavailable("the database could not be read to the end")),
            }
        }
    }

    async fn put_part(&mut self, file: &DerivedFile, part: Bytes) -> Result<(), Failure> {
        let (bucket, key) = (self.bucket, self.key);
        if self.upload.is_none() {
            self.sweep().await;
            let (part_bytes, time) = (file.part_bytes, file.header.timestamp_ms);
            self.upload = Some(patiently(|| bucket.begin_file(key, part_bytes, time)).await?);
        }
        let Some(upload) = &self.upload else { return Err(Failure::bug("an upload was lost")) };
        let number = u32::try_from(self.parts.len() + 1).unwrap_or(u32::MAX);
        self.parts.push(patiently(|| bucket.put_part(upload, number, part.clone())).await?);
        Ok(())
    }

    async fn end(&mut self, file: &DerivedFile, last: Bytes) -> Result<(), Failure> {
        let (bucket, key) = (self.bucket, self.key);
        if self.upload.is_none() {
            let time = file.header.timestamp_ms;
            return patiently(|| bucket.create_file(key, last.clone(), time)).await;
        }
        self.put_part(file, last).await?;
        let (Some(upload), parts) = (&self.upload, &self.parts) else {
            return Err(Failure::bug("an upload was lost"));
        };
        patiently(|| bucket.complete_file(upload, parts)).await
    }

    /// Of the file, of what was left before it, and of reading it back.
    fn requests(&self) -> u32 {
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        if self.upload.is_some() { parts.saturating_add(9) } else { 2 }
    }

    /// Whoever was killed while sending such a file left its parts, which cost money and nothing else. One writer has one of
    /// these files under way.
    async fn sweep(&self) {
        match self.bucket.sweep(&DERIVED).await {
            Ok(0) => {}
            Ok(count) => {
                let bucket = self.bucket;
                tracing::info!("{bucket}: removed {count} uploads of merged files that were never completed");
            }
            Err(failure) => tracing::debug!("uploads that were never completed may be left: {failure}"),
        }
    }

    /// What stays of it costs money and nothing else.
    async fn give_up(&self) {
        if let Some(upload) = &self.upload
            && let Err(failure) = self.bucket.abandon(upload).await
        {
            tracing::debug!("parts of {} stay in the bucket: {failure}", self.key);
        }
    }
}

/// Nothing counts on a file before it was read back: header, size, page index and trailer, and all of it where that is not
/// much.
fn require_same(
    key: &str,
    header: &lifeboat_ltx::Header,
    whole: &WholeFile,
    ends: Option<FileEnds>,
) -> Result<(), Failure> {
    let Some(FileEnds { size, header: found, tail, whole: bytes }) = ends else {
        return Err(Failure::unavailable(format!("{key} was stored and is not there")));
    };
    let is_same = found == *header
        && size == whole.size
        && tail.index.len() == whole.pages
        && tail.trailer.encode() == whole.trailer;
    let is_readable = bytes.is_none_or(|bytes| decode_whole(&bytes).is_ok());
    if is_same && is_readable {
        return Ok(());
    }
    let what = format!("{key} is not in the bucket as it was sent; nothing it stands for is deleted");
    Err(Failure::damaged(Reason::IntegrityFailed, what))
}

/// A view waits, so nothing is tried for long.
async fn patiently<T, F: Future<Output = Result<T, Failure>>>(attempt: impl Fn() -> F) -> Result<T, Failure> {
    retry::lasting(PATIENCE, attempt).await
}

/// The levels of the files that are written here.
const DERIVED: [Level; 4] = {
    let [first, second, third] = Level::MERGED;
    [first, second, third, Level::SNAPSHOT]
};
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

#[cfg(test)]
mod tests;
