//! A world, given as data, and one state of it: a bucket, requests on their way, machines, processes, a restore.

use std::fmt;
use std::rc::Rc;

use lifeboat_replica::layout::Level;
use lifeboat_replica::slot::WriteAnswer;

use crate::bucket::{Bucket, Write};
use crate::invariant::Violation;
use crate::process::{Phase, Process};
use crate::restoring::Restoring;
use crate::rules::Rule;
use crate::search::Space;
use crate::truth::Truth;
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
    /// The rule that does not hold.
    pub without: Option<Rule>,
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
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It arrives and is answered.
    Answered,
    /// It is not answered, and arrives later or never.
    Late,
    /// Its list is old: so many of the newest slots are not in it yet.
    Stale(usize),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
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
    /// A restore goes on by one request.
    Restore,
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
        Rc::make_mut(&mut self.bucket).take(&write, &mut self.truth, world.without)
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
        State {
            bucket: Rc::default(),
            net: Vec::new(),
            truth: Rc::default(),
            volumes: vec![Rc::default(); volumes],
            processes: vec![Rc::default(); self.processes.len()],
            restoring: Rc::default(),
            left: Left {
                late: self.late,
                stale: self.stale,
                crashes: self.crashes,
                power_cuts: self.power_cuts,
                restores: self.restores,
            },
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
                let commits = volume.database.as_ref().map_or(0, |commits| commits.0.len());
                for keep in volume.durable..=commits {
                    steps.extend([true, false].map(|is_kept| Step::PowerCut(at, keep, is_kept)));
                }
            }
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
                end(state, at, "killed");
                Ok(())
            }
            Step::PowerCut(at, keep, is_kept) => {
                say(format_args!("the power of machine {at} fails: {keep} commits stay, record: {is_kept}"));
                state.left.power_cuts -= 1;
                for (number, plan) in self.processes.iter().enumerate() {
                    if plan.volume == at && state.processes.get(number).is_some_and(|one| one.is_alive()) {
                        end(state, number, "without power");
                    }
                }
                if let Some(volume) = state.volumes.get_mut(at) {
                    Rc::make_mut(volume).lose_power(keep, is_kept);
                }
                Ok(())
            }
            Step::Arrive(at) => {
                let write = state.net.remove(at);
                say(format_args!("a late request arrives: {write}"));
                let answer = state.send(self, (*write).clone(), How::Answered)?;
                say(format_args!("{answer:?}, and nobody hears it"));
                Ok(())
            }
            Step::Restore => crate::restoring::go_on(self, state, say),
            Step::Begin(at)
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
pub fn end(state: &mut State, at: usize, why: &'static str) {
    if let Some(process) = state.processes.get_mut(at) {
        Rc::make_mut(process).phase = Phase::Ended(why);
    }
}

/// A process in a story.
#[must_use]
pub fn name(at: usize) -> char {
    char::from(b'A' + u8::try_from(at).unwrap_or(u8::MAX - b'A'))
}
