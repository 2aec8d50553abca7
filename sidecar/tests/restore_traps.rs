//! The traps of restoring, each one a way in which some system lost data silently.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::process::Stdio;

use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, PageChecksum, Txid};
use lifeboat_replica::head::{Head, Nonce, Owner};
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use support::{Place, dump, s3::S3Server};

const TABLE: &str =
    "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

/// A replica of a database with one row.
fn replica(place: &Place) -> String {
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    let running = place.start(&["replicate", &place.text("app.db"), &url], "stored txid");
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

/// Stores so many slots of one page each, after a first one with three, and returns the database.
fn store_many(place: &Place, slots: u64) -> Vec<u8> {
    let page_size = PageSize::MIN;
    let size = page_size.get() as usize;
    let (mut database, mut checksum) = (vec![0; 3 * size], Checksum::EMPTY);
    std::fs::create_dir_all(place.path("replica/ltx/0")).unwrap();
    for number in 1..=slots {
        let changed = if number == 1 { 1..=3 } else { number % 3 + 1..=number % 3 + 1 };
        let before = checksum;
        let mut pages = Vec::new();
        for page in changed {
            let no = PageNo::try_new(u32::try_from(page).unwrap()).unwrap();
            let at = usize::try_from(page - 1).unwrap() * size;
            let old = (number > 1).then(|| PageChecksum::of(no, &database[at..at + size]));
            database[at..at + 8].copy_from_slice(&(number * 10 + page).to_be_bytes());
            let image = database[at..at + size].to_vec();
            checksum = old.into_iter().chain([PageChecksum::of(no, &image)]).fold(checksum, Checksum::toggle);
            pages.push((no, image));
        }
        let txid = Txid::try_new(number).unwrap();
        let header = Header {
            page_size,
            commit: PageCount::new(3),
            min_txid: txid,
            max_txid: txid,
            timestamp_ms: 0,
            wal_offset: 32,
            wal_size: 0,
            salts: (0, 0),
            node_id: 1,
            mark: Some(Mark { pre_apply: before, post_apply: checksum }),
        };
        let key = Layout::Directory.file_key(Level::CAPTURED, FileName::slot(txid));
        let bytes = LtxFile { header, pages }.encode().unwrap();
        std::fs::write(place.path("replica").join(key), bytes).unwrap();
    }
    database
}

/// Runs to the end, which is a good one, and says how much memory that took at most, in megabytes.
fn peak_rss_mb(args: &[&str]) -> u64 {
    let mut command = support::lifeboat(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = kilobytes.map_or(peak, |kilobytes| kilobytes / 1024).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.success());
    peak
}

#[test]
fn a_long_history_takes_no_more_memory_than_its_list() {
    let place = Place::new();
    let slots = std::env::var("RESTORE_SLOTS").map_or(5_000, |slots| slots.parse().unwrap());
    let database = store_many(&place, slots);
    let url = place.url("replica");
    let peak = peak_rss_mb(&["restore", "-o", &place.text("out.db"), &url]);
    println!("{slots} slots, {peak} MB to restore");
    assert!(std::fs::read(place.path("out.db")).unwrap() == database);
    assert!(peak <= 64, "{peak} MB for {slots} slots");
    // A verification asks whose they are.
    let nonce = Nonce::new([7; 16]);
    let nowhere = String::new;
    let owner =
        Owner { nonce, cluster: nowhere(), namespace: nowhere(), name: nowhere(), pod_uid: nowhere() };
    let head = serde_json::to_vec(&Head::create("lineage".to_owned(), owner)).unwrap();
    std::fs::create_dir(place.path("replica/lifeboat")).unwrap();
    std::fs::write(place.path("replica/lifeboat/head.json"), head).unwrap();
    for level in ["chain", "deep"] {
        let peak = peak_rss_mb(&["verify", "--level", level, &url]);
        println!("{slots} slots, {peak} MB to verify, {level}");
        assert!(peak <= 64, "{peak} MB for {slots} slots, {level}");
    }
}
