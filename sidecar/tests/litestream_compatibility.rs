//! The official Litestream restores what we store, and we restore what it stored: from a directory and from S3.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::{Place, Ran, dump, eventually, litestream, s3::S3Server};

const TABLE: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL);";

/// Many small commits, a shrinking one, and a large one.
fn work(place: &Place, name: &str) {
    let app = place.open(name);
    for n in 0..50 {
        app.execute("INSERT INTO t (text) VALUES (?1)", [format!("row {n} {}", "x".repeat(n * 40))]).unwrap();
    }
    app.execute_batch("DELETE FROM t WHERE n < 30; VACUUM;").unwrap();
    app.execute_batch("INSERT INTO t (text) SELECT hex(randomblob(500)) FROM t a, t b;").unwrap();
}

/// Replicates while the application works, restarts once, and stops in order.
fn store_with_lifeboat(place: &Place, url: &str, s3: Option<&S3Server>) {
    let db = place.text("app.db");
    place.open("app.db").execute_batch(TABLE).unwrap();
    for _ in 0..2 {
        let running = place.start_with(&["replicate", "--sync-interval", "50ms", &db, url], "following", s3);
        work(place, "app.db");
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
    }
}

fn store_with_litestream(place: &Place, url: &str, s3: Option<&S3Server>) {
    let db = place.text("app.db");
    place.open("app.db").execute_batch(TABLE).unwrap();
    let log = place.path("litestream.log");
    let mut child = litestream(&["replicate", &db, url], s3)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    work(place, "app.db");
    let last: i64 = place.open("app.db").query_row("SELECT max(n) FROM t", [], |row| row.get(0)).unwrap();
    // Litestream stores once a second; what it has is asked of its own restore.
    eventually(
        "litestream to have stored everything",
        || {
            let out = place.text("probe.db");
            let _ = std::fs::remove_file(&out);
            let restored = litestream(&["restore", "-o", &out, url], s3).output().unwrap();
            let found = restored.status.success().then(|| {
                let probe = place.open("probe.db");
                probe.query_row("SELECT max(n) FROM t", [], |row| row.get::<_, i64>(0)).ok()
            });
            (found.flatten() == Some(last)).then_some(())
        },
        || std::fs::read_to_string(&log).unwrap_or_default(),
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[track_caller]
fn assert_restored(place: &Place, out: &str) {
    assert_eq!(dump(&place.path(out)), dump(&place.path("app.db")));
    let check: String = place.open(out).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

fn litestream_restores_ours(url: impl Fn(&Place) -> String, s3: Option<&S3Server>) {
    let place = Place::new();
    let (url, out) = (url(&place), place.text("out.db"));
    store_with_lifeboat(&place, &url, s3);
    let restored = litestream(&["restore", "-o", &out, &litestream_url(&url, s3)], s3).output().unwrap();
    Ran::new(&restored).says(0, &[]);
    assert_restored(&place, "out.db");
}

fn we_restore_litestreams(url: impl Fn(&Place) -> String, s3: Option<&S3Server>) {
    let place = Place::new();
    let (url, out) = (url(&place), place.text("out.db"));
    store_with_litestream(&place, &litestream_url(&url, s3), s3);
    place.run_with(&["restore", "-o", &out, &url], s3).says(0, &["restored"]);
    assert_restored(&place, "out.db");
}

/// Litestream takes the endpoint in the URL too, under its own names.
fn litestream_url(url: &str, s3: Option<&S3Server>) -> String {
    s3.map_or_else(
        || url.to_owned(),
        |s3| format!("{url}?endpoint={}&forcePathStyle=true&region=us-east-1", s3.endpoint()),
    )
}

#[test]
fn litestream_restores_what_we_stored_in_a_directory() {
    litestream_restores_ours(|place| place.url("replica"), None);
}

#[test]
fn litestream_restores_what_we_stored_in_s3() {
    let s3 = S3Server::start();
    litestream_restores_ours(|_| "s3://lifeboat/ours".to_owned(), Some(&s3));
}

#[test]
fn we_restore_what_litestream_stored_in_a_directory() {
    we_restore_litestreams(|place| place.url("replica"), None);
}

#[test]
fn we_restore_what_litestream_stored_in_s3() {
    let s3 = S3Server::start();
    we_restore_litestreams(|_| "s3://lifeboat/theirs".to_owned(), Some(&s3));
}

#[test]
fn a_prefix_that_litestream_writes_is_not_taken_over_unasked() {
    let place = Place::new();
    let url = place.url("replica");
    store_with_litestream(&place, &url, None);
    let refused = place.run(&["replicate", &place.text("app.db"), &url]);
    refused.says(4, &["no lifeboat/head.json"]);
    assert!(!Path::new(&place.path("replica/lifeboat/head.json")).exists());
}

/// Copies the files of every level, and nothing of ours.
fn copy_levels(from: &Path, to: impl Fn(&str) -> PathBuf) {
    for level in std::fs::read_dir(from.join("ltx")).unwrap().map(|entry| entry.unwrap()) {
        let to = to(level.file_name().to_str().unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(level.path()).unwrap().map(|entry| entry.unwrap()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn a_plain_copy_of_our_replica_is_litestreams_in_another_folder_and_in_a_bucket() {
    let (place, s3) = (Place::new(), S3Server::start());
    store_with_lifeboat(&place, &place.url("replica"), None);
    let ours = place.path("replica");
    copy_levels(&ours, |level| place.path(&format!("copy/ltx/{level}")));
    copy_levels(&ours, |level| s3.file(&format!("copy/{level:0>4}")));
    let s3_url = litestream_url("s3://lifeboat/copy", Some(&s3));
    for (url, s3, out) in [(place.url("copy"), None, "one.db"), (s3_url, Some(&s3), "two.db")] {
        let restored = litestream(&["restore", "-o", &place.text(out), &url], s3).output().unwrap();
        Ran::new(&restored).says(0, &[]);
        assert_restored(&place, out);
    }
    // It goes on there with what it restored.
    let running =
        place.spawn(&mut litestream(&["replicate", &place.text("one.db"), &place.url("copy")], None));
    place.open("one.db").execute("INSERT INTO t (text) VALUES ('after us')", []).unwrap();
    let again = place.path("again.db");
    eventually(
        "litestream to have stored a row there",
        || {
            let _ = std::fs::remove_file(&again);
            litestream(&["restore", "-o", &place.text("again.db"), &place.url("copy")], None)
                .output()
                .unwrap();
            (again.exists() && dump(&again).iter().any(|row| row.contains("after us"))).then_some(())
        },
        || running.log(),
    );
    running.stop();
}
