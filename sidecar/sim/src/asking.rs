//! Performs what the machines ask for, and does it wrongly where a rule is taken out.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use lifeboat_ltx::{Header, Txid};
use lifeboat_replica::adoption::{Ask, Told};
use lifeboat_replica::claim::{Action, Fact, SlotRead};
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::Level;
use lifeboat_replica::slot::WriteAnswer;

use crate::bucket::Write;
use crate::content::File;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::process::Process;
use crate::rules::Rule;
use crate::world::{How, State, World, name};

/// Performs one action of a claim.
///
/// # Errors
/// What it did must never happen.
pub fn perform(
    world: &World,
    state: &mut State,
    at: usize,
    action: &Action,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Fact, Violation> {
    let who = name(at);
    let fact = match action {
        Action::ReadHead => {
            say(format_args!("{who} reads the head"));
            Fact::Head(state.bucket.head_read())
        }
        Action::CountFiles => {
            say(format_args!("{who} lists everything"));
            Fact::FileCount(state.bucket.files.len())
        }
        Action::CreateHead(head) => {
            written(world, state, at, Write::CreateHead(Rc::new(head.clone())), how, say)?
        }
        Action::ReplaceHead { head, etag } => {
            let write = Write::ReplaceHead(Rc::new(head.clone()), etag.clone());
            written(world, state, at, write, how, say)?
        }
        Action::ListSlots { after } => {
            let missing = if let How::Stale(missing) = how { missing } else { 0 };
            let mut slots: Vec<_> = slots(state, *after).into_iter().map(|file| file.max).collect();
            slots.truncate(slots.len().saturating_sub(missing));
            say(format_args!("{who} lists slots after {after}: {slots:?}, {missing} of the newest missing"));
            Fact::Slots(slots)
        }
        Action::ReadSlot(txid) => {
            say(format_args!("{who} reads slot {txid}"));
            Fact::Slot(slot(state, *txid))
        }
        Action::PutSeal { txid, bytes } => {
            let header =
                Header::decode(bytes).map_err(|error| Violation::new(Invariant::Exact, error.to_string()))?;
            if world.without == Some(Rule::Seal) {
                say(format_args!("{who} does not create the seal {txid}"));
                return Ok(Fact::SealWritten(WriteAnswer::Done));
            }
            let write = Write::Create(Rc::new(File::seal(header, bytes.clone())));
            say(format_args!("{who}: {write}"));
            let answer = state.send(world, write, how)?;
            say(format_args!("{answer:?}"));
            Fact::SealWritten(answer)
        }
        Action::Pause(ms) => {
            if world.pages.is_some() {
                say(format_args!("{who} waits for the present writer"));
                state.now = state.now.saturating_add(*ms);
                state.reached(Mark::Waited);
            }
            Fact::Resumed
        }
    };
    Ok(fact)
}

fn written(
    world: &World,
    state: &mut State,
    at: usize,
    write: Write,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Fact, Violation> {
    let write = forgetting_floors(world, state, write);
    say(format_args!("{}: {write}", name(at)));
    let answer = state.send(world, write, how)?;
    say(format_args!("{answer:?}"));
    Ok(Fact::HeadWritten(answer, (answer == WriteAnswer::Done).then(|| state.bucket.etag())))
}

/// Without the rule that floors never sink, a claimant drops them.
fn forgetting_floors(world: &World, state: &State, write: Write) -> Write {
    let Write::ReplaceHead(head, etag) = &write else { return write };
    let before = state.bucket.head.as_ref().map_or(head.epoch, |before| before.epoch);
    if world.without != Some(Rule::FloorsNeverSink) || head.epoch == before {
        return write;
    }
    Write::ReplaceHead(Rc::new(Head { floors: BTreeMap::new(), ..(**head).clone() }), etag.clone())
}

fn slots(state: &State, after: u64) -> Vec<FileEntry> {
    let slots = state.bucket.files.values().filter(|file| file.place.level == Level::CAPTURED);
    slots.filter(|file| file.place.max.get() > after).map(|file| file.entry.clone()).collect()
}

fn slot(state: &State, txid: Txid) -> Option<SlotRead> {
    let read = |file: &Rc<File>| SlotRead { header: file.header.clone(), seal: file.seal.clone() };
    state.bucket.slot(txid).map(read)
}

/// Answers one question of a look.
#[must_use]
pub fn told(state: &State, ask: Ask) -> Told {
    match ask {
        Ask::Head => Told::Head(state.bucket.head.as_ref().map(|head| (**head).clone())),
        Ask::Slots { after } => Told::Files(slots(state, after)),
        Ask::Everything => Told::Files(state.bucket.list(&Level::ALL)),
        Ask::Slot(txid) => Told::Slot(slot(state, txid)),
    }
}

/// What a claimant is told where one of its checks is taken out.
pub fn falsify(world: &World, process: &mut Process, action: &Action, fact: Fact) -> Fact {
    let asked = process.asked.replace(Asked::of(action));
    match (world.without, action, fact) {
        (Some(Rule::Seal), Action::PutSeal { .. }, _) if asked == Some(Asked::Seal) => {
            Fact::SealWritten(WriteAnswer::Rejected)
        }
        // The end of the chain is the slot that is read right after the list.
        (Some(Rule::EndOfALowerEpoch), Action::ReadSlot(_), Fact::Slot(Some(slot)))
            if asked == Some(Asked::List) =>
        {
            Fact::Slot(Some(SlotRead { header: Header { node_id: 0, ..slot.header }, ..slot }))
        }
        (_, _, fact) => fact,
    }
}

/// What a claim asked for, as far as rules that are taken out need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// The list of slots.
    List,
    /// A seal.
    Seal,
    /// Something else.
    Other,
}

impl Asked {
    const fn of(action: &Action) -> Self {
        match action {
            Action::ListSlots { .. } => Self::List,
            Action::PutSeal { .. } => Self::Seal,
            Action::ReadHead
            | Action::CountFiles
            | Action::CreateHead(_)
            | Action::ReplaceHead { .. }
            | Action::ReadSlot(_)
            | Action::Pause(_) => Self::Other,
        }
    }
}
