//! The program as a daemon: its metrics, the application it runs, one round and out, and a config that changes under it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Place, Running, dump, eventually, lifeboat, s3::S3Server};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

fn get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn metrics(place: &Place) -> String {
    get(UnixStream::connect(place.path("a.sock")).unwrap(), "/metrics")
}

fn insert(place: &Place, name: &str, n: i64) {
    place.open(name).execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
}

fn rows(place: &Place, replica: &str) -> usize {
    let out = place.text("out.db");
    place.run(&["restore", "--force", "-o", &out, &place.url(replica)]).says(0, &[]);
    dump(Path::new(&out)).len()
}

/// Name and type of every metric of the page.
fn on_the_page() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| (name.to_owned(), rest.split(" |").next().unwrap().to_owned())).collect()
}

#[test]
fn every_metric_of_the_page_is_served_with_help_and_type_and_no_other_is() {
    let place = Place::new();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url, socket) = (place.text("app.db"), place.url("replica"), place.text("a.sock"));
    let running = place.start(&["replicate", "--addr", &addr, "--socket", &socket, &db, &url], "stored txid");
    let text = get(TcpStream::connect(&addr).unwrap(), "/metrics");
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeMap<_, _> = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    assert_eq!(served, on_the_page(), "docs/metrics.md and /metrics differ:\n{text}");
    for name in served.keys() {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    let wal = "lifeboat_wal_bytes{database=";
    let requests = "lifeboat_store_requests_total{operation=\"put_new\",outcome=\"ok\"}";
    let stored = format!("lifeboat_stored_slots_total{{database=\"{db}\"}} 1");
    for line in
        [wal, requests, &stored, "lifeboat_fenced", "process_cpu_seconds_total", "lifeboat_config_current 1"]
    {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
    assert!(metrics(&place).contains(&stored));
    // A histogram says how many took at most so long, and all of them at last.
    assert!(text.contains("le=\"1\"") && text.contains("le=\"+Inf\"") && !text.contains("e+308"), "{text}");
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn of_many_databases_metrics_are_of_all_of_them_together() {
    let place = Place::new();
    fs::create_dir(place.path("tenants")).unwrap();
    for n in 0..3 {
        place.open(&format!("tenants/{n}.db")).execute_batch(TABLE).unwrap();
    }
    let (pattern, url, socket) = (place.text("tenants/*.db"), place.url("replica"), place.text("a.sock"));
    let args = ["replicate", "--metrics-databases-max", "2", "--socket", &socket, &pattern, &url];
    let running = place.start(&args, "3 databases found");
    let all = || metrics(&place).contains("lifeboat_stored_slots_total 3").then_some(());
    eventually("three slots", all, || metrics(&place));
    assert!(!metrics(&place).contains("tenants"), "{}", metrics(&place));
    assert_eq!(running.stop().0, Some(0));
}

/// A shell script as one word of a command.
fn script(text: &str) -> String {
    format!("sh -c \"{text}\"")
}

#[test]
fn an_application_runs_while_it_is_replicated_and_its_last_commit_is_stored_before_we_end_with_its_code() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let wait =
        format!("echo begun > {0}/begun; until test -e {0}/go; do sleep 0.02; done; exit 7", place.text(""));
    let args = ["replicate", "-exec", &script(&wait), "--sync-interval", "1h", &db, &url];
    let running = place.start(&args, "following");
    eventually("the application", || place.path("begun").exists().then_some(()), || running.log());
    insert(&place, "app.db", 2);
    insert(&place, "app.db", 3);
    fs::write(place.path("go"), "").unwrap();
    let (status, log) = running.ends();
    assert_eq!(status.code(), Some(7), "{log}");
    assert_eq!(rows(&place, "replica"), 3);
}

#[test]
fn an_application_gets_the_signal_and_we_wait_for_it() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let trap = |signal: &str| {
        let (said, begun) = (place.text("said"), place.text("begun"));
        script(&format!(
            "trap 'sleep 0.3; echo {signal} > {said}; exit 3' {signal}; echo > {begun}; while :; do sleep 0.02; done"
        ))
    };
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT)] {
        let running =
            place.spawn(lifeboat(&["replicate", "--exec", &trap(name), &db, &url]).stdin(Stdio::null()));
        eventually("the application", || place.path("begun").exists().then_some(()), || running.log());
        running.signal(signal);
        let (status, log) = running.ends();
        assert_eq!(status.code(), Some(3), "{log}");
        assert_eq!(fs::read_to_string(place.path("said")).unwrap().trim(), name);
        fs::remove_file(place.path("begun")).unwrap();
    }
}

#[test]
fn an_application_that_nobody_stores_any_more_is_told_to_end() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let wait = script("trap 'exit 0' TERM; while :; do sleep 0.02; done");
    let first = place.start(&["replicate", "--exec", &wait, &db, &url], "starting sh");
    first.wait_for("stored txid");
    place.run(&["restore", "-o", &place.text("copy.db"), &url]).says(0, &[]);
    let second = place.start(&["replicate", &place.text("copy.db"), &url], "following");
    insert(&place, "app.db", 2);
    let (status, log) = first.ends();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("telling sh to end"), "{log}");
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn an_application_begins_only_when_its_databases_are_followed_and_never_when_one_is_refused() {
    let place = Place::new();
    for name in ["app.db", "tenants/a.db"] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        place.open(name).execute_batch(TABLE).unwrap();
    }
    for (db, head) in [("app.db", "one/lifeboat/head.json"), ("tenants/*.db", "two/a.db/lifeboat/head.json")]
    {
        let (db, url) = (place.text(db), place.url(head.split('/').next().unwrap()));
        let look = script(&format!("if test -e {}; then exit 0; else exit 9; fi", place.text(head)));
        place.run(&["replicate", "--exec", &look, &db, &url]).says(0, &["starting sh", "1 database stored"]);
    }
    // The database of another replica is refused; the second one alone is no reason to begin.
    place.open("other.db").execute_batch("CREATE TABLE u (n); INSERT INTO u VALUES (9);").unwrap();
    let (app, other) = (place.text("app.db"), place.text("other.db"));
    let dbs = format!(
        "dbs:\n- {{path: {other}, replica: {{url: '{}'}}}}\n- {{path: {app}, replica: {{url: '{}'}}}}\n",
        place.url("one"),
        place.url("three")
    );
    fs::write(place.path("c.yml"), dbs).unwrap();
    let touch = script(&format!("echo > {}", place.text("begun")));
    let refused = place.run(&["replicate", "--exec", &touch, "--config", &place.text("c.yml")]);
    refused.says(4, &["sh is not started", &other, "not a continuation"]);
    assert!(!place.path("begun").exists());
}

#[test]
fn a_command_that_cannot_run_is_said_and_ends_us() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    place.run(&["replicate", "--exec", "/nowhere/shop", &db, &url]).says(2, &["exec: /nowhere/shop"]);
    place.run(&["replicate", "--exec", "shop 'open", &db, &url]).says(2, &["quotation mark"]);
    place.run(&["replicate", "--exec", "shop", "--once", &db, &url]).says(2, &["cannot be used with"]);
}

#[test]
fn once_stores_what_is_committed_and_ends() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    for n in 2..4 {
        insert(&place, "app.db", n);
        place
            .run(&["replicate", "-once", "--sync-interval", "1h", &db, &url])
            .says(0, &["1 database stored"]);
        assert_eq!(rows(&place, "replica"), usize::try_from(n).unwrap());
    }
    let absent = place.text("absent.db");
    place
        .run(&["replicate", "--once", &absent, &place.url("other")])
        .says(4, &[&absent, "no database to store"]);
    fs::create_dir(place.path("tenants")).unwrap();
    for n in 0..3 {
        place.open(&format!("tenants/{n}.db")).execute_batch(TABLE).unwrap();
    }
    let tenants = [&place.text("tenants/*.db"), &place.url("replica-tenants")];
    place.run(&["replicate", "--once", tenants[0], tenants[1]]).says(0, &["3 databases stored"]);
    assert_eq!(rows(&place, "replica-tenants/2.db"), 1);
}

/// A config file of databases with their other keys, each with a replica of its own.
fn configure(place: &Place, top: &str, databases: &[(&str, &str)]) {
    let mut text = format!("{top}\ndbs:\n");
    for (name, keys) in databases {
        let (path, url) = (place.text(name), place.url(&format!("replica-{name}")));
        text += &format!("- {{name: {name}, path: {path}, replica: {{url: '{url}'}}{keys}}}\n");
    }
    fs::write(place.path("c.yml"), text).unwrap();
}

fn status(place: &Place) -> Value {
    let ran = place.run(&["status", "--json", "--socket", &place.text("a.sock")]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

/// The epoch in which a database is written, if it is followed.
fn epoch(place: &Place, name: &str) -> Option<u64> {
    let status = status(place);
    let databases = status["databases"].as_array().unwrap();
    databases.iter().find(|database| database["name"] == name)?["epoch"].as_u64()
}

fn daemon(place: &Place) -> Running {
    let running = place.start(
        &["replicate", "--config", &place.text("c.yml"), "--socket", &place.text("a.sock")],
        "following",
    );
    eventually("the socket", || place.path("a.sock").exists().then_some(()), || running.log());
    running
}

#[test]
fn a_changed_config_is_taken_over_and_who_did_not_change_notices_nothing() {
    let place = Place::new();
    for name in ["a.db", "b.db", "c.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
    }
    configure(&place, "", &[("a.db", ""), ("b.db", "")]);
    let running = daemon(&place);
    let wait_for = |what: &str, name: &str, wanted: Option<u64>| {
        eventually(what, || (epoch(&place, name) == wanted).then_some(()), || running.log());
    };
    wait_for("a", "a.db", Some(1));
    wait_for("b", "b.db", Some(1));
    // One goes, with its last commit; one comes. Nobody sends a signal.
    insert(&place, "b.db", 2);
    configure(&place, "", &[("a.db", ""), ("c.db", "")]);
    wait_for("c", "c.db", Some(1));
    assert_eq!((epoch(&place, "a.db"), epoch(&place, "b.db")), (Some(1), None));
    assert_eq!(rows(&place, "replica-b.db"), 2);
    // The rhythm of one changes: it alone begins anew.
    configure(&place, "", &[("a.db", ""), ("c.db", ", sync-interval: 2s")]);
    running.signal(Signal::HUP);
    wait_for("c again", "c.db", Some(2));
    assert_eq!(epoch(&place, "a.db"), Some(1));
    // The one that went comes back, and goes on where it was.
    configure(&place, "", &[("a.db", ""), ("b.db", ""), ("c.db", ", sync-interval: 2s")]);
    wait_for("b again", "b.db", Some(2));
    insert(&place, "b.db", 3);
    // The signal may come before the change is seen, together with it, or after it.
    let told = metrics(&place);
    let is_taken =
        |times: u32| told.contains(&format!("lifeboat_config_reloads_total{{outcome=\"taken\"}} {times}\n"));
    assert!(is_taken(3) || is_taken(4), "{told}");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("3 databases stored to the last commit"), "{log}");
    assert_eq!((rows(&place, "replica-a.db"), rows(&place, "replica-b.db")), (1, 3));
}

#[test]
fn whoever_asks_finds_the_socket_of_the_config() {
    let place = Place::new();
    place.open("a.db").execute_batch(TABLE).unwrap();
    configure(&place, &format!("socket: {}", place.text("b.sock")), &[("a.db", "")]);
    let config = place.text("c.yml");
    let without = |args: &[&str]| {
        let mut command = lifeboat(args);
        command.env_remove("LIFEBOAT_SOCKET").env("LIFEBOAT_CONFIG", &config);
        command
    };
    let running = place.spawn(&mut without(&["replicate"]));
    running.wait_for("stored txid");
    for args in
        [&["sync"][..], &["sync", "-wait", "-timeout", "30", "a.db"], &["status", "-config", &config, "a.db"]]
    {
        support::Ran::new(&without(args).output().unwrap()).says(0, &["a.db"]);
    }
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_broken_config_is_said_everywhere_and_the_one_before_stays_in_use() {
    let place = Place::new();
    for name in ["a.db", "b.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
    }
    configure(&place, "", &[("a.db", "")]);
    let running = daemon(&place);
    configure(&place, "adress: x", &[("b.db", "")]);
    running.wait_for("the one before stays in use");
    let said = status(&place)["configError"].as_str().unwrap().to_owned();
    assert!(said.contains("line 1") && said.contains("did you mean 'addr'?"), "{said}");
    let table = place.run(&["status", "--socket", &place.text("a.sock")]);
    table.says(0, &["a.db", "the config before its last change is in use", "adress"]);
    let text = metrics(&place);
    assert!(text.contains("lifeboat_config_current 0") && text.contains("outcome=\"refused\"} 1"), "{text}");
    insert(&place, "a.db", 2);
    place.run(&["sync", "--socket", &place.text("a.sock"), "a.db"]).says(0, &["is stored"]);
    assert_eq!(rows(&place, "replica-a.db"), 2);
    // A file without a database would end all replication: that is not taken over either.
    fs::write(place.path("c.yml"), "").unwrap();
    running.wait_for("no databases");
    configure(&place, "", &[("a.db", ""), ("b.db", "")]);
    eventually("b", || epoch(&place, "b.db"), || running.log());
    assert!(status(&place)["configError"].is_null());
    assert_eq!(epoch(&place, "a.db"), Some(1));
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_changed_config_that_leaves_nothing_to_follow_ends_with_what_is_wrong() {
    let place = Place::new();
    place.open("a.db").execute_batch(TABLE).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    configure(&place, "", &[("a.db", "")]);
    let running = daemon(&place);
    running.wait_for("stored txid");
    let (dir, url) = (place.text("empty"), place.url("replica"));
    let empty =
        format!("dbs: [{{dir: '{dir}', pattern: '*.db', watch: false, replica: {{url: '{url}'}}}}]\n");
    fs::write(place.path("c.yml"), empty).unwrap();
    let (status, log) = running.ends();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("no databases"), "{log}");
    assert_eq!(rows(&place, "replica-a.db"), 1);
}

#[test]
fn one_second_name_in_a_changed_config_keeps_no_other_database_from_being_followed() {
    let place = Place::new();
    fs::create_dir(place.path("tenants")).unwrap();
    for name in ["tenants/a.db", "other.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
    }
    std::os::unix::fs::symlink(place.path("tenants/a.db"), place.path("link.db")).unwrap();
    let (dir, url) = (place.text("tenants"), place.url("tenants-replica"));
    let folder = format!("- {{dir: '{dir}', pattern: '*.db', replica: {{url: '{url}'}}}}\n");
    fs::write(place.path("c.yml"), format!("dbs:\n{folder}")).unwrap();
    let running = daemon(&place);
    running.wait_for("stored txid");
    configure(&place, "", &[("link.db", ""), ("other.db", "")]);
    let named = fs::read_to_string(place.path("c.yml")).unwrap();
    fs::write(place.path("c.yml"), named + &folder).unwrap();
    eventually("the other one", || epoch(&place, "other.db"), || running.log());
    let said = status(&place)["configError"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("link.db") && said.contains("second name"), "{said}{}", running.log());
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_stop_during_a_change_of_the_config_still_stores_everything() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    for name in ["a.db", "b.db"] {
        place.open(name).execute_batch(TABLE).unwrap();
    }
    let config = |name: &str| {
        let (path, endpoint) = (place.text(name), s3.endpoint());
        let replica = format!("{{url: 's3://lifeboat/{name}', endpoint: '{endpoint}'}}");
        fs::write(place.path("c.yml"), format!("dbs: [{{path: {path}, replica: {replica}}}]\n")).unwrap();
    };
    config("a.db");
    let args = ["replicate", "--config", &place.text("c.yml"), "--flush-timeout", "20s"];
    let running = place.spawn(lifeboat(&args).envs(s3.credentials()));
    running.wait_for("stored txid");
    config("b.db");
    s3.stop();
    insert(&place, "a.db", 2);
    running.wait_for("the config has changed");
    running.signal(Signal::TERM);
    running.wait_for("SIGTERM");
    s3.start_again();
    let (status, log) = running.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    let out = place.text("out.db");
    place.run_with(&["restore", "-o", &out, "s3://lifeboat/a.db"], Some(&s3)).says(0, &[]);
    assert_eq!(dump(Path::new(&out)).len(), 2);
}

#[test]
fn folders_of_a_changed_config_are_looked_into_and_those_that_are_gone_are_left() {
    let place = Place::new();
    for name in ["one/a.db", "two/b.db"] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        place.open(name).execute_batch(TABLE).unwrap();
    }
    let folder = |name: &str| {
        let (path, url) = (place.text(&format!("{name}/*.db")), place.url(&format!("replica-{name}")));
        fs::write(place.path("c.yml"), format!("dbs: [{{path: '{path}', replica: {{url: '{url}'}}}}]\n"))
            .unwrap();
    };
    folder("one");
    let running = daemon(&place);
    let (a, b) = (place.text("one/a.db"), place.text("two/b.db"));
    eventually("a", || epoch(&place, &a), || running.log());
    insert(&place, "one/a.db", 2);
    folder("two");
    eventually("b", || epoch(&place, &b), || running.log());
    assert_eq!(epoch(&place, &a), None);
    assert_eq!(rows(&place, "replica-one/a.db"), 2);
    place.open("two/later.db").execute_batch(TABLE).unwrap();
    let later = place.text("two/later.db");
    eventually("one that comes later", || epoch(&place, &later), || running.log());
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn who_cannot_store_the_last_commits_in_time_says_which_and_ends_with_5() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), "s3://lifeboat/app");
    let running =
        place.start_with(&["replicate", "--flush-timeout", "700ms", &db, url], "stored txid", Some(&s3));
    s3.stop();
    insert(&place, "app.db", 2);
    running.wait_for("trying again");
    let (code, log) = running.stop();
    assert_eq!(code, Some(5), "{log}");
    assert!(
        log.contains(&format!("the last commits of {db} (")) && log.contains("only in the local database"),
        "{log}"
    );
}

#[test]
fn whoever_read_the_log_may_go_away_and_replication_goes_on() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let mut command = lifeboat(&["--log-level", "debug", "replicate", &db, &url]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("stored txid")));
    drop(log);
    let slots = || fs::read_dir(place.path("replica/ltx/0")).unwrap().count();
    for n in 2..5 {
        let before = slots();
        insert(&place, "app.db", n);
        eventually("another slot", || (slots() > before).then_some(()), String::new);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = eventually("the end", || child.try_wait().unwrap(), String::new);
    assert_eq!(status.code(), Some(0));
    assert_eq!(rows(&place, "replica"), 4);
}
