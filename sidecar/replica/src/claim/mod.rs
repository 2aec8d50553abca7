//! How a process becomes the one writer of a replica.
//!
//! [`Claim`] is steps 1 to 5: read the head, be polite, take the head by compare-and-swap, find the end of the chain, and
//! put a seal behind it. The seal is what stops the predecessor: its next slot is taken, so it can acknowledge nothing
//! any more, however late its requests arrive. [`Opening`] is step 6: the head says `open`, and the writer may write.
//! They are two machines because in a pod they run in two processes, the init container and the sidecar.
//!
//! Facts in, actions out, one action at a time. What cannot be read is never given as a fact: whoever performs the
//! actions asks again or gives up, so *unreadable* cannot turn into *absent* here. No rule of safety reads a clock; the
//! waiting of step 2 is politeness.

mod chain;
mod error;
mod opening;
mod patience;
#[cfg(test)]
mod tests;

use lifeboat_ltx::{Header, Txid};

pub use self::chain::{ChainEnd, NO_WAL_OFFSET, seal_bytes};
pub use self::error::ClaimError;
pub use self::opening::{Opened, Opening, OpeningStep};
pub use self::patience::{Millis, Patience};

use self::chain::SlotWalk;
use crate::epoch::Epoch;
use crate::head::{Base, Head, HeadState, Owner};
use crate::layout::Level;
use crate::promise::Promise;
use crate::slot::WriteAnswer;

/// What must be done next; each is answered by exactly one [`Fact`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read `head.json`; answered by [`Fact::Head`].
    ReadHead,
    /// List every level completely; answered by [`Fact::FileCount`].
    CountFiles,
    /// Create `head.json`; answered by [`Fact::HeadWritten`].
    CreateHead(Head),
    /// Replace the version `etag` of `head.json`; answered by [`Fact::HeadWritten`].
    ReplaceHead {
        /// The new content.
        head: Head,
        /// The version it replaces.
        etag: String,
    },
    /// List the slots after this TXID completely; answered by [`Fact::Slots`].
    ListSlots {
        /// The floor: those up to it are dead, and seals among them may be many.
        after: u64,
    },
    /// Read a slot's header, and the whole of it where it is a seal; answered by [`Fact::Slot`].
    ReadSlot(Txid),
    /// Create a slot with these bytes; answered by [`Fact::SealWritten`].
    PutSeal {
        /// The slot.
        txid: Txid,
        /// The whole file.
        bytes: Vec<u8>,
    },
    /// Let this many milliseconds pass; answered by [`Fact::Resumed`].
    Pause(Millis),
}

/// What came of an [`Action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `head.json` and its version; `None` where the key, but not the bucket, is proved absent.
    Head(Option<(Head, String)>),
    /// How many LTX files stand under the prefix.
    FileCount(usize),
    /// The answer to a write of `head.json`, with the new version where it was done.
    HeadWritten(WriteAnswer, Option<String>),
    /// The TXIDs of the slots asked for, ascending.
    Slots(Vec<Txid>),
    /// What stands in a slot; `None` where it is proved absent.
    Slot(Option<SlotRead>),
    /// The answer to the creation of a seal.
    SealWritten(WriteAnswer),
    /// The pause is over.
    Resumed,
}

/// A slot, as read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotRead {
    /// Its header.
    pub header: Header,
    /// The whole file, where it has the size of a seal.
    pub seal: Option<Vec<u8>>,
}

impl SlotRead {
    /// Who stored it.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch::new(self.header.node_id)
    }
}

/// What the machine wants after a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this and come back with the fact.
    Do(Action),
    /// The replica is ours and sealed.
    Sealed(Sealed),
}

/// A claim that has its seal: the predecessor can store nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sealed {
    /// The head as we wrote it.
    pub head: Head,
    /// Its version.
    pub etag: String,
    /// Our seal, or [`Base::NOTHING`] for the creator of a replica.
    pub base: Base,
    /// What the chain holds up to the seal; `None` for the creator of a replica.
    pub end: Option<ChainEnd>,
}

/// Who claims, and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claimant {
    /// The claimant.
    pub owner: Owner,
    /// 32 hexadecimal digits for the lineage, should there be none yet.
    pub new_lineage: String,
    /// The wall clock's milliseconds since 1970, for the seal's timestamp; no decision reads it.
    pub wall_ms: i64,
    /// How long to wait for a predecessor that makes progress.
    pub patience: Patience,
    /// Whether this is a restarted process, which must not take the replica back from another pod: two restart loops
    /// would duel for ever. A new pod or a person may.
    pub is_restarted: bool,
    /// The newest slot that the claimant's database was held against; `None` to claim whatever is there. If another one
    /// is there by the time the head would be taken, the claimant looks again instead: a stale copy must not stop a
    /// writer that is at work.
    pub expected: Option<u64>,
    /// What is known to have been stored here; then no replica is begun.
    pub promise: Option<Promise>,
}

/// The claim of one process, from the first look at the head to its seal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    claimant: Claimant,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    ReadingHead,
    ProvingAbsence,
    /// There are files: has somebody created the head, and stored them, since it was looked for?
    ReadingHeadAgain {
        files: usize,
    },
    CreatingHead(Head),
    /// Politeness: the slots are listed to see whether the predecessor makes progress.
    Observing {
        head: Head,
        etag: String,
        is_polite: bool,
    },
    Waiting,
    TakingHead {
        head: Head,
        replaced: u64,
    },
    ConfirmingHead {
        head: Head,
        replaced: u64,
    },
    Walking {
        head: Head,
        etag: String,
        walk: SlotWalk,
    },
}

impl Claim {
    /// The claim of this process, and its first action.
    #[must_use]
    pub const fn begin(claimant: Claimant) -> (Self, Action) {
        (Self { claimant, state: State::ReadingHead }, Action::ReadHead)
    }

    /// Takes the fact that answers the last action; `now` is the process's monotonic clock.
    ///
    /// # Errors
    /// [`ClaimError`] when the claim must not go on. Nothing else was changed than what the actions said.
    pub fn handle(&mut self, now: Millis, fact: Fact) -> Result<Step, ClaimError> {
        match (std::mem::replace(&mut self.state, State::ReadingHead), fact) {
            (State::ReadingHead, Fact::Head(None)) => self.go(State::ProvingAbsence, Action::CountFiles),
            (State::ReadingHead, Fact::Head(Some((head, etag)))) => self.consider(head, etag),
            (State::ProvingAbsence, Fact::FileCount(0)) => {
                if let Some(promise) = &self.claimant.promise {
                    return Err(ClaimError::Emptied(promise.clone()));
                }
                let head = Head::create(self.claimant.new_lineage.clone(), self.claimant.owner.clone());
                self.go(State::CreatingHead(head.clone()), Action::CreateHead(head))
            }
            (State::ProvingAbsence, Fact::FileCount(files)) => {
                self.go(State::ReadingHeadAgain { files }, Action::ReadHead)
            }
            (State::ReadingHeadAgain { files }, Fact::Head(None)) => Err(ClaimError::UnclaimedData { files }),
            (State::ReadingHeadAgain { .. }, Fact::Head(Some((head, etag)))) => self.consider(head, etag),
            (State::CreatingHead(head), Fact::HeadWritten(answer, etag)) => self.created(head, answer, etag),
            (State::Observing { head, etag, is_polite }, Fact::Slots(slots)) => {
                let newest = slots.last().map_or(0, |txid| txid.get());
                if self.claimant.expected.is_some_and(|expected| expected != newest) {
                    return Err(ClaimError::Moved { newest });
                }
                if is_polite { self.observed(now, head, etag, newest) } else { self.take(&head, etag) }
            }
            (State::Waiting, Fact::Resumed) => self.go(State::ReadingHead, Action::ReadHead),
            (State::TakingHead { head, replaced }, Fact::HeadWritten(answer, etag)) => {
                self.taken(head, replaced, answer, etag)
            }
            (State::ConfirmingHead { head, replaced }, Fact::Head(found)) => {
                self.confirmed(head, replaced, found)
            }
            (State::Walking { head, etag, mut walk }, fact) => {
                let step = walk.handle(fact)?;
                self.walked(head, etag, walk, step)
            }
            (state, fact) => Err(ClaimError::bug(&state, &fact)),
        }
    }

    fn go(&mut self, state: State, action: Action) -> Result<Step, ClaimError> {
        self.state = state;
        Ok(Step::Do(action))
    }

    /// Steps 1 and 2: whose replica is it, and is its writer still at work?
    fn consider(&mut self, head: Head, etag: String) -> Result<Step, ClaimError> {
        if !head.owner.is_same_resource(&self.claimant.owner) {
            return Err(ClaimError::ForeignOwner { owner: head.owner.to_string() });
        }
        if self.claimant.is_restarted && head.owner.pod_uid != self.claimant.owner.pod_uid {
            return Err(ClaimError::Superseded { owner: head.owner.to_string() });
        }
        let is_polite =
            head.state != HeadState::Closed && !is_same_machine(&head.owner, &self.claimant.owner);
        let after = head.floor(Level::CAPTURED);
        self.go(State::Observing { head, etag, is_polite }, Action::ListSlots { after })
    }

    fn observed(&mut self, now: Millis, head: Head, etag: String, newest: u64) -> Result<Step, ClaimError> {
        let sight = (head.revision, newest);
        match self.claimant.patience.observe(now, sight) {
            Some(pause) => self.go(State::Waiting, Action::Pause(pause)),
            None => self.take(&head, etag),
        }
    }

    /// Step 3: the head becomes ours, or somebody else was faster.
    fn take(&mut self, head: &Head, etag: String) -> Result<Step, ClaimError> {
        let mine = head.claim(self.claimant.owner.clone());
        let state = State::TakingHead { head: mine.clone(), replaced: head.revision };
        self.go(state, Action::ReplaceHead { head: mine, etag })
    }

    fn taken(
        &mut self,
        head: Head,
        replaced: u64,
        answer: WriteAnswer,
        etag: Option<String>,
    ) -> Result<Step, ClaimError> {
        match (answer, etag) {
            (WriteAnswer::Done, Some(etag)) => self.walk(head, etag),
            (WriteAnswer::Done | WriteAnswer::Rejected | WriteAnswer::Unclear, _) => {
                self.go(State::ConfirmingHead { head, replaced }, Action::ReadHead)
            }
        }
    }

    fn created(&mut self, head: Head, answer: WriteAnswer, etag: Option<String>) -> Result<Step, ClaimError> {
        match (answer, etag) {
            (WriteAnswer::Done, Some(etag)) => Ok(Step::Sealed(created(head, etag))),
            (WriteAnswer::Done | WriteAnswer::Rejected | WriteAnswer::Unclear, _) => {
                self.go(State::ConfirmingHead { head, replaced: 0 }, Action::ReadHead)
            }
        }
    }

    /// After an unclear or a failed write of the head only its content tells what happened.
    fn confirmed(
        &mut self,
        head: Head,
        replaced: u64,
        found: Option<(Head, String)>,
    ) -> Result<Step, ClaimError> {
        match found {
            Some((found, etag)) if found.owner.nonce == head.owner.nonce && replaced == 0 => {
                Ok(Step::Sealed(created(found, etag)))
            }
            Some((found, etag)) if found.owner.nonce == head.owner.nonce => self.walk(found, etag),
            Some((found, etag)) if found.revision == replaced => self
                .go(State::TakingHead { head: head.clone(), replaced }, Action::ReplaceHead { head, etag }),
            None if replaced == 0 => self.go(State::CreatingHead(head.clone()), Action::CreateHead(head)),
            Some(_) | None => self.go(State::ReadingHead, Action::ReadHead),
        }
    }

    /// Steps 4 and 5: find the end of the chain and put the seal behind it.
    fn walk(&mut self, head: Head, etag: String) -> Result<Step, ClaimError> {
        let (walk, after) = (SlotWalk::begin(&head, self.claimant.wall_ms), head.floor(Level::CAPTURED));
        self.go(State::Walking { head, etag, walk }, Action::ListSlots { after })
    }

    fn walked(
        &mut self,
        head: Head,
        etag: String,
        walk: SlotWalk,
        step: chain::WalkStep,
    ) -> Result<Step, ClaimError> {
        match step {
            chain::WalkStep::Do(action) => self.go(State::Walking { head, etag, walk }, action),
            chain::WalkStep::Sealed(end) => {
                let base = Base { txid: end.seal.get(), checksum: end.checksum };
                Ok(Step::Sealed(Sealed { head, etag, base, end: Some(end) }))
            }
        }
    }
}

/// The creator of a replica has no predecessor, so there is nothing to seal.
const fn created(head: Head, etag: String) -> Sealed {
    Sealed { head, etag, base: Base::NOTHING, end: None }
}

/// The lock beside the database, taken before the claim, already proves that a writer of this pod or this host is gone.
fn is_same_machine(owner: &Owner, mine: &Owner) -> bool {
    if owner.is_pod() || mine.is_pod() { owner.pod_uid == mine.pod_uid } else { owner.name == mine.name }
}
