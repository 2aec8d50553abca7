//! The executors of production in worlds from a seed: what claims, stores, prunes and restores talks to a bucket in memory over
//! roads that delay, lose, refuse and repeat requests, while processes come, overtake each other and are killed. One thread, a
//! clock that passes only when everybody waits, and chance from a seed: the same seed is the same story to the last request.
//!
//! `SEED`, `FROM` and `WORLDS` make others; see `make sim-executors`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

#[path = "../support/dice.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests throw the rest of them")]
mod dice;
mod process;
mod road;
mod truth;
mod world;

use std::sync::Arc;
use std::time::Duration;

use lifeboat::restore::{How, restore};
use lifeboat::watch::Watcher;
use tokio::time::{sleep, timeout};

use process::Process;
use world::{Lie, Reached, Told, World};

/// Goes through the world of a seed.
fn go_through(seed: u64, lie: Option<Lie>) -> Told {
    fastrand::seed(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(live(seed, lie))
}

async fn live(seed: u64, lie: Option<Lie>) -> Told {
    let (world, watcher) = (World::new(seed, lie), Watcher::start().unwrap());
    let processes = 2 + world.state().dice.below(5);
    let begun: Vec<_> =
        (0..processes).map(|who| tokio::spawn(begin(Arc::clone(&world), who, watcher.clone()))).collect();
    sleep(TROUBLED).await;
    world.state().rough = 0;
    for process in begun {
        let ended = timeout(PATIENCE, process).await;
        world.require(ended.map(drop).map_err(|_| "a process comes to no end on good roads".to_owned()));
    }
    // What is late arrives, or never will.
    sleep(TROUBLED).await;
    if world.told().violation.is_none() {
        comes_back(&world, &watcher).await;
    }
    world.told()
}

/// A process begins some time, and may be killed.
async fn begin(world: Arc<World>, who: usize, watcher: Watcher) {
    world.rest(40_000).await;
    let (slots, is_killed) = {
        let mut state = world.state();
        (state.dice.below(20), state.dice.percent(40))
    };
    world.say(&format!("{who} begins"));
    let living = Process::new(&world, who, &watcher).live(slots);
    if !is_killed {
        return living.await;
    }
    let life = world.state().dice.below(30_000) as u64;
    if timeout(Duration::from_millis(life), living).await.is_err() {
        world.state().reached.killed += 1;
        world.say(&format!("{who} is killed"));
    }
}

/// When everything is over, one more process takes over and stores a slot, and what is restored is the newest state.
async fn comes_back(world: &Arc<World>, watcher: &Watcher) {
    let acknowledged = world.state().truth.acknowledged();
    let last = Process::new(world, LAST, watcher);
    let bucket = last.bucket().clone();
    last.live(1).await;
    let newest = world.state().truth.acknowledged();
    let is_more = newest > acknowledged;
    world.require(is_more.then_some(()).ok_or_else(|| "nothing can be stored any more".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restored.db");
    let outcome = match restore(&bucket, &path, &How::to_go_on(PATIENCE)).await {
        Ok(Some(_)) => {
            let is_same = std::fs::read(&path).unwrap() == world.state().truth.at(newest as u64).concat();
            is_same.then_some(()).ok_or_else(|| "another database is restored".to_owned())
        }
        Ok(None) => Err("nothing is restored".to_owned()),
        Err(failure) => Err(format!("it is not restored: {failure}")),
    };
    world.require(outcome);
}

fn holds(seed: u64) -> Reached {
    let told = go_through(seed, None);
    if let Some(violation) = told.violation {
        panic!(
            "seed {seed}: {violation}\n\n{}\n\nagain: make sim-executors SEED={seed}",
            told.trace.join("\n")
        );
    }
    told.reached
}

#[test]
fn what_runs_in_production_breaks_no_invariant_in_worlds_from_a_seed() {
    let mut reached = Reached::default();
    (0..WORLDS).for_each(|seed| reached.add(holds(seed)));
    println!("{WORLDS} worlds: {reached:?}");
    let Reached { slots, fenced, overtaken, killed, late, raised, deleted, closed } = reached;
    assert!([slots, fenced, overtaken, killed, late, raised, deleted, closed].iter().all(|count| *count > 0));
}

#[test]
fn the_same_seed_is_the_same_story_to_the_last_request() {
    for seed in 0..10 {
        let (first, again) = (go_through(seed, None).trace, go_through(seed, None).trace);
        assert!(first.len() > 20, "seed {seed} tells nothing");
        for (line, (first, again)) in first.iter().zip(&again).enumerate() {
            assert_eq!(first, again, "seed {seed}, line {line}");
        }
        assert_eq!(first.len(), again.len(), "seed {seed}");
    }
}

#[track_caller]
fn is_caught(lie: Lie, says: &str) {
    let found = (0..SEEDS_OF_A_LIE).find_map(|seed| Some((seed, go_through(seed, Some(lie)).violation?)));
    let (seed, violation) =
        found.unwrap_or_else(|| panic!("{lie:?} is not caught in {SEEDS_OF_A_LIE} worlds"));
    println!("{lie:?}, seed {seed}: {violation}");
    assert!(violation.contains(says), "{violation}");
}

#[test]
fn a_store_that_overwrites_is_found_out_before_anything_is_stored() {
    is_caught(Lie::Overwrites, "");
}

#[test]
fn a_head_that_is_replaced_whatever_it_is_is_caught() {
    is_caught(Lie::ForgetsConditions, "is followed by");
}

#[test]
fn a_slot_that_never_arrived_and_is_called_stored_is_caught() {
    is_caught(Lie::AnswersForLost, "");
}

#[test]
fn a_failed_list_that_is_taken_for_an_empty_one_is_caught() {
    is_caught(Lie::ListsNothing, "");
}

#[test]
#[ignore = "as long as one likes: `make sim-executors`"]
fn many_worlds_or_one() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        println!("{}", go_through(seed, None).trace.join("\n"));
        holds(seed);
        return;
    }
    let (from, worlds) = (number("FROM").unwrap_or(0), number("WORLDS").unwrap_or(WORLDS));
    let mut reached = Reached::default();
    (from..from + worlds).for_each(|seed| reached.add(holds(seed)));
    println!("{worlds} worlds of executors: {reached:?}");
}

const WORLDS: u64 = 100;
const SEEDS_OF_A_LIE: u64 = 50;
/// So long something goes wrong; what is late then arrives in less.
const TROUBLED: Duration = Duration::from_secs(90);
/// So long a process on good roads may take to its end.
const PATIENCE: Duration = Duration::from_secs(600);
/// The process that comes when everything is over.
const LAST: usize = 99;
