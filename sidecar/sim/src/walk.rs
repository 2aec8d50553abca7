//! Goes through the world of a seed, and when something breaks finds the shortest story of it.
//!
//! ```text
//! steps by chance, faults among them ─► nothing goes wrong any more ─► all is stored ─► somebody comes, restores, goes on
//! ```

use std::fmt;
use std::rc::Rc;

use crate::dice::Dice;
use crate::invariant::{Invariant, Violation};
use crate::marks::Marks;
use crate::process::Phase;
use crate::rules::Rule;
use crate::search::Space;
use crate::swarm::{Swarm, draw};
use crate::visited::fingerprint;
use crate::world::{How, Left, State, Step, World};

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The same in every run of the seed, and another one for any other course of events.
    pub trace: u128,
    /// What happened, without what happened when everything was over.
    pub steps: Vec<Step>,
    /// The rare branches that were reached.
    pub marks: Marks,
    /// What broke.
    pub violation: Option<Violation>,
}

/// Goes through the world of a seed.
#[must_use]
pub fn walk(seed: u64, without: Option<Rule>) -> Walked {
    let swarm = draw(seed, without);
    let mut dice = Dice::of(seed, 1);
    let mut course = Course::new(&swarm.world);
    let mut broken = None;
    while broken.is_none() && course.steps.len() < swarm.steps {
        let faults = course.steps.len() >= swarm.calm;
        let mut steps = swarm.world.steps(&course.state);
        steps.retain(|step| is_wanted(&swarm, step) && (faults || !is_fault(step)));
        let Some(step) = swarm.choose(&steps, &mut dice) else { break };
        broken = course.take(&step, &mut |_| ()).err();
    }
    let broken = broken.or_else(|| course.end(&swarm, &mut |_| ()).err());
    let Course { trace, steps, state, .. } = course;
    let trace = fingerprint(&(trace, &state));
    Walked { trace, steps, marks: state.marks.0, violation: broken }
}

/// The story of a seed that breaks something, with everything left out that it does not need; `None` where nothing breaks.
#[must_use]
pub fn story(seed: u64, without: Option<Rule>) -> Option<Vec<String>> {
    let Walked { mut steps, violation, .. } = walk(seed, without);
    let breaks = violation?.breaks;
    let swarm = draw(seed, without);
    let is_still = |steps: &[Step]| {
        go_again(&swarm, steps, &mut |_| ()).is_err_and(|violation| violation.breaks == breaks)
    };
    let mut size = steps.len();
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if is_still(&fewer) {
                steps = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    let mut story = Vec::new();
    let ended = go_again(&swarm, &steps, &mut |line| story.push(line.to_string()));
    story.extend(ended.err().map(|violation| violation.to_string()));
    Some(story)
}

/// Goes through these steps, as far as each is possible, and to the end.
fn go_again(swarm: &Swarm, steps: &[Step], say: &mut dyn FnMut(fmt::Arguments<'_>)) -> Result<(), Violation> {
    let mut course = Course::new(&swarm.world);
    for step in steps {
        if swarm.world.steps(&course.state).contains(step) {
            course.take(step, say)?;
        }
    }
    course.end(swarm, say)
}

/// A world on its way.
struct Course<'w> {
    world: &'w World,
    state: State,
    steps: Vec<Step>,
    trace: u128,
}

impl<'w> Course<'w> {
    fn new(world: &'w World) -> Self {
        Self { world, state: world.beginning(), steps: Vec::new(), trace: 0 }
    }

    fn take(&mut self, step: &Step, say: &mut dyn FnMut(fmt::Arguments<'_>)) -> Result<(), Violation> {
        self.steps.push(*step);
        self.trace = fingerprint(&(self.trace, step, self.state.now));
        // Everything takes some time.
        self.state.now += 3;
        self.world.take(&mut self.state, step, say)
    }

    /// Nothing goes wrong any more.
    fn end(&mut self, swarm: &Swarm, say: &mut dyn FnMut(fmt::Arguments<'_>)) -> Result<(), Violation> {
        let taken = std::mem::take(&mut self.steps);
        say(format_args!("nothing goes wrong any more"));
        self.state.left = Left { restores: self.state.left.restores, ..Left::default() };
        for process in &mut self.state.processes {
            Rc::make_mut(process).still_until = 0;
        }
        if swarm.seed & 16 == 0 {
            self.state.net.clear();
        }
        let ended = self.quiet(swarm, say);
        self.steps = taken;
        ended
    }

    fn quiet(&mut self, swarm: &Swarm, say: &mut dyn FnMut(fmt::Arguments<'_>)) -> Result<(), Violation> {
        let last = self.world.processes.len() - 1;
        self.settle(last, swarm, say)?;
        self.require_emptied()?;
        if !swarm.is_bare() {
            self.somebody_comes(last, swarm, say)?;
        }
        self.state.truth.require_every_page(&self.state.bucket)
    }

    /// A new pod takes over, restores, and stores a commit of its own.
    fn somebody_comes(
        &mut self,
        last: usize,
        swarm: &Swarm,
        say: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Result<(), Violation> {
        say(format_args!("somebody comes"));
        self.take(&Step::Begin(last), say)?;
        self.settle(usize::MAX, swarm, say)?;
        if let Some(Phase::Ended(why)) = self.state.processes.get(last).map(|process| &process.phase) {
            return Err(Violation::new(Invariant::Live, format!("whoever comes cannot go on: {why}")));
        }
        let volume = self.state.volumes.get(last).and_then(|volume| volume.database.clone());
        let acknowledged = self.state.truth.at(self.state.truth.acknowledged);
        if volume.is_none() || volume != acknowledged {
            return Err(Violation::new(Invariant::Live, "whoever comes stores nothing"));
        }
        Ok(())
    }

    /// Goes on until nothing is left to do, without `last`.
    fn settle(
        &mut self,
        last: usize,
        swarm: &Swarm,
        say: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Result<(), Violation> {
        let mut dice = Dice::of(swarm.seed, 2);
        for _ in 0..SETTLED_AFTER {
            let mut steps = self.world.steps(&self.state);
            steps.retain(|step| !is_idle(step, last));
            let mut both = self.state.processes.iter().zip(&self.world.processes);
            let waits = both.any(|(process, plan)| process.waits(&self.state, plan));
            let step = match steps.get(dice.place(steps.len())) {
                Some(step) => *step,
                None if waits => Step::Pass(1_100),
                None => return Ok(()),
            };
            self.take(&step, say)?;
        }
        Err(Violation::new(Invariant::Live, "it does not come to rest"))
    }

    /// Whoever follows keeps no WAL from being emptied.
    fn require_emptied(&mut self) -> Result<(), Violation> {
        for volume in &mut self.state.volumes {
            let volume = Rc::make_mut(volume);
            volume.checkpoint(false);
            if volume.sqlite.0.as_ref().is_some_and(|sqlite| !sqlite.is_backfilled()) {
                return Err(Violation::new(
                    Invariant::Bounded,
                    "a checkpoint cannot empty the WAL of who rests",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a step belongs to what goes on before everything is over.
fn is_wanted(swarm: &Swarm, step: &Step) -> bool {
    !matches!(step, Step::Begin(at) if at + 1 == swarm.world.processes.len())
}

const fn is_fault(step: &Step) -> bool {
    match step {
        Step::Crash(_)
        | Step::PowerCut(..)
        | Step::Arrive(_)
        | Step::Alone(_)
        | Step::Pause(..)
        | Step::Unpin(_) => true,
        Step::Ask(_, how, _) | Step::Derive(_, how) | Step::Forget(_, how) | Step::Restore(how) => {
            !matches!(how, How::Answered)
        }
        Step::Begin(_)
        | Step::Commit(_)
        | Step::Cut(_)
        | Step::Prune(_)
        | Step::Look(_)
        | Step::Checkpoint(..)
        | Step::Pass(_) => false,
    }
}

/// What does not have to happen for a world to come to rest; applications rest too, but that of whoever comes last.
const fn is_idle(step: &Step, last: usize) -> bool {
    match step {
        Step::Pass(_) | Step::Checkpoint(..) | Step::Prune(_) | Step::Alone(_) => true,
        Step::Commit(_) => last != usize::MAX,
        Step::Begin(at) => *at == last || last == usize::MAX,
        Step::Ask(..)
        | Step::Cut(_)
        | Step::Derive(..)
        | Step::Forget(..)
        | Step::Crash(_)
        | Step::PowerCut(..)
        | Step::Arrive(_)
        | Step::Restore(_)
        | Step::Pause(..)
        | Step::Unpin(_)
        | Step::Look(_) => false,
    }
}

/// More steps than anything takes that is not stuck.
const SETTLED_AFTER: usize = 3_000;
