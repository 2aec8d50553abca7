//! What this version stores, kept in `fixtures/stored-1`: every later version restores it row by row, proves it sound and goes on
//! with it.
//!
//! The replica was written by two processes, the second under a claim of its own, so it holds a head, two seals, slots, merged
//! files of two levels and a snapshot. Its rows follow from a formula, so whoever restores it knows what they are.
//!
//! A new format gets a fixture beside this one; these files are never made anew. They were made by
//! `cargo test -p lifeboat --test fixtures_of_this_format -- --ignored` with `LIFEBOAT_FIXTURE` set to an empty folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{Place, dump, eventually};

/// Merged at once, and kept for ever.
const KEYS: &str = "levels: [{interval: 100ms}, {interval: 1s}, {interval: 1h}]\nl0-retention: 1000h\n\
    snapshot: {interval: 4s}\nretention: {window: 100000h}\nsync-interval: 10ms\n";

/// Rows that the fixture holds.
const ROWS: i64 = 60;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stored-1")
}

/// The row with this number: some short, some of several pages.
fn row(n: i64) -> String {
    format!("row {n} ").repeat(usize::try_from(1 + n % 90).unwrap())
}

/// What the database holds after so many rows: each third is gone, but for the newest.
fn rows(upto: i64) -> Vec<String> {
    let kept = (1..=upto).filter(|n| n % 3 != 0 || *n == upto);
    kept.map(|n| format!("t: Integer({n}), {}", row(n))).collect()
}

fn write(place: &Place, n: i64) {
    let app = place.open("app.db");
    app.execute_batch("BEGIN; DELETE FROM t WHERE n % 3 = 0").unwrap();
    app.execute("INSERT INTO t (n, x) VALUES (?1, ?2)", (n, row(n))).unwrap();
    app.execute_batch("COMMIT").unwrap();
}

/// A copy of the fixture, in a place of its own.
fn copied() -> Place {
    let place = Place::new();
    let (from, to) = (fixture(), place.path("replica"));
    for file in files(&from) {
        let copy = to.join(file.strip_prefix(&from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(&file, copy).unwrap();
    }
    place
}

/// All files below a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { files.extend(self::files(&entry)) } else { files.push(entry) }
    }
    files.sort();
    files
}

fn of_level(folder: &Path, level: u8) -> usize {
    let below = folder.join(format!("ltx/{level}"));
    if below.exists() { files(&below).len() } else { 0 }
}

fn restored(place: &Place, name: &str) -> Vec<String> {
    place
        .run(&["restore", "-o", &place.text(name), "--integrity-check", "full", &place.url("replica")])
        .says(0, &["restored"]);
    dump(&place.path(name))
}

#[test]
fn the_fixture_holds_what_a_replica_can_hold() {
    let folder = fixture();
    for (level, least) in [(0, 10), (1, 2), (2, 1), (9, 1)] {
        assert!(of_level(&folder, level) >= least, "level {level}");
    }
    let head = std::fs::read(folder.join("lifeboat/head.json")).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    assert_eq!(head["epoch"], 2, "{head}");
}

#[test]
fn what_this_format_has_stored_is_restored_row_by_row() {
    let place = copied();
    assert_eq!(restored(&place, "out.db"), rows(ROWS));
}

#[test]
fn what_this_format_has_stored_is_sound_to_the_last_byte() {
    let place = copied();
    place
        .run(&["verify", "--level", "deep", &place.url("replica")])
        .says(0, &["Every file is what was written"]);
}

#[test]
fn what_this_format_has_stored_is_continued() {
    let place = copied();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    assert_eq!(restored(&place, "app.db"), rows(ROWS));
    let running = place.start(&["replicate", "--sync-interval", "10ms", &db, &url], "following");
    write(&place, ROWS + 1);
    assert_eq!(running.stop().0, Some(0));
    let now = restored(&place, "out.db");
    assert_eq!(now, dump(&place.path("app.db")));
    assert_eq!(now, rows(ROWS + 1));
    place.run(&["verify", "--level", "deep", &url]).says(0, &["Every file is what was written"]);
}

#[test]
#[ignore = "makes the fixture, for a format that has none"]
fn make() {
    let to = std::env::var_os("LIFEBOAT_FIXTURE").unwrap();
    let (place, config) = (Place::new(), "lifeboat.yml");
    let schema =
        "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x);";
    place.open("app.db").execute_batch(schema).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    std::fs::write(place.path(config), format!("{KEYS}dbs: [{{path: '{db}', replica: {{url: '{url}'}}}}]\n"))
        .unwrap();
    let replica = place.path("replica");
    for claim in [0, 1] {
        let running = place.start(&["replicate", "--config", &place.text(config)], "following");
        for n in claim * ROWS / 2 + 1..=(claim + 1) * ROWS / 2 {
            let stored = of_level(&replica, 0);
            write(&place, n);
            eventually("its slot", || (of_level(&replica, 0) > stored).then_some(()), || running.log());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eventually("a merged file", || (of_level(&replica, 2) > 0).then_some(()), || running.log());
        assert_eq!(running.stop().0, Some(0));
    }
    assert_eq!(dump(&place.path("app.db")), rows(ROWS));
    for file in files(&replica) {
        let copy = Path::new(&to).join(file.strip_prefix(&replica).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(&file, copy).unwrap();
    }
}
