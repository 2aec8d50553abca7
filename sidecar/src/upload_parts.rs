//! Stores a slot whose parts come while its pages are read.
//!
//! A part is repeated from memory, but not for long: the reader waits, and the WAL grows meanwhile. Until the completing
//! request was sent, nothing can become of the parts, so an attempt can be given up and the slot cut anew, with other
//! content under the same key. Afterwards only reading the slot tells what became of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lifeboat_replica::slot::FoundSlot;
use lifeboat_store::{Body, ETag, Upload};
use lifeboat_wire::Reason;
use tokio::sync::Mutex;

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
    Stored {
        /// The slot. Where it was sent in parts, its bytes are gone.
        slot: Box<SlotFile>,
        /// How many requests it took.
        requests: u32,
    },
    /// It would have changed nothing.
    Nothing,
    /// It is not in the bucket and never will be: its pages are dirty again.
    GivenUp {
        /// Whether the next attempt had better not be sent in parts.
        is_spooled: bool,
        /// How many requests it took.
        requests: u32,
    },
    /// Nobody knows whether it is in the bucket. Only claiming the replica anew tells what that ends at.
    Unknown {
        /// Why.
        failure: Failure,
        /// Whether the bucket would say so again, and other slots had better not be sent in parts.
        is_refused: bool,
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
/// As [`upload::store`].
pub async fn store(
    bucket: &Bucket,
    mut slot: StreamedSlot,
    post: &Post,
    shared: &Shared,
) -> Result<Streamed, Failure> {
    let mut sending = Sending { bucket, post, shared, upload: None, parts: Vec::new() };
    let cancelled = slot.cancelled.clone();
    let sent = tokio::select! {
        sent = sending.receive(&mut slot) => sent,
        () = cancelled.cancelled() => Err(Stopped::ByReader),
    };
    // Neither the reader nor whoever's turn it is next must wait for whatever follows.
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
        let link = Link::default();
        let put = |upload, number, bytes| put_part(bucket, post, &link, upload, number, bytes);
        let mut flying = FuturesUnordered::new();
        let mut number = 1;
        let last = loop {
            tokio::select! {
                biased;
                Some(part) = flying.next() => self.parts.push(part?),
                piece = slot.pieces.recv(), if flying.len() < link.parts_at_once() => match piece {
                    Some(Piece::Part(bytes)) => {
                        let upload = self.upload(slot).await?;
                        number += 1;
                        flying.push(put(upload, number, bytes));
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
            self.parts.push(put(upload, 1, first.clone()).await?);
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
    async fn finish(self, mut slot: SlotFile) -> Result<Streamed, Failure> {
        let requests = self.requests() + 1;
        let Some(upload) = self.upload else {
            upload::store(self.bucket, &slot, self.post, self.shared).await?;
            return Ok(Streamed::Stored { slot: Box::new(slot), requests });
        };
        // Others may need the memory, for however long this takes.
        slot.body = Body::from(Bytes::new());
        let mut numbered = self.parts;
        tracing::debug!("{}: {} bytes in {} parts", upload.key, slot.identity.size, numbered.len());
        numbered.sort_unstable_by_key(|(number, _)| *number);
        let parts: Vec<_> = numbered.into_iter().map(|(_, etag)| etag).collect();
        let (mut trying, mut unanswered) = (Trying::forever(), 0);
        loop {
            match complete(self.bucket, &upload, &parts, &slot).await {
                Ok(Ended::Stored) => return Ok(Streamed::Stored { slot: Box::new(slot), requests }),
                Ok(Ended::Unclear) => {}
                Ok(Ended::Unknown { why, is_refused }) => return Ok(unknown(&slot, &why, is_refused)),
                Err(failure) if is_brief(&failure) => {
                    self.post.away();
                    self.post.troubled(&failure);
                    // Only a bucket that answers can be said to refuse.
                    unanswered += u32::from(self.bucket.head().await.is_ok());
                    if unanswered == COMPLETIONS_MAX {
                        return Ok(unknown(&slot, &failure.message, true));
                    }
                    trying.again(failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// How many requests it took until now: one to begin, and one for each part.
    fn requests(&self) -> u32 {
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        parts.saturating_add(u32::from(self.upload.is_some()))
    }

    /// Nothing was completed, so nothing can become of the parts any more. Returns when the bucket answers: until then
    /// the next attempt would hold a view for nothing.
    async fn give_up(self, stopped: Stopped) -> Result<Streamed, Failure> {
        let requests = self.requests();
        let is_spooled = match stopped {
            Stopped::ByReader => false,
            Stopped::ByStore(failure) => {
                tracing::warn!("a large slot is given up and will be cut anew: {failure}");
                self.post.troubled(&failure);
                !is_brief(&failure)
            }
        };
        upload::await_answer(self.bucket, self.post).await?;
        if let Some(upload) = &self.upload
            && let Err(failure) = self.bucket.abandon(upload).await
        {
            tracing::warn!("parts of a slot that was given up stay in the bucket: {failure}");
        }
        Ok(Streamed::GivenUp { is_spooled, requests })
    }
}

/// What the parts of one slot find out about the way to the bucket.
#[derive(Debug, Default)]
struct Link {
    has_failed: AtomicBool,
    /// Held by whoever tries again.
    alone: Mutex<()>,
}

impl Link {
    /// On a slow link two parts only slow each other down.
    fn parts_at_once(&self) -> usize {
        if self.has_failed.load(Ordering::Relaxed) { 1 } else { PARTS_AT_ONCE }
    }
}

async fn put_part(
    bucket: &Bucket,
    post: &Post,
    link: &Link,
    upload: Upload,
    number: u32,
    bytes: Bytes,
) -> Result<(u32, ETag), Stopped> {
    let attempt = || bucket.put_part(&upload, number, bytes.clone());
    let first = attempt().await;
    match first {
        Ok(etag) => return Ok((number, etag)),
        Err(failure) if is_brief(&failure) => {
            link.has_failed.store(true, Ordering::Relaxed);
            tracing::debug!("part {number}: {failure}; trying again, one part at a time");
            post.troubled(&failure);
        }
        Err(failure) => return Err(Stopped::ByStore(failure)),
    }
    let _alone = link.alone.lock().await;
    Ok((number, patiently(post, attempt).await?))
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
        is_refused: bool,
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
        Err(failure) => return Ok(Ended::Unknown { why: failure.message, is_refused: true }),
    };
    let found = bucket.found(slot.header.max_txid).await?;
    if is_gone && found == FoundSlot::Absent {
        // It may have been created, and pruned by a later owner: only claiming the replica anew tells.
        return Ok(Ended::Unknown { why: "its parts are gone".to_owned(), is_refused: false });
    }
    match judge(slot, &found)? {
        Attempt::Stored => Ok(Ended::Stored),
        Attempt::Unclear => Ok(Ended::Unclear),
    }
}

/// The follower begins anew with a claim, which finds out what the replica ends at.
fn unknown(slot: &SlotFile, why: &str, is_refused: bool) -> Streamed {
    let txid = slot.header.max_txid;
    let failure = Failure::unavailable(format!(
        "it is not known whether slot {txid} was created, {why}; claiming the replica anew"
    ));
    Streamed::Unknown { failure, is_refused }
}

/// Whether asking again in the same words may help. Who refuses parts for another reason may yet take a whole slot.
fn is_brief(failure: &Failure) -> bool {
    is_passing(failure) && (failure.exit == Exit::Unavailable || failure.reason != Reason::StoreUnavailable)
}

/// Parts on their way at the same time.
const PARTS_AT_ONCE: usize = 2;
/// How long one part is tried for. A link may turn out to be slow several times over meanwhile; the view is watched over
/// for the application's sake, whatever the bucket does.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// So many times a bucket that answers may fail to complete a slot, for about ten seconds.
const COMPLETIONS_MAX: u32 = 8;

#[cfg(test)]
mod tests;
