//! A writer: slots, derived files, and what goes.

use std::fmt;
use std::rc::Rc;

use lifeboat_ltx::{Checksum, Txid};
use lifeboat_replica::claim::{Action, Opened};
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::head::{Base, Head};
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::raising::{Raising, RaisingStep};
use lifeboat_replica::retention::{Pruning, Wish, dead, decide};
use lifeboat_replica::slot::{AfterPut, AfterRead, FoundSlot, after_put, after_read, next};

use crate::asking::perform;
use crate::bucket::Write;
use crate::content::{Commits, File, Place};
use crate::following::Following;
use crate::image::Unseen;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::paging;
use crate::process::{Phase, push, record};
use crate::rules::Rule;
use crate::truth::place_of;
use crate::world::{How, Plan, State, Step, World, name};

/// A writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    pub(crate) opened: Opened,
    /// The end of the chain, as far as it knows.
    pub(crate) end: Base,
    /// The newest slot that it stored itself; 0 for none.
    own: u64,
    pub(crate) flight: Option<Flight>,
    /// A slot behind the one in flight; there is none unless a rule is taken out.
    behind: Option<Flight>,
    commits_left: u8,
    derives_left: Vec<Level>,
    prunes_left: u8,
    forgetting: Forgetting,
    /// What follows the database, where databases have pages.
    pub(crate) following: Unseen<Option<Box<Following>>>,
    /// The newest slot with pages that was there when it began.
    pub(crate) newest_pages: u64,
}

/// A slot that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) file: Rc<File>,
    pub(crate) is_reading: bool,
}

/// How far a writer is in giving files up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Forgetting {
    #[default]
    Rest,
    Raising(Box<(Raising, Action)>),
    Deleting(Vec<Place>),
    /// Another process's head was found.
    Lost,
}

impl Writer {
    /// Behind its claim.
    #[must_use]
    pub fn begin(opened: Opened, base: Base, plan: &Plan, newest_pages: u64) -> Self {
        Self {
            opened,
            end: base,
            own: 0,
            flight: None,
            behind: None,
            commits_left: plan.commits,
            derives_left: plan.derives.iter().rev().copied().collect(),
            prunes_left: plan.prunes,
            forgetting: Forgetting::Rest,
            following: Unseen(None),
            newest_pages,
        }
    }

    /// Whether it is giving up files just now.
    #[must_use]
    pub const fn is_deleting(&self) -> bool {
        matches!(self.forgetting, Forgetting::Deleting(_))
    }

    /// What it may do next.
    pub fn steps(&self, world: &World, state: &State, at: usize, steps: &mut Vec<Step>) {
        let may_cut =
            self.flight.is_none() || (world.without == Some(Rule::OneInFlight) && self.behind.is_none());
        if self.commits_left > 0 && (may_cut || world.pages.is_some()) {
            steps.push(Step::Commit(at));
        }
        if let Some(plan) = world.processes.get(at).filter(|_| world.pages.is_some()) {
            self.paged_steps(state, (at, plan), steps);
        } else if self.flight.is_none() && self.has_tail(world, state, at) {
            // What the last process left unstored.
            steps.push(Step::Cut(at));
        }
        for (number, flight) in [&self.flight, &self.behind].into_iter().enumerate() {
            if let Some(flight) = flight {
                push(steps, state, !flight.is_reading, |how| Step::Ask(at, how, number == 1));
            }
        }
        let proved =
            self.own > 0 || (self.flight.is_some() && world.without == Some(Rule::DerivedFilesAreTrue));
        if proved && !self.derives_left.is_empty() {
            push(steps, state, true, |how| Step::Derive(at, how));
        }
        match &self.forgetting {
            Forgetting::Rest if self.prunes_left > 0 && self.own > 0 => steps.push(Step::Prune(at)),
            Forgetting::Raising(raising) => {
                let (_, action) = &**raising;
                let is_write = matches!(action, Action::ReplaceHead { .. });
                push(steps, state, is_write, |how| Step::Forget(at, how));
            }
            Forgetting::Deleting(_) => push(steps, state, true, |how| Step::Forget(at, how)),
            Forgetting::Rest | Forgetting::Lost => {}
        }
    }

    fn has_tail(&self, world: &World, state: &State, at: usize) -> bool {
        let volume = world.processes.get(at).and_then(|plan| state.volumes.get(plan.volume));
        let stored = self.end.checksum.unwrap_or(Checksum::EMPTY);
        let commits = volume.and_then(|volume| volume.database.as_ref());
        commits.is_some_and(|commits| commits.checksum() != stored)
    }

    const fn epoch(&self) -> Epoch {
        self.opened.head.epoch
    }
}

/// A writer does something.
///
/// # Errors
/// It must not.
pub fn act(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    mut writer: Writer,
    step: &Step,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Phase, Violation> {
    match *step {
        Step::Commit(_) if let Some(shape) = &world.pages => {
            writer.commits_left -= 1;
            let volume = state.volumes.get_mut(plan.volume);
            let number = volume.map_or(0, |volume| Rc::make_mut(volume).write(shape, plan.volume));
            say(format_args!("the application of {} commits {number}", name(at)));
        }
        Step::Look(_) => paging::look(world, state, (at, plan), &mut writer, say),
        Step::Cut(_) if world.pages.is_some() => {
            paging::cut(world, state, (at, plan), &mut writer, say)?;
        }
        Step::Derive(_, how) if world.pages.is_some() => {
            paging::derive(world, state, (at, plan), &mut writer, how, say)?;
        }
        Step::Commit(_) => {
            writer.commits_left -= 1;
            let number = u16::try_from(at * 10).unwrap_or(u16::MAX) + u16::from(writer.commits_left) + 1;
            if let Some(volume) = state.volumes.get_mut(plan.volume) {
                Rc::make_mut(volume).commit(number);
            }
            say(format_args!("the application of {} commits {number}", name(at)));
            cut(state, plan, &mut writer, say)?;
        }
        Step::Cut(_) => cut(state, plan, &mut writer, say)?,
        Step::Ask(_, how, is_behind) => {
            if let Some(ended) = ask(world, state, (at, plan), &mut writer, how, is_behind, say)? {
                return Ok(ended);
            }
        }
        Step::Derive(_, how) => derive(world, state, (at, plan), &mut writer, how, say)?,
        Step::Prune(_) => prune(world, state, (at, plan), &mut writer, say)?,
        Step::Forget(_, how) => forget(world, state, at, &mut writer, how, say)?,
        Step::Begin(_)
        | Step::Crash(_)
        | Step::PowerCut(..)
        | Step::Arrive(_)
        | Step::Restore(_)
        | Step::Alone(_)
        | Step::Checkpoint(..)
        | Step::Unpin(_)
        | Step::Pause(..)
        | Step::Pass(_) => {}
    }
    Ok(Phase::Writing(Box::new(writer)))
}

/// The next slot: it carries what the database has and the chain does not.
fn cut(
    state: &State,
    plan: &Plan,
    writer: &mut Writer,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    let (before, from) = match &writer.flight {
        Some(flight) => (flight.file.place.max.get(), flight.file.to.clone()),
        None => (writer.end.txid, stored(state, writer)),
    };
    let txid = next(before).ok_or_else(|| Violation::new(Invariant::Live, "no txid is left"))?;
    let commits = state.volumes.get(plan.volume).and_then(|volume| volume.database.clone());
    let file = File::with_pages(Place::slot(txid), writer.epoch(), from, commits.unwrap_or_default());
    say(format_args!("it cuts slot {txid} with commits {:?}", file.to.numbers));
    let flight = Some(Flight { file: Rc::new(file), is_reading: false });
    if writer.flight.is_none() {
        writer.flight = flight
    } else {
        writer.behind = flight
    }
    Ok(())
}

/// The state that the chain ends at, as far as the writer knows. Its file says so by a checksum only.
pub(crate) fn stored(state: &State, writer: &Writer) -> Commits {
    let checksum = writer.end.checksum.unwrap_or(Checksum::EMPTY);
    let at_end = state.truth.at(writer.end.txid);
    at_end.filter(|commits| commits.checksum() == checksum).unwrap_or_default()
}

/// One attempt at a slot.
fn ask(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    how: How,
    is_behind: bool,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Option<Phase>, Violation> {
    let place = if is_behind { &mut writer.behind } else { &mut writer.flight };
    let Some(mut flight) = place.take() else {
        return Err(Violation::new(Invariant::Live, "BUG: no slot is in flight"));
    };
    let txid = flight.file.place.max;
    let is_stored = if flight.is_reading {
        say(format_args!("{} reads slot {txid}", name(at)));
        match after_read(flight.file.epoch(), &flight.file.identity(), &found(state, txid)) {
            AfterRead::Stored => {
                state.reached(Mark::OwnSlotFound);
                true
            }
            AfterRead::Fenced { .. } => {
                state.reached(Mark::Fenced);
                return Ok(Some(Phase::Ended("fenced")));
            }
            AfterRead::Halt { epoch } => {
                return Err(Violation::new(
                    Invariant::OneWriter,
                    format!("{} meets a slot of the older epoch {epoch}", name(at)),
                ));
            }
        }
    } else {
        let write = Write::Create(Rc::clone(&flight.file));
        say(format_args!("{}: {write}", name(at)));
        let answer = state.send(world, write, how)?;
        say(format_args!("{answer:?}"));
        match after_put(answer) {
            AfterPut::Stored => true,
            AfterPut::Again => world.without == Some(Rule::AcknowledgedWhenStored),
            AfterPut::Read => {
                flight.is_reading = true;
                world.without == Some(Rule::ReadBack)
            }
        }
    };
    if is_stored {
        stored_now(state, plan, writer, &flight.file)?;
        if world.pages.as_ref().is_some_and(|shape| shape.opening.is_some()) {
            state.reached(Mark::StoredNearEdge);
        }
        if world.pages.is_some() {
            paging::stored(world, state, plan, writer, txid);
        }
        if let (false, Some(behind)) = (is_behind, writer.behind.take()) {
            writer.flight = Some(behind);
        }
    } else if is_behind {
        writer.behind = Some(flight);
    } else {
        writer.flight = Some(flight);
    }
    Ok(None)
}

fn found(state: &State, txid: Txid) -> FoundSlot {
    let present = |file: &Rc<File>| FoundSlot::Present { identity: file.identity(), epoch: file.epoch() };
    state.bucket.slot(txid).map_or(FoundSlot::Absent, present)
}

/// The slot is proved: the record is written, then its commits are acknowledged.
fn stored_now(state: &mut State, plan: &Plan, writer: &mut Writer, file: &File) -> Result<(), Violation> {
    let base = Base { txid: file.place.max.get(), checksum: Some(file.checksum()) };
    record(state, plan, &writer.opened.head, base);
    Rc::make_mut(&mut state.truth).acknowledge(file)?;
    writer.end = base;
    writer.own = base.txid;
    Ok(())
}

/// A derived file that ends at the newest slot of this process, from the view that was kept when it was cut.
fn derive(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    let Some(level) = writer.derives_left.pop() else { return Ok(()) };
    let (mut end, mut to) = (writer.own, state.truth.at(writer.own).unwrap_or_default());
    if let (Some(Rule::DerivedFilesAreTrue), Some(flight)) = (world.without, &writer.flight) {
        let volume = state.volumes.get(plan.volume).and_then(|volume| volume.database.clone());
        (end, to) = (flight.file.place.max.get(), volume.unwrap_or_default());
    }
    let merged = state.bucket.files.keys().filter(|place| place.level > Level::CAPTURED);
    let covered =
        if level == Level::SNAPSHOT { 0 } else { merged.map(|place| place.max.get()).max().unwrap_or(0) };
    let (Some(min), Some(max)) = (next(covered), Txid::try_new(end)) else { return Ok(()) };
    if min > max {
        return Ok(());
    }
    let from = state.truth.at(covered).unwrap_or_default();
    let file = File::with_pages(Place { level, min, max }, writer.epoch(), from, to);
    let write = Write::Create(Rc::new(file));
    say(format_args!("{}: {write}", name(at)));
    let answer = state.send(world, write, how)?;
    say(format_args!("{answer:?}"));
    Ok(())
}

/// Decides what may go.
fn prune(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    writer.prunes_left -= 1;
    let Some(newest) = Txid::try_new(writer.own) else { return Ok(()) };
    let files = state.bucket.list(&Level::ALL);
    let inventory = Inventory::new(files.clone(), Some(writer.opened.head.clone()));
    let merged = inventory.files().iter().filter(|file| file.level > Level::CAPTURED);
    // Everything merged is old enough, and every snapshot older than the window.
    let settled = merged.map(|file| file.max.get()).max().unwrap_or(0);
    let beginning = paging::beginning(world, state, plan, &inventory);
    let decided = decide(&inventory, &Wish { newest, settled, beginning });
    let decided = match decided {
        Ok(decided) => decided,
        // Files that are missing may have been given up by whoever took over.
        Err(_) if !is_ours(state, writer) => {
            say(format_args!("{} finds another writer's head", name(at)));
            writer.forgetting = Forgetting::Lost;
            return Ok(());
        }
        Err(broken) => {
            return Err(Violation::new(Invariant::Live, format!("{} cannot prune: {broken}", name(at))));
        }
    };
    say(format_args!("{} decides what may go: {decided:?}", name(at)));
    match decided {
        Pruning::Nothing => {
            writer.forgetting = deleting(world, &files, &writer.opened.head);
        }
        Pruning::CopyFirst(slot) => {
            let place = Place { level: Level::SNAPSHOT, min: Txid::FIRST, max: Txid::FIRST };
            let Some(first) = state.bucket.files.get(&place_of(&slot)) else { return Ok(()) };
            let copy = Write::Create(Rc::new(first.copy_to(place)));
            state.send(world, copy, How::Answered)?;
            state.reached(Mark::FirstCopied);
            writer.prunes_left += 1;
        }
        Pruning::Raise(mut floors) => {
            if world.without == Some(Rule::NewestSlotStays) {
                floors.insert(Level::CAPTURED.get(), newest.get());
            }
            if world.without == Some(Rule::RaisedBeforeDeleted) {
                let head = writer.opened.head.raise(floors);
                writer.forgetting = deleting(world, &files, &head);
                return Ok(());
            }
            let (raising, action) = Raising::begin(writer.opened.clone(), floors);
            writer.forgetting = Forgetting::Raising(Box::new((raising, action)));
        }
    }
    Ok(())
}

fn is_ours(state: &State, writer: &Writer) -> bool {
    state.bucket.head.as_ref().is_some_and(|head| head.is_by_the_same_writer(&writer.opened.head))
}

/// The files that are dead by this head, and no seals.
fn deleting(world: &World, files: &[FileEntry], head: &Head) -> Forgetting {
    let dead = dead(files, head);
    let goes = |file: &&FileEntry| {
        dead.contains(&file.key)
            || (world.without == Some(Rule::SealsStay) && !head.is_live(file.level, file.max))
    };
    let places: Vec<_> = files.iter().filter(goes).map(place_of).collect();
    if places.is_empty() { Forgetting::Rest } else { Forgetting::Deleting(places) }
}

/// The next request of a raise or of a deletion.
fn forget(
    world: &World,
    state: &mut State,
    at: usize,
    writer: &mut Writer,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    writer.forgetting = match std::mem::take(&mut writer.forgetting) {
        Forgetting::Raising(begun) => {
            let (mut raising, action) = *begun;
            let fact = perform(world, state, at, &action, how, say)?;
            let step =
                raising.handle(fact).map_err(|error| Violation::new(Invariant::Live, error.to_string()))?;
            match step {
                RaisingStep::Do(action) => Forgetting::Raising(Box::new((raising, action))),
                RaisingStep::Raised(opened) => {
                    state.reached(Mark::Raised);
                    writer.opened = opened;
                    let files = state.bucket.list(&Level::ALL);
                    deleting(world, &files, &writer.opened.head)
                }
                RaisingStep::Moved(opened) | RaisingStep::Later(opened) => {
                    writer.opened = opened;
                    Forgetting::Rest
                }
                RaisingStep::Lost => {
                    state.reached(Mark::RaiseLost);
                    Forgetting::Lost
                }
            }
        }
        Forgetting::Deleting(mut places) => {
            if let Some(place) = places.pop() {
                let write = Write::Delete(place);
                say(format_args!("{}: {write}", name(at)));
                state.send(world, write, how)?;
            }
            if places.is_empty() { Forgetting::Rest } else { Forgetting::Deleting(places) }
        }
        rest @ (Forgetting::Rest | Forgetting::Lost) => rest,
    };
    Ok(())
}
