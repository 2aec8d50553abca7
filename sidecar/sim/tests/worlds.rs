//! Every state of every small world: no invariant is broken in any of them. `docs/fencing.md` says what that covers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it says how much was searched and how long that took, and takes a wish"
)]

use std::time::Instant;

use lifeboat_sim::search::{Found, search};
use lifeboat_sim::worlds::{Named, all};

/// Searches a world to its end.
fn look(named: &Named) -> Found {
    let begun = Instant::now();
    let found = search(&named.world, STATES_MAX);
    let took = begun.elapsed().as_secs_f64();
    println!("{:>9} states, depth {:>2}, {took:>6.1} s: {}", found.states, found.depth, named.name);
    if let Some(story) = &found.story {
        panic!("{}:\n{}", named.name, story.join("\n"));
    }
    assert!(found.is_complete, "{} has more than {STATES_MAX} states", named.name);
    found
}

#[test]
fn no_state_of_the_smallest_worlds_breaks_an_invariant() {
    let states: usize = all().iter().filter(|named| named.is_in_slice).map(|named| look(named).states).sum();
    println!("{states:>9} states in all");
    assert!(states >= STATES_OF_THE_SLICE, "only {states} states were looked at");
}

#[test]
#[ignore = "minutes in release: `make search`"]
fn no_state_of_any_world_breaks_an_invariant() {
    let only = std::env::var("WORLD").unwrap_or_default();
    let states: usize =
        all().iter().filter(|named| named.name.contains(&only)).map(|named| look(named).states).sum();
    println!("{states:>9} states in all");
    assert!(!only.is_empty() || states >= STATES_OF_ALL, "only {states} states were looked at");
}

/// A world that is larger is not small.
const STATES_MAX: usize = 30_000_000;
const STATES_OF_THE_SLICE: usize = 60_000;
const STATES_OF_ALL: usize = 12_000_000;
