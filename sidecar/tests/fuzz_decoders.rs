//! Whatever bytes a disk or a bucket returns, no decoder panics: a short fuzz run with what a stable compiler has.
//!
//! The seeds are what the program and SQLite write themselves, in a run of their own, so they are never of an old format.
//! Mutations are the same in every run. `make fuzz` goes on from the same seeds with a fuzzer that sees which code it
//! reaches; it asks for them by `FUZZ_SEEDS`, a folder.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use lifeboat::config::Config;
use lifeboat_ltx::{FileName, Tail, Txid};
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_wal::checksum::{ByteOrder, Checksum};
use lifeboat_wal::frame::frame_bytes;
use lifeboat_wal::header::{WAL_HEADER_BYTES, WalHeader};
use support::Place;
use support::dice::Dice;

/// A decoder, and what it should find in bytes.
struct Target {
    name: &'static str,
    decode: fn(&[u8]),
    seeds: Vec<Vec<u8>>,
}

impl Target {
    /// Reading a config takes a hundred times as long as any other.
    fn rounds(&self) -> usize {
        if self.name == "config" { ROUNDS / 20 } else { ROUNDS }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let seeds = Seeds::write();
    for target in seeds.targets() {
        println!("{}: {} seeds", target.name, target.seeds.len());
        keep(&target);
        let mut dice = Dice::new(1);
        for round in 0..target.rounds() {
            let mut bytes = mutate(&target.seeds, &mut dice);
            // A right checksum in front of wrong bytes leads deeper than a wrong one.
            if target.name == "wal_scan" && dice.percent(70) {
                seal_wal(&mut bytes);
            }
            let decoded = catch_unwind(AssertUnwindSafe(|| (target.decode)(&bytes)));
            if decoded.is_err() {
                let file = std::env::temp_dir().join(format!("lifeboat-fuzz-{}-{round}", target.name));
                std::fs::write(&file, &bytes).unwrap();
                panic!("{} panics; the bytes are in {}", target.name, file.display());
            }
        }
    }
}

/// Files of a database that was replicated, one checkpoint and one restart included.
struct Seeds {
    place: Place,
}

impl Seeds {
    fn write() -> Self {
        let place = Place::new();
        let (db, url) = (place.text("app.db"), place.url("replica"));
        let application = place.open("app.db");
        let tables =
            "PRAGMA page_size=512; PRAGMA journal_mode=WAL; CREATE TABLE t (x); CREATE INDEX i ON t (x);";
        application.execute_batch(tables).unwrap();
        for _ in 0..2 {
            let running = place.start(&["replicate", "--sync-interval", "10ms", &db, &url], "following");
            for n in 0..5 {
                application.execute("INSERT INTO t VALUES (?1)", [format!("row {n}").repeat(40)]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            running.stop();
        }
        // By another process: closing a descriptor here would drop the locks that SQLite holds in this one.
        let copy = format!("cp '{db}-wal' '{db}.wal' && cp '{db}-shm' '{db}.shm'");
        assert!(Command::new("sh").args(["-c", &copy]).status().unwrap().success());
        Self { place }
    }

    fn targets(&self) -> Vec<Target> {
        let (wal, shm) = (self.read("app.db.wal"), self.read("app.db.shm"));
        let head = self.read("replica/lifeboat/head.json");
        let target = |name, decode, seeds| Target { name, decode, seeds };
        vec![
            target("wal_header", lifeboat_wal::header::fuzz_wal_header, vec![wal[..32].to_vec()]),
            target("wal_scan", lifeboat_wal::scan::fuzz_wal_scan, vec![wal]),
            target("wal_index", lifeboat_wal::wal_index::fuzz_wal_index, vec![shm[..160].to_vec()]),
            target("ltx_file", lifeboat_ltx::fuzz_ltx_file, files_below(&self.place.path("replica"), "ltx")),
            target("page_index", lifeboat_ltx::fuzz_page_index, self.page_indexes()),
            target("object_name", lifeboat_replica::layout::fuzz_object_name, object_names()),
            target("config", fuzz_config, configs()),
            target("head", lifeboat_replica::head::fuzz_head, vec![head]),
            target("fork_note", lifeboat_replica::fork::fuzz_note, fork_notes()),
            target("page_log", lifeboat_replica::page_log::fuzz_page_log, self.page_logs()),
        ]
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.place.path(name)).unwrap()
    }

    /// A header, where the index lies, and the index, as `fuzz_page_index` wants them.
    fn page_indexes(&self) -> Vec<Vec<u8>> {
        let files = files_below(&self.place.path("replica"), "ltx").into_iter();
        let indexes = files.map(|file| {
            let size = Tail::size(&file, file.len() as u64).unwrap();
            let at = file.len() - usize::try_from(size).unwrap();
            let end = file.len() - usize::try_from(Tail::MIN_SIZE).unwrap();
            [&file[..100], &(at as u64).to_be_bytes(), &file[at..end]].concat()
        });
        indexes.collect()
    }

    fn page_logs(&self) -> Vec<Vec<u8>> {
        let log = std::fs::read(self.place.path(".app.db-lifeboat/pages"));
        vec![log.unwrap_or_else(|_| b"lifeboat page log 1\n\x01\x08\0\0\0\0\0\0\0".to_vec())]
    }
}

fn object_names() -> Vec<Vec<u8>> {
    let name = FileName::slot(Txid::FIRST);
    let keys = [Layout::Bucket, Layout::Directory]
        .map(|layout| Level::ALL.map(|level| layout.file_key(level, name)));
    keys.into_iter().flatten().map(String::into_bytes).collect()
}

/// Whatever a config file holds, it is understood or refused.
fn fork_notes() -> Vec<Vec<u8>> {
    let owner = r#"{"nonce": "00", "cluster": "", "namespace": "", "name": "host", "podUID": ""}"#;
    let note = format!(
        r#"{{"formatVersion": 1, "why": "fenced", "savedMs": 1, "owner": {owner}, "lineage": "l", "base": {{"txid": 4}},
            "transactions": 2, "pageCount": 3, "pageSize": 4096, "checksum": "9fffffffffffffff", "bytes": 9000}}"#
    );
    lifeboat_replica::fork::Note::decode(note.as_bytes()).unwrap();
    vec![note.into_bytes()]
}

fn fuzz_config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text);
    }
}

/// The config files of the pages.
fn configs() -> Vec<Vec<u8>> {
    let page = include_str!("../../docs/config.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.as_bytes().to_vec()).collect()
}

/// Every file below a folder with a name that ends so.
fn files_below(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(files_below(&entry, ending));
        } else if entry.to_string_lossy().ends_with(ending) {
            files.push(std::fs::read(entry).unwrap());
        }
    }
    files
}

/// Leaves the seeds for the fuzzer, if it wants them.
fn keep(target: &Target) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    let folder = Path::new(&folder).join(target.name);
    std::fs::create_dir_all(&folder).unwrap();
    for (seed, number) in target.seeds.iter().zip(0..) {
        std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
}

/// One of the seeds with a few things wrong.
fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let rest = bytes.len() - at;
        match dice.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            2 => drop(bytes.drain(at..at + dice.below(rest + 1))),
            3 => {
                let other = &seeds[dice.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
            4 if rest >= 4 => {
                let number = dice.one_of(&[0, 1, 511, 512, 65_536, 65_537, i32::MAX as u32, u32::MAX]);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            _ if rest > 0 => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes
}

/// Makes the checksums of a WAL right again, and the salts of its frames, as far as its header can be understood.
fn seal_wal(bytes: &mut [u8]) {
    let Some((header, mut frames)) = bytes.split_first_chunk_mut::<WAL_HEADER_BYTES>() else { return };
    let order = if header[3] & 1 == 0 { ByteOrder::Little } else { ByteOrder::Big };
    let mut checksum = Checksum::default().update(order, &header[..24]);
    put(&mut header[24..], checksum);
    let Ok(header_now) = WalHeader::decode(header) else { return };
    let size = frame_bytes(header_now.page_size);
    while let Some((frame, rest)) = frames.split_at_mut_checked(size) {
        frame[8..16].copy_from_slice(&header_now.salts.0);
        checksum = checksum.update(order, &frame[..8]).update(order, &frame[24..]);
        put(&mut frame[16..24], checksum);
        frames = rest;
    }
}

fn put(place: &mut [u8], checksum: Checksum) {
    place[..4].copy_from_slice(&checksum.first.to_be_bytes());
    place[4..8].copy_from_slice(&checksum.second.to_be_bytes());
}

/// Mutations of each target; as many as a short run has time for.
const ROUNDS: usize = 60_000;
