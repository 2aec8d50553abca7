//! A sidecar that comes back stores nothing again, and takes nothing for known that is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use lifeboat_replica::adoption::Record;
use lifeboat_replica::page_log::{self, LogIdentity};
use rusqlite::Connection;
use support::s3::S3Server;
use support::{Place, Running, dump, eventually};

/// About 400 pages that do not compress.
const FILL: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY, noise BLOB);
    WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 400)
    INSERT INTO t SELECT n, randomblob(3500) FROM many;";

/// A database that is stored whole, and the application that has it open.
struct Shop {
    place: Place,
    app: Connection,
}

impl Shop {
    fn new() -> Self {
        let place = Place::new();
        let app = place.open("app.db");
        app.execute_batch("PRAGMA journal_mode = WAL;").unwrap();
        app.execute_batch(FILL).unwrap();
        Self { place, app }
    }

    fn follow(&self) -> Running {
        let (db, url) = (self.place.text("app.db"), self.place.url("replica"));
        self.place.start(&["replicate", "--sync-interval", "50ms", &db, &url], "following")
    }

    fn write(&self, n: i64) {
        self.app.execute("UPDATE t SET noise = randomblob(3500) WHERE n = ?1", [n]).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.place.path(".app.db-lifeboat/pages")
    }

    /// Sizes of the slots that hold pages, oldest first.
    fn slots(&self) -> Vec<u64> {
        let folder = self.place.path("replica/ltx/0");
        let mut found: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .filter(|(name, size)| *size != SEAL && name.to_string_lossy().ends_with(".ltx"))
            .collect();
        found.sort();
        found.into_iter().map(|(_, size)| size).collect()
    }

    /// Waits until everything is stored and copied into the database file, and the page log says so.
    fn wait_until_settled(&self, running: &Running) {
        let mut before = None;
        eventually(
            "the page log to come to rest",
            || {
                std::thread::sleep(Duration::from_millis(300));
                let file = self.place.path("app.db").metadata().unwrap().modified().unwrap();
                let now = (std::fs::read(self.log()).unwrap_or_default(), self.slots(), file);
                (before.replace(now.clone()) == Some(now)).then_some(())
            },
            || running.log(),
        );
    }

    /// The same, and then pulls the plug.
    fn kill_when_settled(&self, running: Running) {
        self.wait_until_settled(&running);
        running.kill();
    }

    /// Follows until everything is stored, and compares what is restored then. Returns what was said and stored.
    #[track_caller]
    fn come_back(&self) -> (String, Vec<u64>) {
        let before = self.slots().len();
        let (code, log) = self.follow().stop();
        assert_eq!(code, Some(0), "{log}");
        let (out, url) = (self.place.text("out.db"), self.place.url("replica"));
        self.place.run(&["restore", "--force", "-o", &out, &url]).says(0, &["restored"]);
        assert_eq!(dump(&self.place.path("out.db")), dump(&self.place.path("app.db")), "{log}");
        (log, self.slots().split_off(before))
    }
}

#[test]
fn after_an_orderly_end_nothing_is_read_and_nothing_is_stored_again() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(running.stop().0, Some(0));
    let (log, stored) = shop.come_back();
    assert!(log.contains("the bucket already has it; no page had to be read"), "{log}");
    assert_eq!(stored, [0; 0]);
}

#[test]
fn after_a_kill_only_what_was_written_meanwhile_is_read_and_stored() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    for round in 0..3 {
        shop.write(7 + round);
        let running = shop.follow();
        assert!(running.log().contains("no page had to be read"), "{}", running.log());
        shop.kill_when_settled(running);
    }
    let slots = shop.slots();
    assert_eq!(slots.len(), 4, "{slots:?}");
    assert!(slots[1..].iter().all(|size| *size < 20_000), "{slots:?}");
    let (log, stored) = shop.come_back();
    assert!(log.contains("no page had to be read"), "{log}");
    assert_eq!(stored, [0; 0]);
}

#[test]
fn when_the_application_closed_its_database_only_pages_that_differ_are_stored() {
    let mut shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    shop.write(9);
    shop.app = Connection::open_in_memory().unwrap();
    assert!(!shop.place.path("app.db-wal").exists(), "the WAL is there still");
    let (log, stored) = shop.come_back();
    assert!(log.contains("every page was read"), "{log}");
    assert!(stored.len() == 1 && stored[0] < 20_000, "{stored:?}");
}

#[test]
fn a_vacuum_while_we_were_away_is_followed() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    shop.app.execute_batch("DELETE FROM t WHERE n > 200; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    let (_, stored) = shop.come_back();
    assert_eq!(stored.len(), 1, "{stored:?}");
}

#[test]
fn a_file_that_was_overwritten_in_place_is_not_taken_for_known() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.wait_until_settled(&running);
    let copy = std::fs::read(shop.place.path("app.db")).unwrap();
    shop.write(3);
    shop.kill_when_settled(running);
    let before = shop.slots().len();
    // What `cp backup.db app.db` does: the same file, other bytes, and the WAL stays.
    std::fs::write(shop.place.path("app.db"), copy).unwrap();
    let (log, stored) = shop.come_back();
    assert!(log.contains("every page was read"), "{log}");
    assert!(before > 1 && !stored.is_empty(), "{before} {stored:?}");
}

#[test]
fn a_wal_that_was_deleted_is_noticed() {
    let mut shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    // A reader keeps these commits out of the database file; then both are gone without a word.
    let reader = shop.place.open("app.db");
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let running = shop.follow();
    shop.write(5);
    let stored = shop.slots().len();
    eventually("the slot", || (shop.slots().len() > stored).then_some(()), || running.log());
    shop.kill_when_settled(running);
    let copy = std::fs::read(shop.place.path("app.db")).unwrap();
    drop(reader);
    shop.app = Connection::open_in_memory().unwrap();
    let _ = std::fs::remove_file(shop.place.path("app.db-wal"));
    let _ = std::fs::remove_file(shop.place.path("app.db-shm"));
    std::fs::write(shop.place.path("app.db"), copy).unwrap();
    let (log, _) = shop.come_back();
    assert!(log.contains("every page was read"), "{log}");
}

#[test]
fn a_log_that_is_damaged_or_gone_costs_time_and_nothing_else() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    let whole = std::fs::read(shop.log()).unwrap();
    let mut flipped = whole.clone();
    flipped[600] ^= 4;
    for broken in [b"no log at all".to_vec(), Vec::new(), flipped, whole[..whole.len() / 2].to_vec()] {
        std::fs::write(shop.log(), broken).unwrap();
        assert!(shop.come_back().0.contains("every page is stored"));
    }
    std::fs::remove_file(shop.log()).unwrap();
    assert!(shop.come_back().0.contains("every page is stored"));
    assert!(shop.come_back().0.contains("no page had to be read"), "the log is there again");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let shop = Shop::new();
    std::fs::create_dir_all(shop.log().join("in the way")).unwrap();
    let running = shop.follow();
    running.wait_for("the page log cannot be written");
    running.wait_for("stored txid");
    assert_eq!(running.stop().0, Some(0));
    assert!(shop.come_back().0.contains("every page is stored"));
}

#[test]
fn a_log_of_another_boot_is_not_followed_from() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    let record = std::fs::read(shop.place.path(".app.db-lifeboat/record.json")).unwrap();
    let record: Record = serde_json::from_slice(&record).unwrap();
    let known =
        page_log::find(&std::fs::read(shop.log()).unwrap(), record.slot.txid, record.slot.checksum.unwrap());
    let known = known.unwrap();
    let identity = LogIdentity { boot_id: "another".to_owned(), ..known.identity };
    let log = page_log::base(&identity, known.page_size, 1, &known.sums, known.anchor.as_ref()).unwrap();
    std::fs::write(shop.log(), log).unwrap();
    let (log, stored) = shop.come_back();
    assert!(log.contains("every page was read"), "{log}");
    assert_eq!(stored, [0; 0]);
}

/// Every file of the volume with its times, to be put back as a storage system does it.
fn volume(place: &Place) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let names = ["app.db", "app.db-wal", ".app.db-lifeboat/record.json", ".app.db-lifeboat/pages"];
    names
        .iter()
        .map(|name| place.path(name))
        .map(|path| {
            (path.clone(), std::fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap())
        })
        .collect()
}

fn put_back(volume: Vec<(PathBuf, Vec<u8>, SystemTime)>) {
    for (path, bytes, modified) in volume {
        std::fs::write(&path, bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
}

#[test]
fn a_volume_that_was_set_back_with_its_log_does_not_set_the_bucket_back() {
    let mut shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    std::thread::sleep(Duration::from_millis(500));
    let earlier = volume(&shop.place);
    for n in 0..5 {
        shop.write(n + 1);
        let stored = shop.slots().len();
        eventually("the slot", || (shop.slots().len() > stored).then_some(()), || running.log());
    }
    shop.kill_when_settled(running);
    shop.app = Connection::open_in_memory().unwrap();
    let _ = std::fs::remove_file(shop.place.path("app.db-shm"));
    put_back(earlier);
    let (db, url) = (shop.place.text("app.db"), shop.place.url("replica"));
    let before = shop.slots();
    let refused = shop.place.run(&["replicate", &db, &url]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert_eq!(shop.slots(), before);
}

#[test]
fn a_bucket_that_was_set_back_is_refused_although_the_log_knows_its_state() {
    let shop = Shop::new();
    let running = shop.follow();
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    let running = shop.follow();
    for n in 0..3 {
        shop.write(n + 1);
        let stored = shop.slots().len();
        eventually("the slot", || (shop.slots().len() > stored).then_some(()), || running.log());
    }
    running.kill();
    let folder = shop.place.path("replica/ltx/0");
    let mut slots: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    slots.sort();
    for newest in slots.iter().rev().take(2) {
        std::fs::remove_file(newest).unwrap();
    }
    let (db, url) = (shop.place.text("app.db"), shop.place.url("replica"));
    let (ended, log) = shop.place.spawn(&mut support::lifeboat(&["replicate", &db, &url])).ends();
    assert_eq!(ended.code(), Some(4), "{log}");
    assert!(log.contains("not a continuation"), "{log}");
}

#[test]
fn a_start_asks_the_bucket_eight_times_for_its_claim_and_at_most_four_times_more() {
    let (shop, s3) = (Shop::new(), S3Server::start());
    let (db, url) = (shop.place.text("app.db"), "s3://lifeboat/app");
    let follow = || shop.place.start_with(&["replicate", &db, url], "following", Some(&s3));
    let running = follow();
    running.wait_for("stored txid");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(running.stop().0, Some(0));
    let before = s3.requests().len();
    let running = follow();
    assert!(running.log().contains("no page had to be read"), "{}", running.log());
    std::thread::sleep(Duration::from_millis(1500));
    let (_, log) = running.stop();
    let asked = s3.requests().split_off(before);
    // Head, slots, head taken, slots, last slot, seal, the seal once more, head opened: that is the claim. Before it slots,
    // head and the newest slot are looked at, and the record's where that is another. At the end the head is closed.
    assert!((8 + 3..=8 + 4 + 1).contains(&asked.len()), "{asked:?} {log}");
    let stored = asked.iter().filter(|name| *name == "PutObject").count();
    assert_eq!(stored, 5, "{asked:?}: two heads, a seal twice, and the head at the end");
}

/// The program as a container of a pod whose application's volume is this place.
fn in_pod(shop: &Shop, step: &str) -> Command {
    let config = format!(
        "handover-dir: {}\ndbs: [{{path: {}, sync-interval: 50ms, replica: {{url: '{}'}}}}]",
        shop.place.text(""),
        shop.place.text("app.db"),
        shop.place.url("replica")
    );
    let mut command = support::lifeboat(&[step, "--config-from-env"]);
    command
        .env("LIFEBOAT_CONFIG_INLINE", config)
        .env("LIFEBOAT_POD_UID", "uid-1")
        .env("LIFEBOAT_NAME", "shop");
    command
}

fn run_in_pod(shop: &Shop, step: &str) -> String {
    let output = in_pod(shop, step).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn in_a_pod_neither_step_reads_a_volume_that_is_intact() {
    let shop = Shop::new();
    run_in_pod(&shop, "restore");
    let running = shop.place.spawn(&mut in_pod(&shop, "replicate"));
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    shop.write(5);
    assert!(run_in_pod(&shop, "restore").contains("is current"));
    let running = shop.place.spawn(&mut in_pod(&shop, "replicate"));
    running.wait_for("following");
    assert!(running.log().contains("no page had to be read"), "{}", running.log());
    assert_eq!(running.stop().0, Some(0));
    let slots = shop.slots();
    assert!(slots.len() == 2 && slots[1] < 20_000, "{slots:?}");
}

#[test]
fn what_a_pod_restores_is_not_stored_again() {
    let mut shop = Shop::new();
    run_in_pod(&shop, "restore");
    let running = shop.place.spawn(&mut in_pod(&shop, "replicate"));
    running.wait_for("stored txid");
    shop.kill_when_settled(running);
    shop.app = Connection::open_in_memory().unwrap();
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = std::fs::remove_file(shop.place.path(name));
    }
    std::fs::remove_dir_all(shop.place.path(".app.db-lifeboat")).unwrap();
    assert!(run_in_pod(&shop, "restore").contains("restored"));
    shop.app = shop.place.open("app.db");
    shop.write(7);
    let running = shop.place.spawn(&mut in_pod(&shop, "replicate"));
    running.wait_for("stored txid");
    assert!(running.log().contains("those that differ are stored"), "{}", running.log());
    assert_eq!(running.stop().0, Some(0));
    let slots = shop.slots();
    assert!(slots.len() == 2 && slots[1] < 30_000, "{slots:?}");
}

#[test]
fn while_the_bucket_is_away_the_status_says_since_when_and_afterwards_what_cannot_be_restored() {
    let (shop, mut s3) = (Shop::new(), S3Server::start());
    let (db, url, socket) = (shop.place.text("app.db"), "s3://lifeboat/app", shop.place.text("socket"));
    let args = ["replicate", "--sync-interval", "50ms", "--socket", &socket, &db, url];
    let running = shop.place.start_with(&args, "stored txid", Some(&s3));
    let status = || shop.place.run(&["status", "--json", "--socket", &socket]).stdout;
    assert!(
        status().contains("\"awaySince\": null") || status().contains("\"awaySince\":null"),
        "{}",
        status()
    );
    s3.stop();
    shop.write(1);
    running.wait_for("trying again");
    shop.write(2);
    std::thread::sleep(Duration::from_millis(500));
    shop.write(3);
    assert!(
        !status().contains("\"awaySince\": null") && !status().contains("\"awaySince\":null"),
        "{}",
        status()
    );
    s3.start_again();
    running.wait_for("only the end can be restored");
    assert!(status().contains("\"from\""), "{}", status());
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn killed_at_any_time_under_load_nothing_is_lost_and_little_is_stored_again() {
    let shop = Shop::new();
    shop.app.busy_timeout(Duration::from_secs(10)).unwrap();
    let running = shop.follow();
    running.wait_for("stored txid");
    running.kill();
    let (mut written, mut state) = (0_u64, 0x9e37_79b9_u64);
    for _ in 0..12 {
        let running = shop.follow();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let commits = 5 + (state >> 33) % 60;
        for n in 0..commits {
            shop.write(i64::try_from(1 + (state >> 20).wrapping_add(n * 7) % 390).unwrap());
        }
        std::thread::sleep(Duration::from_millis((state >> 40) % 70));
        running.kill();
        for n in 0..(state >> 50) % 8 {
            shop.write(i64::try_from(1 + n).unwrap());
        }
        written += commits + (state >> 50) % 8;
    }
    let (_, _) = shop.come_back();
    let stored: u64 = shop.slots()[1..].iter().sum();
    assert!(stored <= written * 16_000, "{stored} bytes for {written} commits of two pages each");
}

/// Size of a slot without pages.
const SEAL: u64 = 131;
