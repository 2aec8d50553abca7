//! What we write, the official Litestream restores, byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of a pure crate may touch the world"
)]

mod peer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, Txid, seal};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use rusqlite::Connection;

/// Runs SQL and returns the database file's bytes.
fn after(connection: &Connection, path: &Path, sql: &str) -> Vec<u8> {
    connection.execute_batch(sql).unwrap();
    std::fs::read(path).unwrap()
}

fn create(path: &Path, page_size: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = FULL")).unwrap();
    connection
}

const HISTORY: [&str; 6] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
     INSERT INTO t (body) SELECT randomblob(3000) FROM n",
    "UPDATE t SET body = zeroblob(3000) WHERE id % 3 = 0",
    "DELETE FROM t WHERE id > 20",
    "INSERT INTO t (body) VALUES (randomblob(200000))",
    "VACUUM",
];

#[test]
fn litestream_restores_every_slot_of_every_page_size_across_seals() {
    let litestream = peer::litestream();
    for page_size in [512, 4096, 65_536] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        let connection = create(&database, page_size);
        let mut replica =
            Replica::create(&folder.path().join("replica"), PageSize::try_new(page_size).unwrap());
        let mut points = Vec::new();
        for sql in HISTORY {
            let bytes = after(&connection, &database, sql);
            points.push((replica.put_slot(&bytes), bytes.clone()));
            points.push((replica.put_seal(), bytes));
        }
        let out = folder.path().join("out.db");
        for (txid, expected) in &points {
            let restored = peer::restore(&litestream, &replica.folder, &out, Some(*txid));
            assert!(restored == *expected, "page size {page_size}, TXID {txid}");
        }
        let newest = peer::restore(&litestream, &replica.folder, &out, None);
        assert!(newest == points.last().unwrap().1, "page size {page_size}, newest");
    }
}

#[test]
fn litestream_restores_a_replica_whose_first_slot_is_a_seal() {
    let litestream = peer::litestream();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let bytes = after(&create(&database, 4096), &database, HISTORY[0]);
    let mut replica = Replica::create(&folder.path().join("replica"), PageSize::try_new(4096).unwrap());
    replica.put_seal();
    replica.put_slot(&bytes);
    let restored = peer::restore(&litestream, &replica.folder, &folder.path().join("out.db"), None);
    assert!(restored == bytes);
}

#[test]
fn litestream_restores_a_database_larger_than_the_lock_page() {
    let litestream = peer::litestream();
    let page_size = PageSize::MAX;
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 0x4000_0000 + 2 * page_size.get() as usize];
    // The lock page stays zero, as SQLite leaves it; its neighbours do not.
    let lock_page = 0x4000_0000;
    bytes[lock_page - 1] = 1;
    bytes[lock_page + page_size.get() as usize] = 2;
    let mut replica = Replica::create(&folder.path().join("replica"), page_size);
    replica.put_slot(&bytes);
    let restored = peer::restore(&litestream, &replica.folder, &folder.path().join("out.db"), None);
    assert!(restored == bytes);
}

/// A replica in Litestream's directory layout that grows by slots, and the database it stands for.
struct Replica {
    folder: PathBuf,
    page_size: PageSize,
    commit: u32,
    pages: BTreeMap<PageNo, Vec<u8>>,
    next: Txid,
    epoch: u64,
}

impl Replica {
    fn create(folder: &Path, page_size: PageSize) -> Self {
        std::fs::create_dir_all(folder.join("ltx/0")).unwrap();
        let folder = folder.to_owned();
        Self { folder, page_size, commit: 1, pages: BTreeMap::new(), next: Txid::FIRST, epoch: 1 }
    }

    /// Writes the slot that turns what the replica holds into this database.
    fn put_slot(&mut self, database: &[u8]) -> Txid {
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
    fn put_seal(&mut self) -> Txid {
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
fn pages_of(database: &[u8], page_size: PageSize) -> BTreeMap<PageNo, Vec<u8>> {
    (1..)
        .map(|number| PageNo::try_new(number).unwrap())
        .zip(database.chunks_exact(page_size.get() as usize))
        .filter(|&(page, _)| page != page_size.lock_page())
        .map(|(page, image)| (page, image.to_vec()))
        .collect()
}
