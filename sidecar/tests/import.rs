//! What Litestream 0.3 has stored comes back, byte for byte as it restores it itself, or not at all.
//!
//! The fixture was written by the real 0.3.13, which also made `restored.db` of it: `make.sh` beside it says how.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lifeboat_store::{Body, KeptAs, Keys, S3, S3Config, Store};
use support::{Place, dump, s3::S3Server};

const OLDER: &str = "e2527f0198df763c";
const NEWER: &str = "7481dbb6a2f268d6";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/litestream-0.3.13")
}

/// Every object of the fixture in the order in which it was stored, as a path below `generations`.
fn objects() -> Vec<String> {
    let mut objects = Vec::new();
    for generation in [OLDER, NEWER] {
        let name = |wal: u32| format!("{generation}/snapshots/{wal:08x}.snapshot.lz4");
        let mut pieces: Vec<_> = fs::read_dir(fixture().join("generations").join(generation).join("wal"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        pieces.sort();
        let mut last = None;
        for piece in pieces {
            let wal = u32::from_str_radix(&piece[..8], 16).unwrap();
            if last != Some(wal) && fixture().join("generations").join(name(wal)).exists() {
                objects.push(name(wal));
            }
            last = Some(wal);
            objects.push(format!("{generation}/wal/{piece}"));
        }
    }
    objects
}

/// Copies the fixture; each object is a second younger than the one before it. A checkout does not keep that.
fn copy(to: &Path) -> Vec<PathBuf> {
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN);
    let mut copied = Vec::new();
    for (number, name) in objects().into_iter().enumerate() {
        let path = to.join("generations").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture().join("generations").join(&name), &path).unwrap();
        let time = begin + Duration::from_secs(number as u64);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        copied.push(path);
    }
    copied
}

/// The same in a bucket, put there by its server.
fn upload(s3: &S3Server, prefix: &str) {
    let [(_, id), (_, secret), _] = s3.credentials();
    let config = S3Config {
        bucket: "lifeboat".to_owned(),
        path: prefix.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(s3.endpoint()),
        force_path_style: true,
        credentials_dir: None,
        keys: Some(Keys { id: id.to_owned(), secret: secret.to_owned() }),
        kept_as: KeptAs::default(),
        ca_file: None,
        attempt_timeout: Duration::from_secs(10),
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = S3::open(config).await.unwrap();
        for name in objects() {
            let bytes = fs::read(fixture().join("generations").join(&name)).unwrap();
            store.put_new(&format!("generations/{name}"), Body::from(bytes), None).await.unwrap();
        }
    });
    for (number, name) in objects().into_iter().enumerate() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN + number as u64);
        let file = s3.file(&format!("{prefix}/generations/{name}"));
        File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }
}

const BEGIN: u64 = 1_700_000_000;

fn second(number: usize) -> String {
    jiff::Timestamp::from_second(i64::try_from(number).unwrap() + i64::try_from(BEGIN).unwrap())
        .unwrap()
        .to_string()
}

fn rows(place: &Place, name: &str) -> Vec<String> {
    dump(&place.path(name)).into_iter().filter(|row| row.starts_with("t:")).collect()
}

#[test]
fn the_newest_state_is_what_litestream_makes_of_it_byte_for_byte() {
    let place = Place::new();
    copy(&place.path("old"));
    let out = place.text("out.db");
    place
        .run(&["import", "-o", &out, &place.url("old")])
        .says(0, &["Litestream 0.3", NEWER, "00000004_00000000"]);
    assert!(fs::read(&out).unwrap() == fs::read(fixture().join("restored.db")).unwrap());
    place.run(&["import", "-o", &out, &place.url("old")]).says(4, &["exists"]);
    let json =
        place.run(&["import", "--json", "--force", "--generation", OLDER, "-o", &out, &place.url("old")]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["format"], &json["generation"]), (&"0.3".into(), &OLDER.into()), "{json}");
    // The application's rows of the first half of the fixture's life.
    assert_eq!(rows(&place, "out.db").len(), 8);
}

#[test]
fn nothing_is_put_in_the_place_of_a_database_that_is_followed() {
    let place = Place::new();
    copy(&place.path("old"));
    let application = place.open("app.db");
    application
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE ours(x); INSERT INTO ours VALUES (1)")
        .unwrap();
    let running = place.start(&["replicate", &place.text("app.db"), &place.url("new")], "stored txid");
    let before = dump(&place.path("app.db"));
    place.run(&["import", "--force", "-o", &place.text("app.db"), &place.url("old")]).says(4, &["app.db"]);
    assert_eq!(dump(&place.path("app.db")), before);
    running.kill();
}

#[test]
fn from_a_bucket_too_and_then_it_is_stored_anew() {
    let (place, s3) = (Place::new(), S3Server::start());
    upload(&s3, "old");
    let out = place.text("out.db");
    place
        .run_with(&["import", "-o", &out, "s3://lifeboat/old"], Some(&s3))
        .says(0, &["Litestream 0.3", NEWER]);
    assert!(fs::read(&out).unwrap() == fs::read(fixture().join("restored.db")).unwrap());
    place.run_with(&["replicate", "--once", &out, "s3://lifeboat/new"], Some(&s3)).says(0, &[]);
    let again = place.text("again.db");
    place.run_with(&["import", "-o", &again, "s3://lifeboat/new"], Some(&s3)).says(0, &["Litestream 0.5"]);
    assert_eq!(dump(&place.path("again.db")), dump(&place.path("out.db")));
    // A prefix that was used by both.
    place.run_with(&["replicate", "--once", &out, "s3://lifeboat/old"], Some(&s3)).says(0, &[]);
    let both = place.text("both.db");
    place.run_with(&["import", "-o", &both, "s3://lifeboat/old"], Some(&s3)).says(2, &["--format 0.3"]);
    place
        .run_with(&["import", "--format", "0.3", "-o", &both, "s3://lifeboat/old"], Some(&s3))
        .says(0, &[NEWER]);
}

#[test]
fn a_time_gives_the_state_of_then() {
    let place = Place::new();
    let objects = copy(&place.path("old"));
    let mut counts = Vec::new();
    for number in 0..objects.len() {
        let out = place.text("out.db");
        let at = second(number);
        let args = ["import", "--force", "-o", &out, "--timestamp", &at, &place.url("old")];
        let ran = place.run(&args);
        // In the beginning there is a snapshot, and no table in it.
        ran.says(0, &[]);
        counts.push(rows(&place, "out.db").len());
    }
    println!("{counts:?}");
    assert_eq!((counts[0], counts.last()), (0, Some(&16)));
    let steps: Vec<_> = counts.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect();
    assert!(steps.iter().filter(|step| **step == 1).count() > 15, "{counts:?}");
    let before =
        ["import", "-o", &place.text("none.db"), "--timestamp", "2001-01-01T00:00:00Z", &place.url("old")];
    place.run(&before).says(4, &["no generation"]);
}

#[test]
fn whatever_is_damaged_is_named_and_never_taken_for_the_end() {
    let place = Place::new();
    let objects = copy(&place.path("old"));
    let (out, url) = (place.text("out.db"), place.url("old"));
    let used: Vec<_> = objects.iter().filter(|object| object.to_string_lossy().contains(NEWER)).collect();
    let first = used.iter().rposition(|object| object.to_string_lossy().contains("snapshot")).unwrap();
    for object in &used[first..] {
        let (name, good) = (object.file_name().unwrap().to_str().unwrap(), fs::read(object).unwrap());
        let modified = object.metadata().unwrap().modified().unwrap();
        let put = |bytes: &[u8]| {
            fs::write(object, bytes).unwrap();
            File::options().write(true).open(object).unwrap().set_modified(modified).unwrap();
        };
        let refused = |what: &str| {
            let ran = place.run(&["import", "-o", &out, &url]);
            assert_eq!(ran.code, Some(6), "{what} of {name}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains(name), "{what} of {name}: {}", ran.stderr);
            assert!(!Path::new(&out).exists());
        };
        for cut in
            [0, 3, 4, 7, 11, good.len() / 2, good.len() - 9, good.len() - 8, good.len() - 4, good.len() - 1]
        {
            put(&good[..cut]);
            refused(&format!("a cut at {cut}"));
        }
        for at in [1, 4, 8, good.len() / 2, good.len() - 2] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            put(&bad);
            refused(&format!("a flip at {at}"));
        }
        put(&good);
    }
    // A piece that is missing, unless it is the last; and the point before it is offered, and can be had.
    let middle = used.iter().find(|object| object.ends_with("00000003_00000238.wal.lz4")).unwrap();
    fs::remove_file(middle).unwrap();
    let refused = place.run(&["import", "-o", &out, &url]);
    refused
        .says(6, &["00000003_00000238 that comes before it is missing", "--stop-before 00000003_00000450"]);
    fs::remove_file(used.iter().find(|object| object.ends_with("00000003_00000000.wal.lz4")).unwrap())
        .unwrap();
    place.run(&["import", "-o", &out, &url]).says(6, &["00000003_00000000 is missing"]);
    place
        .run(&["import", "--stop-before", "00000003_00000000", "-o", &out, &url])
        .says(0, &["00000002_00000a98"]);
    assert!(rows(&place, "out.db").len() > 8);
}

#[test]
fn what_holds_nothing_of_litestream_is_refused() {
    let (place, s3) = (Place::new(), S3Server::start());
    let out = place.text("out.db");
    fs::create_dir(place.path("empty")).unwrap();
    place.run(&["import", "-o", &out, &place.url("empty")]).says(4, &["holds nothing that Litestream"]);
    place.run_with(&["import", "-o", &out, "s3://mistyped/x"], Some(&s3)).says(4, &["no bucket"]);
    copy(&place.path("old"));
    place.run(&["restore", "-o", &out, &place.url("old")]).says(4, &["lifeboat import"]);
}
