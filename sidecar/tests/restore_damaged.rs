//! Every merged file and snapshot of a live history, damaged in every way: what is restored is the same to the byte, or nothing
//! is and the message names the file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_ltx::{Checksum, LtxFile, PageChecksum, decode_whole};
use support::Place;

/// Of the first half of the history only merged files are left; of the second half the slots are there too.
const HISTORY: &str = "levels: [{interval: 200ms}, {interval: 700ms}, {interval: 1500ms}]\nl0-retention: 1500ms\n\
    snapshot: {interval: 2s}\nretention: {window: 1h}\nsync-interval: 20ms\n";

/// A replica with files of every level.
fn history(place: &Place) -> String {
    let (config, db, url) = (place.path("lifeboat.yml"), place.text("app.db"), place.url("replica"));
    std::fs::write(&config, format!("{HISTORY}dbs: [{{path: '{db}', replica: {{url: '{url}'}}}}]\n"))
        .unwrap();
    let app = place.open("app.db");
    app.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x);
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100)
        INSERT INTO t SELECT n, randomblob(3000) FROM c;",
    )
    .unwrap();
    let running = place.start(&["replicate", "--config", &config.display().to_string()], "following");
    let begun = std::time::Instant::now();
    for n in 0_i64.. {
        app.execute("INSERT INTO t (x) VALUES (randomblob(?1))", [200 + n % 5 * 300]).unwrap();
        app.execute("UPDATE t SET x = randomblob(300) WHERE n = ?1 % 17", [n]).unwrap();
        std::thread::sleep(Duration::from_millis(12));
        if begun.elapsed() > Duration::from_secs(6) && derived(place).len() > 20 {
            break;
        }
    }
    assert_eq!(running.stop().0, Some(0));
    url
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ltx"));
    paths.sort();
    paths
}

/// The files of the levels above the slots.
fn derived(place: &Place) -> Vec<PathBuf> {
    [1, 2, 3, 9].iter().flat_map(|level| names(&place.path(&format!("replica/ltx/{level}")))).collect()
}

/// The last TXID in a file's name.
fn end(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap()[17..33].to_owned()
}

/// The same file as another database would have it: whole in itself, with other pages and other checksums.
fn foreign(good: &[u8]) -> Vec<u8> {
    let mut file = decode_whole(good).unwrap();
    for (page, image) in &mut file.pages {
        if page.get() > 1 {
            image.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
    }
    let whole = file
        .pages
        .iter()
        .fold(Checksum::EMPTY, |sum, (page, image)| sum.toggle(PageChecksum::of(*page, image)));
    let mark = file.header.mark.as_mut().unwrap();
    mark.post_apply = whole;
    if file.header.min_txid.get() > 1 {
        mark.pre_apply = Checksum::EMPTY;
    }
    LtxFile { ..file }.encode().unwrap()
}

/// What may happen to a file.
fn damages(good: &[u8], other: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let flipped = |at: usize| {
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        bad
    };
    vec![
        ("a flip in its header", Some(flipped(50))),
        ("a flip in its checksums", Some(flipped(90))),
        ("a flip in its pages", Some(flipped(good.len() / 2))),
        ("a flip at its end", Some(flipped(good.len() - 3))),
        ("cut in the middle", Some(good[..good.len() / 2].to_vec())),
        ("cut by a byte", Some(good[..good.len() - 1].to_vec())),
        ("empty", Some(Vec::new())),
        ("missing", None),
        ("swapped with another", Some(other.to_vec())),
        ("another database's", Some(foreign(good))),
    ]
}

struct Counts {
    around: usize,
    unused: usize,
    refused: usize,
}

#[test]
fn a_damaged_merged_file_is_routed_around_exactly_or_refused_by_its_name() {
    let place = Place::new();
    let url = history(&place);
    let restore = |more: &[&str]| {
        let _ = std::fs::remove_file(place.path("out.db"));
        place.run(&[&["restore", "--json", "-o", &place.text("out.db"), &url], more].concat())
    };
    let files = derived(&place);
    let is_large = |file: &&PathBuf| file.metadata().unwrap().len() > lifeboat::restore::WHOLE_BYTES_MAX;
    assert!(files.iter().any(|file| is_large(&file)) && !files.iter().all(|file| is_large(&file)));
    let mut counts = Counts { around: 0, unused: 0, refused: 0 };
    for (n, file) in files.iter().enumerate() {
        let (good, other) =
            (std::fs::read(file).unwrap(), std::fs::read(&files[(n + 1) % files.len()]).unwrap());
        for wanted in [&[][..], &["--txid", &end(file)]] {
            restore(wanted).says(0, &[]);
            let expected = std::fs::read(place.path("out.db")).unwrap();
            for (what, bad) in damages(&good, &other) {
                let is_gone = bad.is_none();
                match bad {
                    Some(bad) => std::fs::write(file, bad).unwrap(),
                    None => std::fs::remove_file(file).unwrap(),
                }
                let case = format!("{} is {what}, {wanted:?}", file.display());
                is_exact_or_named(&place, &restore(wanted), &expected, file, is_gone, &case, &mut counts);
            }
            std::fs::write(file, &good).unwrap();
        }
    }
    let Counts { around, unused, refused } = counts;
    println!("{} files: routed around {around}, not needed {unused}, refused {refused}", files.len());
    assert!(around > 20 && unused > 20 && refused > 0, "{around} {unused} {refused}");
}

fn is_exact_or_named(
    place: &Place,
    ran: &support::Ran,
    expected: &[u8],
    file: &Path,
    is_gone: bool,
    case: &str,
    counts: &mut Counts,
) {
    let name = file.file_name().unwrap().to_str().unwrap();
    if ran.code == Some(0) {
        assert!(
            std::fs::read(place.path("out.db")).unwrap() == expected,
            "{case}: another state: {}",
            ran.stdout
        );
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        match json["routedAround"].as_array() {
            Some(around) => {
                let is_named = around.iter().any(|around| around["file"].as_str().unwrap().ends_with(name));
                assert!(is_named && ran.stderr.contains(name), "{case}: {} {}", ran.stdout, ran.stderr);
                counts.around += 1;
            }
            None => counts.unused += 1,
        }
        return;
    }
    assert!(!place.path("out.db").exists(), "{case}");
    let is_true = if is_gone {
        ran.code == Some(6) && ran.stderr.contains("the chain has")
            || ran.code == Some(4) && ran.stderr.contains("nearest restorable")
            || ran.code == Some(4) && ran.stderr.contains("restorable state")
    } else {
        ran.code == Some(6) && ran.stderr.contains("no other files lead there")
    };
    assert!(is_true, "{case}: {:?} {}", ran.code, ran.stderr);
    counts.refused += 1;
}
