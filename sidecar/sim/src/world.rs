//! A world, given as data, and one state of it: a bucket, requests on their way, machines, processes, a restore.

use std::fmt;
use std::rc::Rc;

use lifeboat_replica::claim::Millis;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::Level;
use lifeboat_replica::slot::WriteAnswer;
use lifeboat_wal::PageSize;

use crate::bucket::{Bucket, Write};
use crate::content::File;
use crate::image::Unseen;
use crate::invariant::Violation;
use crate::marks::{Mark, Marks};
use crate::opening::Opening;
use crate::process::{Phase, Process};
use crate::restoring::Restoring;
use crate::rules::Rule;
use crate::search::Space;
use crate::truth::{Truth, place_of};
use crate::visited::fingerprint;
use crate::volume::Volume;

/// What may happen in a world, and how often.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The processes.
    pub processes: Vec<Plan>,
    /// How many writes may be late: unanswered, and on their way until they arrive at any later time, or never. A lost
    /// request is one that never arrives, a lost answer one that arrives at once.
    pub late: u8,
    /// How many lists may be old: without the newest slots.
    pub stale: u8,
    /// How many processes may be killed.
    pub crashes: u8,
    /// How often the power of a machine may fail.
    pub power_cuts: u8,
    /// How many restores may begin.
    pub restores: u8,
    /// How many requests may fail without an effect.
    pub failed: u8,
    /// How many commits applications may make while nobody follows them.
    pub alone: u8,
    /// How often a follower may lose its read transaction, as one that hung for too long does.
    pub unpinned: u8,
    /// How often a machine may stand still for a while, as one does that a hypervisor pauses.
    pub pauses: u8,
    /// What databases are made of; `None` where they are lists of commits, as in every world that is searched.
    pub pages: Option<Shape>,
    /// The rule that does not hold.
    pub without: Option<Rule>,
}

/// What databases are made of, and how clocks go, in worlds from a seed.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What commits draw from.
    pub seed: u64,
    /// Of every database.
    pub page_size: PageSize,
    /// How long snapshots are kept.
    pub window_ms: i64,
    /// How far the wall clock of each machine is off, and by how much it jumps with each boot.
    pub clocks: Vec<(i64, i64)>,
    /// The replica that is there already.
    pub opening: Option<Opening>,
}

/// What one process does in its life.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it starts.
    pub kind: Kind,
    /// Its machine.
    pub volume: usize,
    /// Its pod.
    pub pod: u8,
    /// Whether it is its container's second process.
    pub is_restarted: bool,
    /// It begins when this process has ended; a sidecar with a hand-over opens what this one left.
    pub after: Option<usize>,
    /// How many commits its application makes.
    pub commits: u8,
    /// The derived files it writes, one after the other.
    pub derives: Vec<Level>,
    /// How often it prunes.
    pub prunes: u8,
}

/// How a process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a bare machine: it looks, claims, and never restores.
    Bare,
    /// In a pod, init container and sidecar in one: it claims, looks or restores, opens.
    Pod,
    /// An init container: the same, and it leaves its claim to somebody.
    Init,
    /// A sidecar with the claim that an init container left.
    Sidecar,
    /// A sidecar that was restarted: it claims anew, and restores nothing.
    Restarted,
}

/// One state of a world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The bucket.
    pub bucket: Rc<Bucket>,
    /// What is on its way to it, sorted.
    pub net: Vec<Rc<Write>>,
    /// What really happened.
    pub truth: Rc<Truth>,
    /// The machines.
    pub volumes: Vec<Rc<Volume>>,
    /// The processes.
    pub processes: Vec<Rc<Process>>,
    /// The restore.
    pub restoring: Rc<Restoring>,
    /// What may still go wrong.
    pub left: Left,
    /// The time, in milliseconds since the beginning. It stands still in worlds that are searched.
    pub now: Millis,
    /// The rare branches that were reached.
    pub marks: Unseen<Marks>,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// See [`World`].
    pub late: u8,
    /// See [`World`].
    pub stale: u8,
    /// See [`World`].
    pub crashes: u8,
    /// See [`World`].
    pub power_cuts: u8,
    /// See [`World`].
    pub restores: u8,
    /// See [`World`].
    pub failed: u8,
    /// See [`World`].
    pub alone: u8,
    /// See [`World`].
    pub unpinned: u8,
    /// See [`World`].
    pub pauses: u8,
}

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// It arrives and is answered.
    Answered,
    /// It is not answered, and arrives later or never.
    Late,
    /// Its list is old: so many of the newest slots are not in it yet.
    Stale(usize),
    /// It never arrives, and whoever sent it is told that it failed.
    Failed,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A process begins.
    Begin(usize),
    /// A process makes its next request of a claim, a look, or a slot; perhaps of the slot behind the one in flight.
    Ask(usize, How, bool),
    /// The application of a process commits, and the slot is cut.
    Commit(usize),
    /// A slot is cut with what an earlier process left.
    Cut(usize),
    /// A process sends a derived file.
    Derive(usize, How),
    /// A process decides what may go.
    Prune(usize),
    /// A process makes the next request of that.
    Forget(usize, How),
    /// A process dies.
    Crash(usize),
    /// The power of a machine fails: so many commits are left, and perhaps the record.
    PowerCut(usize, usize, bool),
    /// A late request arrives.
    Arrive(usize),
    /// A restore goes on by one request, or a list of it fails.
    Restore(How),
    /// A follower looks at the WAL.
    Look(usize),
    /// An application commits, and nobody follows it.
    Alone(usize),
    /// The application of a machine checkpoints, and perhaps closes its database.
    Checkpoint(usize, bool),
    /// The follower of a machine loses its read transaction.
    Unpin(usize),
    /// The machine of a process stands still for so many milliseconds.
    Pause(usize, u32),
    /// So many milliseconds pass.
    Pass(u32),
}

impl State {
    /// Sends a write, or leaves it on its way.
    ///
    /// # Errors
    /// What it did must never happen.
    pub fn send(&mut self, world: &World, write: Write, how: How) -> Result<WriteAnswer, Violation> {
        if how == How::Late {
            self.left.late = self.left.late.saturating_sub(1);
            self.net.push(Rc::new(write));
            self.net.sort_by_cached_key(fingerprint);
            return Ok(WriteAnswer::Unclear);
        }
        if how == How::Failed {
            self.left.failed = self.left.failed.saturating_sub(1);
            return Ok(WriteAnswer::Unclear);
        }
        Rc::make_mut(&mut self.bucket).take(&write, &mut self.truth, world.without)
    }

    /// A rare branch was reached.
    pub const fn reached(&mut self, mark: Mark) {
        self.marks.0.insert(mark);
    }

    /// The wall clock of a machine, in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self, world: &World, volume: usize) -> i64 {
        let clocks = world.pages.as_ref().and_then(|shape| shape.clocks.get(volume));
        let (off, jump) = clocks.copied().unwrap_or_default();
        let boots = self.volumes.get(volume).map_or(0, |volume| volume.boots);
        i64::try_from(self.now).unwrap_or(i64::MAX) + off + jump * i64::from(boots)
    }

    /// A listed file.
    #[must_use]
    pub fn file(&self, file: &FileEntry) -> Option<&Rc<File>> {
        self.bucket.files.get(&place_of(file))
    }

    /// Whether a process works on this machine.
    #[must_use]
    pub fn is_busy(&self, world: &World, volume: usize) -> bool {
        let on_it = world.processes.iter().zip(&self.processes).filter(|(plan, _)| plan.volume == volume);
        on_it.into_iter().any(|(_, process)| process.is_alive())
    }
}

impl Space for World {
    type State = State;
    type Step = Step;

    fn beginning(&self) -> State {
        let volumes = self.processes.iter().map(|plan| plan.volume + 1).max().unwrap_or(0);
        let opening = self.pages.as_ref().and_then(|shape| Some(shape.opening.as_ref()?.made(shape)));
        let (bucket, truth) = opening.unwrap_or_default();
        State {
            bucket: Rc::new(bucket),
            net: Vec::new(),
            truth: Rc::new(truth),
            volumes: vec![Rc::default(); volumes],
            processes: vec![Rc::default(); self.processes.len()],
            restoring: Rc::default(),
            left: Left {
                late: self.late,
                stale: self.stale,
                crashes: self.crashes,
                power_cuts: self.power_cuts,
                restores: self.restores,
                failed: self.failed,
                alone: self.alone,
                unpinned: self.unpinned,
                pauses: self.pauses,
            },
            now: 0,
            marks: Unseen::default(),
        }
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, process) in state.processes.iter().enumerate() {
            process.steps(self, state, at, &mut steps);
            if process.is_alive() && state.left.crashes > 0 {
                steps.push(Step::Crash(at));
            }
        }
        steps.extend((0..state.net.len()).map(Step::Arrive));
        state.restoring.steps(state, &mut steps);
        if state.left.power_cuts > 0 {
            for (at, volume) in state.volumes.iter().enumerate() {
                let commits = volume.database.as_ref().map_or(0, |commits| commits.numbers.len());
                for keep in volume.durable..=commits {
                    steps.extend([true, false].map(|is_kept| Step::PowerCut(at, keep, is_kept)));
                }
            }
        }
        if self.pages.is_some() {
            crate::around::steps(self, state, &mut steps);
        }
        steps
    }

    fn take(
        &self,
        state: &mut State,
        step: &Step,
        say: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Result<(), Violation> {
        match *step {
            Step::Crash(at) => {
                say(format_args!("{} dies", name(at)));
                state.left.crashes -= 1;
                end(self, state, at, "killed");
                Ok(())
            }
            Step::PowerCut(at, keep, is_kept) => {
                say(format_args!("the power of machine {at} fails: {keep} commits stay, record: {is_kept}"));
                state.left.power_cuts -= 1;
                for (number, plan) in self.processes.iter().enumerate() {
                    if plan.volume == at && state.processes.get(number).is_some_and(|one| one.is_alive()) {
                        end(self, state, number, "without power");
                    }
                }
                let mut is_less = false;
                if let Some(volume) = state.volumes.get_mut(at) {
                    is_less = volume.database.as_ref().is_some_and(|commits| commits.numbers.len() > keep);
                    Rc::make_mut(volume).lose_power(keep, is_kept);
                }
                if is_less {
                    state.reached(Mark::CommitsLost);
                }
                Ok(())
            }
            Step::Arrive(at) => {
                let write = state.net.remove(at);
                state.reached(Mark::LateArrival);
                say(format_args!("a late request arrives: {write}"));
                let answer = state.send(self, (*write).clone(), How::Answered)?;
                say(format_args!("{answer:?}, and nobody hears it"));
                Ok(())
            }
            Step::Restore(how) => crate::restoring::go_on(self, state, how, say),
            Step::Alone(_) | Step::Checkpoint(..) | Step::Pass(_) | Step::Pause(..) | Step::Unpin(_) => {
                crate::around::take(self, state, step, say);
                Ok(())
            }
            Step::Begin(at)
            | Step::Look(at)
            | Step::Ask(at, _, _)
            | Step::Commit(at)
            | Step::Cut(at)
            | Step::Derive(at, _)
            | Step::Prune(at)
            | Step::Forget(at, _) => crate::process::act(self, state, at, step, say),
        }
    }
}

/// A process ends.
pub fn end(world: &World, state: &mut State, at: usize, why: &'static str) {
    let is_deleting = state.processes.get(at).is_some_and(|process| process.is_deleting());
    if is_deleting {
        state.reached(Mark::DiedDeleting);
    }
    leave(world, state, at);
    if let Some(process) = state.processes.get_mut(at) {
        Rc::make_mut(process).phase = Phase::Ended(why);
    }
}

/// A process does not read its database any more.
pub fn leave(world: &World, state: &mut State, at: usize) {
    let volume = world.processes.get(at).and_then(|plan| state.volumes.get_mut(plan.volume));
    if let Some(volume) = volume.filter(|volume| volume.sqlite.0.is_some())
        && let Some(sqlite) = &mut Rc::make_mut(volume).sqlite.0
    {
        sqlite.leave();
    }
}

/// A process in a story.
#[must_use]
pub fn name(at: usize) -> char {
    char::from(b'A' + u8::try_from(at).unwrap_or(u8::MAX - b'A'))
}
