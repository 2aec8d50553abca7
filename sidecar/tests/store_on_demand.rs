//! When slots are stored: on demand at once, else within the budget; and the socket over which it is asked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Place, Ran, Running, dump, eventually, s3::S3Server};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";
/// An interval that no test lives to see the end of.
const NEVER: [&str; 2] = ["--sync-interval", "1h"];

fn insert(place: &Place, name: &str, n: i64) {
    place.open(name).execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
}

fn newest(place: &Place, name: &str) -> i64 {
    place.open(name).query_row("SELECT max(n) FROM t", [], |row| row.get(0)).unwrap()
}

/// A database that is followed, with a control socket and the first slot stored.
fn followed(place: &Place, args: &[&str]) -> Running {
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url, socket) = (place.text("app.db"), place.url("replica"), place.text("a.sock"));
    let args = [&["replicate", "--socket", &socket], args, &[&db, &url]].concat();
    place.start(&args, "stored txid 0000000000000001")
}

fn sync(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["sync", "--socket", &place.text("a.sock")], args].concat())
}

fn slots(place: &Place) -> usize {
    std::fs::read_dir(place.path("replica/ltx/0")).unwrap().count()
}

fn write_until(is_over: &AtomicBool, place: &Place, pause: Duration) {
    let app = place.open("app.db");
    for n in 2.. {
        app.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        std::thread::sleep(pause);
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
}

/// Says that it is over, when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
fn assert_restores(place: &Place) {
    place
        .run(&["restore", "--force", "-o", &place.text("out.db"), &place.url("replica")])
        .says(0, &["restored"]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn what_was_committed_before_the_demand_is_stored_when_it_is_answered_whatever_the_interval() {
    let place = Place::new();
    let running = followed(&place, &NEVER);
    let before = slots(&place);
    for n in 2..5 {
        insert(&place, "app.db", n);
        let answer = sync(&place, &["--json"]);
        answer.says(0, &[&place.text("app.db"), "\"txid\"", "\"checksum\"", "\"time\""]);
        let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_restores(&place);
        let txid = answer["position"]["txid"].as_str().unwrap();
        assert!(place.path(&format!("replica/ltx/0/{txid}-{txid}.ltx")).exists(), "{answer}");
    }
    sync(&place, &[]).says(0, &["everything committed is stored", "txid"]);
    assert_eq!(
        slots(&place),
        before + 3,
        "one slot for each demand with something to store, and none without"
    );
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn twenty_demands_at_once_share_a_slot_or_two() {
    let place = Place::new();
    let running = followed(&place, &NEVER);
    let before = slots(&place);
    insert(&place, "app.db", 2);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| sync(&place, &[&place.text("app.db")]).says(0, &["is stored"]));
        }
    });
    assert!((1..=2).contains(&(slots(&place) - before)), "{} slots", slots(&place) - before);
    assert_restores(&place);
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn an_application_that_never_pauses_does_not_keep_a_demand_waiting() {
    let place = Place::new();
    let running = followed(&place, &NEVER);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write_until(&is_over, &place, Duration::ZERO));
        // However this ends, the writer does too.
        let _over = Over(&is_over);
        for round in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            let before = newest(&place, "app.db");
            sync(&place, &[]).says(0, &["is stored"]);
            let out = format!("out-{round}.db");
            place.run(&["restore", "-o", &place.text(&out), &place.url("replica")]).says(0, &[]);
            assert!(newest(&place, &out) >= before, "row {before} was committed before the demand");
        }
    });
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn while_the_bucket_is_away_a_demand_ends_with_what_is_missing_and_afterwards_it_is_met() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url, socket) = (place.text("app.db"), "s3://lifeboat/app", place.text("a.sock"));
    let running = place.start_with(&["replicate", "--socket", &socket, &db, url], "stored txid", Some(&s3));
    s3.stop();
    insert(&place, "app.db", 2);
    running.wait_for("trying again");
    sync(&place, &["--timeout", "700ms"])
        .says(5, &[&db, "not everything is stored after 0.7 s", "bytes", "127.0.0.1"]);
    s3.start_again();
    sync(&place, &["--timeout", "50s"]).says(0, &["is stored"]);
    place.run_with(&["restore", "-o", &place.text("out.db"), url], Some(&s3)).says(0, &[]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_fenced_database_is_answered_at_once_with_code_3_and_the_others_go_on() {
    let place = Place::new();
    let config = place.text("config.yml");
    let mut text = format!("socket: {}\ndbs:\n", place.text("a.sock"));
    for name in ["app.db", "other.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
        let replica = place.url(&format!("replica of {name}"));
        text += &format!("- {{name: {name}, path: {}, replica: {{url: '{replica}'}}}}\n", place.text(name));
    }
    std::fs::write(&config, text).unwrap();
    let first =
        place.spawn(support::lifeboat(&["replicate", "--config", &config]).env_remove("LIFEBOAT_SOCKET"));
    eventually("the socket", || place.path("a.sock").exists().then_some(()), || first.log());
    sync(&place, &[]).says(0, &["app.db", "other.db"]);
    let replica = place.url("replica of app.db");
    place.run(&["restore", "-o", &place.text("copy.db"), &replica]).says(0, &[]);
    let second = place.start(&["replicate", &place.text("copy.db"), &replica], "following");
    insert(&place, "app.db", 2);
    first.wait_for("the other databases go on");
    sync(&place, &["app.db"]).says(3, &["another writer"]);
    sync(&place, &["other.db"]).says(0, &["is stored"]);
    let both = sync(&place, &["--json"]);
    both.says(3, &["1 of 2 databases", "\"exitCode\":3", "\"name\":\"other.db\",\"position\""]);
    let table = place.run(&["status", "--socket", &place.text("a.sock")]);
    table.says(0, &["app.db", "fenced", "SealedByNewerEpoch", "other.db", "stored"]);
    assert_eq!(first.stop().0, Some(3));
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn whoever_asks_for_the_wrong_thing_learns_what_there_is() {
    let place = Place::new();
    sync(&place, &[]).says(5, &["no lifeboat process answers", "a.sock", "lifeboat replicate", "--socket"]);
    place.run(&["status", "--socket", &place.text("a.sock")]).says(5, &["no lifeboat process answers"]);
    let running = followed(&place, &[]);
    sync(&place, &["elsewhere.db"]).says(2, &["elsewhere.db is not followed", &place.text("app.db")]);
    place.run(&["replicate", &place.url("replica"), "app.db"]).says(2, &["the database comes first"]);
    sync(&place, &["--timeout", "soon"]).says(2, &["not a duration"]);
    sync(&place, &["--timeout", "25h"]).says(2, &["at most"]);
    assert_eq!(running.stop().0, Some(0));
    sync(&place, &[]).says(5, &["no lifeboat process answers"]);
}

#[test]
fn a_second_process_does_not_take_the_socket_of_the_first() {
    let place = Place::new();
    let running = followed(&place, &NEVER);
    place.open("other.db").execute_batch(TABLE).unwrap();
    let (other, url, socket) = (place.text("other.db"), place.url("other"), place.text("a.sock"));
    place
        .run(&["replicate", "--socket", &socket, &other, &url])
        .says(2, &["a.sock", "another process answers", "--socket"]);
    insert(&place, "app.db", 2);
    sync(&place, &[]).says(0, &["app.db"]);
    running.kill();
    let again = place.start(&["replicate", "--socket", &socket, &other, &url], "stored");
    sync(&place, &[]).says(0, &["other.db"]);
    assert_eq!(again.stop().0, Some(0));
}

/// Sends a request as text, and returns what comes back.
fn exchange(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_program_of_this_machine_may_demand_over_http_and_a_web_page_may_not() {
    let place = Place::new();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let running = followed(&place, &[&NEVER[..], &["--addr", &addr]].concat());
    let post = |name: &str, header: &str| {
        let name = name.replace('/', "%2F");
        let request = "Host: a\r\nConnection: close\r\nContent-Length: 0";
        exchange(
            &addr,
            &format!("POST /v1/databases/{name}/sync?timeout=30s HTTP/1.1\r\n{request}{header}\r\n\r\n"),
        )
    };
    insert(&place, "app.db", 2);
    let answer = post(&place.text("app.db"), "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"position\":{\"txid\""), "{answer}");
    assert_restores(&place);
    let answer = post("/elsewhere.db", "");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains(&place.text("app.db")), "{answer}");
    let answer = post(&place.text("app.db"), "\r\nOrigin: http://evil.example");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = exchange(&addr, "POST /v1/prestop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_budget_stretches_the_interval_up_to_the_lag_and_the_status_says_what_that_costs() {
    let place = Place::new();
    let limits = ["--sync-interval", "10ms", "--max-requests-per-day", "24", "--max-lag", "800ms"];
    let running = followed(&place, &limits);
    assert!(running.log().contains("108000 slots a day"), "{}", running.log());
    let is_over = AtomicBool::new(false);
    let cut = std::thread::scope(|scope| {
        scope.spawn(|| write_until(&is_over, &place, Duration::from_millis(5)));
        let _over = Over(&is_over);
        let status = || place.run(&["status", "--json", "--socket", &place.text("a.sock")]).stdout;
        eventually("the cost", || (!status().contains("\"requestsPerDay\":null")).then_some(()), status);
        let before = slots(&place);
        std::thread::sleep(Duration::from_millis(2_000));
        slots(&place) - before
    });
    assert!((1..=3).contains(&cut), "{cut} slots in two seconds");
    assert_eq!(running.stop().0, Some(0));
    assert_restores(&place);
}

#[test]
fn whoever_waits_when_the_process_is_told_to_stop_still_gets_an_answer() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url, socket) = (place.text("app.db"), "s3://lifeboat/app", place.text("a.sock"));
    let running = place.start_with(&["replicate", "--socket", &socket, &db, url], "stored txid", Some(&s3));
    s3.stop();
    insert(&place, "app.db", 2);
    running.wait_for("trying again");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sync(&place, &["--timeout", "50s"]));
        std::thread::sleep(Duration::from_millis(300));
        running.signal(rustix::process::Signal::TERM);
        running.wait_for("storing the last commits");
        s3.start_again();
        waiting.join().unwrap().says(0, &["is stored"]);
    });
    assert_eq!(running.ends().0.code(), Some(0));
}

#[test]
fn after_a_restart_a_demand_without_news_is_answered_with_the_position_and_stores_nothing() {
    let place = Place::new();
    let running = followed(&place, &NEVER);
    let position = |answer: Ran| {
        answer.says(0, &["position"]);
        serde_json::from_str::<serde_json::Value>(&answer.stdout).unwrap()["position"]["txid"].clone()
    };
    let before = position(sync(&place, &["--json"]));
    assert_eq!(running.stop().0, Some(0));
    let stored = slots(&place);
    let (db, url, socket) = (place.text("app.db"), place.url("replica"), place.text("a.sock"));
    let args = [&["replicate", "--socket", &socket], &NEVER[..], &[&db, &url]].concat();
    let again = place.start(&args, "following");
    let after = position(sync(&place, &["--json"]));
    // One slot more: the seal with which the new writer begins.
    assert!(slots(&place) <= stored + 1 && after.as_str() >= before.as_str(), "{before} {after}");
    insert(&place, "app.db", 2);
    sync(&place, &[]).says(0, &["is stored"]);
    assert_restores(&place);
    assert_eq!(again.stop().0, Some(0));
}

#[test]
fn databases_that_are_found_are_stored_on_demand_like_any_other() {
    let place = Place::new();
    std::fs::create_dir(place.path("tenants")).unwrap();
    let (pattern, url, socket) = (place.text("tenants/*.db"), place.url("replica"), place.text("a.sock"));
    let args = [&["replicate", "--socket", &socket], &NEVER[..], &[&pattern, &url]].concat();
    let running = place.start(&args, "0 databases found");
    sync(&place, &[]).says(5, &["follows no database yet"]);
    sync(&place, &["a.db"]).says(5, &["follows no database yet"]);
    for name in ["tenants/a.db", "tenants/b.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
        let status = || place.run(&["status", "--socket", &socket]).stdout;
        eventually("the database", || status().contains(&place.text(name)).then_some(()), status);
        insert(&place, name, 2);
    }
    sync(&place, &[]).says(0, &["tenants/a.db", "tenants/b.db"]);
    for name in ["a.db", "b.db"] {
        let out = place.text(&format!("out-{name}"));
        place.run(&["restore", "-o", &out, &format!("{url}/{name}")]).says(0, &["restored"]);
        assert_eq!(dump(out.as_ref()), dump(&place.path(&format!("tenants/{name}"))));
    }
    assert_eq!(running.stop().0, Some(0));
}
