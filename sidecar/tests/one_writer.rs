//! One replica has one writer, and a database is never taken for another.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use support::proxy::{Proxy, Refusal};
use support::{Place, dump, eventually, s3::S3Server};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

fn insert(place: &Place, name: &str, n: i64) {
    place.open(name).execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
}

#[track_caller]
fn assert_restores(place: &Place, url: &str, name: &str) {
    let out = place.text("restored.db");
    place.run(&["restore", "--force", "-o", &out, url]).says(0, &["restored"]);
    assert_eq!(dump(&place.path("restored.db")), dump(&place.path(name)));
}

#[test]
fn a_second_process_on_the_same_database_waits_and_is_refused() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let first = place.start(&["replicate", &db, &url], "stored txid");
    place
        .run(&["replicate", "--handover-timeout", "300ms", &db, &url])
        .says(4, &["another lifeboat process"]);
    assert_eq!(first.stop().0, Some(0));
}

#[test]
fn the_writer_that_was_overtaken_stops_for_good_with_code_3_and_says_so() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let first = place.start(&["replicate", &db, &url], "stored txid");
    // The same database, as another machine would have it after a restore.
    place.run(&["restore", "-o", &place.text("copy.db"), &url]).says(0, &[]);
    let second = place.start(&["replicate", &place.text("copy.db"), &url], "following");
    insert(&place, "app.db", 2);
    let (status, log) = first.ends();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("another writer"), "{log}");
    insert(&place, "copy.db", 3);
    assert_eq!(second.stop().0, Some(0));
    assert_restores(&place, &url, "copy.db");
}

#[test]
fn a_killed_process_goes_on_after_commits_that_nobody_saw() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    for round in 0..4 {
        let running = place.start(&["replicate", &db, &url], "following");
        insert(&place, "app.db", 10 + 2 * round);
        running.kill();
        insert(&place, "app.db", 11 + 2 * round);
    }
    let last = place.start(&["replicate", &db, &url], "following");
    assert_eq!(last.stop().0, Some(0));
    assert_restores(&place, &url, "app.db");
}

/// Two pages that change in the same way: a rolling checksum made of CRCs does not tell.
const ALIKE: &str = "INSERT INTO a VALUES (7); INSERT INTO b VALUES (7);";

/// A database with two tables of one shape, and its replica, which nobody writes any more.
fn place_with_twins() -> (Place, String) {
    let (place, twins) = (Place::new(), "PRAGMA journal_mode = WAL; CREATE TABLE a (n); CREATE TABLE b (n);");
    place.open("app.db").execute_batch(twins).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    assert_eq!(running.stop().0, Some(0));
    (place, url)
}

#[test]
fn pages_that_changed_alike_while_nobody_followed_are_stored() {
    let (place, url) = place_with_twins();
    place.open("app.db").execute_batch(ALIKE).unwrap();
    assert_eq!(place.start(&["replicate", &place.text("app.db"), &url], "following").stop().0, Some(0));
    assert_restores(&place, &url, "app.db");
}

#[test]
fn pages_of_a_restored_copy_that_changed_alike_are_stored() {
    let (place, url) = place_with_twins();
    let copy = place.text("copy.db");
    place.run(&["restore", "-o", &copy, &url]).says(0, &[]);
    place.open("copy.db").execute_batch(&format!("PRAGMA journal_mode = WAL; {ALIKE}")).unwrap();
    assert_eq!(place.start(&["replicate", &copy, &url], "following").stop().0, Some(0));
    assert_restores(&place, &url, "copy.db");
}

#[test]
fn without_our_notes_pages_that_changed_alike_are_not_taken_for_what_is_stored() {
    let (place, url) = place_with_twins();
    place.open("app.db").execute_batch(ALIKE).unwrap();
    std::fs::remove_dir_all(place.path(".app.db-lifeboat")).unwrap();
    place.run(&["replicate", &place.text("app.db"), &url]).says(4, &["not a continuation"]);
}

#[test]
fn another_database_is_not_uploaded_over_what_is_stored() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    assert_eq!(running.stop().0, Some(0));
    let before = std::fs::read(place.path("replica/lifeboat/head.json")).unwrap();
    place.open("other.db").execute_batch("CREATE TABLE other (n);").unwrap();
    let refused = place.run(&["replicate", &place.text("other.db"), &url]);
    refused.says(4, &["not a continuation", "(1)", "(2)", "(3)"]);
    assert_eq!(
        std::fs::read(place.path("replica/lifeboat/head.json")).unwrap(),
        before,
        "the claim came too early"
    );
}

#[test]
fn a_new_database_under_the_old_name_is_not_taken_for_the_old_one() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let running = place.start(&["replicate", &db, &url], "stored txid");
    assert_eq!(running.stop().0, Some(0));
    for file in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = std::fs::remove_file(place.path(file));
    }
    place.open("app.db").execute_batch("CREATE TABLE fresh (n);").unwrap();
    place.run(&["replicate", &db, &url]).says(4, &["not a continuation"]);
}

#[test]
fn an_older_copy_is_sent_to_restore_first() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let running = place.start(&["replicate", &db, &url], "stored txid");
    assert_eq!(running.stop().0, Some(0));
    place.run(&["restore", "-o", &place.text("copy.db"), &url]).says(0, &[]);
    let running = place.start(&["replicate", &place.text("copy.db"), &url], "following");
    insert(&place, "copy.db", 7);
    assert_eq!(running.stop().0, Some(0));
    place.run(&["replicate", &db, &url]).says(4, &["older state", "restore"]);
}

#[test]
fn an_isolated_commit_is_stored_within_a_second() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let _running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    insert(&place, "app.db", 2);
    let begun = std::time::Instant::now();
    let slot = place.path("replica/ltx/0/0000000000000002-0000000000000002.ltx");
    eventually("the slot", || slot.exists().then_some(()), String::new);
    println!("stored after {:?}", begun.elapsed());
}

#[test]
fn a_database_that_does_not_exist_yet_is_waited_for() {
    let place = Place::new();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "does not exist yet");
    place.open("app.db").execute_batch(TABLE).unwrap();
    running.wait_for("stored txid 0000000000000001");
    assert_eq!(running.stop().0, Some(0));
    assert_restores(&place, &url, "app.db");
}

#[test]
fn waiting_for_a_database_ends_at_once_when_told() {
    let place = Place::new();
    let running =
        place.start(&["replicate", &place.text("app.db"), &place.url("replica")], "does not exist yet");
    running.signal(Signal::INT);
    running.ends();
    assert!(!place.path("app.db").exists());
}

#[test]
fn the_store_going_away_stops_nothing_and_loses_nothing() {
    let place = Place::new();
    let mut s3 = S3Server::start();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), "s3://lifeboat/app");
    let running =
        place.start_with(&["replicate", "--sync-interval", "50ms", &db, url], "stored txid", Some(&s3));
    s3.stop();
    for n in 2..40 {
        insert(&place, "app.db", n);
    }
    running.wait_for("trying again");
    s3.start_again();
    assert_eq!(running.stop().0, Some(0));
    let out = place.text("out.db");
    place.run_with(&["restore", "-o", &out, url], Some(&s3)).says(0, &["restored"]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn an_application_that_never_pauses_does_not_keep_the_process_from_ending() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    let is_over = Arc::new(AtomicBool::new(false));
    let (app, flag) = (place.open("app.db"), Arc::clone(&is_over));
    let writer = std::thread::spawn(move || {
        for n in 2.. {
            app.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
            if flag.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let newest =
        |name| place.open(name).query_row("SELECT max(n) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = newest("app.db");
    let (code, log) = running.stop();
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(code, Some(0), "{log}");
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(0, &[]);
    assert!(newest("out.db") >= before, "not every one of {before} rows is stored");
}

#[test]
fn nothing_is_added_to_the_applications_database() {
    let place = Place::new();
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode = WAL;").unwrap();
    app.execute_batch(TABLE).unwrap();
    let version =
        |name: &str| app.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    let before = (version("data_version"), version("schema_version"), version("user_version"));
    let running = place.start(&["replicate", &place.text("app.db"), &place.url("replica")], "stored txid");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tables: i64 = app.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(
        (tables, (version("data_version"), version("schema_version"), version("user_version"))),
        (1, before)
    );
    assert_eq!(running.stop().0, Some(0));
}

/// What is at a path with its WAL, to be put back later in place, as a storage system sets a volume back.
fn volume(place: &Place, names: &[&str]) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    names
        .iter()
        .map(|name| place.path(name))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_volume_that_was_set_back_does_not_set_the_bucket_back() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let running = place.start(&["replicate", "--sync-interval", "20ms", &db, &url], "stored txid");
    let earlier = volume(&place, &["app.db", "app.db-wal", ".app.db-lifeboat/record.json"]);
    for n in 2..8 {
        insert(&place, "app.db", n);
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    let slots = || std::fs::read_dir(place.path("replica/ltx/0")).unwrap().count();
    eventually("some slots", || (slots() >= 4).then_some(()), || running.log());
    running.kill();
    let _ = std::fs::remove_file(place.path("app.db-shm"));
    for (path, bytes) in earlier {
        std::fs::write(path, bytes).unwrap();
    }
    let refused = place.run(&["replicate", &db, &url]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(0, &[]);
    assert!(dump(&place.path("out.db")).len() >= 4, "acknowledged rows are gone");
}

#[test]
fn a_file_that_replaces_the_database_is_noticed_although_its_application_never_pauses() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let running = place.start(&["replicate", &db, &url], "stored txid");
    place.open("new.db").execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE fresh (n);").unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("app.db{suffix}")));
    }
    std::fs::rename(place.path("new.db"), place.path("app.db")).unwrap();
    let (is_over, app) = (Arc::new(AtomicBool::new(false)), place.open("app.db"));
    let flag = Arc::clone(&is_over);
    let writer = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            app.execute("INSERT INTO fresh VALUES (1)", []).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let (status, log) = running.ends();
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("was replaced") && log.contains("not a continuation"), "{log}");
    place.run(&["replicate", &db, &url]).says(4, &["not a continuation"]);
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(0, &[]);
    assert_eq!(dump(&place.path("out.db")), ["t: Integer(1)"]);
}

#[test]
fn a_database_that_is_followed_is_not_restored_over() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let running = place.start(&["replicate", &db, &url], "stored txid");
    place.run(&["restore", "--force", "-o", &db, &url]).says(4, &["another lifeboat process"]);
    assert_eq!(running.stop().0, Some(0));
    place.run(&["restore", "--force", "-o", &db, &url]).says(0, &["restored"]);
}

#[test]
fn two_signals_for_one_stop_do_not_cut_the_last_commits_off() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    insert(&place, "app.db", 2);
    running.signal(Signal::INT);
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_restores(&place, &url, "app.db");
}

/// Trap 21.
#[test]
fn a_bucket_that_cannot_be_read_or_is_mistyped_is_not_a_new_replica() {
    let (place, s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let db = place.text("app.db");
    let mistyped = ["replicate", "--once", &db, "s3://mistyped/app"];
    let (ended, log) = place.spawn(&mut support::lifeboat_with(&mistyped, Some(&s3))).ends();
    assert_eq!(ended.code(), Some(4), "{log}");
    assert!(log.contains("no bucket"), "{log}");
    let road = Proxy::start(s3.port());
    road.refuse(Refusal { method: "GET", part: "/lifeboat/head.json", status: 503 });
    let args = ["replicate", &db, "s3://lifeboat/app", "--endpoint", &road.endpoint()];
    let running = place.spawn(support::lifeboat(&args).envs(s3.credentials()));
    running.wait_for("trying again");
    let created: Vec<_> = road.take_seen().into_iter().filter(|seen| seen.starts_with("PUT")).collect();
    assert_eq!(created, Vec::<String>::new(), "{}", running.log());
    road.refuse(Refusal { method: "GET", part: "/no-such-thing/", status: 503 });
    running.wait_for("following");
    assert_eq!(running.stop().0, Some(0));
}
