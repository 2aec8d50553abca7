//! Slots that are too large for memory, where the bucket or the way to it makes it hard: they are stored in the end, with
//! bounded memory, and keep nobody else from being stored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use support::proxy::{Hold, Proxy, Refusal, Trap};
use support::s3::S3Server;
use support::{Place, Running, dump, eventually, eventually_within, lifeboat};

const URL: &str = "s3://lifeboat/large";
const MIB: u64 = 1 << 20;

/// A database in WAL mode with this much that does not compress.
fn application(place: &Place, name: &str, mib: u64) -> Connection {
    let app = place.open(name);
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB); BEGIN").unwrap();
    for _ in 0..mib {
        app.execute("INSERT INTO t VALUES (randomblob(1048576))", []).unwrap();
    }
    app.execute_batch("COMMIT").unwrap();
    app
}

fn replicate(place: &Place, what: &str, s3: &S3Server, road: &Proxy) -> Running {
    let (what, endpoint) = (place.text(what), road.endpoint());
    let args = ["replicate", &what, URL, "--endpoint", &endpoint, "--log-level", "debug"];
    place.spawn(lifeboat(&args).envs(s3.credentials()))
}

fn assert_restores(place: &Place, s3: &S3Server, url: &str, name: &str) {
    let copy = place.text("copy.db");
    let _ = std::fs::remove_file(&copy);
    place.run_with(&["restore", "-o", &copy, url], Some(s3)).says(0, &["restored"]);
    assert!(dump(Path::new(&copy)) == dump(&place.path(name)), "the copy differs");
}

fn stored(running: &Running, patience: Duration, slots: usize) {
    let look = || (running.log().matches("stored txid").count() >= slots).then_some(());
    eventually_within(patience, "the slot to be stored", look, || running.log());
}

/// How many slots are being sent in parts, as the server knows it.
fn unfinished(s3: &S3Server) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let keys = entries(&s3.file(".sgwtmp/multipart"));
    keys.map(|key| entries(&key.path()).count()).sum()
}

fn stores_over_a_slow_link(mib: u64, bytes_a_second: u32, patience: Duration) {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let _app = application(&place, "app.db", mib);
    road.slow_down(Some(bytes_a_second));
    let (begun, replicating) = (Instant::now(), replicate(&place, "app.db", &s3, &road));
    stored(&replicating, patience, 1);
    let least = Duration::from_secs(mib * MIB / u64::from(bytes_a_second));
    let took = begun.elapsed();
    assert!(took > least, "{took:?}: the link is not slow");
    let log = replicating.kill_and_read();
    let timeouts = log.matches("nothing moved for").count();
    println!(
        "{mib} MiB at {bytes_a_second} bytes a second: {took:.0?} of at least {least:?}; {timeouts} timeouts"
    );
    assert!(!log.contains("is given up"), "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

#[test]
fn over_a_slow_link_a_large_slot_is_stored_in_the_end() {
    // One part takes longer than any request without a body may.
    stores_over_a_slow_link(8, 300_000, Duration::from_secs(240));
}

#[test]
#[ignore = "takes six minutes"]
fn twenty_mib_are_stored_at_64_kib_a_second() {
    stores_over_a_slow_link(20, 64 << 10, Duration::from_secs(1800));
}

#[test]
fn of_many_large_databases_behind_a_slow_link_only_some_have_parts_in_memory() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let names: Vec<_> = (0..16).map(|number| format!("{number}.db")).collect();
    let apps: Vec<_> = names.iter().map(|name| application(&place, name, 24)).collect();
    road.slow_down(Some(1_000_000));
    let replicating = replicate(&place, "*.db", &s3, &road);
    let reads = || replicating.log().matches("a large slot is read").count();
    let evidence = || replicating.log();
    eventually("the turns to be taken", || (reads() >= 4).then_some(()), evidence);
    let waits = || (replicating.log().matches("waits for its turn").count() >= 12).then_some(());
    eventually("the others to say that they wait", waits, evidence);
    let (begun, done) = (reads(), replicating.log().matches("stored txid").count());
    assert!(begun - done <= 4, "{begun} begun, {done} stored: {}", replicating.log());
    let peak = peak_mib(&replicating);
    println!("16 databases of 24 MiB: {peak} MiB");
    assert!(peak < 220, "{peak} MiB");
    road.slow_down(None);
    stored(&replicating, Duration::from_secs(120), names.len());
    assert_eq!(replicating.stop().0, Some(0));
    assert_restores(&place, &s3, &format!("{URL}/7.db"), "7.db");
    drop(apps);
}

/// The most memory that the process ever had.
fn peak_mib(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn where_it_cannot_be_found_out_whether_parts_are_taken_a_slot_goes_whole() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let _app = application(&place, "app.db", 10);
    road.refuse(Refusal { method: "POST", part: "?uploads", status: 503 });
    let replicating = replicate(&place, "app.db", &s3, &road);
    stored(&replicating, Duration::from_secs(60), 1);
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("cannot be found out, so this one goes whole"), "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

/// A process that is stopped most of the time, as on a slow disk everything takes long. Dropped, it runs again.
struct Slowed {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slowed {
    fn begin(pid: i32) -> Self {
        let pid = Pid::from_raw(pid).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let is_told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !is_told.load(Ordering::Relaxed) {
                kill_process(pid, Signal::STOP).unwrap();
                std::thread::sleep(Duration::from_millis(200));
                kill_process(pid, Signal::CONT).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_checkpoint_of_the_application_does_not_wait_for_a_slot_that_goes_through_a_file() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let app = application(&place, "app.db", 60);
    road.refuse(Refusal { method: "POST", part: "?uploads", status: 503 });
    let replicating = replicate(&place, "app.db", &s3, &road);
    replicating.wait_for("following");
    let slowed = Slowed::begin(replicating.pid());
    let commit = || app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let is_read = || {
        // So that the view needs the WAL.
        commit();
        replicating.log().contains("a large slot is read through a file").then_some(())
    };
    eventually("the slot to be read", is_read, || replicating.log());
    app.busy_timeout(Duration::from_secs(50)).unwrap();
    let begun = Instant::now();
    let busy: i64 = app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    let log = replicating.log();
    assert_eq!(busy, 0, "after {:?}: {log}", begun.elapsed());
    assert!(log.contains("a checkpoint of the application waits; it is begun anew"), "{log}");
    commit();
    drop(slowed);
    stored(&replicating, Duration::from_secs(60), 1);
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

#[test]
fn a_bucket_that_refuses_to_complete_gets_the_slot_whole_after_one_more_claim() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let app = application(&place, "app.db", 10);
    road.refuse(Refusal { method: "POST", part: ".ltx?uploadId", status: 400 });
    let replicating = replicate(&place, "app.db", &s3, &road);
    stored(&replicating, Duration::from_secs(60), 1);
    // The next one does not try again what was refused.
    app.execute_batch("UPDATE t SET x = randomblob(1048576)").unwrap();
    stored(&replicating, Duration::from_secs(60), 2);
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("from now on large slots go whole").count(), 1, "{log}");
    let begun = road.take_seen().iter().filter(|seen| seen.contains(".ltx?uploads")).count();
    assert_eq!(begun, 1, "{log}");
    assert_eq!(unfinished(&s3), 0, "what was refused is removed: {log}");
    assert!(log.contains("epoch 2;") && !log.contains("epoch 3;"), "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

#[test]
fn what_a_killed_process_left_of_a_large_slot_is_removed_by_the_next() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let _app = application(&place, "app.db", 30);
    road.slow_down(Some(4_000_000));
    let replicating = replicate(&place, "app.db", &s3, &road);
    eventually("an upload", || (unfinished(&s3) > 0).then_some(()), || replicating.log());
    replicating.wait_for("a large slot is read");
    // Until it is that of the slot, and not of the trial.
    let begun = || {
        road.take_seen()
            .iter()
            .any(|seen| seen.contains(".ltx") && seen.contains("partNumber=3"))
            .then_some(())
    };
    eventually("a part", begun, || replicating.log());
    replicating.kill();
    assert!(unfinished(&s3) > 0);
    road.slow_down(None);
    let again = replicate(&place, "app.db", &s3, &road);
    stored(&again, Duration::from_secs(60), 1);
    let (code, log) = again.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("removed 1 uploads"), "{log}");
    assert_eq!(unfinished(&s3), 0, "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

/// A snapshot in every slot's wake.
const SNAPSHOTS: &str = "sync-interval: 20ms\nlevels: [{interval: 100ms}, {interval: 200ms}, {interval: 300ms}]\n\
    snapshot: {interval: 300ms}\n";

#[test]
fn what_a_killed_process_left_of_a_snapshot_is_removed_by_the_next() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    let app = application(&place, "app.db", 12);
    let config = place.text("lifeboat.yml");
    let (db, endpoint) = (place.text("app.db"), road.endpoint());
    let replica = format!("{{url: '{URL}', endpoint: '{endpoint}'}}");
    std::fs::write(&config, format!("{SNAPSHOTS}dbs: [{{path: '{db}', replica: {replica}}}]\n")).unwrap();
    let follow = || {
        let args = ["--log-level", "debug", "replicate", "--config", &config];
        let running = place.spawn(lifeboat(&args).envs(s3.credentials()));
        running.wait_for("following");
        running
    };
    let replicating = follow();
    stored(&replicating, Duration::from_secs(60), 1);
    // A part of the snapshot gets no answer for as long as the process lives.
    road.set(Trap { hold: Hold::Answer, method: "PUT", part: "partNumber=2", nth: 1 });
    let write = |held: &dyn Fn() -> Option<()>, evidence: &dyn Fn() -> String| {
        let writes = || {
            app.execute("UPDATE t SET x = randomblob(1000) WHERE rowid = 1", []).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            held()
        };
        eventually("the snapshot", writes, evidence);
    };
    write(&|| road.is_sprung_within(Duration::from_millis(1)).then_some(()), &|| replicating.log());
    replicating.kill();
    road.free();
    assert!(unfinished(&s3) > 0);
    let again = follow();
    write(&|| again.log().contains("level 9 merged").then_some(()), &|| again.log());
    let (code, log) = again.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("removed 1 uploads of merged files"), "{log}");
    assert_eq!(unfinished(&s3), 0, "{log}");
    assert_restores(&place, &s3, URL, "app.db");
}

#[test]
fn in_a_folder_what_a_killed_process_left_of_a_large_slot_is_removed_too() {
    let place = Place::new();
    let _app = application(&place, "app.db", 10);
    let slots = place.path("replica/ltx/0");
    std::fs::create_dir_all(&slots).unwrap();
    let left = slots.join(".parts-0000000000000001-0000000000000001.ltx-aB3dE6");
    let foreign = slots.join(".parts-of-something-else");
    for file in [&left, &foreign] {
        std::fs::write(file, "half a slot").unwrap();
    }
    let (database, url) = (place.text("app.db"), place.url("replica"));
    let replicating = place.start(&["replicate", &database, &url], "stored txid 0000000000000001");
    assert_eq!(replicating.stop().0, Some(0));
    assert!(!left.exists() && foreign.exists());
}
