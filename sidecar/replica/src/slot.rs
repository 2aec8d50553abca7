//! What the answer to the upload of a slot means.
//!
//! A slot is created, never overwritten. An answer that does not come leaves the outcome unknown, and the same bytes
//! go to the same key again. "Exists already" is no verdict either: HTTP layers repeat requests unseen, so what stands
//! there may be our own. Only reading it decides, and it decides by content, never by the epoch alone.

use lifeboat_ltx::Txid;

use crate::epoch::Epoch;

/// What the store answered to a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    /// Done by this request.
    Done,
    /// The condition failed.
    Rejected,
    /// No answer, a server error, or a conflict: it may have happened.
    Unclear,
}

/// What must be done after the upload of a slot was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPut {
    /// The slot is in the bucket: everything up to it is acknowledged.
    Stored,
    /// Send the same bytes to the same key again.
    Again,
    /// Read the slot: somebody's bytes stand there, perhaps ours.
    Read,
}

/// Decides by the answer to the upload of a slot.
#[must_use]
pub const fn after_put(answer: WriteAnswer) -> AfterPut {
    match answer {
        WriteAnswer::Done => AfterPut::Stored,
        WriteAnswer::Rejected => AfterPut::Read,
        WriteAnswer::Unclear => AfterPut::Again,
    }
}

/// What tells two files of one name apart: size, header and trailer. The trailer holds the checksum of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotIdentity {
    /// Bytes of the object.
    pub size: u64,
    /// Its first 100 bytes.
    pub header: Vec<u8>,
    /// Its last 16 bytes.
    pub trailer: Vec<u8>,
}

/// What a slot that could not be created holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundSlot {
    /// Nothing any more: a later owner has pruned it.
    Absent,
    /// A file, with the epoch in its header.
    Present {
        /// What tells it apart.
        identity: SlotIdentity,
        /// Its `NodeID`.
        epoch: Epoch,
    },
}

/// What a writer must do after it read the slot that it could not create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRead {
    /// Our own bytes: stored.
    Stored,
    /// Another writer owns the replica: stop for good.
    Fenced {
        /// The writer, where it is known.
        by: Option<Epoch>,
    },
    /// An older writer's file where none can be: a bug, or a writer that ignores all this. Stop and keep the evidence.
    Halt {
        /// Whose file it is.
        epoch: Epoch,
    },
}

/// Decides by what stands in the slot.
#[must_use]
pub fn after_read(mine: Epoch, sent: &SlotIdentity, found: &FoundSlot) -> AfterRead {
    match found {
        FoundSlot::Absent => AfterRead::Fenced { by: None },
        FoundSlot::Present { identity, .. } if identity == sent => AfterRead::Stored,
        FoundSlot::Present { epoch, .. } if *epoch < mine => AfterRead::Halt { epoch: *epoch },
        FoundSlot::Present { epoch, .. } => AfterRead::Fenced { by: Some(*epoch) },
    }
}

/// The slot after `txid`; `None` at the end of all numbers, which no database reaches.
#[must_use]
pub fn next(txid: u64) -> Option<Txid> {
    txid.checked_add(1).and_then(Txid::try_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> SlotIdentity {
        SlotIdentity { size: 131, header: vec![byte; 100], trailer: vec![byte; 16] }
    }

    fn found(byte: u8, epoch: u64) -> FoundSlot {
        FoundSlot::Present { identity: identity(byte), epoch: Epoch::new(epoch) }
    }

    #[test]
    fn an_answer_that_did_not_come_is_asked_for_again_with_the_same_bytes() {
        assert_eq!(after_put(WriteAnswer::Unclear), AfterPut::Again);
    }

    #[test]
    fn our_own_bytes_under_an_existing_key_are_a_lost_answer_and_not_a_rival() {
        assert_eq!(after_read(Epoch::new(4), &identity(1), &found(1, 4)), AfterRead::Stored);
    }

    #[test]
    fn other_bytes_of_our_own_epoch_fence_us_too() {
        assert_eq!(
            after_read(Epoch::new(4), &identity(1), &found(2, 4)),
            AfterRead::Fenced { by: Some(Epoch::new(4)) }
        );
    }

    #[test]
    fn a_later_writers_slot_and_a_pruned_slot_fence_us() {
        assert_eq!(
            after_read(Epoch::new(4), &identity(1), &found(2, 5)),
            AfterRead::Fenced { by: Some(Epoch::new(5)) }
        );
        assert_eq!(
            after_read(Epoch::new(4), &identity(1), &FoundSlot::Absent),
            AfterRead::Fenced { by: None }
        );
    }

    #[test]
    fn an_earlier_writers_slot_ahead_of_us_is_impossible_and_halts() {
        assert_eq!(
            after_read(Epoch::new(4), &identity(1), &found(2, 3)),
            AfterRead::Halt { epoch: Epoch::new(3) }
        );
    }
}
