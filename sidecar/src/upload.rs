//! Stores one slot, however long that takes, or finds out that another writer owns the replica.

use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::slot::{AfterPut, AfterRead, FoundSlot, after_put, after_read};
use lifeboat_wire::Reason;

use crate::board::Post;
use crate::bucket::Bucket;
use crate::exit::{Exit, Failure};
use crate::limits::Shared;
use crate::retry::Trying;
use crate::slot_file::SlotFile;

/// Returns when the slot is proved to be in the bucket.
///
/// A store that is away or refuses, whatever its words for it, is asked again for ever: it did take slots before, the
/// database goes on, and what is not stored is collected. The trouble stands on the board meanwhile.
///
/// # Errors
/// Fenced when another writer's bytes are there; damaged when bytes are there that cannot be.
pub async fn store(bucket: &Bucket, slot: &SlotFile, post: &Post, shared: &Shared) -> Result<(), Failure> {
    let mut trying = Trying::forever();
    loop {
        let turn = shared.upload(slot.identity.size).await;
        let attempted = attempt(bucket, slot).await;
        drop(turn);
        match attempted {
            Ok(Attempt::Stored) => return Ok(()),
            Ok(Attempt::Unclear) => {}
            Err(failure) if is_passing(&failure) => {
                post.away();
                post.troubled(&failure);
                trying.again(failure).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Returns when the bucket answers: until then nothing is kept ready for it.
///
/// # Errors
/// A refusal that time does not heal.
pub(crate) async fn await_answer(bucket: &Bucket, post: &Post) -> Result<(), Failure> {
    let mut trying = Trying::forever();
    while let Err(failure) = bucket.head().await {
        if !is_passing(&failure) {
            return Err(failure);
        }
        post.away();
        post.troubled(&failure);
        trying.again(failure).await?;
    }
    Ok(())
}

/// What one attempt brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Stored,
    Unclear,
}

async fn attempt(bucket: &Bucket, slot: &SlotFile) -> Result<Attempt, Failure> {
    match after_put(bucket.create_slot(slot).await?) {
        AfterPut::Stored => Ok(Attempt::Stored),
        AfterPut::Again => Ok(Attempt::Unclear),
        AfterPut::Read => judge(slot, &bucket.found(slot.header.max_txid).await?),
    }
}

/// Judges what stands where our slot should go.
pub(crate) fn judge(slot: &SlotFile, found: &FoundSlot) -> Result<Attempt, Failure> {
    let (txid, mine) = (slot.header.max_txid, Epoch::new(slot.header.node_id));
    match after_read(mine, &slot.identity, found) {
        AfterRead::Stored => Ok(Attempt::Stored),
        AfterRead::Fenced { by: Some(epoch) } => Err(Failure::fenced(format!(
            "slot {txid} belongs to epoch {epoch} and not to ours, {mine}: another writer took the replica over; \
             this one has stopped"
        ))),
        AfterRead::Fenced { by: None } => Err(Failure::fenced(format!(
            "slot {txid} was created and removed by another writer; this one, epoch {mine}, has stopped"
        ))),
        AfterRead::Halt { epoch } => Err(Failure::damaged(
            Reason::IntegrityFailed,
            format!(
                "slot {txid} holds other bytes of the older epoch {epoch}: somebody writes under this prefix"
            ),
        )),
    }
}

/// Whether time, or somebody, may heal it without us: the store comes back, credentials are renewed, a bucket is put back, a
/// full server gets room, a gateway finds its server again.
pub(crate) fn is_passing(failure: &Failure) -> bool {
    match failure.exit {
        Exit::Unavailable => true,
        Exit::Refused => matches!(
            failure.reason,
            Reason::StoreAccessDenied | Reason::BucketNotFound | Reason::StoreUnavailable
        ),
        Exit::Done | Exit::Usage | Exit::Fenced | Exit::Damaged | Exit::Bug => false,
    }
}
