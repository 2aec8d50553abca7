//! Storing what the capture thread cut, and the answers it waits for.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_replica::head::Base;
use lifeboat_replica::layout::Level;

use super::Follower;
use crate::board::position;
use crate::bucket::Bucket;
use crate::capture::{Order, Way};
use crate::exit::{Exit, Failure};
use crate::limits::Turn;
use crate::retry::Trying;
use crate::slot_file::SlotFile;
use crate::streaming::StreamedSlot;
use crate::upload_parts::Streamed;
use crate::writer::Writer;
use crate::{upload, upload_parts};

/// What went wrong with slots in parts, as long as the process lives: what a claim forgets.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The bucket does not complete what it took.
    are_refused: AtomicBool,
    /// The last slot got lost on the way; the next one is sent whole.
    are_lost: AtomicBool,
}

impl Parts {
    /// Whether the next slot may be sent in parts, as far as is known here.
    fn may_be_used(&self) -> bool {
        let are_lost = self.are_lost.swap(false, Ordering::Relaxed);
        !are_lost && !self.are_refused.load(Ordering::Relaxed)
    }

    fn failed(&self, is_refused: bool) {
        let what = if is_refused { &self.are_refused } else { &self.are_lost };
        what.store(true, Ordering::Relaxed);
    }
}

impl Follower {
    pub(super) async fn store(&self, writer: &mut Writer, slot: &SlotFile) -> Result<Vec<Order>, Failure> {
        let begun = Instant::now();
        upload::store(&writer.bucket, slot, &self.post, &self.shared).await?;
        Ok(self.stored(writer, slot, begun, 1).await)
    }

    pub(super) async fn store_streamed(
        &self,
        writer: &mut Writer,
        slot: StreamedSlot,
    ) -> Result<Vec<Order>, Failure> {
        let begun = Instant::now();
        match upload_parts::store(&writer.bucket, slot, &self.post, &self.shared).await? {
            Streamed::Stored { slot, requests } => Ok(self.stored(writer, &slot, begun, requests).await),
            Streamed::Nothing => Ok(vec![Order::Stored { requests: 0 }]),
            Streamed::GivenUp { is_spooled, requests } => Ok(vec![Order::GivenUp { is_spooled, requests }]),
            Streamed::Unknown { failure, is_refused } => {
                if is_refused {
                    let name = &self.database.name;
                    tracing::warn!(
                        "{name}: the bucket does not complete what is sent in parts; from now on large slots go whole"
                    );
                }
                self.parts.failed(is_refused);
                Err(failure)
            }
        }
    }

    /// How a large slot is to be sent. The bucket answers before it is read, so no view waits for one that is away; and
    /// only those whose turn it is have a view and parts in memory.
    pub(super) async fn large(&self, writer: &mut Writer) -> Result<Vec<Order>, Failure> {
        let in_parts = self.parts.may_be_used() && self.takes_parts(&writer.bucket).await?;
        self.sweep(writer).await;
        if !in_parts {
            return self.spool(writer).await;
        }
        Ok(vec![Order::Large(Way::InParts(self.turn().await))])
    }

    /// A slot may go through a file when the bucket answers: while it is away, the disk is the application's.
    pub(super) async fn spool(&self, writer: &Writer) -> Result<Vec<Order>, Failure> {
        upload::await_answer(&writer.bucket, &self.post).await?;
        Ok(vec![Order::Large(Way::Whole)])
    }

    /// A bucket that answers, but not to this question, is not asked for ever: it may yet take the slot whole.
    async fn takes_parts(&self, bucket: &Bucket) -> Result<bool, Failure> {
        let (mut trying, mut unanswered) = (Trying::forever(), 0);
        loop {
            match bucket.takes_parts().await {
                Ok(answer) => return Ok(answer),
                Err(failure) if upload::is_passing(&failure) => {
                    self.post.away();
                    self.post.troubled(&failure);
                    unanswered += u32::from(bucket.head().await.is_ok());
                    if unanswered == PROBES_MAX {
                        let name = &self.database.name;
                        tracing::warn!(
                            "{name}: whether slots may be sent in parts cannot be found out, so this one goes whole: {failure}"
                        );
                        return Ok(false);
                    }
                    trying.again(failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The turn to upload a large slot. Who waits for long says so.
    async fn turn(&self) -> Turn {
        let mut turn = pin!(self.shared.large_upload());
        if let Ok(turn) = tokio::time::timeout(WAITS_SILENTLY, &mut turn).await {
            return turn;
        }
        let waits = "a large slot waits for its turn to be uploaded, see max-concurrent-uploads";
        tracing::info!("{}: {waits}", self.database.name);
        self.post.waits(waits);
        let turn = turn.await;
        self.post.waits("");
        turn
    }

    /// Whoever was killed while sending a large slot left its parts, which cost money and nothing else.
    async fn sweep(&self, writer: &mut Writer) {
        if writer.is_swept {
            return;
        }
        let name = &self.database.name;
        let swept = writer.bucket.sweep(&[Level::CAPTURED]).await;
        // A bucket that cannot list them is not asked again, one that did not answer is.
        writer.is_swept = swept.as_ref().err().is_none_or(|failure| failure.exit != Exit::Unavailable);
        match swept {
            Ok(0) => {}
            Ok(count) => tracing::info!("{name}: removed {count} uploads that were never completed"),
            Err(failure) => {
                tracing::debug!("{name}: uploads that were never completed may be left: {failure}");
            }
        }
    }

    async fn stored(
        &self,
        writer: &mut Writer,
        slot: &SlotFile,
        begun: Instant,
        requests: u32,
    ) -> Vec<Order> {
        let base = Base { txid: slot.header.max_txid.get(), checksum: Some(slot.post_apply) };
        self.marks.write_record_at_last(&self.record(writer, base), &self.post).await;
        writer.stored(base);
        self.post.stored_slot(slot.identity.size);
        self.post.stored(position(base, Some(jiff::Timestamp::now())));
        writer.say(&self.database.name, slot, begun.elapsed());
        let mut orders = writer.history.stored(slot, &self.shared, &self.post);
        orders.push(Order::Stored { requests: requests + writer.history.take_requests() });
        orders
    }
}

/// So often a bucket that answers is asked whether it takes parts.
const PROBES_MAX: u32 = 3;
const WAITS_SILENTLY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_got_lost_are_tried_again_after_the_next_slot_and_refused_ones_never() {
        let parts = Parts::default();
        assert!(parts.may_be_used());
        parts.failed(false);
        assert!(!parts.may_be_used() && parts.may_be_used());
        parts.failed(true);
        assert!(!parts.may_be_used() && !parts.may_be_used());
    }
}
