//! The real Litestream, and databases to try it on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, Txid, seal};
use lifeboat_wal::{PageCount, PageNo, PageSize};

/// Path of Litestream's binary. Without one these tests pass with a word on stderr, except where CI is set.
pub fn litestream() -> Option<PathBuf> {
    let hint =
        "LITESTREAM_BIN is not set: run `make test`, or LITESTREAM_BIN=$(e2e/peers/litestream.sh) cargo test";
    match std::env::var_os("LITESTREAM_BIN") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => panic!("{hint}"),
        None => {
            eprintln!("SKIPPED: {hint}");
            None
        }
    }
}

/// Runs `litestream restore` from a directory replica and returns the restored bytes.
pub fn restore(litestream: &Path, replica: &Path, out: &Path, txid: Option<Txid>) -> Vec<u8> {
    let mut command = Command::new(litestream);
    command.arg("restore").arg("-o").arg(out);
    if let Some(txid) = txid {
        command.arg("-txid").arg(txid.to_string());
    }
    succeeded(&command.arg(format!("file://{}", replica.display())).output().unwrap());
    let bytes = std::fs::read(out).unwrap();
    std::fs::remove_file(out).unwrap();
    bytes
}

pub fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// A replica in Litestream's directory layout that grows by slots, and the database it stands for.
pub struct Replica {
    pub folder: PathBuf,
    page_size: PageSize,
    commit: u32,
    pages: BTreeMap<PageNo, Vec<u8>>,
    next: Txid,
    epoch: u64,
}

impl Replica {
    pub fn create(folder: &Path, page_size: PageSize) -> Self {
        std::fs::create_dir_all(folder.join("ltx/0")).unwrap();
        let folder = folder.to_owned();
        Self { folder, page_size, commit: 1, pages: BTreeMap::new(), next: Txid::FIRST, epoch: 1 }
    }

    /// Writes the slot that turns what the replica holds into this database.
    pub fn put_slot(&mut self, database: &[u8]) -> Txid {
        let pre_apply = self.checksum();
        let after = pages_of(database, self.page_size);
        let changed: Vec<_> = after
            .iter()
            .filter(|&(page, image)| self.pages.get(page) != Some(image))
            .map(|(&page, image)| (page, image.clone()))
            .collect();
        self.pages = after;
        self.commit = u32::try_from(database.len()).unwrap() / self.page_size.get();
        let mark = Mark { pre_apply, post_apply: self.checksum() };
        let header = self.header(mark);
        self.write(&LtxFile { header, pages: changed }.encode().unwrap())
    }

    /// A new writer takes over.
    pub fn put_seal(&mut self) -> Txid {
        self.epoch += 1;
        let mark = Mark { pre_apply: self.checksum(), post_apply: self.checksum() };
        self.write(&seal(&self.header(mark)).unwrap())
    }

    fn header(&self, mark: Mark) -> Header {
        Header {
            page_size: self.page_size,
            commit: PageCount::new(self.commit),
            min_txid: self.next,
            max_txid: self.next,
            timestamp_ms: 1_700_000_000_000 + i64::try_from(self.next.get()).unwrap() * 1000,
            wal_offset: 32,
            wal_size: 0,
            salts: (0, 0),
            node_id: self.epoch,
            mark: Some(mark),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Txid {
        let txid = self.next;
        std::fs::write(self.folder.join("ltx/0").join(FileName::slot(txid).to_string()), bytes).unwrap();
        self.next = txid.next().unwrap();
        txid
    }

    fn checksum(&self) -> Checksum {
        self.pages
            .iter()
            .fold(Checksum::EMPTY, |sum, (&page, image)| sum.toggle(Checksum::page_checksum(page, image)))
    }
}

/// Cuts a database file into pages, the lock page left out.
pub fn pages_of(database: &[u8], page_size: PageSize) -> BTreeMap<PageNo, Vec<u8>> {
    (1..)
        .map(|number| PageNo::try_new(number).unwrap())
        .zip(database.chunks_exact(page_size.get() as usize))
        .filter(|&(page, _)| page != page_size.lock_page())
        .map(|(page, image)| (page, image.to_vec()))
        .collect()
}
