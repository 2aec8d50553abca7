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

/// Walks from the floor to the end of the chain, over the seals of claimants that died or are slower, and after a writer that
/// still stores.
///
/// Whoever puts a seal and finds a slot there, reads it, and puts the seal behind it, which is two requests for a slot. A
/// writer that needs less time for one is not caught like that. So after a few slots the next one is waited for, by reading it,
/// and the seal is put right behind it; and now and then the slots are listed again, and all but the newest are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotWalk {
    nonce: Nonce,
    epoch: Epoch,
    floor: u64,
    wall_ms: i64,
    /// How many slots were met where the seal should go; from [`CHASING`] on again after each list.
    met: u8,
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
    /// Is there a slot already where our seal should go? So often there was none.
    LookingAhead(Attempt, u8),
    /// What was stored since the last list?
    ListingAgain(Attempt),
    /// So far, at least, the chain goes.
    ReadingNewest(Attempt, Txid),
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
            met: 0,
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
            (WalkState::ReadingRival(attempt), Fact::Slot(found)) => {
                let txid = attempt.header.max_txid;
                self.met(attempt, txid, found)
            }
            (WalkState::LookingAhead(attempt, absent), Fact::Slot(found)) => {
                self.looked_ahead(attempt, absent, found)
            }
            (WalkState::ListingAgain(attempt), Fact::Slots(slots)) => self.listed_again(attempt, &slots),
            (WalkState::ReadingNewest(attempt, txid), Fact::Slot(found)) => self.met(attempt, txid, found),
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

    /// Somebody was faster where our seal should go, and the chain goes on to `txid` at least: ourselves, an older writer or
    /// claimant, or a newer one.
    fn met(&mut self, attempt: Attempt, txid: Txid, found: Option<SlotRead>) -> Result<WalkStep, ClaimError> {
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
        let is_next = txid == attempt.header.max_txid;
        if is_next && expected.is_some_and(|expected| expected != mark.pre_apply) {
            return Err(ClaimError::BrokenChain { txid });
        }
        self.go_behind(&found.header)
    }

    /// The next try is behind this slot.
    fn go_behind(&mut self, last: &Header) -> Result<WalkStep, ClaimError> {
        let (header, bytes) = seal_bytes(self.epoch, Some(last), self.wall_ms)?;
        let (txid, attempt) = (header.max_txid, Attempt { header, bytes });
        self.met += 1;
        if self.met < CHASING {
            return self.put(WalkState::Sealing, attempt);
        }
        if self.met < TOO_FAR_BEHIND {
            return self.go(WalkState::LookingAhead(attempt, 0), Action::ReadSlot(txid));
        }
        self.met = CHASING - 1;
        self.go(WalkState::ListingAgain(attempt), Action::ListSlots { after: last.max_txid.get() })
    }

    /// A slot that was not there a moment ago has just come: its writer needs some time for the next one. One that does not come
    /// for a while is not so fast, and its place may be tried.
    fn looked_ahead(
        &mut self,
        attempt: Attempt,
        absent: u8,
        found: Option<SlotRead>,
    ) -> Result<WalkStep, ClaimError> {
        let txid = attempt.header.max_txid;
        match found {
            None if absent + 1 == LOOKS_AHEAD => self.put(WalkState::Sealing, attempt),
            None => self.go(WalkState::LookingAhead(attempt, absent + 1), Action::ReadSlot(txid)),
            Some(_) if absent > 0 => {
                self.met = 0;
                self.met(attempt, txid, found)
            }
            Some(_) => self.met(attempt, txid, found),
        }
    }

    /// Skips to the newest slot that is there without a gap. A list is a hint here: what it lacks is met afterwards.
    fn listed_again(&mut self, attempt: Attempt, slots: &[Txid]) -> Result<WalkStep, ClaimError> {
        let next = attempt.header.max_txid;
        let without_gap =
            slots.iter().zip(next.get()..).take_while(|(txid, expected)| txid.get() == *expected);
        match without_gap.last() {
            Some((&newest, _)) => {
                self.go(WalkState::ReadingNewest(attempt, newest), Action::ReadSlot(newest))
            }
            None => self.put(WalkState::Sealing, attempt),
        }
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

/// So many slots that were not there a moment ago are a writer at work.
const CHASING: u8 = 2;
/// So often the place of the next slot is found free before a seal is put there.
const LOOKS_AHEAD: u8 = 2;
/// After so many the slots are listed again.
const TOO_FAR_BEHIND: u8 = 4;

/// Litestream takes a file for the end of a chain only if its WAL offset is behind the WAL header.
pub const NO_WAL_OFFSET: u64 = WAL_HEADER_BYTES as u64;
