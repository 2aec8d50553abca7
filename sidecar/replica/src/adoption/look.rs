//! Looks at what a bucket holds, as far as the question of adoption needs it.
//!
//! In:  the record beside the local database; then the answers to what is asked.
//! Out: the [`Chain`].
//!
//! ```text
//! head ─► live slots ─► (head again, if there was none) ─► everything and the head, if no slot holds pages
//!      ─► newest slot ─► the record's slot ─► every slot with pages since
//! ```
//!
//! It begins with the head, unlike a restore: the floor saves the list of seals that stay for ever. What changes meanwhile
//! is noticed by the claim that follows, or was excluded by the claim that came before.

use lifeboat_ltx::{Checksum, Txid};

use super::{Chain, ChainSlot, Record};
use crate::claim::{ClaimError, SlotRead};
use crate::epoch::Epoch;
use crate::head::Head;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;

/// What must be read next; each is answered by exactly one [`Told`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// `head.json`; answered by [`Told::Head`].
    Head,
    /// The list of the slots after this TXID; answered by [`Told::Files`].
    Slots {
        /// The floor.
        after: u64,
    },
    /// The lists of every level; answered by [`Told::Files`].
    Everything,
    /// A slot; answered by [`Told::Slot`].
    Slot(Txid),
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// `head.json`; `None` where it is proved absent.
    Head(Option<Head>),
    /// A complete list.
    Files(Vec<FileEntry>),
    /// A slot; `None` where it is proved absent.
    Slot(Option<SlotRead>),
}

/// What the machine wants after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookStep {
    /// Read this.
    Ask(Ask),
    /// That is what the bucket holds.
    Chain(Chain),
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    record: Option<Record>,
    state: State,
    /// The slot read last: the newest is mostly the one that is asked for most.
    read: Option<(Txid, Option<SlotRead>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Head,
    Slots(Option<Head>),
    HeadAgain(Vec<FileEntry>),
    Everything,
    LastHead(Vec<FileEntry>),
    Newest(Inventory),
    AtRecord(Inventory, Option<Checksum>),
    Since { chain: Chain, inventory: Inventory },
}

impl Look {
    /// A look for the sake of a database with this record beside it. The first question is about the head.
    #[must_use]
    pub const fn begin(record: Option<Record>) -> (Self, Ask) {
        (Self { record, state: State::Head, read: None }, Ask::Head)
    }

    /// Takes the answer to the last question.
    ///
    /// # Errors
    /// [`ClaimError::UnclaimedData`] for files without a head, [`ClaimError::ForeignFile`] when another program stored the
    /// newest slot.
    pub fn handle(&mut self, told: Told) -> Result<LookStep, ClaimError> {
        match (std::mem::replace(&mut self.state, State::Head), told) {
            (State::Head, Told::Head(head)) => {
                let after = head.as_ref().map_or(0, |head| head.floor(Level::CAPTURED));
                self.ask(State::Slots(head), Ask::Slots { after })
            }
            (State::Slots(Some(head)), Told::Files(files)) => self.listed(Inventory::new(files, Some(head))),
            // Slots of a replica that was created in between are no slots without a head.
            (State::Slots(None), Told::Files(files)) => self.ask(State::HeadAgain(files), Ask::Head),
            (State::HeadAgain(files), Told::Head(head)) => self.listed(Inventory::new(files, head)),
            (State::Everything, Told::Files(files)) => self.ask(State::LastHead(files), Ask::Head),
            (State::LastHead(files), Told::Head(head)) => self.found(Inventory::new(files, head)),
            (State::Newest(inventory), Told::Slot(slot)) => {
                let Some(txid) = newest(&inventory) else { return Err(bug("a slot of no slots")) };
                if slot.as_ref().is_some_and(|slot| slot.header.mark.is_none()) {
                    return Err(ClaimError::ForeignFile { txid });
                }
                let checksum = post_apply(slot.as_ref());
                self.read = Some((txid, slot));
                self.at_record(inventory, checksum)
            }
            (State::AtRecord(inventory, checksum), Told::Slot(slot)) => {
                let at_record = post_apply(slot.as_ref());
                self.since(inventory, checksum, at_record)
            }
            (State::Since { chain, inventory }, Told::Slot(slot)) => {
                let epoch = slot.as_ref().map(SlotRead::epoch);
                self.go_on(chain, inventory, Some(epoch))
            }
            (state, told) => Err(bug(&format!("the look was told {told:?} while {state:?}"))),
        }
    }

    fn ask(&mut self, state: State, ask: Ask) -> Result<LookStep, ClaimError> {
        self.state = state;
        Ok(LookStep::Ask(ask))
    }

    /// A database may be in merged files alone, when every slot with pages was pruned.
    fn listed(&mut self, inventory: Inventory) -> Result<LookStep, ClaimError> {
        if inventory.holds_pages() {
            return self.found(inventory);
        }
        self.ask(State::Everything, Ask::Everything)
    }

    fn found(&mut self, inventory: Inventory) -> Result<LookStep, ClaimError> {
        if inventory.head().is_none() && !inventory.files().is_empty() {
            return Err(ClaimError::UnclaimedData { files: inventory.files().len() });
        }
        match newest(&inventory) {
            Some(txid) => self.ask(State::Newest(inventory), Ask::Slot(txid)),
            None => self.at_record(inventory, None),
        }
    }

    fn at_record(
        &mut self,
        inventory: Inventory,
        checksum: Option<Checksum>,
    ) -> Result<LookStep, ClaimError> {
        let Some(txid) = self.record.as_ref().and_then(|record| Txid::try_new(record.slot.txid)) else {
            return self.since(inventory, checksum, None);
        };
        if let Some((_, slot)) = self.read.as_ref().filter(|(read, _)| *read == txid) {
            let at_record = post_apply(slot.as_ref());
            return self.since(inventory, checksum, at_record);
        }
        self.ask(State::AtRecord(inventory, checksum), Ask::Slot(txid))
    }

    fn since(
        &mut self,
        inventory: Inventory,
        checksum: Option<Checksum>,
        at_record: Option<Checksum>,
    ) -> Result<LookStep, ClaimError> {
        let chain = Chain {
            lineage: inventory.head().map(|head| head.lineage.clone()).unwrap_or_default(),
            checksum,
            at_record,
            newest: newest(&inventory).map_or(0, Txid::get),
            newest_pages: inventory.slots().rfind(|file| !file.is_seal()).map_or(0, |file| file.max.get()),
            holds_pages: inventory.holds_pages(),
            since_record: Vec::new(),
        };
        self.go_on(chain, inventory, None)
    }

    /// The slots after the record's, one by one. Where one is missing, or cannot be told apart any more, a stranger's
    /// stands for it, and nothing after it is looked at.
    fn go_on(
        &mut self,
        mut chain: Chain,
        inventory: Inventory,
        mut answer: Option<Option<Epoch>>,
    ) -> Result<LookStep, ClaimError> {
        let Some(record) = &self.record else { return Ok(LookStep::Chain(chain)) };
        let from = record.slot.txid;
        loop {
            let looked_at = chain.since_record.len();
            let Some(file) = inventory.slots().filter(|file| file.max.get() > from).nth(looked_at) else {
                return Ok(LookStep::Chain(chain));
            };
            let expected = from + 1 + looked_at as u64;
            let stranger = ChainSlot { txid: expected, epoch: Epoch::new(0), is_seal: false };
            if file.max.get() != expected || looked_at >= SLOTS_LOOKED_AT_MAX {
                chain.since_record.push(stranger);
                return Ok(LookStep::Chain(chain));
            }
            let known = self.read.as_ref().filter(|(read, _)| *read == file.max);
            let known = known.map(|(_, slot)| slot.as_ref().map(SlotRead::epoch));
            let slot = match (file.is_seal(), answer.take().or(known)) {
                (true, _) => ChainSlot { is_seal: true, ..stranger },
                (false, Some(epoch)) => ChainSlot { epoch: epoch.unwrap_or(stranger.epoch), ..stranger },
                (false, None) => {
                    let ask = Ask::Slot(file.max);
                    return self.ask(State::Since { chain, inventory }, ask);
                }
            };
            chain.since_record.push(slot);
        }
    }
}

fn newest(inventory: &Inventory) -> Option<Txid> {
    inventory.slots().last().map(|file| file.max)
}

fn post_apply(slot: Option<&SlotRead>) -> Option<Checksum> {
    slot.and_then(|slot| slot.header.mark).map(|mark| mark.post_apply)
}

fn bug(what: &str) -> ClaimError {
    ClaimError::Bug { what: what.to_owned() }
}

/// A record further behind than this proves nothing worth so many requests.
const SLOTS_LOOKED_AT_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
