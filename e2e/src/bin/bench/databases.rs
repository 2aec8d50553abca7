//! Makes databases, and holds a restored one against its source.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

/// How a restored database equals its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Equal {
    /// Every byte of the files.
    Bytes,
    /// Every row of every table, but not every byte.
    Rows,
}

/// Makes a database of about so many megabytes, in WAL mode: orders with an index, text, and payloads that no compression
/// makes smaller, three fifths of each row.
///
/// # Errors
/// When SQLite or the disk refuses.
pub(crate) fn generate(path: &Path, megabytes: u64) -> Result<()> {
    let part = path.with_extension("part");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let connection = Connection::open(&part)?;
    connection.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")?;
    connection.execute_batch(SCHEMA)?;
    let mut insert = connection.prepare(ROWS)?;
    loop {
        insert.execute([])?;
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if u64::try_from(pages)? * PAGE_BYTES >= megabytes << 20 {
            break;
        }
    }
    drop(insert);
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    File::open(&part)?.sync_all()?;
    std::fs::rename(&part, path)?;
    Ok(())
}

/// Makes a database of a few pages, in WAL mode.
///
/// # Errors
/// When SQLite or the disk refuses.
pub(crate) fn generate_tiny(path: &Path) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch("INSERT INTO orders VALUES (1, 7, 'now', 'one order', randomblob(300))")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Copies a database that nobody uses.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    File::open(to)?.sync_all()?;
    Ok(())
}

/// Rewrites the payload of one row in a hundred, all over the database.
///
/// # Errors
/// When SQLite or the disk refuses.
pub(crate) fn change_one_in_a_hundred(path: &Path) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute("UPDATE orders SET payload = randomblob(length(payload)) WHERE id % 700 < 7", [])?;
    Ok(())
}

/// Compares a restored database with its source, whose application and sidecar have ended.
///
/// # Errors
/// When a row differs.
pub(crate) fn compare(source: &Path, restored: &Path) -> Result<Equal> {
    let connection = Connection::open(source)?;
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    ensure!(busy == 0, "somebody still uses {}", source.display());
    drop(connection);
    if are_same_bytes(source, restored)? {
        return Ok(Equal::Bytes);
    }
    let connection = Connection::open_with_flags(source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute("ATTACH ?1 AS restored", [restored.to_str().context("a path that is no text")?])?;
    let tables = tables(&connection, "main")?;
    ensure!(tables == self::tables(&connection, "restored")?, "the tables differ");
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        let (differing, rows) = count_differing(&connection, &quoted)?;
        if differing > 0 {
            bail!("{table}: {differing} of {rows} rows differ");
        }
    }
    Ok(Equal::Rows)
}

fn tables(connection: &Connection, schema: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT name FROM {schema}.sqlite_schema WHERE type='table' ORDER BY name");
    let mut statement = connection.prepare(&sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn count_differing(connection: &Connection, table: &str) -> Result<(i64, i64)> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM (SELECT rowid, * FROM main.\"{table}\" EXCEPT SELECT rowid, * FROM restored.\"{table}\"))
              + (SELECT count(*) FROM (SELECT rowid, * FROM restored.\"{table}\" EXCEPT SELECT rowid, * FROM main.\"{table}\")),
                (SELECT count(*) FROM main.\"{table}\")"
    );
    Ok(connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn are_same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut chunk_a, mut chunk_b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let read = a.read(&mut chunk_a)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut chunk_b[..read])?;
        if chunk_a[..read] != chunk_b[..read] {
            return Ok(false);
        }
    }
}

const PAGE_BYTES: u64 = 4096;
const CHUNK: usize = 1 << 20;
const SCHEMA: &str =
    "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, at TEXT NOT NULL,
        note TEXT NOT NULL, payload BLOB NOT NULL);
    CREATE INDEX orders_by_customer ON orders(customer);";
/// Some thousand rows of about half a kilobyte.
const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
    INSERT INTO orders(customer, at, note, payload)
    SELECT abs(random()) % 100000, datetime(1700000000 + i, 'unixepoch'),
        printf('order %d: %d pieces, to be delivered in the morning, by the entrance in the yard, for customer %d who asks not to ring',
            i, abs(random()) % 50, abs(random()) % 100000),
        randomblob(200 + abs(random()) % 200)
    FROM n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_database_has_its_size_and_its_copy_equals_it() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.db"), folder.path().join("b.db"));
        generate(&a, 4).unwrap();
        let bytes = std::fs::metadata(&a).unwrap().len();
        assert!((4 << 20..8 << 20).contains(&bytes), "{bytes}");
        copy(&a, &b).unwrap();
        assert_eq!(compare(&a, &b).unwrap(), Equal::Bytes);
    }

    #[test]
    fn a_lost_row_and_a_changed_row_are_found_and_a_vacuum_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.db"), folder.path().join("b.db"));
        generate(&a, 1).unwrap();
        copy(&a, &b).unwrap();
        let change = |sql: &str| Connection::open(&b).unwrap().execute_batch(sql).unwrap();
        change("PRAGMA page_size=8192; PRAGMA journal_mode=DELETE; VACUUM; PRAGMA journal_mode=WAL;");
        assert_eq!(compare(&a, &b).unwrap(), Equal::Rows);
        change("UPDATE orders SET note='x' WHERE id=7");
        assert!(compare(&a, &b).unwrap_err().to_string().contains("2 of"));
        change("DELETE FROM orders WHERE id=7");
        assert!(compare(&a, &b).unwrap_err().to_string().contains("1 of"));
    }
}
