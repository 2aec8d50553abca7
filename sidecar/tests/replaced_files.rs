//! The path of a database leads to another file while it is followed: the new one is found, whatever else is under way.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use rusqlite::Connection;
use support::s3::S3Server;
use support::{Place, Running, dump, eventually};

const TABLE: &str = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY); INSERT INTO t DEFAULT VALUES;";

/// Waits until a restored copy has this many rows.
#[track_caller]
fn wait_for_rows(place: &Place, url: &str, s3: Option<&S3Server>, rows: usize, running: &Running) {
    let copy = place.text("copy.db");
    eventually(
        "the rows to be stored",
        || {
            let _ = place.run_with(&["restore", "--force", "-o", &copy, url], s3);
            let found = if place.path("copy.db").exists() { dump(&place.path("copy.db")).len() } else { 0 };
            (found == rows).then_some(())
        },
        || running.log(),
    );
}

#[test]
fn a_link_that_leads_to_another_file_is_followed_there() {
    let place = Place::new();
    for version in ["v1", "v2"] {
        fs::create_dir(place.path(version)).unwrap();
    }
    symlink("v1", place.path("current")).unwrap();
    place.open("v1/app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let args = ["replicate", &place.text("current/app.db"), &url, "--sync-interval", "50ms"];
    let running = place.start(&args, "stored txid");
    // The next version begins as a copy, as a release by symbolic link does.
    fs::copy(place.path("v1/app.db"), place.path("v2/app.db")).unwrap();
    symlink("v2", place.path("next")).unwrap();
    fs::rename(place.path("next"), place.path("current")).unwrap();
    running.wait_for("replaced by another");
}

#[test]
fn a_file_that_is_replaced_while_its_slot_is_on_the_way_is_looked_at_anew() {
    let (place, s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = "s3://lifeboat/replaced";
    let args = ["replicate", &place.text("app.db"), url, "--sync-interval", "50ms"];
    let running = place.start_with(&args, "stored txid", Some(&s3));
    s3.freeze();
    place.open("app.db").execute_batch(TABLE).unwrap();
    // Long enough for the slot to be on its way: without that the test proves less, but does not fail.
    std::thread::sleep(std::time::Duration::from_millis(500));
    Connection::open(place.path("app.db"))
        .unwrap()
        .execute("VACUUM INTO ?1", [place.text("new.db")])
        .unwrap();
    for gone in ["app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(place.path(gone));
    }
    fs::rename(place.path("new.db"), place.path("app.db")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    s3.thaw();
    running.wait_for("replaced by another");
    eventually(
        "a word on the new file",
        || {
            let log = running.log();
            (log.matches("following").count() > 1 || log.contains("not a continuation")).then_some(())
        },
        || running.log(),
    );
    assert!(!running.log().contains("BUG"), "{}", running.log());
    wait_for_rows(&place, url, Some(&s3), 2, &running);
}

#[test]
fn while_the_bucket_keeps_a_follower_from_beginning_anew_the_database_lags() {
    let (place, mut s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, socket, url) = (place.text("app.db"), place.text("socket"), "s3://lifeboat/lags");
    let running = place.start_with(&["replicate", "--socket", &socket, &db, url], "stored txid", Some(&s3));
    let status = || {
        let ran = place.run(&["status", "--json", "--socket", &socket]);
        let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        status["databases"][0].clone()
    };
    let stored = || (status()["lagSeconds"] == 0.0).then_some(());
    eventually("all to be stored", stored, || running.log());
    s3.stop();
    let copied = || {
        let pragma = "PRAGMA wal_checkpoint(PASSIVE)";
        let rest = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
        (place.open("app.db").query_row(pragma, [], rest).unwrap() == 0).then_some(())
    };
    eventually("the file to hold everything", copied, || running.log());
    fs::copy(place.path("app.db"), place.path("new.db")).unwrap();
    for gone in ["app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(place.path(gone));
    }
    fs::rename(place.path("new.db"), place.path("app.db")).unwrap();
    running.wait_for("replaced by another");
    let lags = || {
        let status = status();
        (status["lagSeconds"].as_f64()? > 1.0 && status["unreplicatedBytes"].is_null()).then_some(())
    };
    eventually("a lag that grows", lags, || format!("{}{}", status(), running.log()));
    s3.start_again();
    let is_over = || (status()["lagSeconds"] == 0.0).then_some(());
    eventually("the lag to be over", is_over, || format!("{}{}", status(), running.log()));
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_backup_copied_over_the_database_is_what_the_bucket_holds_from_then_on() {
    let place = Place::new();
    for (name, first) in [("app.db", 1000), ("backup.db", 2000)] {
        let app = place.open(name);
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n, noise); CREATE TABLE u (n);")
            .unwrap();
        for n in 0..300 {
            app.execute("INSERT INTO t VALUES (?1, hex(zeroblob(40)))", [first + n]).unwrap();
        }
    }
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let args = ["replicate", &db, &url, "--sync-interval", "50ms"];
    let running = place.start(&args, "stored txid");
    // Long enough for the WAL to be settled: what is copied before that is no part of this.
    std::thread::sleep(std::time::Duration::from_secs(1));
    fs::copy(place.path("backup.db"), place.path("app.db")).unwrap();
    let app = place.open("app.db");
    app.execute("INSERT INTO u VALUES (1)", []).unwrap();
    let expected = dump(&place.path("app.db"));
    let wait_for_copy = |running: &Running| {
        let copy = place.text("copy.db");
        eventually(
            "the bucket to hold what the file does",
            || {
                let _ = place.run(&["restore", "--force", "-o", &copy, &url]);
                (place.path("copy.db").exists() && dump(&place.path("copy.db")) == expected).then_some(())
            },
            || running.log(),
        );
    };
    wait_for_copy(&running);
    assert!(running.log().contains("another program wrote"), "{}", running.log());
    running.kill();
    let running = place.start(&args, "following");
    wait_for_copy(&running);
}
