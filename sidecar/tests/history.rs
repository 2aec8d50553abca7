//! Slots are merged, snapshots taken, and files deleted, while a real application writes: every state that is kept is, byte
//! for byte, the one that the slots led to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::application::{TABLE, follow, write};
use support::proxy::{Proxy, Refusal};
use support::s3::S3Server;
use support::{Place, Running, dump, eventually, eventually_within, litestream};

/// Hours in seconds: each interval is a three hundredth of the usual one.
const HISTORY: &str = "levels: [{interval: 100ms}, {interval: 500ms}, {interval: 2s}]\nl0-retention: 400ms\n\
    snapshot: {interval: 4s}\nretention: {window: 6s}\nsync-interval: 20ms\n";

/// Keeps every slot of a replica, also those that are deleted there.
fn archive(place: &Place, is_over: &AtomicBool) {
    let (from, to) = (place.path("replica/ltx/0"), place.path("archive/ltx/0"));
    std::fs::create_dir_all(&to).unwrap();
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        for name in names(&from) {
            let _ = std::fs::hard_link(from.join(&name), to.join(&name));
        }
        if is_last {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// The files of a replica: level, first and last TXID, path.
fn files(place: &Place) -> Vec<(u8, u64, u64, PathBuf)> {
    let mut files = Vec::new();
    for level in [0, 1, 2, 3, 9] {
        let folder = place.path(&format!("replica/ltx/{level}"));
        for name in names(&folder) {
            let txid = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).unwrap();
            files.push((level, txid(0..16), txid(17..33), folder.join(&name)));
        }
    }
    files
}

fn floors(place: &Place) -> BTreeMap<String, u64> {
    let head = std::fs::read(place.path("replica/lifeboat/head.json")).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    serde_json::from_value(head.get("floors").cloned().unwrap_or_default()).unwrap_or_default()
}

/// Restores what these files lead to; under a head exactly this TXID.
fn restored(place: &Place, files: &[PathBuf], head: Option<(&Path, u64)>) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir_in(place.folder.path()).unwrap();
    for file in files {
        let below =
            file.components().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<PathBuf>();
        let to = folder.path().join(below);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::hard_link(file, &to).unwrap();
    }
    let out = folder.path().join("out.db").display().to_string();
    let url = format!("file://{}", folder.path().display());
    let mut args = vec!["restore".to_owned(), "-o".to_owned(), out.clone(), url];
    if let Some((head, txid)) = head {
        std::fs::create_dir(folder.path().join("lifeboat")).unwrap();
        std::fs::copy(head, folder.path().join("lifeboat/head.json")).unwrap();
        args.extend(["--txid".to_owned(), format!("{txid:016x}")]);
    }
    let ran = place.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    if ran.code != Some(0) {
        assert!(ran.stderr.contains("cannot be restored"), "{}", ran.stderr);
        return None;
    }
    Some(std::fs::read(out).unwrap())
}

/// Every state that a live file ends at, and that is reached, is what the slots alone lead to. Returns how many there are.
fn every_kept_state_is_exact(place: &Place) -> usize {
    let head = place.path("replica/lifeboat/head.json");
    let (files, floors) = (files(place), floors(place));
    let floor = |level: u8| floors.get(&level.to_string()).copied().unwrap_or(0);
    let mut ends: Vec<_> = files.iter().filter(|(level, _, max, _)| *max > floor(*level)).collect();
    ends.sort_by_key(|(level, _, max, _)| (*max, *level));
    let (mut kept, newest) = (0, ends.last().unwrap().2);
    for (level, _, end, _) in &ends {
        let upto = files.iter().filter(|(_, _, max, _)| max <= end).map(|(_, _, _, path)| path.clone());
        let slots = names(&place.path("archive/ltx/0"))
            .into_iter()
            .map(|name| place.path("archive/ltx/0").join(name));
        let slots = slots.filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            u64::from_str_radix(&name[..16], 16).unwrap() <= *end
        });
        let Some(found) = restored(place, &upto.collect::<Vec<_>>(), Some((&head, *end))) else {
            assert!(
                *level == 0 && *end < newest,
                "the end of a file of level {level} at {end} is not reached"
            );
            continue;
        };
        let expected = restored(place, &slots.collect::<Vec<_>>(), None).unwrap();
        assert!(found == expected, "the state at {end} is not what the slots led to");
        kept += 1;
    }
    kept
}

/// While the application writes, until `work` says that it is over.
fn in_the_background<T>(place: &Place, work: impl FnOnce(&AtomicBool) -> T) -> T {
    let (is_written, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let tasks = [scope.spawn(|| write(place, &is_written)), scope.spawn(|| archive(place, &is_over))];
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&is_written)));
        is_written.store(true, Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn has_pruned_every_level(place: &Place) -> Option<()> {
    let floors = floors(place);
    ["0", "1", "2", "3", "9"].iter().all(|level| floors.contains_key(*level)).then_some(())
}

#[test]
fn every_kept_state_of_a_long_history_is_restored_byte_for_byte() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (_, log) = in_the_background(&place, |is_written| {
        let running = follow(&place, HISTORY);
        std::thread::sleep(Duration::from_secs(5));
        running.kill();
        let running = follow(&place, HISTORY);
        std::thread::sleep(Duration::from_secs(3));
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
        let running = follow(&place, HISTORY);
        eventually(
            "files of every level to be deleted",
            || has_pruned_every_level(&place),
            || format!("{:?} {}", floors(&place), running.log()),
        );
        is_written.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(500));
        running.stop()
    });
    let (files, kept) = (files(&place), every_kept_state_is_exact(&place));
    let count = |wanted: u8| files.iter().filter(|(level, ..)| *level == wanted).count();
    println!("kept {kept} states; files by level: {:?}", [0, 1, 2, 3, 9].map(count));
    assert!(kept > 20, "{kept} states: {log}");
    assert!([1, 2, 3, 9].into_iter().all(|level| count(level) > 0));
    assert!(!log.contains("put off") || log.matches("put off").count() < 5, "{log}");
    let out = place.text("out.db");
    place.run(&["restore", "-o", &out, &place.url("replica")]).says(0, &["restored"]);
    assert!(dump(&place.path("out.db")) == dump(&place.path("app.db")), "not what the application wrote");
    litestream_agrees(&place);
}

/// The official Litestream restores the same, and lists every file.
fn litestream_agrees(place: &Place) {
    let (out, url) = (place.text("theirs.db"), place.url("replica"));
    let restored = litestream(&["restore", "-o", &out, &url], None).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert!(dump(&place.path("theirs.db")) == dump(&place.path("app.db")), "not what the application wrote");
    let listed = litestream(&["ltx", &url], None).output().unwrap();
    println!("{}", String::from_utf8_lossy(&listed.stdout));
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn a_database_that_rests_is_not_asked_for_and_asks_nothing() {
    let place = Place::new();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let running = follow(&place, HISTORY);
    running.wait_for("stored txid");
    let before = files(&place);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(files(&place), before, "intervals passed, and nothing was stored");
    running.stop();
}

/// A database whose replica lies behind a proxy that counts and refuses.
struct Proxied {
    place: Place,
    s3: S3Server,
    proxy: Proxy,
}

impl Proxied {
    fn new() -> Self {
        let (place, s3) = (Place::new(), S3Server::start());
        let proxy = Proxy::start(s3.port());
        place.open("app.db").execute_batch(TABLE).unwrap();
        let (config, db) = (place.path("lifeboat.yml"), place.text("app.db"));
        let replica = format!("{{url: 's3://lifeboat/app', endpoint: '{}'}}", proxy.endpoint());
        std::fs::write(config, format!("{HISTORY}dbs: [{{path: '{db}', replica: {replica}}}]\n")).unwrap();
        Self { place, s3, proxy }
    }

    fn follow(&self) -> Running {
        let config = self.place.text("lifeboat.yml");
        let mut command = support::lifeboat(&["--log-level", "debug", "replicate", "--config", &config]);
        let running = self.place.spawn(command.envs(self.s3.credentials()));
        running.wait_for("following");
        running
    }

    /// What `work` does while the application writes.
    fn while_it_writes(&self, work: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| write(&self.place, &is_over));
            let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            is_over.store(true, Ordering::Relaxed);
            waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

/// What one request is about: its method and the level, or the name, of its key.
fn kind(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
    let what = prefix.map_or_else(
        || path.trim_start_matches("/lifeboat/app/").to_owned(),
        |prefix| format!("list {}", prefix.trim_start_matches("app%2F")),
    );
    format!("{method} {}", what.split('/').next().unwrap())
}

#[test]
fn merging_and_pruning_fetch_no_page_and_a_claim_stays_a_handful_of_requests() {
    let proxied = Proxied::new();
    let (place, proxy) = (&proxied.place, &proxied.proxy);
    let running = proxied.follow();
    let mut counted = BTreeMap::<String, usize>::new();
    let mut count_seen = || {
        proxy.take_seen().iter().for_each(|request| *counted.entry(kind(request)).or_default() += 1);
        let count = |kind: &str| counted.get(kind).copied().unwrap_or(0);
        (count("PUT 0001") > 20 && count("PUT 0009") > 1 && count("DELETE 0000") > 100).then_some(())
    };
    proxied.while_it_writes(|| {
        let patience = Duration::from_secs(180);
        let what = "enough files to be merged and deleted";
        eventually_within(patience, what, &mut count_seen, || running.log());
    });
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    count_seen();
    println!("{counted:#?}");
    let count = |kind: &str| counted.get(kind).copied().unwrap_or(0);
    // A slot is read when it is merged by a successor, and the first one when it is copied.
    assert!(count("GET 0000") <= 4, "slots are fetched: {counted:?}");
    assert!(count("GET 0001") <= count("PUT 0001") * 3, "{counted:?}");
    let running = proxied.follow();
    let claim = proxy.take_seen();
    println!("{claim:#?}");
    assert!(claim.len() <= 14, "{} requests: {claim:?}", claim.len());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(proxy.take_seen(), Vec::<String>::new(), "a database that rests asks for nothing");
    running.stop();
    let out = place.text("out.db");
    place.run_with(&["restore", "-o", &out, "s3://lifeboat/app"], Some(&proxied.s3)).says(0, &["restored"]);
    assert!(dump(&place.path("out.db")) == dump(&place.path("app.db")), "not what the application wrote");
}

#[test]
fn without_the_right_to_delete_it_is_said_and_made_up_for_once_there_is_one() {
    let proxied = Proxied::new();
    let proxy = &proxied.proxy;
    proxy.refuse(Refusal { method: "DELETE", part: "/0000/", status: 403 });
    let running = proxied.follow();
    proxied.while_it_writes(|| {
        running.wait_for("files that nothing needs stay in the bucket");
        proxy.refuse(Refusal { method: "DELETE", part: "/no-such-thing/", status: 403 });
        running.wait_for("files that nothing needs any more were deleted");
    });
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stay in the bucket") && log.contains("1 times in a row"), "{log}");
}

#[test]
fn databases_that_rest_keep_no_other_from_being_merged() {
    let place = Place::new();
    let names = ["rests-1", "rests-2", "works"];
    let apps = names.map(|name| {
        let app = place.open(&format!("{name}.db"));
        app.execute_batch(TABLE).unwrap();
        app
    });
    let entry = |name| {
        let (path, url) = (place.text(&format!("{name}.db")), place.url(name));
        format!("- {{path: '{path}', replica: {{url: '{url}'}}}}\n")
    };
    let config = place.path("lifeboat.yml");
    // One file at a time for all of them.
    let text = format!("{HISTORY}max-concurrent-uploads: 1\ndbs:\n{}", names.map(entry).concat());
    std::fs::write(&config, text).unwrap();
    let running = place.start(
        &["--log-level", "debug", "replicate", "--config", &config.display().to_string()],
        "following",
    );
    let write = |apps: &[rusqlite::Connection]| {
        for app in apps {
            app.execute("INSERT INTO t (x) VALUES (randomblob(300))", []).unwrap();
        }
        std::thread::sleep(Duration::from_millis(60));
    };
    // A file is worth eight slots. Here the next slot, which never comes, would be its end.
    for slots in 1..=9 {
        eventually(
            "a slot of each that rests",
            || {
                names[..2]
                    .iter()
                    .all(|name| self::names(&place.path(&format!("{name}/ltx/0"))).len() == slots)
                    .then_some(())
            },
            || running.log(),
        );
        if slots < 9 {
            write(&apps[..2]);
        }
    }
    let merged = || running.log().matches("works.db: level").count();
    let before = merged();
    eventually(
        "the one that works to be merged on",
        || {
            write(&apps[2..]);
            (merged() > before + 3).then_some(())
        },
        || running.log(),
    );
    assert_eq!(running.stop().0, Some(0));
}
