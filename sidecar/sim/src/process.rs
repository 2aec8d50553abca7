//! One process on its way to be the writer: the claim, the look at the bucket and at the volume, the opening.
//!
//! Every decision is made by a machine of `lifeboat_replica`. What is here performs what it asks for, as the executors of
//! the sidecar do, and lets it go wrong.

use std::fmt;
use std::rc::Rc;

use lifeboat_replica::adoption::{Adoption, Ask, Chain, Look, LookStep, Record, Told, decide};
use lifeboat_replica::claim::{
    Action, Claim, ClaimError, Claimant, Fact, Millis, Opened, Opening, OpeningStep, Patience, Sealed,
    Step as ClaimStep,
};
use lifeboat_replica::head::{Base, Head, Nonce, Owner};
use lifeboat_replica::layout::Level;
use lifeboat_replica::restore::{Target, plan};

use crate::asking::{Asked, falsify, perform, told};
use crate::content::Commits;
use crate::image::Unseen;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::paging;
use crate::rules::Rule;
use crate::truth::{place_of, require_pages};
use crate::volume::FILE_ID;
use crate::world::{How, Kind, Plan, State, Step, World, leave, name};
use crate::writing::{self, Writer};

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// How far it is.
    pub phase: Phase,
    /// Whether a list that it was given was old.
    pub is_misled: bool,
    /// What its claim asked for last, for rules that are taken out.
    pub asked: Option<Asked>,
    /// Until then its machine stands still, and it does not know.
    pub still_until: Millis,
}

/// How far a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not begun.
    #[default]
    Waiting,
    /// It claims, perhaps with a chain that it looked at before.
    Claiming(Box<Claim>, Action, Option<Chain>),
    /// It looks at the bucket for the sake of its database.
    Looking(Box<Look>, Ask, For),
    /// It opens its claim, and has looked at the bucket already or not.
    Opening(Box<Opening>, Action, Base, Option<Chain>),
    /// It may write.
    Writing(Box<Writer>),
    /// An init container ended and left its claim.
    Left(Rc<Claimed>),
    /// It is over.
    Ended(&'static str),
}

/// What an init container leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claimed {
    head: Head,
    base: Base,
    chain: Chain,
}

/// What a look is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum For {
    /// To claim afterwards.
    Claim,
    /// To restore or adopt under a sealed claim.
    Sealed(Box<Sealed>),
    /// To adopt under an open claim.
    Opened(Box<Opened>, Base),
}

impl Process {
    /// Whether it runs.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Waiting | Phase::Ended(_) | Phase::Left(_))
    }

    /// Whether it is giving up files just now.
    #[must_use]
    pub const fn is_deleting(&self) -> bool {
        matches!(&self.phase, Phase::Writing(writer) if writer.is_deleting())
    }

    /// Whether it has something to store, as soon as its rhythm allows.
    #[must_use]
    pub fn waits(&self, state: &State, plan: &Plan) -> bool {
        matches!(&self.phase, Phase::Writing(writer) if writer.waits(state, plan))
    }

    /// What it may do next.
    pub fn steps(&self, world: &World, state: &State, at: usize, steps: &mut Vec<Step>) {
        let Some(plan) = world.processes.get(at) else { return };
        if state.now < self.still_until {
            return;
        }
        match &self.phase {
            Phase::Waiting => {
                let after = plan.after.and_then(|after| state.processes.get(after));
                let is_its_turn =
                    after.is_none_or(|before| !before.is_alive() && !matches!(before.phase, Phase::Waiting));
                if is_its_turn && !state.is_busy(world, plan.volume) {
                    steps.push(Step::Begin(at));
                }
            }
            Phase::Claiming(_, action, _) | Phase::Opening(_, action, _, _) => {
                let Action::ListSlots { after } = action else {
                    push(steps, state, is_write(action), |how| Step::Ask(at, how, false));
                    return;
                };
                steps.push(Step::Ask(at, How::Answered, false));
                if state.left.stale > 0 {
                    let slots = state.bucket.files.keys();
                    let live = slots.filter(|one| one.level == Level::CAPTURED && one.max.get() > *after);
                    steps.extend((1..=live.count()).map(|missing| Step::Ask(at, How::Stale(missing), false)));
                }
            }
            Phase::Looking(..) => steps.push(Step::Ask(at, How::Answered, false)),
            Phase::Writing(writer) => writer.steps(world, state, at, steps),
            Phase::Left(_) | Phase::Ended(_) => {}
        }
    }
}

/// A request, answered; and a write also late.
pub fn push(steps: &mut Vec<Step>, state: &State, is_write: bool, step: impl Fn(How) -> Step) {
    steps.push(step(How::Answered));
    if is_write && state.left.late > 0 {
        steps.push(step(How::Late));
    }
    if is_write && state.left.failed > 0 {
        steps.push(step(How::Failed));
    }
}

const fn is_write(action: &Action) -> bool {
    matches!(action, Action::CreateHead(_) | Action::ReplaceHead { .. } | Action::PutSeal { .. })
}

/// A process does something.
///
/// # Errors
/// It must not.
pub fn act(
    world: &World,
    state: &mut State,
    at: usize,
    step: &Step,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    let (Some(plan), Some(process)) = (world.processes.get(at), state.processes.get(at)) else {
        return Err(Violation::new(Invariant::Live, "BUG: nobody does something"));
    };
    let mut process = (**process).clone();
    let phase = match (process.phase, step) {
        (Phase::Waiting, Step::Begin(_)) => {
            say(format_args!("{} begins", name(at)));
            begin(world, state, plan, at)
        }
        (Phase::Claiming(claim, action, chain), Step::Ask(_, how, _)) => {
            process.phase = Phase::Waiting;
            claiming(world, state, &mut process, (at, plan), (claim, action, chain), *how, say)?
        }
        (Phase::Looking(look, ask, reason), Step::Ask(..)) => {
            say(format_args!("{} looks: {ask:?}", name(at)));
            looking(state, (at, plan, world), (look, ask, reason), say)?
        }
        (Phase::Opening(opening, action, base, chain), Step::Ask(_, how, _)) => {
            let mut fact = perform(world, state, at, &action, *how, say)?;
            if let (Some(Rule::OpenedByRevision), Fact::Head(Some((head, _)))) = (world.without, &mut fact)
                && head.owner.nonce != owner(world, plan, at, 1).nonce
            {
                *head = opening.sealed().clone();
            }
            opened(world, state, (at, plan), (opening, base, chain), fact)?
        }
        (Phase::Writing(writer), step) => writing::act(world, state, (at, plan), *writer, step, say)?,
        (phase, _) => phase,
    };
    if let Phase::Ended(why) = &phase {
        leave(world, state, at);
        mark(state, why);
        say(format_args!("{} ends: {why}", name(at)));
    }
    process.phase = phase;
    if let Some(place) = state.processes.get_mut(at) {
        *place = Rc::new(process);
    }
    Ok(())
}

/// Why a process ended may be rare.
fn mark(state: &mut State, why: &str) {
    match why {
        "another claimant was faster" => state.reached(Mark::ClaimLost),
        "superseded" => state.reached(Mark::Superseded),
        "its claim was overtaken" => state.reached(Mark::Overtaken),
        "the list made no sense" => state.reached(Mark::Misled),
        _ => {}
    }
}

fn begin(world: &World, state: &State, plan: &Plan, at: usize) -> Phase {
    match plan.kind {
        Kind::Bare => look(state, plan, For::Claim),
        Kind::Pod | Kind::Init | Kind::Restarted => claim(world, plan, at, None),
        Kind::Sidecar => {
            let left = plan.after.and_then(|after| state.processes.get(after)).map(|before| &before.phase);
            match left {
                Some(Phase::Left(claimed)) => {
                    let Claimed { head, base, chain } = (**claimed).clone();
                    open(world, plan, at, head, base, Some(chain))
                }
                _ => Phase::Ended("nothing was left for it"),
            }
        }
    }
}

fn look(state: &State, plan: &Plan, reason: For) -> Phase {
    let record = state.volumes.get(plan.volume).and_then(|volume| volume.record.clone());
    let (look, ask) = Look::begin(record);
    Phase::Looking(Box::new(look), ask, reason)
}

fn claim(world: &World, plan: &Plan, at: usize, chain: Option<Chain>) -> Phase {
    let is_restarted = plan.is_restarted && world.without != Some(Rule::SupersededStays);
    let (claim, action) = Claim::begin(Claimant {
        owner: owner(world, plan, at, 0),
        new_lineage: "lineage".to_owned(),
        wall_ms: 0,
        // No rule of safety reads a clock, so nobody waits in worlds that are searched.
        patience: if world.pages.is_some() { Patience::new(1_000, 30_000) } else { Patience::new(0, 0) },
        is_restarted,
        expected: chain.as_ref().map(|chain| chain.newest),
        // Nobody empties a bucket there.
        promise: None,
    });
    Phase::Claiming(Box::new(claim), action, chain)
}

fn owner(world: &World, plan: &Plan, at: usize, drawn: u8) -> Owner {
    let number = u8::try_from(at).unwrap_or(u8::MAX);
    let nonce =
        if world.without == Some(Rule::Nonce) { [plan.pod; 16] } else { [number * 2 + drawn + 100; 16] };
    let (nonce, is_pod) = (Nonce::new(nonce), plan.kind != Kind::Bare);
    let text = |text: &str| if is_pod { text.to_owned() } else { String::new() };
    let name = if is_pod { "replica".to_owned() } else { format!("host {}", plan.pod) };
    let pod_uid = if is_pod { format!("pod {}", plan.pod) } else { String::new() };
    Owner { nonce, cluster: text("cluster"), namespace: text("namespace"), name, pod_uid }
}

fn claiming(
    world: &World,
    state: &mut State,
    process: &mut Process,
    (at, plan): (usize, &Plan),
    (mut claim, action, chain): (Box<Claim>, Action, Option<Chain>),
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Phase, Violation> {
    process.is_misled |= matches!(how, How::Stale(_));
    let before = state.bucket.head.clone();
    let fact = perform(world, state, at, &action, how, say)?;
    if let (Some(before), Some(after)) = (before, &state.bucket.head)
        && before.owner.pod_uid != after.owner.pod_uid
        && plan.is_restarted
    {
        return Err(Violation::new(
            Invariant::OneWriter,
            format!("{} was superseded, and takes the replica back", name(at)),
        ));
    }
    let fact = falsify(world, process, &action, fact);
    match claim.handle(state.now, fact) {
        Ok(ClaimStep::Do(next)) => Ok(Phase::Claiming(claim, next, chain)),
        Ok(ClaimStep::Sealed(mut sealed)) => {
            if world.without == Some(Rule::Seal) && sealed.base.txid > 0 {
                sealed.base.txid -= 1;
            }
            match chain {
                Some(chain) => Ok(open(world, plan, at, sealed.head, sealed.base, Some(chain))),
                None if plan.kind == Kind::Restarted => {
                    Ok(open(world, plan, at, sealed.head, sealed.base, None))
                }
                None => Ok(look(state, plan, For::Sealed(Box::new(sealed)))),
            }
        }
        Err(error) => refused(&error, process.is_misled),
    }
}

/// A claim that ended. In these worlds nobody writes or deletes without asking, so nothing may look as if.
fn refused(error: &ClaimError, is_misled: bool) -> Result<Phase, Violation> {
    match error {
        ClaimError::Lost { .. } => Ok(Phase::Ended("another claimant was faster")),
        ClaimError::Superseded { .. } => Ok(Phase::Ended("superseded")),
        ClaimError::Moved { .. } => Ok(Phase::Ended("the bucket moved on")),
        ClaimError::Hole { .. } | ClaimError::NoSlots { .. } if is_misled => {
            Ok(Phase::Ended("the list made no sense"))
        }
        ClaimError::UnclaimedData { .. }
        | ClaimError::ForeignOwner { .. }
        | ClaimError::Hole { .. }
        | ClaimError::NoSlots { .. }
        | ClaimError::ForeignFile { .. }
        | ClaimError::BrokenChain { .. }
        | ClaimError::NotConformant { .. }
        | ClaimError::Bug { .. }
        | _ => Err(Violation::new(Invariant::Live, format!("a claimant finds the replica damaged: {error}"))),
    }
}

fn open(world: &World, plan: &Plan, at: usize, head: Head, base: Base, chain: Option<Chain>) -> Phase {
    let owner = Owner { nonce: owner(world, plan, at, 1).nonce, ..head.owner.clone() };
    let (opening, action) = Opening::begin(head, owner, base);
    Phase::Opening(Box::new(opening), action, base, chain)
}

fn opened(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    (mut opening, base, chain): (Box<Opening>, Base, Option<Chain>),
    fact: Fact,
) -> Result<Phase, Violation> {
    match opening.handle(fact) {
        Ok(OpeningStep::Do(next)) => Ok(Phase::Opening(opening, next, base, chain)),
        Ok(OpeningStep::Opened(opened)) => match (chain, plan.kind) {
            (None, _) => Ok(look(state, plan, For::Opened(Box::new(opened), base))),
            (Some(chain), Kind::Bare) => match chain.clone().sealed(&opened.head, base) {
                None if world.without != Some(Rule::Seal) => Ok(Phase::Ended("the bucket moved on")),
                sealed => Ok(adopt(world, state, plan, &opened, base, &sealed.unwrap_or(chain))),
            },
            (Some(chain), _) => Ok(adopt(world, state, plan, &opened, base, &chain)),
        },
        Err(ClaimError::Lost { .. }) => Ok(Phase::Ended("its claim was overtaken")),
        Err(error) => {
            Err(Violation::new(Invariant::Live, format!("{} cannot open its claim: {error}", name(at))))
        }
    }
}

fn looking(
    state: &mut State,
    (at, plan, world): (usize, &Plan, &World),
    (mut look, ask, reason): (Box<Look>, Ask, For),
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Phase, Violation> {
    let answer: Told = told(state, ask);
    let chain = match look.handle(answer) {
        Ok(LookStep::Ask(next)) => return Ok(Phase::Looking(look, next, reason)),
        Ok(LookStep::Chain(chain)) => chain,
        Err(error) => return refused(&error, false),
    };
    match reason {
        For::Claim => Ok(claim_after(world, state, (at, plan), chain)),
        For::Opened(opened, base) => Ok(adopt(world, state, plan, &opened, base, &chain)),
        For::Sealed(sealed) => prepare(world, state, (at, plan), *sealed, chain, say),
    }
}

/// A bare machine refuses a wrong database before it takes the replica from anybody.
fn claim_after(world: &World, state: &State, (at, plan): (usize, &Plan), chain: Chain) -> Phase {
    match adoption(world, state, plan, &chain) {
        Adoption::Initial | Adoption::Same | Adoption::Continues => claim(world, plan, at, Some(chain)),
        // The application has not begun. Here it does so at once, with an empty database.
        Adoption::FirstStart => claim(world, plan, at, Some(chain)),
        Adoption::Restore | Adoption::Behind | Adoption::Diverged => {
            Phase::Ended("its database is another one")
        }
    }
}

fn adoption(world: &World, state: &State, plan: &Plan, chain: &Chain) -> Adoption {
    let Some(volume) = state.volumes.get(plan.volume) else { return Adoption::FirstStart };
    let mut volume = (**volume).clone();
    if let Some(record) = volume.record.as_mut().filter(|_| world.without == Some(Rule::SameBoot)) {
        record.boot_id = format!("boot {}", volume.boots);
    }
    decide(&volume.look(), chain, &volume.boot_id())
}

/// What an init container does behind its seal.
fn prepare(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    sealed: Sealed,
    mut chain: Chain,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Phase, Violation> {
    match adoption(world, state, plan, &chain) {
        Adoption::FirstStart | Adoption::Initial | Adoption::Continues => {}
        Adoption::Same => {
            record(state, plan, &sealed.head, sealed.base);
            chain = chain.recorded();
        }
        adoption @ (Adoption::Restore | Adoption::Behind) => {
            if adoption == Adoption::Behind {
                state.reached(Mark::Behind);
            }
            if let Some(ended) = bring_back(world, state, plan, &sealed, say)? {
                return Ok(ended);
            }
            record(state, plan, &sealed.head, sealed.base);
            chain = chain.recorded();
        }
        Adoption::Diverged => return Ok(Phase::Ended("its database is another one")),
    }
    match plan.kind {
        Kind::Init => Ok(Phase::Left(Rc::new(Claimed { head: sealed.head, base: sealed.base, chain }))),
        Kind::Bare | Kind::Pod | Kind::Sidecar | Kind::Restarted => {
            Ok(open(world, plan, at, sealed.head, sealed.base, Some(chain)))
        }
    }
}

/// Restores to the seal, in one moment. Who was overtaken meanwhile finds something else, and ends.
fn bring_back(
    world: &World,
    state: &mut State,
    volume: &Plan,
    sealed: &Sealed,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Option<Phase>, Violation> {
    let inventory = state.bucket.inventory();
    let is_ours = state.bucket.head.as_ref().is_some_and(|head| head.owner.nonce == sealed.head.owner.nonce);
    let planned = plan(&inventory, Target::Latest);
    let reached = planned.as_ref().ok().and_then(|plan| plan.target()).map_or(0, |txid| txid.get());
    if reached != sealed.base.txid && !is_ours {
        return Ok(Some(Phase::Ended("its claim was overtaken")));
    }
    let planned = planned.map_err(|error| {
        Violation::new(Invariant::Live, format!("an init container cannot restore: {error}"))
    })?;
    say(format_args!("it restores to txid {reached}"));
    let files: Vec<_> =
        planned.files().iter().filter_map(|file| state.bucket.files.get(&place_of(file)).cloned()).collect();
    state.truth.require_state(files.iter().map(Rc::as_ref), reached, sealed.base.txid)?;
    let newest = files.iter().rev().find(|file| file.seal.is_none());
    let mut commits = newest.map_or_else(Commits::default, |file| file.to.clone());
    state.reached(Mark::Restored);
    if world.pages.is_some() && newest.is_some() {
        commits.image = Unseen(Some(Rc::new(require_pages(&files, &commits)?)));
    }
    if let Some(volume) = state.volumes.get_mut(volume.volume) {
        let (volume, lineage) = (Rc::make_mut(volume), &sealed.head.lineage);
        let image = commits.image.0.clone();
        let txid = newest.map_or(0, |file| file.place.max.get());
        let log = image.map(|image| paging::log_of(&image, lineage, volume.boot_id(), txid));
        volume.log = Unseen(log.unwrap_or_default());
        volume.restored(commits);
    }
    Ok(None)
}

/// Writes the record beside the database that a slot is stored.
pub fn record(state: &mut State, plan: &Plan, head: &Head, slot: Base) {
    if let Some(volume) = state.volumes.get_mut(plan.volume) {
        let volume = Rc::make_mut(volume);
        volume.record = Some(Record::new(head, slot, volume.boot_id(), FILE_ID.to_owned()));
    }
}

/// What a writer does before its first slot.
fn adopt(world: &World, state: &mut State, plan: &Plan, opened: &Opened, base: Base, chain: &Chain) -> Phase {
    match adoption(world, state, plan, chain) {
        Adoption::Continues => state.reached(Mark::Continued),
        Adoption::FirstStart | Adoption::Initial | Adoption::Same => {}
        Adoption::Restore | Adoption::Behind | Adoption::Diverged => {
            state.reached(Mark::Diverged);
            return Phase::Ended("its database is another one");
        }
    }
    record(state, plan, &opened.head, base);
    let mut writer = Writer::begin(opened.clone(), base, plan, chain.newest_pages);
    writer.follow(world, state, plan, chain.newest_pages);
    Phase::Writing(Box::new(writer))
}
