//! What we write, the official Litestream restores, byte for byte.

mod peer;

use std::path::Path;

use lifeboat_wal::PageSize;
use peer::Replica;
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
    let Some(litestream) = peer::litestream() else { return };
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
    let Some(litestream) = peer::litestream() else { return };
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
    let Some(litestream) = peer::litestream() else { return };
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
