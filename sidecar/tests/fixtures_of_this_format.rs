//! What this version stores, kept in `fixtures/`: every later version restores it row by row, proves it sound and goes on with it.
//!
//! Each replica was written by two processes, the second under a claim of its own. `stored-1` holds a head, two seals, slots, merged
//! files of two levels and a snapshot, all that ever was. `pruned-1` is one of which retention has taken most: there are floors of
//! every level, and below that of level 0 the seals that stay for ever. Their rows follow from a formula, so whoever restores
//! them knows what they are.
//!
//! A new format gets fixtures beside these; these files are never made anew. They were made by
//! `cargo test -p lifeboat --test fixtures_of_this_format -- --ignored` with `LIFEBOAT_FIXTURE` set to an empty folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{Place, dump, eventually};

/// One replica that is kept.
struct Fixture {
    name: &'static str,
    /// What it was made with.
    keys: &'static str,
    /// How many rows were written.
    rows: i64,
    /// Levels, and the fewest files of each.
    least: &'static [(u8, usize)],
}

/// Merged at once, and kept for ever.
const STORED: Fixture = Fixture {
    name: "stored-1",
    keys: "levels: [{interval: 100ms}, {interval: 1s}, {interval: 1h}]\nl0-retention: 1000h\n\
        snapshot: {interval: 4s}\nretention: {window: 100000h}\nsync-interval: 10ms\n",
    rows: 60,
    least: &[(0, 10), (1, 2), (2, 1), (9, 1)],
};

/// Merged at once, and kept for seconds.
const PRUNED: Fixture = Fixture {
    name: "pruned-1",
    keys: "levels: [{interval: 100ms}, {interval: 2s}, {interval: 5s}]\nl0-retention: 500ms\n\
        snapshot: {interval: 4s}\nretention: {window: 6s}\nsync-interval: 10ms\n",
    rows: 160,
    least: &[(0, 3), (1, 1), (2, 1), (9, 1)],
};

const FIXTURES: [Fixture; 2] = [STORED, PRUNED];

impl Fixture {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(self.name)
    }

    /// A copy of it, in a place of its own.
    fn copied(&self) -> Place {
        let place = Place::new();
        copy(&self.folder(), &place.path("replica"));
        place
    }
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(&file, copy).unwrap();
    }
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

fn head(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("lifeboat/head.json")).unwrap()).unwrap()
}

fn restored(place: &Place, name: &str) -> Vec<String> {
    place
        .run(&["restore", "-o", &place.text(name), "--integrity-check", "full", &place.url("replica")])
        .says(0, &["restored"]);
    dump(&place.path(name))
}

#[test]
fn the_fixtures_hold_what_a_replica_can_hold() {
    for fixture in FIXTURES {
        let folder = fixture.folder();
        for (level, least) in fixture.least {
            assert!(of_level(&folder, *level) >= *least, "{}: level {level}", fixture.name);
        }
        assert_eq!(head(&folder)["epoch"], 2, "{}", fixture.name);
    }
    // Every level was pruned, and the seal stands where nothing else does any more.
    let (folder, head) = (PRUNED.folder(), head(&PRUNED.folder()));
    let floor = |level: &str| head["floors"][level].as_u64().unwrap();
    assert!(["0", "1", "2", "3", "9"].iter().all(|level| floor(level) > 0), "{head}");
    let oldest = &files(&folder.join("ltx/0"))[0];
    let txid = u64::from_str_radix(&oldest.file_name().unwrap().to_str().unwrap()[..16], 16).unwrap();
    assert!(txid < floor("0") && oldest.metadata().unwrap().len() == SEAL, "{}", oldest.display());
}

#[test]
fn what_this_format_has_stored_is_restored_row_by_row() {
    for fixture in FIXTURES {
        assert_eq!(restored(&fixture.copied(), "out.db"), rows(fixture.rows), "{}", fixture.name);
    }
}

#[test]
fn every_state_that_this_format_keeps_is_restored_row_by_row() {
    for fixture in FIXTURES {
        let place = fixture.copied();
        let listed = place.run(&["ltx", "--json", &place.url("replica")]).stdout;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        let live = listed.iter().filter(|file| file["kind"] != "dead" && file["kind"] != "seal");
        let ends: std::collections::BTreeSet<_> =
            live.map(|file| file["maxTxid"].as_str().unwrap()).collect();
        let (mut before, mut kept) = (0, 0);
        for end in ends {
            let Some(found) = kept_at(&place, end) else { continue };
            // The newest row is always there, and says how many there were.
            let is_there = |n: &i64| found.iter().any(|row| row.starts_with(&format!("t: Integer({n}),")));
            let upto = (1..=fixture.rows).rev().find(is_there).unwrap_or(0);
            assert!(found == rows(upto) && upto >= before, "{} at {end}: {found:?}", fixture.name);
            (before, kept) = (upto, kept + 1);
        }
        assert!(kept > 5 && before == fixture.rows, "{}: {kept} states", fixture.name);
    }
}

/// What is restored at the end of a file; `None` where it is a slot that no other file leads to any more.
fn kept_at(place: &Place, end: &str) -> Option<Vec<String>> {
    let out = place.path(&format!("at-{end}.db"));
    let ran = place.run(&["restore", "--txid", end, "-o", &out.display().to_string(), &place.url("replica")]);
    if ran.code == Some(0) {
        return Some(dump(&out));
    }
    ran.says(4, &["cannot be restored"]);
    None
}

#[test]
fn what_this_format_has_stored_is_sound_to_the_last_byte() {
    for fixture in FIXTURES {
        let place = fixture.copied();
        let url = place.url("replica");
        place.run(&["verify", "--level", "deep", &url]).says(0, &["Every file is what was written"]);
    }
}

#[test]
fn what_this_format_has_stored_is_continued() {
    for fixture in FIXTURES {
        let place = fixture.copied();
        let (db, url) = (place.text("app.db"), place.url("replica"));
        assert_eq!(restored(&place, "app.db"), rows(fixture.rows));
        let running = place.start(&["replicate", "--sync-interval", "10ms", &db, &url], "following");
        write(&place, fixture.rows + 1);
        assert_eq!(running.stop().0, Some(0));
        let now = restored(&place, "out.db");
        assert_eq!(now, dump(&place.path("app.db")));
        assert_eq!(now, rows(fixture.rows + 1));
        place.run(&["verify", "--level", "deep", &url]).says(0, &["Every file is what was written"]);
    }
}

#[test]
#[ignore = "makes the fixtures, for a format that has none"]
fn make() {
    let to = PathBuf::from(std::env::var_os("LIFEBOAT_FIXTURE").unwrap());
    for fixture in FIXTURES {
        copy(&made(&fixture).path("replica"), &to.join(fixture.name));
    }
}

fn made(fixture: &Fixture) -> Place {
    let (place, config) = (Place::new(), "lifeboat.yml");
    let schema =
        "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x);";
    place.open("app.db").execute_batch(schema).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    let text = format!("{}dbs: [{{path: '{db}', replica: {{url: '{url}'}}}}]\n", fixture.keys);
    std::fs::write(place.path(config), text).unwrap();
    let replica = place.path("replica");
    for claim in [0, 1] {
        let running = place.start(&["replicate", "--config", &place.text(config)], "following");
        for n in claim * fixture.rows / 2 + 1..=(claim + 1) * fixture.rows / 2 {
            let newest = || newest(&replica);
            let before = newest();
            write(&place, n);
            eventually("its slot", || (newest() > before).then_some(()), || running.log());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eventually("a merged file", || (of_level(&replica, 2) > 0).then_some(()), || running.log());
        assert_eq!(running.stop().0, Some(0));
    }
    assert_eq!(dump(&place.path("app.db")), rows(fixture.rows));
    place
}

/// The newest slot.
fn newest(replica: &Path) -> Option<PathBuf> {
    let slots = replica.join("ltx/0");
    if slots.exists() { files(&slots).pop() } else { None }
}

/// Size of a slot without pages.
const SEAL: u64 = 131;
