//! Steps 4 and 5 of a claim: find the end of the chain, put a seal behind it.

use lifeboat_ltx::{Checksum, Header, Mark, Txid, seal};
use lifeboat_wal::header::WAL_HEADER_BYTES;
use lifeboat_wal::{PageCount, PageSize};

use super::{Action, ClaimError, Fact, SlotRead};
use crate::epoch::Epoch;
use crate::head::{Head, Nonce};
use crate::layout::Level;
use crate::slot::{self, WriteAnswer};

/// What the chain holds up to a new seal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChainEnd {
    /// The seal.
    pub seal: Txid,
    /// The rolling checksum of the database there.
    pub checksum: Option<Checksum>,
    /// The database's page size there.
    pub page_size: PageSize,
    /// The database's size there.
    pub commit: PageCount,
}

/// The bytes of the seal behind `last`, or of the seal in slot 1 where there is none.
///
/// # Errors
/// [`ClaimError::Bug`] when the encoder refuses, which no header made here gives it a reason for.
pub fn seal_bytes(
    epoch: Epoch,
    last: Option<&Header>,
    wall_ms: i64,
) -> Result<(Header, Vec<u8>), ClaimError> {
    let checksum = last.and_then(|header| header.mark).map_or(Checksum::EMPTY, |mark| mark.post_apply);
    let txid = slot::next(last.map_or(0, |header| header.max_txid.get()))
        .ok_or_else(|| ClaimError::Bug { what: "no txid is left".to_owned() })?;
    let header = Header {
        page_size: last.map_or(EMPTY_PAGE_SIZE, |header| header.page_size),
        commit: last.map_or(EMPTY_COMMIT, |header| header.commit),
        min_txid: txid,
        max_txid: txid,
        timestamp_ms: wall_ms,
        wal_offset: NO_WAL_OFFSET,
        wal_size: 0,
        salts: (0, 0),
        node_id: epoch.get(),
        mark: Some(Mark { pre_apply: checksum, post_apply: checksum }),
    };
    let bytes = seal(&header)
        .map_err(|error| ClaimError::Bug { what: format!("a seal cannot be encoded: {error}") })?;
    Ok((header, bytes))
}

/// Walks from the floor to the end of the chain and over the seals of claimants that died or are slower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotWalk {
    nonce: Nonce,
    epoch: Epoch,
    floor: u64,
    wall_ms: i64,
    state: WalkState,
}

#[expect(clippy::large_enum_variant, reason = "it lives for one step and is never stored")]
pub(super) enum WalkStep {
    Do(Action),
    Sealed(ChainEnd),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum WalkState {
    Listing,
    /// Slots are missing. Is the head still ours? A successor may have begun to prune.
    Doubting(ClaimError),
    ReadingEnd(Txid),
    Sealing(Attempt),
    /// Something stands where our seal should go.
    ReadingRival(Attempt),
    /// What stood there is gone again: is the head still ours?
    ConfirmingHead(Attempt),
    /// The seal stands; a store that creates it once more does not fence.
    Probing(Attempt),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    header: Header,
    bytes: Vec<u8>,
}

impl SlotWalk {
    pub(super) fn begin(head: &Head, wall_ms: i64) -> Self {
        Self {
            nonce: head.owner.nonce.clone(),
            epoch: head.epoch,
            floor: head.floor(Level::CAPTURED),
            wall_ms,
            state: WalkState::Listing,
        }
    }

    pub(super) fn handle(&mut self, fact: Fact) -> Result<WalkStep, ClaimError> {
        match (std::mem::replace(&mut self.state, WalkState::Listing), fact) {
            (WalkState::Listing, Fact::Slots(slots)) => self.listed(&slots),
            (WalkState::Doubting(error), Fact::Head(found)) => {
                self.still_ours(found)?;
                Err(error)
            }
            (WalkState::ReadingEnd(txid), Fact::Slot(found)) => self.ended(txid, found),
            (WalkState::Sealing(attempt), Fact::SealWritten(answer)) => match answer {
                WriteAnswer::Done => self.put(WalkState::Probing, attempt),
                WriteAnswer::Unclear => self.put(WalkState::Sealing, attempt),
                WriteAnswer::Rejected => {
                    let txid = attempt.header.max_txid;
                    self.go(WalkState::ReadingRival(attempt), Action::ReadSlot(txid))
                }
            },
            (WalkState::ReadingRival(attempt), Fact::Slot(found)) => self.met(attempt, found),
            (WalkState::ConfirmingHead(attempt), Fact::Head(found)) => {
                self.still_ours(found)?;
                self.put(WalkState::Sealing, attempt)
            }
            (WalkState::Probing(attempt), Fact::SealWritten(answer)) => match answer {
                WriteAnswer::Rejected => Ok(WalkStep::Sealed(attempt.end())),
                WriteAnswer::Unclear => self.put(WalkState::Probing, attempt),
                WriteAnswer::Done => Err(ClaimError::NotConformant { txid: attempt.header.max_txid }),
            },
            (state, fact) => {
                Err(ClaimError::Bug { what: format!("the walk was told {fact:?} while {state:?}") })
            }
        }
    }

    fn go(&mut self, state: WalkState, action: Action) -> Result<WalkStep, ClaimError> {
        self.state = state;
        Ok(WalkStep::Do(action))
    }

    fn put(&mut self, state: fn(Attempt) -> WalkState, attempt: Attempt) -> Result<WalkStep, ClaimError> {
        let action = Action::PutSeal { txid: attempt.header.max_txid, bytes: attempt.bytes.clone() };
        self.go(state(attempt), action)
    }

    fn still_ours(&self, found: Option<(Head, String)>) -> Result<(), ClaimError> {
        match found {
            Some((head, _)) if head.owner.nonce == self.nonce => Ok(()),
            Some((head, _)) => Err(ClaimError::Lost { by: Some(head.epoch) }),
            None => Err(ClaimError::Lost { by: None }),
        }
    }

    fn listed(&mut self, slots: &[Txid]) -> Result<WalkStep, ClaimError> {
        match chain_end(slots, self.floor) {
            Ok(Some(end)) => self.go(WalkState::ReadingEnd(end), Action::ReadSlot(end)),
            Ok(None) => self.seal(None),
            Err(missing) => self.go(WalkState::Doubting(missing), Action::ReadHead),
        }
    }

    fn ended(&mut self, txid: Txid, found: Option<SlotRead>) -> Result<WalkStep, ClaimError> {
        let last = found.ok_or(ClaimError::Lost { by: None })?;
        if last.header.mark.is_none() {
            return Err(ClaimError::ForeignFile { txid });
        }
        if last.epoch() >= self.epoch {
            return Err(ClaimError::Lost { by: Some(last.epoch()) });
        }
        self.seal(Some(&last.header))
    }

    fn seal(&mut self, last: Option<&Header>) -> Result<WalkStep, ClaimError> {
        let (header, bytes) = seal_bytes(self.epoch, last, self.wall_ms)?;
        self.put(WalkState::Sealing, Attempt { header, bytes })
    }

    /// Somebody was faster at this slot: ourselves, an older writer or claimant, or a newer one.
    fn met(&mut self, attempt: Attempt, found: Option<SlotRead>) -> Result<WalkStep, ClaimError> {
        let txid = attempt.header.max_txid;
        let Some(found) = found else {
            return self.go(WalkState::ConfirmingHead(attempt), Action::ReadHead);
        };
        if found.seal.as_ref() == Some(&attempt.bytes) {
            return self.put(WalkState::Probing, attempt);
        }
        if found.epoch() >= self.epoch {
            return Err(ClaimError::Lost { by: Some(found.epoch()) });
        }
        let mark = found.header.mark.ok_or(ClaimError::ForeignFile { txid })?;
        let expected = attempt.header.mark.map(|mark| mark.post_apply);
        if expected.is_some_and(|expected| expected != mark.pre_apply) {
            return Err(ClaimError::BrokenChain { txid });
        }
        self.seal(Some(&found.header))
    }
}

impl Attempt {
    fn end(&self) -> ChainEnd {
        ChainEnd {
            seal: self.header.max_txid,
            checksum: self.header.mark.map(|mark| mark.post_apply),
            page_size: self.header.page_size,
            commit: self.header.commit,
        }
    }
}

/// The newest slot, once every slot from the floor on is there; `None` for a replica without any. Seals below the floor
/// stay for ever, and a broken-off deletion leaves any subset, so the lowest slot listed says nothing.
fn chain_end(slots: &[Txid], floor: u64) -> Result<Option<Txid>, ClaimError> {
    let live: Vec<Txid> = slots.iter().copied().filter(|txid| txid.get() > floor).collect();
    let Some(&newest) = live.last() else {
        return if floor == 0 { Ok(None) } else { Err(ClaimError::NoSlots { floor }) };
    };
    let mut expected = floor;
    for txid in live {
        expected += 1;
        if txid.get() != expected {
            let missing = Txid::try_new(expected).unwrap_or(txid);
            return Err(ClaimError::Hole { missing, newest });
        }
    }
    Ok(Some(newest))
}

/// What a seal in slot 1 says of a database that nobody has stored yet.
const EMPTY_PAGE_SIZE: PageSize = match PageSize::try_new(4096) {
    Some(size) => size,
    None => PageSize::MIN,
};
const EMPTY_COMMIT: PageCount = PageCount::new(1);

/// Litestream takes a file for the end of a chain only if its WAL offset is behind the WAL header.
pub const NO_WAL_OFFSET: u64 = WAL_HEADER_BYTES as u64;
