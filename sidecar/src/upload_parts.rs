//! Stores a slot whose parts come while its pages are read.
//!
//! A part is repeated from memory, but not for long: the reader waits, and the WAL grows meanwhile. Until the completing
//! request was sent, nothing can become of the parts, so an attempt can be given up and the slot cut anew, with other
//! content under the same key. Afterwards only reading the slot tells what became of it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lifeboat_replica::slot::FoundSlot;
use lifeboat_store::{Body, ETag, Upload};
use lifeboat_wire::Reason;

use crate::board::Post;
use crate::bucket::{Bucket, Completed};
use crate::exit::{Exit, Failure};
use crate::limits::Shared;
use crate::retry::Trying;
use crate::slot_file::SlotFile;
use crate::streaming::{Piece, StreamedSlot};
use crate::upload::{self, Attempt, is_passing, judge};

/// What became of a slot that was to be sent in parts.
#[derive(Debug)]
pub enum Streamed {
    /// It is proved to be in the bucket.
    Stored(Box<SlotFile>),
    /// It would have changed nothing.
    Nothing,
    /// It is not in the bucket and never will be: its pages are dirty again.
    GivenUp {
        /// Whether the next attempt had better not be sent in parts.
        is_spooled: bool,
    },
}

/// Why an attempt is given up.
enum Stopped {
    /// The reader stopped: its reason is known on its side.
    ByReader,
    /// The store.
    ByStore(Failure),
}

/// Returns when the slot is stored, or given up.
///
/// # Errors
/// As [`upload::store`]; also when it cannot be known whether the slot was created.
pub async fn store(
    bucket: &Bucket,
    mut slot: StreamedSlot,
    post: &Post,
    shared: &Shared,
) -> Result<Streamed, Failure> {
    let mut sending = Sending { bucket, post, shared, upload: None, parts: Vec::new() };
    let cancelled = slot.cancelled.clone();
    let in_turn = async {
        let _turn = shared.upload(u64::MAX).await;
        sending.receive(&mut slot).await
    };
    let sent = tokio::select! {
        sent = in_turn => sent,
        () = cancelled.cancelled() => Err(Stopped::ByReader),
    };
    // The reader must not wait for whatever follows.
    drop(slot);
    match sent {
        Ok(Some(slot)) => sending.finish(slot).await,
        Ok(None) => Ok(Streamed::Nothing),
        Err(stopped) => sending.give_up(stopped).await,
    }
}

struct Sending<'a> {
    bucket: &'a Bucket,
    post: &'a Post,
    shared: &'a Shared,
    /// `None` until there is a second part.
    upload: Option<Upload>,
    /// What the store answered to each part, by number.
    parts: Vec<(u32, ETag)>,
}

impl Sending<'_> {
    /// Sends parts as they come, until the slot itself comes; `None` when there is none.
    async fn receive(&mut self, slot: &mut StreamedSlot) -> Result<Option<SlotFile>, Stopped> {
        let (bucket, post) = (self.bucket, self.post);
        let mut flying = FuturesUnordered::new();
        let mut number = 1;
        let last = loop {
            tokio::select! {
                biased;
                Some(part) = flying.next() => self.parts.push(part?),
                piece = slot.pieces.recv(), if flying.len() < PARTS_AT_ONCE => match piece {
                    Some(Piece::Part(bytes)) => {
                        let upload = self.upload(slot).await?;
                        number += 1;
                        flying.push(put_part(bucket, post, upload, number, bytes));
                    }
                    Some(Piece::Slot(slot)) => break Some(*slot),
                    Some(Piece::Nothing) => break None,
                    None => return Err(Stopped::ByReader),
                },
            }
        };
        while let Some(part) = flying.next().await {
            self.parts.push(part?);
        }
        if let (Some(upload), Some(SlotFile { body: Body::Bytes(first), .. })) = (self.upload.clone(), &last)
        {
            self.parts.push(put_part(bucket, post, upload, 1, first.clone()).await?);
        }
        Ok(last)
    }

    async fn upload(&mut self, slot: &StreamedSlot) -> Result<Upload, Stopped> {
        if self.upload.is_none() {
            let upload = patiently(self.post, || self.bucket.begin_slot(slot)).await?;
            self.upload = Some(upload);
        }
        self.upload.clone().ok_or_else(|| Stopped::ByStore(Failure::bug("an upload was lost")))
    }

    /// From the completing request on, the outcome is known only by an answer, or by reading the slot.
    async fn finish(self, slot: SlotFile) -> Result<Streamed, Failure> {
        let Some(upload) = self.upload else {
            upload::store(self.bucket, &slot, self.post, self.shared).await?;
            return Ok(Streamed::Stored(Box::new(slot)));
        };
        let mut numbered = self.parts;
        tracing::debug!("{}: {} bytes in {} parts", upload.key, slot.identity.size, numbered.len());
        numbered.sort_unstable_by_key(|(number, _)| *number);
        let parts: Vec<_> = numbered.into_iter().map(|(_, etag)| etag).collect();
        let mut trying = Trying::forever();
        loop {
            match complete(self.bucket, &upload, &parts, &slot).await {
                Ok(Ended::Stored) => return Ok(Streamed::Stored(Box::new(slot))),
                Ok(Ended::Unclear) => {}
                Ok(Ended::Unknown { why }) => return Err(unknown(&slot, &why)),
                Err(failure) if is_brief(&failure) => {
                    self.post.troubled(&failure);
                    trying.again(failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Nothing was completed, so nothing can become of the parts any more. Returns when the bucket answers: until then
    /// the next attempt would hold a view for nothing.
    async fn give_up(self, stopped: Stopped) -> Result<Streamed, Failure> {
        let is_spooled = match stopped {
            Stopped::ByReader => false,
            Stopped::ByStore(failure) => {
                tracing::warn!("a large slot is given up and will be cut anew: {failure}");
                self.post.troubled(&failure);
                !is_brief(&failure)
            }
        };
        let mut trying = Trying::forever();
        while let Err(failure) = self.bucket.head().await {
            if !is_passing(&failure) {
                return Err(failure);
            }
            trying.again(failure).await?;
        }
        if let Some(upload) = &self.upload
            && let Err(failure) = self.bucket.abandon(upload).await
        {
            tracing::warn!("parts of a slot that was given up stay in the bucket: {failure}");
        }
        Ok(Streamed::GivenUp { is_spooled })
    }
}

async fn put_part(
    bucket: &Bucket,
    post: &Post,
    upload: Upload,
    number: u32,
    bytes: Bytes,
) -> Result<(u32, ETag), Stopped> {
    let etag = patiently(post, || bucket.put_part(&upload, number, bytes.clone())).await?;
    Ok((number, etag))
}

/// Tries again for as long as a view may wait.
async fn patiently<T, F>(post: &Post, attempt: impl Fn() -> F) -> Result<T, Stopped>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut trying = Trying::lasting(PATIENCE);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) if is_brief(&failure) => {
                post.troubled(&failure);
                trying.again(failure).await.map_err(Stopped::ByStore)?;
            }
            Err(failure) => return Err(Stopped::ByStore(failure)),
        }
    }
}

/// What became of a slot that was to be completed.
enum Ended {
    Stored,
    Unclear,
    /// No further request and no look at the slot can tell.
    Unknown {
        why: String,
    },
}

async fn complete(
    bucket: &Bucket,
    upload: &Upload,
    parts: &[ETag],
    slot: &SlotFile,
) -> Result<Ended, Failure> {
    let is_gone = match bucket.complete_slot(upload, parts).await {
        Ok(Completed::Done) => return Ok(Ended::Stored),
        Ok(Completed::Taken) => false,
        Ok(Completed::Gone) => true,
        Err(failure) if is_brief(&failure) => return Err(failure),
        // An earlier attempt without an answer may have been taken.
        Err(failure) => return Ok(Ended::Unknown { why: failure.message }),
    };
    let found = bucket.found(slot.header.max_txid).await?;
    if is_gone && found == FoundSlot::Absent {
        // It may have been created, and pruned by a later owner: only claiming the replica anew tells.
        return Ok(Ended::Unknown { why: "its parts are gone".to_owned() });
    }
    match judge(slot, &found)? {
        Attempt::Stored => Ok(Ended::Stored),
        Attempt::Unclear => Ok(Ended::Unclear),
    }
}

/// The follower begins anew with a claim, which finds out what the replica ends at.
fn unknown(slot: &SlotFile, why: &str) -> Failure {
    let txid = slot.header.max_txid;
    Failure::unavailable(format!(
        "it is not known whether slot {txid} was created, {why}; claiming the replica anew"
    ))
}

/// Whether asking again in the same words may help. Who refuses parts for another reason may yet take a whole slot.
fn is_brief(failure: &Failure) -> bool {
    is_passing(failure) && (failure.exit == Exit::Unavailable || failure.reason != Reason::StoreUnavailable)
}

/// Parts on their way at the same time.
const PARTS_AT_ONCE: usize = 2;
/// A view must not hold the WAL for longer while nothing moves.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
