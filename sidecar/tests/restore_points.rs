//! A restore of any stored state: exactly that one, or an error that names the states next to it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{Place, dump};

/// A replica of one large slot, and some small ones after it; and what the database was at each.
struct Stored {
    place: Place,
    url: String,
    /// The TXID of each slot with pages, and the database after it.
    states: Vec<(String, Vec<String>)>,
}

impl Stored {
    fn new() -> Self {
        let place = Place::new();
        let url = place.url("replica");
        let sql = "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB);
            WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 400)
            INSERT INTO t SELECT n, randomblob(3000) FROM c;";
        place.open("app.db").execute_batch(sql).unwrap();
        let mut states = Vec::new();
        for n in 0..4 {
            let running = place.start(&["replicate", &place.text("app.db"), &url], "following");
            if n > 0 {
                let change = format!("UPDATE t SET b = randomblob(3000) WHERE n BETWEEN {n}0 AND {n}9");
                place.open("app.db").execute_batch(&change).unwrap();
            }
            assert_eq!(running.stop().0, Some(0));
            let newest = slots(&place.path("replica/ltx/0")).pop().unwrap();
            let txid = newest.file_name().unwrap().to_str().unwrap()[..16].to_owned();
            states.push((txid, dump(&place.path("app.db"))));
        }
        Self { place, url, states }
    }

    fn restore(&self, out: &str, more: &[&str]) -> support::Ran {
        let out = self.place.text(out);
        self.place.run(&[&["restore", "--json", "-o", &out, &self.url], more].concat())
    }

    fn result(&self, out: &str, more: &[&str]) -> serde_json::Value {
        let ran = self.restore(out, more);
        ran.says(0, &[]);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

/// Slots with pages, ascending.
fn slots(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.metadata().unwrap().len() > 131);
    files.sort();
    files
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn every_stored_txid_is_restored_exactly() {
    let stored = Stored::new();
    for (n, (txid, state)) in stored.states.iter().enumerate() {
        let out = format!("out-{n}.db");
        let result = stored.result(&out, &["--txid", txid, "--integrity-check", "full"]);
        assert_eq!(result["txid"], txid.as_str());
        assert_eq!(&dump(&stored.place.path(&out)), state);
    }
}

#[test]
fn a_txid_that_is_not_stored_is_refused_with_its_neighbours() {
    let stored = Stored::new();
    stored.restore("out.db", &["--txid", "00000000000000ff"]).says(4, &["newest restorable state is"]);
    let folder = stored.place.path("replica/ltx/0");
    let files = slots(&folder);
    std::fs::remove_file(&files[2]).unwrap();
    let (before, gone) = (&stored.states[1].0, &stored.states[2].0);
    // The seal that the next process begins with still stands behind it, and leads nowhere.
    let ran = stored.restore("out.db", &["--txid", gone]);
    ran.says(4, &["cannot be restored"]);
    assert!(!stored.place.path("out.db").exists());
    assert_eq!(stored.result("out.db", &["--txid", before])["txid"], before.as_str());
    stored.restore("out.db", &["--txid", "ff"]).says(2, &["sixteen"]);
}

#[test]
fn a_time_gives_the_newest_state_that_is_not_younger_and_says_which() {
    let stored = Stored::new();
    let time = |txid: &str| {
        let result = stored.result("probe.db", &["--force", "--txid", txid]);
        result["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let times: Vec<_> = stored.states.iter().map(|(txid, _)| time(txid)).collect();
    let at = |time: jiff::Timestamp| stored.restore("out.db", &["--force", "--timestamp", &time.to_string()]);
    let millisecond = jiff::SignedDuration::from_millis(1);
    for (n, time) in times.iter().enumerate() {
        at(*time).says(0, &[&stored.states[n].0]);
        assert_eq!(dump(&stored.place.path("out.db")), stored.states[n].1);
        let earlier = at(*time - millisecond);
        match n.checked_sub(1) {
            // A seal may lie between two slots with pages; it changes nothing.
            Some(before) => {
                earlier.says(0, &[]);
                assert_eq!(dump(&stored.place.path("out.db")), stored.states[before].1);
            }
            None => earlier.says(4, &["oldest restorable state", &stored.states[0].0, &times[0].to_string()]),
        }
    }
    let newest = &stored.states[3];
    at(jiff::Timestamp::now()).says(0, &[]);
    assert_eq!(dump(&stored.place.path("out.db")), newest.1);
    stored.restore("out.db", &["--timestamp", "yesterday"]).says(2, &["2026-"]);
}

#[test]
fn a_dry_run_says_what_would_be_fetched_and_writes_nothing() {
    let stored = Stored::new();
    let plan = stored.result("out.db", &["--dry-run"]);
    let files = plan["files"].as_array().unwrap();
    let size = |file: &serde_json::Value| {
        stored.place.path("replica").join(file["key"].as_str().unwrap()).metadata().unwrap().len()
    };
    assert!(files.len() >= 4, "{plan}");
    assert_eq!(number(&plan["bytes"]), files.iter().map(size).sum::<u64>());
    assert!(!stored.place.path("out.db").exists());
}

#[test]
fn pages_that_a_newer_file_has_are_not_fetched_from_an_older_one() {
    let stored = Stored::new();
    // Every page again: nothing of the first slot is needed any more.
    let running = stored.place.start(&["replicate", &stored.place.text("app.db"), &stored.url], "following");
    stored.place.open("app.db").execute_batch("UPDATE t SET b = randomblob(3000)").unwrap();
    assert_eq!(running.stop().0, Some(0));
    let all = number(&stored.result("out.db", &["--dry-run"])["bytes"]);
    let result = stored.result("out.db", &[]);
    assert!(number(&result["fetched"]) < all * 2 / 3, "{result} of {all}");
    assert_eq!(dump(&stored.place.path("out.db")), dump(&stored.place.path("app.db")));
}

#[test]
fn an_older_file_of_the_same_replica_is_brought_forward_by_what_it_lacks() {
    use std::os::unix::fs::PermissionsExt;
    let stored = Stored::new();
    let (out, first) = (stored.place.path("out.db"), stored.states[0].0.as_str());
    let whole = number(&stored.result("out.db", &["--txid", first])["fetched"]);
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o660)).unwrap();
    let result = stored.result("out.db", &["--force"]);
    assert!(number(&result["fetched"]) < whole / 4, "{result}, the whole is {whole}");
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    stored.result("whole.db", &[]);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(stored.place.path("whole.db")).unwrap());
    // Of a file with any other content nothing is taken over.
    let mut changed = std::fs::read(&out).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&out, &changed).unwrap();
    assert!(number(&stored.result("out.db", &["--force"])["fetched"]) >= whole);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(stored.place.path("whole.db")).unwrap());
}

#[test]
fn an_older_file_with_a_wal_beside_it_is_brought_forward_without_that() {
    let stored = Stored::new();
    let (place, first) = (&stored.place, stored.states[0].0.as_str());
    let whole = number(&stored.result("old.db", &["--txid", first])["fetched"]);
    // Its application was killed: what it committed last is in the WAL only.
    let app = place.open("old.db");
    app.execute_batch("PRAGMA wal_autocheckpoint = 0; DELETE FROM t WHERE n > 200").unwrap();
    for suffix in ["", "-wal"] {
        std::fs::copy(place.path(&format!("old.db{suffix}")), place.path(&format!("out.db{suffix}")))
            .unwrap();
    }
    let ran = stored.restore("out.db", &["--force"]);
    ran.says(0, &["out.db-wal lies beside the file that is replaced"]);
    let result: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(number(&result["fetched"]) < whole / 4, "{result}, the whole is {whole}");
    assert!(!place.path("out.db-wal").exists());
    assert_eq!(dump(&place.path("out.db")), stored.states[3].1);
}

#[test]
fn a_flipped_bit_in_the_pages_that_are_fetched_of_a_large_file_is_damage() {
    let stored = Stored::new();
    let first = slots(&stored.place.path("replica/ltx/0")).remove(0);
    let good = std::fs::read(&first).unwrap();
    assert!(good.len() as u64 > lifeboat::restore::WHOLE_BYTES_MAX, "the first slot is small");
    // Page size, commit size, mark; page frames; page index.
    for at in [11, 15, 95, 103, 111, 5000, good.len() / 2, good.len() - 200, good.len() - 60] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&first, &bad).unwrap();
        let ran = stored.restore("out.db", &[]);
        let is_named = ran.stderr.contains("ltx") || ran.stderr.contains("txid");
        assert!(ran.code == Some(6) && is_named, "byte {at}: {:?} {}", ran.code, ran.stderr);
        assert!(!stored.place.path("out.db").exists());
    }
}

#[test]
fn what_sqlite_finds_damaged_is_not_put_in_place_when_it_is_asked() {
    let place = Place::new();
    let (url, out) = (place.url("replica"), place.text("out.db"));
    let sql = "CREATE TABLE t (n); INSERT INTO t VALUES (NULL);
        PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t (n NOT NULL)';";
    place.open("app.db").execute_batch(sql).unwrap();
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
    assert_eq!(running.stop().0, Some(0));
    for how in ["quick", "full"] {
        place.run(&["restore", "--integrity-check", how, "-o", &out, &url]).says(6, &["NULL value in t.n"]);
        assert!(!place.path("out.db").exists());
    }
    place.run(&["restore", "-o", &out, &url]).says(0, &[]);
}
