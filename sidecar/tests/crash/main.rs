//! Crashes: the sidecar, the application, or both are killed, at points that are chosen and at points that are not.
//!
//! Killed at a chosen point means: the request that it just sent has not arrived, or has, and the answer has not. Between
//! two requests a process can die anywhere; for the bucket that is the same as before the next one. After every crash the
//! bucket is restored as it is: what was called stored is there, and it is a prefix of the application's history.
//!
//! `CRASH_ROUNDS` makes the tests by chance longer; see `make crash`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod application;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use scene::Scene;
use support::eventually;
use support::proxy::{Hold, Trap};

#[test]
fn killed_before_any_write_of_a_start_has_arrived_it_loses_nothing() {
    killed_at_every_step_of_a_start(Hold::Request);
}

#[test]
fn killed_before_it_knows_of_any_write_of_a_start_it_loses_nothing() {
    killed_at_every_step_of_a_start(Hold::Answer);
}

/// At the first write, the second …, until a start gets by without so many: beginning with nothing, then as a successor of
/// itself. What is only read changes nothing in the bucket; the long run is killed there too.
fn killed_at_every_step_of_a_start(hold: Hold) {
    let method = if rounds().is_some() { "" } else { "PUT" };
    let mut scene = Scene::new();
    let application = scene.start_application();
    for start in ["first", "later"] {
        let points = (1..100).take_while(|&nth| scene.replicate_until(hold, method, "", nth)).count();
        println!("{hold:?} of a {start} start: killed {points} times, {} rows stored", scene.rows());
        assert!(points >= 3, "a start writes more often than that");
    }
    application.kill();
    scene.ends_well();
}

#[test]
fn killed_before_or_after_a_slot_is_stored_it_loses_nothing() {
    let mut scene = Scene::new();
    let application = scene.start_application();
    for nth in 1..4 {
        for hold in [Hold::Request, Hold::Answer] {
            scene.proxy.set(Trap { hold, method: "PUT", part: SLOTS, nth: nth + 1 });
            let running = scene.replicate();
            let is_held = || scene.proxy.is_sprung_within(Duration::from_millis(100)).then_some(());
            eventually("a slot on its way", is_held, || running.log());
            // Meanwhile the application goes on, and its commits wait.
            std::thread::sleep(Duration::from_millis(40));
            scene.crash(running);
        }
    }
    application.kill();
    scene.ends_well();
}

/// Every kind of request that merging and pruning make: killed before it arrives, and before its answer does.
#[test]
fn killed_at_any_request_of_merging_and_pruning_it_loses_nothing() {
    let mut scene = Scene::new();
    let application = scene.start_application();
    let requests = [
        // The copy of the first slot is made once.
        ("PUT", "/app/0009/0000000000000001-0000000000000001"),
        ("PUT", "/app/0001/"),
        ("GET", "/app/0001/"),
        ("PUT", "/app/0003/"),
        ("PUT", "/app/0009/"),
        ("GET", "/app/0009/"),
        ("PUT", "/app/lifeboat/head.json"),
        ("DELETE", "/app/0000/"),
        ("DELETE", "/app/0001/"),
        ("DELETE", "/app/0009/"),
    ];
    for (method, part) in requests {
        // On a slow machine something is always due on a higher level, and then nothing is merged on the first.
        let levels = if part.starts_with("/app/0001/") { FIRST_LEVEL } else { LEVELS };
        for hold in [Hold::Request, Hold::Answer] {
            let running = scene.replicate_and_merge(levels);
            running.wait_for("stored txid");
            scene.proxy.set(Trap { hold, method, part, nth: 1 });
            let is_held = || scene.proxy.is_sprung_within(Duration::from_millis(100)).then_some(());
            eventually(&format!("{method} {part}"), is_held, || running.log());
            scene.crash(running);
        }
    }
    application.kill();
    let files = scene.files();
    println!("{} rows stored, {files} files left", scene.rows());
    assert!(files < 2_000, "{files} files: nothing was deleted");
    scene.ends_well();
}

const FIRST_LEVEL: &str = "[{interval: 60ms}]";
const LEVELS: &str = "[{interval: 60ms}, {interval: 200ms}, {interval: 600ms}]";

#[test]
fn answers_that_are_lost_stop_nothing() {
    let mut scene = Scene::new();
    let application = scene.start_application();
    let running = scene.replicate();
    running.wait_for("stored txid");
    for (method, part) in [("PUT", SLOTS), ("PUT", SLOTS), ("PUT", "")] {
        for hold in [Hold::Answer, Hold::Request] {
            scene.proxy.set(Trap { hold, method, part, nth: 1 });
            let is_held = || scene.proxy.is_sprung_within(Duration::from_millis(100)).then_some(());
            eventually("a slot on its way", is_held, || running.log());
            scene.proxy.free();
        }
    }
    application.kill();
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    scene.ends_well();
}

#[test]
fn refusals_that_pass_stop_nothing() {
    let mut scene = Scene::new();
    let application = scene.start_application();
    let running = scene.replicate();
    running.wait_for("stored txid");
    // A full disk of the server, a gateway that lost it, a proxy with another idea of where it is.
    for status in [507, 530, 400, 404, 403, 501] {
        scene.proxy.set(Trap { hold: Hold::Refused(status), method: "PUT", part: SLOTS, nth: 1 });
        let is_refused = || scene.proxy.is_sprung_within(Duration::from_millis(100)).then_some(());
        eventually(&format!("a slot that is refused with {status}"), is_refused, || running.log());
    }
    application.kill();
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    scene.ends_well();
}

#[test]
fn a_record_that_cannot_be_written_for_a_while_stops_nothing() {
    let mut scene = Scene::new();
    let application = scene.start_application();
    let running = scene.replicate();
    running.wait_for("stored txid");
    // As on a full disk: a rename onto a folder fails for everybody.
    let record = scene.place.path(".app.db-lifeboat/record.json");
    std::fs::remove_file(&record).unwrap();
    while std::fs::create_dir(&record).is_err() {
        let _ = std::fs::remove_file(&record);
    }
    running.wait_for("trying again");
    std::fs::remove_dir(&record).unwrap();
    running.wait_for("works again");
    application.kill();
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    scene.ends_well();
}

#[test]
fn killed_at_any_time_the_sidecar_and_the_application_lose_nothing() {
    let (mut scene, begun, rounds) = (Scene::new(), Instant::now(), rounds().unwrap_or(ROUNDS));
    let mut application = Some(scene.start_application());
    for round in 1..=rounds {
        let running = scene.replicate();
        if round % 3 != 0 {
            running.wait_for(": following ");
        }
        std::thread::sleep(Duration::from_micros(u64::from(begun.elapsed().subsec_nanos() % 150_000)));
        if round % 2 == 0 {
            drop(application.take());
        }
        scene.crash(running);
        // Now and then the application runs for a while, or stands still, while nobody follows it.
        if application.is_none() {
            application = Some(scene.start_application());
        }
        if round % 5 == 0 {
            std::thread::sleep(Duration::from_millis(100));
            drop(application.take());
            application = Some(scene.start_application());
        }
    }
    drop(application);
    scene.ends_well();
    println!("{rounds} rounds in {:?}, {} rows stored", begun.elapsed(), scene.rows());
}

fn rounds() -> Option<u32> {
    let rounds = std::env::var("CRASH_ROUNDS").ok().filter(|text| !text.is_empty());
    rounds.map(|text| text.parse().unwrap())
}

/// As many as a short run has time for.
const ROUNDS: u32 = 12;
/// A part of the path of every slot.
const SLOTS: &str = "/app/0000/";
