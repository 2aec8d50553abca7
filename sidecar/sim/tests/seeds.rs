//! Worlds from seeds: none breaks an invariant. `make sim` goes through many more, and through one by `SEED=…`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it says how much was gone through and how long that took, and takes a wish"
)]

use std::time::Instant;

use lifeboat_sim::marks::Marks;
use lifeboat_sim::walk::{story, walk};

/// Goes through the worlds of so many seeds; the rare branches that they reached.
fn go_through(seeds: std::ops::Range<u64>) -> Marks {
    let (begun, mut marks, mut steps) = (Instant::now(), Marks::default(), 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let walked = walk(seed, None);
        steps += walked.steps.len();
        marks.merge(walked.marks);
        if let Some(violation) = walked.violation {
            let story = story(seed, None).unwrap_or_default();
            panic!("seed {seed}: {violation}\n\n{}\n\nagain: make sim SEED={seed}", story.join("\n"));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} worlds, {steps} steps, {seconds:.1} s, {:.0} worlds a second", count as f64 / seconds);
    println!("never reached: {:?}", marks.missing());
    marks
}

#[test]
fn no_world_from_a_seed_breaks_an_invariant_and_every_rare_branch_is_reached() {
    let marks = go_through(0..WORLDS);
    assert!(marks.missing().is_empty(), "never reached: {:?}", marks.missing());
}

#[test]
fn the_same_seed_is_the_same_world_to_the_last_bit() {
    let traces: Vec<_> = (0..50).map(|seed| walk(seed, None).trace).collect();
    let again: Vec<_> = (0..50).map(|seed| walk(seed, None).trace).collect();
    assert_eq!(traces, again);
    let distinct: std::collections::BTreeSet<_> = traces.iter().collect();
    assert_eq!(distinct.len(), traces.len(), "two seeds are one world");
}

#[test]
#[ignore = "as long as one likes: `make sim`"]
fn many_worlds_or_one() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let from = number("FROM").unwrap_or(0);
    match number("SEED") {
        Some(seed) => match story(seed, None) {
            Some(story) => panic!("seed {seed}:\n{}", story.join("\n")),
            None => println!("seed {seed} breaks nothing"),
        },
        None => drop(go_through(from..from + number("WORLDS").unwrap_or(WORLDS))),
    }
}

const WORLDS: u64 = 2_000;
