//! Each way a restore can fail has its own message and exit code, and leaves no file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lifeboat_ltx::{Checksum, LtxFile, decode_whole};
use support::proxy::{Hold, Proxy, Trap};
use support::{Place, Ran, dump, s3::S3Server};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

/// A replica of several slots, in a directory.
fn replica(place: &Place) -> (String, PathBuf) {
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = place.url("replica");
    for n in 2..5 {
        let running = place.start(&["replicate", &place.text("app.db"), &url], "following");
        place.open("app.db").execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        assert_eq!(running.stop().0, Some(0));
    }
    (url, place.path("replica/ltx/0"))
}

/// Slots with pages, by number.
fn slots(folder: &PathBuf) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.metadata().unwrap().len() > 131);
    files.sort();
    files
}

#[track_caller]
fn leaves_nothing(place: &Place) {
    let left: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("out") || name.starts_with(".out"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_bucket_that_cannot_be_reached_is_tried_and_then_unavailable() {
    let place = Place::new();
    let mut s3 = S3Server::start();
    s3.stop();
    let begun = std::time::Instant::now();
    let out = place.text("out.db");
    let ran = place.run_with(&["restore", "--wait", "2s", "-o", &out, "s3://lifeboat/x"], Some(&s3));
    ran.says(5, &["s3://lifeboat/x"]);
    assert!(begun.elapsed().as_secs() >= 1, "gave up at once");
    leaves_nothing(&place);
}

#[test]
fn a_bucket_that_comes_back_in_time_is_restored_from() {
    let place = Place::new();
    let mut s3 = S3Server::start();
    place.open("app.db").execute_batch(TABLE).unwrap();
    let running =
        place.start_with(&["replicate", &place.text("app.db"), "s3://lifeboat/x"], "stored txid", Some(&s3));
    assert_eq!(running.stop().0, Some(0));
    s3.stop();
    let out = place.text("out.db");
    let mut restoring =
        support::lifeboat_with(&["restore", "--wait", "60s", "-o", &out, "s3://lifeboat/x"], Some(&s3));
    let restoring = place.spawn(&mut restoring);
    restoring.wait_for("trying again");
    s3.start_again();
    assert!(restoring.ends().0.success());
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn a_wrong_bucket_is_refused() {
    let place = Place::new();
    let s3 = S3Server::start();
    let out = place.text("out.db");
    place.run_with(&["restore", "-o", &out, "s3://no-such-bucket/x"], Some(&s3)).says(4, &["no-such-bucket"]);
    place.run(&["restore", "-o", &out, &place.url("no-such-folder")]).says(4, &["no-such-folder"]);
    leaves_nothing(&place);
}

#[test]
fn missing_and_wrong_credentials_are_refused() {
    let place = Place::new();
    let s3 = S3Server::start();
    let out = place.text("out.db");
    place
        .run(&["restore", "--endpoint", &s3.endpoint(), "-o", &out, "s3://lifeboat/x"])
        .says(4, &["no credentials"]);
    let mut wrong = support::lifeboat_with(&["restore", "-o", &out, "s3://lifeboat/x"], Some(&s3));
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong-and-secret");
    let ran = Ran::new(&wrong.output().unwrap());
    ran.says(4, &["not allowed"]);
    assert!(!ran.stderr.contains("wrong-and-secret"), "{}", ran.stderr);
    leaves_nothing(&place);
}

#[test]
fn a_gap_in_the_chain_is_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    std::fs::remove_file(&slots(&folder)[1]).unwrap();
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &["gap"]);
    leaves_nothing(&place);
}

#[test]
fn a_flipped_bit_anywhere_is_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    for file in slots(&folder) {
        let good = std::fs::read(&file).unwrap();
        for at in [50, 105, good.len() / 2, good.len() - 3] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&file, &bad).unwrap();
            place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &[]);
            leaves_nothing(&place);
        }
        std::fs::write(&file, &good).unwrap();
    }
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(0, &["restored"]);
}

#[test]
fn a_cut_file_is_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    let last = slots(&folder).pop().unwrap();
    let good = std::fs::read(&last).unwrap();
    for size in [0, 60, 100, 140, good.len() - 1] {
        std::fs::write(&last, &good[..size]).unwrap();
        place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &[]);
        leaves_nothing(&place);
    }
}

/// Rewrites a slot as a file that is whole in itself.
fn forge(file: &Path, change: impl FnOnce(&mut LtxFile)) {
    let mut slot = decode_whole(&std::fs::read(file).unwrap()).unwrap();
    change(&mut slot);
    std::fs::write(file, slot.encode().unwrap()).unwrap();
}

#[test]
fn pages_that_do_not_add_up_to_the_replicas_checksum_are_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    forge(&slots(&folder).pop().unwrap(), |slot| {
        let last = slot.pages.last_mut().unwrap();
        *last.1.last_mut().unwrap() ^= 1;
    });
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &["checksum", "nothing was written"]);
    leaves_nothing(&place);
}

#[test]
fn a_file_that_does_not_continue_the_one_before_it_is_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    forge(&slots(&folder)[1], |slot| {
        let mark = slot.header.mark.as_mut().unwrap();
        mark.pre_apply = Checksum::EMPTY;
    });
    place
        .run(&["restore", "-o", &place.text("out.db"), &url])
        .says(6, &["does not continue the file before it"]);
    leaves_nothing(&place);
}

#[test]
fn a_file_under_another_name_is_damage() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    let files = slots(&folder);
    std::fs::copy(&files[0], &files[1]).unwrap();
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &["its name and its header differ"]);
    leaves_nothing(&place);
}

#[test]
fn a_newer_layout_is_refused_loudly() {
    let place = Place::new();
    let (url, _) = replica(&place);
    let head = place.path("replica/lifeboat/head.json");
    let newer =
        std::fs::read_to_string(&head).unwrap().replace("\"formatVersion\": 1", "\"formatVersion\": 2");
    std::fs::write(&head, newer).unwrap();
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(6, &["layout version 2"]);
    leaves_nothing(&place);
}

#[test]
fn an_existing_file_is_not_touched_without_force() {
    let place = Place::new();
    let (url, _) = replica(&place);
    let out = place.text("out.db");
    std::fs::write(&out, b"precious").unwrap();
    place.run(&["restore", "-o", &out, &url]).says(4, &["exists", "--force"]);
    place.run(&["restore", "--if-db-not-exists", "-o", &out, &url]).says(0, &["nothing was done"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    std::fs::write(format!("{out}-wal"), b"of another file").unwrap();
    place.run(&["restore", "--force", "-o", &out, &url]).says(0, &["restored"]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn an_existing_file_survives_a_restore_that_fails() {
    let place = Place::new();
    let (url, folder) = replica(&place);
    let out = place.text("out.db");
    std::fs::write(&out, b"precious").unwrap();
    std::fs::remove_file(&slots(&folder)[0]).unwrap();
    place.run(&["restore", "--force", "-o", &out, &url]).says(6, &[]);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
}

#[test]
fn nothing_stored_is_an_error_unless_that_is_fine() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    let (url, out) = (place.url("empty"), place.text("out.db"));
    place.run(&["restore", "-o", &out, &url]).says(4, &["holds no database", "--if-replica-exists"]);
    place.run(&["restore", "--if-replica-exists", "-o", &out, &url]).says(0, &["nothing was done"]);
    leaves_nothing(&place);
}

#[test]
fn the_restored_file_is_as_accessible_as_the_one_it_replaces_or_as_its_folder() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let (url, _) = replica(&place);
    let mode = |name: &str| place.path(name).metadata().unwrap().permissions().mode() & 0o777;
    let set = |name: &str, mode| {
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (folder, file) in [(0o755, 0o644), (0o2775, 0o664), (0o700, 0o600), (0o1777, 0o600), (0o777, 0o600)] {
        set("", folder);
        place.run(&["restore", "--force", "-o", &place.text("out.db"), &url]).says(0, &[]);
        assert_eq!(mode("out.db"), file);
        std::fs::remove_file(place.path("out.db")).unwrap();
    }
    place.run(&["restore", "-o", &place.text("out.db"), &url]).says(0, &[]);
    set("out.db", 0o660);
    place.run(&["restore", "--force", "-o", &place.text("out.db"), &url]).says(0, &[]);
    assert_eq!(mode("out.db"), 0o660);
}

#[test]
fn the_result_is_json_on_request() {
    let place = Place::new();
    let (url, _) = replica(&place);
    let ran = place.run(&["restore", "--json", "-o", &place.text("out.db"), &url]);
    ran.says(0, &[]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["outcome"], "restored");
    assert_eq!(json["bytes"], place.path("out.db").metadata().unwrap().len());
}

#[test]
fn how_far_a_restore_is_can_be_read_by_a_program_and_never_stands_in_the_result() {
    let (place, s3) = (Place::new(), S3Server::start());
    let road = Proxy::start(s3.port());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let url = "s3://lifeboat/app";
    let running = place.start_with(&["replicate", &place.text("app.db"), url], "stored txid", Some(&s3));
    assert_eq!(running.stop().0, Some(0));
    // The pages take longer than ten seconds.
    road.set(Trap { hold: Hold::Answer, method: "GET", part: "/0000/", nth: 1 });
    let (out, endpoint) = (place.text("out.db"), road.endpoint());
    let args = [
        "--log-format",
        "json",
        "restore",
        "--json",
        "--wait",
        "90s",
        "--endpoint",
        &endpoint,
        "-o",
        &out,
        url,
    ];
    let mut command = support::lifeboat(&args);
    command.envs(s3.credentials()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let restoring = command.spawn().unwrap();
    assert!(road.is_sprung_within(Duration::from_secs(60)));
    std::thread::sleep(Duration::from_millis(10_500));
    road.free();
    let ran = Ran::new(&restoring.wait_with_output().unwrap());
    ran.says(0, &[]);
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let lines = ran.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let said: Vec<_> = lines.filter(|line| line["fetched"].is_u64()).collect();
    let number = |name: &str| said[0][name].as_u64().unwrap();
    assert!(number("fetched") > 0 && number("total") >= number("fetched"), "{}", ran.stderr);
}
