//! Differential test: random SQL on real SQLite, and at every commit boundary what a restore gives is, byte for byte, what
//! the database was.
//!
//! A *world* is one database with its application, in one thread, from one seed. After each step what was committed is
//! followed, cut, encoded, decoded and applied with the code that the program uses; another connection says what the
//! source is at that moment. Now and then the whole chain is restored from nothing, we are closed and opened again, and at
//! the end the file that the application leaves is compared too.
//!
//! `DIFFERENTIAL_BOUNDARIES` and `DIFFERENTIAL_SEED` choose how much and which; see `make differential`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells by printing"
)]

mod application;
#[path = "../support/dice.rs"]
#[allow(unreachable_pub, reason = "other tests share it")]
mod dice;
mod replica;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use application::Application;
use dice::Dice;
use replica::{End, Replica, Tally};

#[test]
fn at_every_commit_boundary_a_restore_gives_what_the_database_was() {
    let wanted = usize::try_from(number("DIFFERENTIAL_BOUNDARIES").unwrap_or(BOUNDARIES)).unwrap();
    let first = number("DIFFERENTIAL_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 32);
    println!("seed {first}, at least {wanted} boundaries");
    let (next, done, tally) = (AtomicU64::new(first), AtomicUsize::new(0), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < wanted {
                    let (seed, before) = (next.fetch_add(1, Ordering::Relaxed), done.load(Ordering::Relaxed));
                    let replica = run(seed);
                    tally.lock().unwrap().add(replica.tally());
                    let after = done.fetch_add(replica.boundaries(), Ordering::Relaxed);
                    if before / REPORT != after / REPORT {
                        println!("{after} boundaries, seed {seed}");
                    }
                }
            });
        }
    });
    let (done, worlds, tally) = (done.into_inner(), next.into_inner() - first, tally.into_inner().unwrap());
    println!("{done} boundaries in {worlds} worlds; {tally:?}");
    assert!(done < MANY || tally.is_of_everything(), "that proves too little: {tally:?}");
}

/// Runs one world to its end; returns what was compared.
fn run(seed: u64) -> Replica {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let mut application = Application::new(&path, seed, &mut dice);
    let mut replica = Replica::new(&path);
    // In most worlds each commit is a boundary; in others a slot holds several.
    let cut_chance = dice.one_of(&[100, 100, 100, 30]);
    for _ in 0..STEPS {
        application.act(&mut dice);
        if dice.percent(cut_chance) {
            application.note("cut");
            replica.cut();
        } else if dice.percent(50) {
            replica.follow();
        }
        if dice.percent(25) {
            application.note("settle");
            replica.settle();
        }
        if dice.percent(4) && replica.boundaries() > 0 {
            let end = dice.one_of(&[End::Idle, End::Idle, End::Noted, End::Stored]);
            application.note(&format!("we restart: {end:?}"));
            replica.restart(end, || application.live_alone(&mut dice));
        }
    }
    replica.cut();
    for _ in 0..RESTORES {
        replica.restore(dice.below(replica.boundaries()));
    }
    application.close_all();
    replica.end(|| application.end());
    replica
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// As many as a short run has time for.
const BOUNDARIES: u64 = 2_000;
const STEPS: usize = 120;
/// Restores from nothing in each world.
const RESTORES: usize = 2;
const REPORT: usize = 5_000;
const MANY: usize = 1_000;
