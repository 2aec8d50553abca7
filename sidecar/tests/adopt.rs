//! Litestream's replicas become ours, and ours Litestream's, with the real program on the other side.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Place, Ran, Running, dump, eventually, litestream};

/// A database of some hundred pages, and what a restore must give.
fn create(place: &Place) {
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)").unwrap();
    for _ in 0..100 {
        app.execute("INSERT INTO t (x) VALUES (randomblob(4000))", []).unwrap();
    }
}

fn insert(place: &Place) {
    place.open("app.db").execute("INSERT INTO t (x) VALUES ('one more')", []).unwrap();
}

/// Lets the real Litestream work until it has stored everything, and stops it.
fn let_litestream_work(place: &Place, url: &str) {
    let running = place.spawn(&mut litestream(&["replicate", &place.text("app.db"), url], None));
    insert(place);
    eventually(
        "litestream to have stored everything",
        || (litestream_restores(place, url) == Some(dump(&place.path("app.db")))).then_some(()),
        || running.log(),
    );
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn litestream_restores(place: &Place, url: &str) -> Option<Vec<String>> {
    restored(place, &mut litestream(&["restore", "-o", &place.text("out.db"), url], None))
}

fn we_restore(place: &Place, url: &str) -> Option<Vec<String>> {
    restored(place, &mut support::lifeboat(&["restore", "-o", &place.text("out.db"), url]))
}

/// Litestream adds tables of its own to the database, which change whenever it likes; only the application's count.
fn restored(place: &Place, command: &mut Command) -> Option<Vec<String>> {
    let _ = std::fs::remove_file(place.path("out.db"));
    command.output().unwrap().status.success().then(|| dump(&place.path("out.db")))
}

fn replicate(place: &Place, url: &str) -> Running {
    place.start(&["replicate", "--adopt", "--sync-interval", "50ms", &place.text("app.db"), url], "following")
}

/// The bytes of everything below the replica.
fn stored_bytes(place: &Place) -> u64 {
    let files = walkdir::WalkDir::new(place.path("replica")).into_iter().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|found| found.len())
        .sum()
}

#[test]
fn what_litestream_has_written_is_continued_and_only_pages_that_differ_are_sent() {
    let place = Place::new();
    let url = place.url("replica");
    create(&place);
    let_litestream_work(&place, &url);
    insert(&place);
    let before = stored_bytes(&place);
    let running = replicate(&place, &url);
    running.wait_for("is continued from txid");
    running.wait_for("stored txid");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    let sent = stored_bytes(&place) - before;
    assert!(sent < 40_000, "{sent} bytes were sent: {log}");
    let expected = Some(dump(&place.path("app.db")));
    assert_eq!(we_restore(&place, &url), expected);
    assert_eq!(litestream_restores(&place, &url), expected);
    // From now on it is a replica like every other.
    let running = place.start(&["replicate", &place.text("app.db"), &url], "following");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("another program"), "{log}");
}

#[test]
fn a_database_that_is_equal_sends_no_page() {
    let place = Place::new();
    let url = place.url("replica");
    create(&place);
    let_litestream_work(&place, &url);
    let (code, log) = replicate(&place, &url).stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("stored txid"), "{log}");
    assert_eq!(we_restore(&place, &url), Some(dump(&place.path("app.db"))));
}

#[test]
fn litestream_takes_over_a_replica_that_was_closed_and_gives_it_back() {
    let place = Place::new();
    let url = place.url("replica");
    create(&place);
    let (code, log) = replicate(&place, &url).stop();
    assert_eq!(code, Some(0), "{log}");
    let_litestream_work(&place, &url);
    assert_eq!(we_restore(&place, &url), Some(dump(&place.path("app.db"))));
    let refused = place.run(&["replicate", &place.text("app.db"), &url]);
    refused.says(4, &["not written by lifeboat", "--adopt"]);
    insert(&place);
    let running = replicate(&place, &url);
    running.wait_for("stored txid");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    let expected = Some(dump(&place.path("app.db")));
    assert_eq!(we_restore(&place, &url), expected);
    assert_eq!(litestream_restores(&place, &url), expected);
}

#[test]
fn a_copy_of_our_prefix_is_all_that_litestream_needs() {
    let place = Place::new();
    let url = place.url("replica");
    create(&place);
    let (code, log) = replicate(&place, &url).stop();
    assert_eq!(code, Some(0), "{log}");
    let copied =
        Command::new("cp").args(["-r", &place.text("replica"), &place.text("export")]).output().unwrap();
    Ran::new(&copied).says(0, &[]);
    assert_eq!(litestream_restores(&place, &place.url("export")), Some(dump(&place.path("app.db"))));
}

#[test]
fn without_a_local_database_nothing_is_adopted() {
    let place = Place::new();
    let url = place.url("replica");
    create(&place);
    let_litestream_work(&place, &url);
    let elsewhere = place.text("elsewhere.db");
    place.run(&["replicate", "--adopt", &elsewhere, &url]).says(4, &["continues nothing", "restore it"]);
    assert!(!Path::new(&place.path("replica/lifeboat/head.json")).exists());
}
