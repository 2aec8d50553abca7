//! `lifeboat verify` finds and names everything that is wrong with a replica, and nothing where nothing is.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_ltx::{Checksum, LtxFile, decode_whole};
use lifeboat_wal::PageNo;
use serde_json::Value;
use support::application::{TABLE, follow, write};
use support::{Place, Ran, Running, eventually, litestream, s3::S3Server};

/// Hours in seconds.
const HISTORY: &str = "levels: [{interval: 200ms}, {interval: 1s}, {interval: 3s}]\nl0-retention: 500ms\n\
    snapshot: {interval: 3s}\nretention: {window: 5s}\nsync-interval: 20ms\n";

/// A replica with files of every level, and slots that are not merged yet, left in order.
fn with_history(place: &Place) {
    place.open("app.db").execute_batch(TABLE).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write(place, &is_over));
        for seconds in [4, 6] {
            let running = follow(place, HISTORY);
            std::thread::sleep(Duration::from_secs(seconds));
            assert_eq!(running.stop().0, Some(0));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A replica of some slots only.
fn of_slots(place: &Place, name: &str) -> String {
    let (db, url) = (place.text(&format!("{name}.db")), place.url(name));
    place.open(&format!("{name}.db")).execute_batch(TABLE).unwrap();
    let running = place.start(&["replicate", "--sync-interval", "10ms", &db, &url], "following");
    for n in 0..4 {
        place
            .open(&format!("{name}.db"))
            .execute("INSERT INTO t (x) VALUES (randomblob(?1))", [3000 + i64::try_from(n).unwrap()])
            .unwrap();
        eventually("a slot for it", || (files(place, name, &[0]).len() > n).then_some(()), || running.log());
    }
    assert_eq!(running.stop().0, Some(0));
    url
}

/// The files of these levels, oldest first.
fn files(place: &Place, replica: &str, levels: &[u8]) -> Vec<PathBuf> {
    let folders = levels.iter().map(|level| place.path(&format!("{replica}/ltx/{level}")));
    let mut files: Vec<_> = folders
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "ltx"))
        .collect();
    files.sort();
    files
}

fn name(file: &Path) -> &str {
    file.file_stem().unwrap().to_str().unwrap()
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

/// Verifies by URL, and returns the report.
#[track_caller]
fn verified(place: &Place, level: &str, url: &str, code: i32) -> Value {
    let ran = place.run(&["verify", "--json", "--level", level, url]);
    assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
    let report = report(&ran);
    assert_eq!(report["ok"], code == 0, "{report}");
    report
}

/// The kinds of the findings that name this file.
fn kinds(report: &Value, file: &Path) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let about = findings.filter(|finding| finding["message"].as_str().unwrap().contains(name(file)));
    about.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect()
}

/// What runs with a file changed, and the file as it was afterwards.
fn with_bytes<T>(file: &Path, bytes: &[u8], work: impl FnOnce() -> T) -> T {
    let good = fs::read(file).unwrap();
    fs::write(file, bytes).unwrap();
    let done = work();
    fs::write(file, good).unwrap();
    done
}

#[test]
fn a_sound_replica_is_sound_at_every_level_and_the_report_says_what_was_seen() {
    let place = Place::new();
    with_history(&place);
    let url = place.url("replica");
    let count = |levels: &[u8]| files(&place, "replica", levels).len();
    println!("files by level: {:?}", [0, 1, 2, 3, 9].map(|level| count(&[level])));
    for level in ["chain", "deep", "drill"] {
        let report = verified(&place, level, &url, 0);
        println!("{report}");
        assert!(report["files"].as_u64().unwrap() > 20, "{report}");
        assert!(report["states"].as_u64().unwrap() > 5 && report["seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(report["txid"], report["newestSound"]);
        assert!(level == "chain" || report["unproved"] == 0, "{report}");
    }
    place.run(&["verify", &url]).says(0, &["Every file is what was written", "restorable"]);
    let (config, db) = (place.text("lifeboat.yml"), place.text("app.db"));
    place.run(&["verify", "--config", &config, &db]).says(0, &["all of them agree"]);
}

#[test]
fn every_file_that_is_damaged_in_any_way_is_found_and_named() {
    let place = Place::new();
    with_history(&place);
    let url = place.url("replica");
    let live: Vec<_> = live(&place);
    println!("{} live files", live.len());
    for (number, file) in live.iter().enumerate() {
        let good = fs::read(file).unwrap();
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let other = fs::read(&live[(number + 1) % live.len()]).unwrap();
        // A bit of the compressed page may mean nothing; the first byte of the frame's page number never does.
        let damages = [
            ("flip", flipped(103), "damaged"),
            ("flip in the checksum", flipped(good.len() - 3), "damaged"),
            ("cut", good[..good.len() - 20].to_vec(), "damaged"),
            ("empty", Vec::new(), "damaged"),
            ("swapped", other, "misplaced"),
            ("foreign", foreign(&good), if is_seal(&good) { "foreign" } else { "damaged" }),
        ];
        for (what, bytes, kind) in damages {
            let report = with_bytes(file, &bytes, || verified(&place, "deep", &url, 6));
            let found = kinds(&report, file);
            assert!(!found.is_empty(), "{what} of {}: {report}", file.display());
            assert!(what == "foreign" || found[0] == kind, "{what} of {}: {report}", file.display());
        }
    }
    verified(&place, "deep", &url, 0);
}

/// The files that no floor gives up.
fn live(place: &Place) -> Vec<PathBuf> {
    let listed = place.run(&["ltx", "--json", &place.url("replica")]).stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let live = listed.iter().filter(|file| file["kind"] != "dead");
    live.map(|file| {
        let text = |field: &str| file[field].as_str().unwrap();
        place.path(&format!("replica/ltx/{}/{}-{}.ltx", file["level"], text("minTxid"), text("maxTxid")))
    })
    .collect()
}

fn is_seal(bytes: &[u8]) -> bool {
    bytes.len() == 131
}

/// A file that is sound by itself and of the same TXIDs, and comes from another database.
fn foreign(good: &[u8]) -> Vec<u8> {
    let mut file = decode_whole(good).unwrap();
    let page_size = file.header.page_size;
    if let Some((_, image)) = file.pages.last_mut() {
        image[500] ^= 1;
    }
    let other =
        Checksum::EMPTY.toggle(Checksum::page_checksum(PageNo::FIRST, &vec![7; page_size.get() as usize]));
    let all = file
        .pages
        .iter()
        .fold(Checksum::EMPTY, |sum, (no, image)| sum.toggle(Checksum::page_checksum(*no, image)));
    let is_complete = file.header.holds_every_page() && !file.pages.is_empty();
    if let Some(mark) = &mut file.header.mark {
        mark.post_apply = if is_complete { all } else { other };
    }
    LtxFile { header: file.header, pages: file.pages }.encode().unwrap()
}

#[test]
fn files_that_are_missing_are_said_to_be() {
    let place = Place::new();
    with_history(&place);
    let (url, config, db) = (place.url("replica"), place.text("lifeboat.yml"), place.text("app.db"));
    let without = |file: &Path, args: &[&str]| {
        let aside = place.path("aside");
        fs::rename(file, &aside).unwrap();
        let ran = place.run(args);
        fs::rename(aside, file).unwrap();
        ran
    };
    let live = live(&place);
    let slots: Vec<_> = live.iter().filter(|file| file.parent().unwrap().ends_with("0")).collect();
    let middle = slots[slots.len() / 2];
    for level in ["chain", "deep"] {
        let ran = without(middle, &["verify", "--level", level, &url]);
        ran.says(6, &[&format!("slot {} is missing", &name(middle)[..16])]);
    }
    // That the newest is missing only this machine can know.
    let newest = slots[slots.len() - 1];
    without(newest, &["verify", &url]).says(0, &[]);
    without(newest, &["verify", "--config", &config, &db])
        .says(6, &["this machine stored", &name(newest)[..16]]);
    without(&place.path("replica/lifeboat/head.json"), &["verify", &url]).says(6, &["head.json is missing"]);
    // Whatever is taken away: either it is missed, or every state but its own can still be restored.
    let states = verified(&place, "chain", &url, 0)["states"].as_u64().unwrap();
    let mut missed = 0;
    for file in &live {
        let ran = without(file, &["verify", "--json", "--level", "chain", &url]);
        let report = report(&ran);
        match ran.code {
            Some(0) => {
                assert!(report["states"].as_u64().unwrap() + 1 >= states, "{}: {report}", file.display())
            }
            Some(6) => missed += 1,
            _ => panic!("{}", ran.stderr),
        }
    }
    println!("{missed} of {} are missed", live.len());
    assert!(missed >= slots.len());
}

#[test]
fn a_slot_of_another_replica_and_two_that_were_exchanged_are_not_believed() {
    let place = Place::new();
    let (url, _) = (of_slots(&place, "one"), of_slots(&place, "two"));
    let (ours, theirs) = (files(&place, "one", &[0]), files(&place, "two", &[0]));
    let bytes = fs::read(&theirs[2]).unwrap();
    for level in ["chain", "deep"] {
        let report = with_bytes(&ours[2], &bytes, || verified(&place, level, &url, 6));
        assert_eq!(kinds(&report, &ours[2])[0], "foreign", "{report}");
    }
    let (second, third) = (fs::read(&ours[1]).unwrap(), fs::read(&ours[2]).unwrap());
    let report =
        with_bytes(&ours[1], &third, || with_bytes(&ours[2], &second, || verified(&place, "chain", &url, 6)));
    assert_eq!(
        (&kinds(&report, &ours[1])[0], &kinds(&report, &ours[2])[0]),
        (&"misplaced".to_owned(), &"misplaced".to_owned())
    );
    // All of them are another database's: only this machine knows.
    let config = place.text("c.yml");
    fs::write(
        &config,
        format!("dbs: [{{path: '{}', replica: {{url: '{}'}}}}]", place.text("one.db"), place.url("two")),
    )
    .unwrap();
    place.run(&["verify", "--config", &config, &place.text("one.db")]).says(6, &["lineage"]);
}

#[test]
fn what_cannot_be_reached_is_not_damaged_and_what_is_empty_is_not_sound() {
    let place = Place::new();
    let mut s3 = S3Server::start();
    place.run_with(&["verify", "s3://lifeboat/nothing"], Some(&s3)).says(4, &["no database"]);
    place.run_with(&["verify", "s3://mistyped/x"], Some(&s3)).says(4, &["no bucket"]);
    s3.stop();
    place.run_with(&["verify", "--wait", "1s", "s3://lifeboat/x"], Some(&s3)).says(5, &["s3://lifeboat/x"]);
    place.run(&["verify", &place.url("nowhere")]).says(4, &["nowhere"]);
    place.run(&["verify", "/no/such.db"]).says(2, &[]);
}

#[test]
fn a_bucket_is_verified_and_a_flipped_bit_in_it_is_found() {
    let (place, s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = "s3://lifeboat/app";
    let running = place.start_with(&["replicate", &place.text("app.db"), url], "stored txid", Some(&s3));
    // One that is too large to be fetched whole.
    place.open("app.db").execute("INSERT INTO t (x) VALUES (randomblob(3000000))", []).unwrap();
    let second = s3.file("app/0000/0000000000000002-0000000000000002.ltx");
    eventually("a large slot", || second.exists().then_some(()), || running.log());
    assert_eq!(running.stop().0, Some(0));
    place.run_with(&["verify", "--level", "drill", url], Some(&s3)).says(0, &["SQLite finds it sound"]);
    let slots: Vec<_> =
        fs::read_dir(s3.file("app/0000")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let large = slots.iter().find(|slot| slot.metadata().unwrap().len() > 1_000_000).unwrap();
    let mut bytes = fs::read(large).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(large, bytes).unwrap();
    place.run_with(&["verify", url], Some(&s3)).says(6, &[name(large), "WRONG"]);
    place.run_with(&["verify", "--level", "chain", url], Some(&s3)).says(0, &["was not read"]);
}

#[test]
fn a_drill_asks_the_restored_database_and_leaves_nothing_behind() {
    let place = Place::new();
    let url = of_slots(&place, "app");
    let scratch = place.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let drill = |sql: &[&str]| {
        let queries = sql.iter().flat_map(|sql| ["--sql", sql]);
        let mut command = support::lifeboat(&["verify", &url]);
        let ran = Ran::new(&command.args(queries).env("TMPDIR", &scratch).output().unwrap());
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "something is left behind");
        ran
    };
    drill(&["SELECT count(*) > 2 FROM t", "SELECT '1'"]).says(0, &["2 queries true", "comes back"]);
    drill(&["SELECT count(*) > 1000 FROM t"]).says(6, &["is not true: it gives 0"]);
    drill(&["SELECT n FROM t WHERE n < 0"]).says(6, &["it gives no row"]);
    drill(&["SELECT NULL", "SELECT 0.0", "SELECT 'yes'", "SELECT x'31'"])
        .says(6, &["4 things", "null", "'yes'", "a blob"]);
    drill(&["SELECT 1 FROM users"]).says(6, &["no such table: users"]);
    drill(&["DELETE FROM t"]).says(6, &["readonly"]);
    drill(&["SELECT count(* FROM t"]).says(2, &["syntax error"]);
    place.run(&["verify", "--level", "deep", "--sql", "SELECT 1", &url]).says(2, &["--sql", "drill"]);
    let newest = files(&place, "app", &[0]).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    with_bytes(&newest, &bytes[..bytes.len() - 9], || drill(&["SELECT 1"]).says(6, &[name(&newest)]));
}

/// A drill whose query never ends, once it has restored the database; and where.
fn endless_drill(place: &Place, url: &str, scratch: &Path) -> (Running, PathBuf) {
    let before = restored_below(scratch);
    let sql = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000000000) SELECT count(*) FROM c";
    let running = place.spawn(support::lifeboat(&["verify", "--sql", sql, url]).env("TMPDIR", scratch));
    let new = || restored_below(scratch).into_iter().find(|path| !before.contains(path));
    let restored = eventually("the restored file", new, || running.log());
    (running, restored)
}

fn restored_below(scratch: &Path) -> Vec<PathBuf> {
    let found = walkdir::WalkDir::new(scratch).into_iter().flatten().map(walkdir::DirEntry::into_path);
    found.filter(|path| path.ends_with("restored.db")).collect()
}

#[test]
fn a_drill_that_is_told_to_stop_leaves_nothing_behind() {
    let place = Place::new();
    let (url, scratch) = (of_slots(&place, "app"), place.path("scratch"));
    fs::create_dir(&scratch).unwrap();
    let (running, _) = endless_drill(&place, &url, &scratch);
    running.signal(rustix::process::Signal::TERM);
    let (status, log) = running.ends();
    assert_eq!(status.code(), Some(5), "{log}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "{log}");
}

#[test]
fn what_a_killed_drill_left_is_removed_by_the_next_and_what_a_running_one_uses_is_not() {
    let place = Place::new();
    let (url, scratch) = (of_slots(&place, "app"), place.path("scratch"));
    fs::create_dir(&scratch).unwrap();
    let (killed, left) = endless_drill(&place, &url, &scratch);
    killed.kill();
    assert!(left.exists());
    let (running, used) = endless_drill(&place, &url, &scratch);
    assert!(!left.exists(), "{}", running.log());
    let mut command = support::lifeboat(&["verify", "--level", "drill", &url]);
    Ran::new(&command.env("TMPDIR", &scratch).output().unwrap()).says(0, &["comes back"]);
    assert!(used.exists(), "a drill removed what another one uses");
    assert_eq!(running.stop().0, Some(5));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}

#[test]
fn a_replica_that_is_being_written_merged_and_pruned_is_never_said_to_be_wrong() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&place, &is_over));
        let running = follow(&place, HISTORY);
        running.wait_for("stored txid");
        let begun = std::time::Instant::now();
        let mut count = 0;
        while begun.elapsed() < Duration::from_secs(12) {
            for level in ["chain", "deep"] {
                let ran = place.run(&["verify", "--json", "--level", level, &place.url("replica")]);
                if ran.code != Some(0) {
                    is_over.store(true, Ordering::Relaxed);
                    panic!("{}{}", ran.stdout, ran.stderr);
                }
                count += 1;
            }
        }
        println!("verified {count} times");
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(running.stop().0, Some(0));
    });
}

#[test]
fn what_litestream_has_stored_is_verified_too() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, config) = (place.text("app.db"), place.text("litestream.yml"));
    let keys = "levels: [{interval: 1s}, {interval: 3s}]\nsnapshot: {interval: 4s, retention: 8s}\nl0-retention: 2s\n\
        l0-retention-check-interval: 1s\n";
    fs::write(
        &config,
        format!(
            "{keys}dbs: [{{path: '{db}', replica: {{path: '{}', sync-interval: 50ms}}}}]",
            place.text("replica")
        ),
    )
    .unwrap();
    let running = place.spawn(&mut litestream(&["replicate", "-config", &config], None));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&place, &is_over));
        std::thread::sleep(Duration::from_secs(10));
        is_over.store(true, Ordering::Relaxed);
    });
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    let url = place.url("replica");
    println!("files by level: {:?}", [0, 1, 2, 9].map(|level| files(&place, "replica", &[level]).len()));
    let sound = verified(&place, "drill", &url, 0);
    println!("{sound}");
    assert!(sound["epoch"].is_null() && sound["files"].as_u64().unwrap() > 10, "{sound}");
    let merged = files(&place, "replica", &[1]).pop().unwrap();
    let mut bytes = fs::read(&merged).unwrap();
    bytes[103] ^= 0x10;
    let report = with_bytes(&merged, &bytes, || verified(&place, "deep", &url, 6));
    assert_eq!(kinds(&report, &merged)[0], "damaged");
}
