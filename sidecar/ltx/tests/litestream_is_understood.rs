//! What the official Litestream writes, we decode: whole, by ranges, and as a chain that ends at its own restore.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of a pure crate may touch the world"
)]

mod peer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifeboat_ltx::{FileName, Header, LtxFile, PageFrameDecoder, Tail, decode_whole};
use lifeboat_wal::PageNo;
use rusqlite::Connection;

#[test]
fn every_file_that_litestream_writes_decodes_and_they_lead_to_what_it_restores() {
    let litestream = peer::litestream();
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    write_with_litestream(&litestream, folder.path(), &replica);
    let expected = peer::restore(&litestream, &replica, &folder.path().join("out.db"), None);

    let files = files_in(&replica);
    let levels: std::collections::BTreeSet<_> = files.iter().map(|path| level_of(path)).collect();
    assert!(levels.contains("0") && levels.contains("9") && levels.len() > 2, "{levels:?}");
    let mut slots = BTreeMap::new();
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        let file = decode_whole(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name: FileName = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!((name.min(), name.max()), (file.header.min_txid, file.header.max_txid));
        assert_eq!(file.header.encode().unwrap().as_slice(), &bytes[..100]);
        assert_eq!(by_ranges(&bytes), file, "{}", path.display());
        assert_eq!(decode_whole(&file.encode().unwrap()).unwrap(), file);
        if level_of(path) == "0" {
            slots.insert(name, file);
        }
    }
    assert!(replay(slots.into_values()) == expected);
}

/// Runs `litestream replicate` while a real application writes, until every level is there.
fn write_with_litestream(litestream: &Path, folder: &Path, replica: &Path) {
    let database = folder.join("app.db");
    let connection = Connection::open(&database).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (body)").unwrap();
    let config = format!(
        "levels: [{{interval: 1s}}]\ndbs:\n  - path: {}\n    replica: {{type: file, path: {}, sync-interval: 50ms}}\n",
        database.display(),
        replica.display()
    );
    std::fs::write(folder.join("litestream.yml"), config).unwrap();
    let mut peer = Running(
        Command::new(litestream)
            .args(["replicate", "-config"])
            .arg(folder.join("litestream.yml"))
            .spawn()
            .unwrap(),
    );
    let begin = Instant::now();
    while !replica.join("ltx/1").exists() || begin.elapsed() < Duration::from_secs(3) {
        assert!(begin.elapsed() < Duration::from_secs(60), "litestream wrote no merged file within a minute");
        connection.execute_batch("INSERT INTO t VALUES (randomblob(5000)), (zeroblob(9000))").unwrap();
        sleep(Duration::from_millis(40));
    }
    sleep(Duration::from_secs(1));
    peer.interrupt();
}

struct Running(Child);

impl Running {
    fn interrupt(&mut self) {
        let kill = Command::new("kill").arg("-INT").arg(self.0.id().to_string()).output().unwrap();
        peer::succeeded(&kill);
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn files_in(replica: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(replica.join("ltx"))
        .unwrap()
        .flat_map(|level| std::fs::read_dir(level.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ltx"))
        .collect();
    files.sort();
    files
}

fn level_of(path: &Path) -> String {
    path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Reads a file as a ranged restore does: header, tail, then each page by its place.
fn by_ranges(bytes: &[u8]) -> LtxFile {
    let header = Header::decode(bytes).unwrap();
    let size = bytes.len() as u64;
    let first_guess = bytes.last_chunk::<24>().unwrap();
    let needed = usize::try_from(Tail::size(first_guess, size).unwrap()).unwrap();
    let tail = Tail::decode(&header, size, &bytes[bytes.len() - needed..]).unwrap();
    let mut decoder = PageFrameDecoder::new(header.page_size);
    let mut pages = Vec::new();
    for entry in tail.index.entries() {
        let begin = usize::try_from(entry.offset).unwrap();
        let page = decoder.decode(&bytes[begin..begin + usize::try_from(entry.size).unwrap()]).unwrap();
        assert_eq!(page.no, entry.page);
        pages.push((page.no, page.image.to_vec()));
    }
    LtxFile { header, pages }
}

fn replay(slots: impl Iterator<Item = LtxFile>) -> Vec<u8> {
    let mut pages: BTreeMap<PageNo, Vec<u8>> = BTreeMap::new();
    for slot in slots {
        pages.extend(slot.pages);
        pages.retain(|&page, _| slot.header.commit.contains(page));
    }
    pages.into_values().flatten().collect()
}
