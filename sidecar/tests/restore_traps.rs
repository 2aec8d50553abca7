//! The traps of restoring, each one a way in which some system lost data silently.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use support::{Place, dump, s3::S3Server};

const TABLE: &str =
    "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

/// A replica of a database with one row.
fn replica(place: &Place) -> String {
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored");
    assert_eq!(running.stop().0, Some(0));
    url
}

#[test]
fn a_wal_that_an_application_left_at_the_target_is_not_played_into_the_restored_file() {
    let place = Place::new();
    let url = replica(&place);
    // The application of the old file was killed: its last commits are in the WAL only.
    let old = place.open("old.db");
    let more = "WITH RECURSIVE c(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM c WHERE n < 99) INSERT INTO t SELECT n FROM c";
    old.execute_batch(&format!("{TABLE} {more}")).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(place.path(&format!("old.db{suffix}")), place.path(&format!("out.db{suffix}")))
            .unwrap();
    }
    place.run(&["restore", "--force", "-o", &place.text("out.db"), &url]).says(0, &["restored"]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn a_bucket_that_cannot_be_read_is_not_one_that_holds_nothing() {
    let place = Place::new();
    let mut s3 = S3Server::start();
    s3.stop();
    let args =
        ["restore", "--if-replica-exists", "--wait", "1s", "-o", &place.text("out.db"), "s3://lifeboat/x"];
    place.run_with(&args, Some(&s3)).says(5, &["s3://lifeboat/x"]);
}

#[test]
fn a_replica_whose_lists_are_empty_of_pages_is_not_a_valid_empty_database() {
    let place = Place::new();
    let url = replica(&place);
    for entry in std::fs::read_dir(place.path("replica/ltx/0")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(4, &["holds no database"]);
    assert!(!place.path("out.db").exists());
}
