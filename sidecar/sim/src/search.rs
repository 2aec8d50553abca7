//! The search itself: breadth first, every state once, so that the first violation is at the end of a shortest story.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;

use crate::invariant::Violation;
use crate::visited::{Visited, fingerprint};

/// Something that can be searched.
pub trait Space {
    /// Everything that the future depends on, and what the invariants speak of.
    type State: Clone + Hash;
    /// One thing that may happen.
    type Step: Clone;

    /// Where it begins.
    fn beginning(&self) -> Self::State;

    /// Everything that may happen in a state.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;

    /// Lets it happen. `say` hears what that was, in words.
    ///
    /// # Errors
    /// [`Violation`] when what happened must never happen.
    fn take(
        &self,
        state: &mut Self::State,
        step: &Self::Step,
        say: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Result<(), Violation>;
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many different states were looked at.
    pub states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Whether every state was looked at.
    pub is_complete: bool,
    /// The shortest way to a violation, one line for each step, the violation last.
    pub story: Option<Vec<String>>,
}

/// Looks at every state that can be reached, or at `states_max` of them.
#[must_use]
pub fn search<S: Space>(space: &S, states_max: usize) -> Found {
    let beginning = space.beginning();
    let (mut visited, mut ways) = (Visited::new(), vec![None]);
    visited.insert(fingerprint(&beginning));
    let mut waiting = VecDeque::from([(0_usize, 0_usize, beginning)]);
    let mut found = Found { states: 1, depth: 0, is_complete: true, story: None };
    while let Some((at, depth, state)) = waiting.pop_front() {
        found.depth = depth;
        for step in space.steps(&state) {
            let mut next = state.clone();
            if space.take(&mut next, &step, &mut |_| ()).is_err() {
                ways.push(Some((at, step)));
                found.story = Some(tell(space, &ways));
                return found;
            }
            if !visited.insert(fingerprint(&next)) {
                continue;
            }
            found.states = visited.len();
            if found.states >= states_max {
                found.is_complete = false;
                return found;
            }
            waiting.push_back((ways.len(), depth + 1, next));
            ways.push(Some((at, step)));
        }
    }
    found
}

/// The way to the last state, told by going it again.
fn tell<S: Space>(space: &S, ways: &[Option<(usize, S::Step)>]) -> Vec<String> {
    let (mut steps, mut at) = (Vec::new(), ways.len().saturating_sub(1));
    while let Some(Some((from, step))) = ways.get(at) {
        steps.push(step.clone());
        at = *from;
    }
    let (mut state, mut story) = (space.beginning(), Vec::new());
    for step in steps.into_iter().rev() {
        let mut words = Vec::new();
        let taken = space.take(&mut state, &step, &mut |line| words.push(line.to_string()));
        story.push(words.join("; "));
        story.extend(taken.err().map(|violation| violation.to_string()));
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::Invariant;

    /// Two counters up to a limit; that both are equal at `bad` is forbidden.
    struct Counters {
        limit: u8,
        bad: Option<u8>,
    }

    impl Space for Counters {
        type State = (u8, u8);
        type Step = bool;

        fn beginning(&self) -> Self::State {
            (0, 0)
        }

        fn steps(&self, _: &Self::State) -> Vec<bool> {
            vec![false, true]
        }

        fn take(
            &self,
            state: &mut Self::State,
            step: &bool,
            say: &mut dyn FnMut(fmt::Arguments<'_>),
        ) -> Result<(), Violation> {
            let counter = if *step { &mut state.1 } else { &mut state.0 };
            *counter = (*counter + 1).min(self.limit);
            say(format_args!("{step}"));
            let is_bad = self.bad.is_some_and(|bad| *state == (bad, bad));
            if is_bad { Err(Violation::new(Invariant::Exact, "equal")) } else { Ok(()) }
        }
    }

    #[test]
    fn every_state_is_looked_at_once() {
        let found = search(&Counters { limit: 9, bad: None }, usize::MAX);
        assert_eq!(found, Found { states: 100, depth: 18, is_complete: true, story: None });
        assert!(!search(&Counters { limit: 9, bad: None }, 50).is_complete);
    }

    #[test]
    fn the_story_of_a_violation_is_a_shortest_one() {
        let story = search(&Counters { limit: 9, bad: Some(2) }, usize::MAX).story.unwrap();
        assert_eq!(story.len(), 5);
        assert_eq!(story.last().unwrap(), "VIOLATION (exact): equal");
    }
}
