//! What goes on around processes in worlds from a seed: applications that nobody follows, checkpoints, time.

use std::fmt;
use std::rc::Rc;

use crate::marks::Mark;
use crate::world::{State, Step, World, name};

/// What may happen.
pub fn steps(world: &World, state: &State, steps: &mut Vec<Step>) {
    for (at, volume) in state.volumes.iter().enumerate() {
        if volume.sqlite.0.is_none() {
            continue;
        }
        if state.left.alone > 0 && !state.is_busy(world, at) {
            steps.push(Step::Alone(at));
        }
        if state.left.unpinned > 0 && state.is_busy(world, at) {
            steps.push(Step::Unpin(at));
        }
        steps.extend([false, true].map(|is_closed| Step::Checkpoint(at, is_closed)));
    }
    if state.left.pauses > 0 {
        let alive = state.processes.iter().enumerate().filter(|(_, process)| process.is_alive());
        steps.extend(alive.flat_map(|(at, _)| PAUSES.map(|ms| Step::Pause(at, ms))));
    }
    steps.extend(PASSES.map(Step::Pass));
}

/// Lets it happen.
pub fn take(world: &World, state: &mut State, step: &Step, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
    match *step {
        Step::Alone(at) => {
            state.left.alone = state.left.alone.saturating_sub(1);
            if let (Some(shape), Some(volume)) = (&world.pages, state.volumes.get_mut(at)) {
                let number = Rc::make_mut(volume).write(shape, at);
                say(format_args!("the application of machine {at} commits {number}, and nobody follows it"));
            }
        }
        Step::Checkpoint(at, is_closed) => {
            say(format_args!(
                "the application of machine {at} checkpoints; it closes its database: {is_closed}"
            ));
            if let Some(volume) = state.volumes.get_mut(at) {
                Rc::make_mut(volume).checkpoint(is_closed);
            }
        }
        Step::Unpin(at) => {
            state.left.unpinned = state.left.unpinned.saturating_sub(1);
            say(format_args!("whoever follows the database of machine {at} loses its read transaction"));
            if let Some(sqlite) =
                state.volumes.get_mut(at).and_then(|one| Rc::make_mut(one).sqlite.0.as_mut())
            {
                sqlite.unpin();
            }
        }
        Step::Pause(at, ms) => {
            say(format_args!("the machine of {} stands still for {ms} ms", name(at)));
            state.left.pauses = state.left.pauses.saturating_sub(1);
            state.reached(Mark::StoodStill);
            let until = state.now.saturating_add(ms.into());
            if let Some(process) = state.processes.get_mut(at) {
                Rc::make_mut(process).still_until = until;
            }
        }
        Step::Pass(ms) => {
            say(format_args!("{ms} ms pass"));
            state.now = state.now.saturating_add(ms.into());
        }
        Step::Begin(_)
        | Step::Ask(..)
        | Step::Commit(_)
        | Step::Cut(_)
        | Step::Derive(..)
        | Step::Prune(_)
        | Step::Forget(..)
        | Step::Crash(_)
        | Step::PowerCut(..)
        | Step::Arrive(_)
        | Step::Restore(_)
        | Step::Look(_) => {}
    }
}

/// A moment, a slot's interval, a merged file's, a long time.
const PASSES: [u32; 4] = [40, 1_100, 4_000, 70_000];
/// So short that nobody waits, and so long that everybody goes on.
const PAUSES: [u32; 2] = [2_000, 200_000];
