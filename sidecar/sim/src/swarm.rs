//! A world from a seed: who is there, what goes wrong, and how often each thing happens.
//!
//! Each world draws which faults are on, and how its steps are weighed; one in eight has no faults at all, because worlds with
//! all of them rarely live long enough to get far. Faults begin only after some calm steps, so that most worlds meet them
//! with a history: old seals, pruned floors, merged files.

use lifeboat_wal::PageSize;

use crate::dice::Dice;
use crate::opening::Opening;
use crate::rules::Rule;
use crate::world::{Kind, Plan, Shape, Step, World};
use crate::worlds::pod;

/// A world, and how it goes.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// What it was drawn from.
    pub seed: u64,
    /// The world. Its last process is somebody who comes when everything is over.
    pub world: World,
    /// How many steps go by before anything goes wrong.
    pub calm: usize,
    /// How many steps there are before everything is over.
    pub steps: usize,
    weights: [u64; KINDS],
}

/// Draws a world. `without` is the rule that does not hold in it.
#[must_use]
pub fn draw(seed: u64, without: Option<Rule>) -> Swarm {
    let mut dice = Dice::of(seed, 0);
    let mut processes = processes(&mut dice);
    let last = u8::try_from(processes.len()).unwrap_or(u8::MAX);
    processes.push(Plan { volume: usize::from(last), commits: 1, ..pod(last, 1) });
    let machines = processes.iter().map(|plan| plan.volume + 1).max().unwrap_or(1);
    let clock = |dice: &mut Dice| {
        let mut span = |ms: i64| if dice.one_in(2) { 0 } else { ms - i64::from(dice.small(200)) * ms / 100 };
        (WALL + span(3_600_000), span(600_000))
    };
    let shape = Shape {
        seed,
        page_size: PageSize::MIN,
        window_ms: if dice.one_in(2) { 0 } else { 120_000 },
        clocks: (0..machines).map(|_| clock(&mut dice)).collect(),
        opening: opening(seed, &processes),
    };
    let is_calm = seed.is_multiple_of(8);
    let mut some = |most: u8| if is_calm || dice.one_in(2) { 0 } else { 1 + dice.small(most) };
    let world = World {
        late: some(6),
        stale: some(3),
        crashes: some(3),
        power_cuts: some(2),
        failed: some(8),
        restores: 3,
        alone: some(6),
        unpinned: some(3),
        pauses: some(4),
        processes,
        pages: Some(shape),
        without,
    };
    let calm = if dice.one_in(3) { 0 } else { dice.place(120) };
    let weights = [(); KINDS].map(|()| 1 + dice.below(8));
    Swarm { seed, world, calm, steps: 60 + dice.place(240), weights }
}

/// One world in three begins with a replica. Nobody restores one on a bare machine.
fn opening(seed: u64, processes: &[Plan]) -> Option<Opening> {
    let mut dice = Dice::of(seed, 3);
    let is_bare = processes.first().is_some_and(|plan| plan.kind == Kind::Bare);
    (!is_bare && dice.one_in(3)).then(|| Opening::draw(&mut dice))
}

fn processes(dice: &mut Dice) -> Vec<Plan> {
    // A replica belongs to one host or to one name in a cluster.
    let is_bare = dice.one_in(6);
    let mut plans: Vec<Plan> = Vec::new();
    for number in 0..1 + dice.small(4) {
        let fresh = Plan { prunes: dice.small(4), ..pod(number, 1 + dice.small(30)) };
        let last = plans.len().checked_sub(1);
        let is_last_of = |at: &usize| plans.iter().all(|plan| plan.after != Some(*at));
        let before = if is_bare { last } else { Some(dice.place(plans.len())).filter(is_last_of) };
        plans.push(match before.filter(|_| is_bare || dice.one_in(2)) {
            Some(before) => again(&plans, before, fresh, dice.below(6)),
            None if is_bare => Plan { kind: Kind::Bare, ..fresh },
            None => fresh,
        });
    }
    plans
}

/// A process after another on the same machine.
fn again(plans: &[Plan], before: usize, fresh: Plan, drawn: u64) -> Plan {
    let Some(first) = plans.get(before) else { return fresh };
    let next = Plan { volume: first.volume, pod: first.pod, after: Some(before), ..fresh };
    match (first.kind, drawn) {
        (Kind::Bare, _) => Plan { kind: Kind::Bare, ..next },
        (Kind::Init, _) => Plan { kind: Kind::Sidecar, ..next },
        (_, 0) => Plan { kind: Kind::Restarted, is_restarted: true, ..next },
        (_, 1) => Plan { kind: Kind::Init, commits: 0, ..next },
        _ => Plan { kind: Kind::Pod, ..next },
    }
}

impl Swarm {
    /// Whether there is a machine without a cluster, where nobody restores by himself.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.world.processes.first().is_some_and(|plan| plan.kind == Kind::Bare)
    }

    /// The step that happens next, of those that may.
    #[must_use]
    pub fn choose(&self, steps: &[Step], dice: &mut Dice) -> Option<Step> {
        let weight = |kind: usize| self.weights.get(kind).copied().unwrap_or(1);
        let mut there = [false; KINDS];
        for step in steps {
            if let Some(place) = there.get_mut(kind(step)) {
                *place = true;
            }
        }
        let all: u64 = (0..KINDS).filter(|at| there.get(*at) == Some(&true)).map(weight).sum();
        let mut drawn = dice.below(all);
        let chosen = (0..KINDS).filter(|at| there.get(*at) == Some(&true)).find(|at| {
            let weight = weight(*at);
            let is_it = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            is_it
        })?;
        let of_kind = || steps.iter().filter(|step| kind(step) == chosen);
        of_kind().nth(dice.place(of_kind().count())).copied()
    }
}

/// What is weighed as one: however many ways there are for the power to fail, it fails as often.
fn kind(step: &Step) -> usize {
    use crate::world::How;
    match step {
        Step::Begin(_) => 0,
        Step::Ask(_, How::Answered, _) | Step::Derive(_, How::Answered) | Step::Forget(_, How::Answered) => 1,
        Step::Ask(..) | Step::Derive(..) | Step::Forget(..) => 2,
        Step::Commit(_) => 3,
        Step::Cut(_) => 4,
        Step::Prune(_) => 5,
        Step::Crash(_) => 6,
        Step::PowerCut(..) => 7,
        Step::Arrive(_) => 8,
        Step::Restore(_) => 9,
        Step::Look(_) => 10,
        Step::Alone(_) => 11,
        Step::Checkpoint(..) => 12,
        Step::Pass(_) => 13,
        Step::Unpin(_) => 14,
        Step::Pause(..) => 15,
    }
}

const KINDS: usize = 16;
/// Some day, in milliseconds since 1970.
const WALL: i64 = 1_700_000_000_000;
