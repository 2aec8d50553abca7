//! What every application wrote, and what it was told is stored.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, OpenFlags};

/// The rows of one application on one database, numbered from 1 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Up to here SQLite has acknowledged them.
    pub(crate) committed: i64,
    /// Up to here `lifeboat sync` has.
    pub(crate) stored: i64,
}

/// All rows, by who wrote them: a node, and how often its database was replaced.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<String, Rows>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Rows>> {
        self.0.lock().unwrap()
    }

    pub(crate) fn committed(&self, who: &str, n: i64) {
        self.lock().entry(who.to_owned()).or_default().committed = n;
    }

    pub(crate) fn stored(&self, who: &str, n: i64) {
        self.lock().entry(who.to_owned()).or_default().stored = n;
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Rows> {
        self.lock().clone()
    }

    /// Holds a restored copy against what was said before it was restored: everything that was called stored is there, and
    /// of every writer a beginning of what it wrote, without gaps. Returns how many rows there are.
    pub(crate) fn check(&self, before: &BTreeMap<String, Rows>, copy: &Path) -> usize {
        let found = counted(copy);
        for (who, rows) in before {
            let newest = found.get(who).copied().unwrap_or(0);
            assert!(newest >= rows.stored, "{who}: {} rows were stored, and {newest} are there", rows.stored);
        }
        let now = self.all();
        for (who, newest) in &found {
            let committed = now.get(who).unwrap_or_else(|| panic!("{who} never wrote")).committed;
            // One may be committed and not yet written into the ledger.
            assert!(*newest <= committed + 1, "{who} wrote {committed} rows, and {newest} are there");
        }
        found.values().map(|rows| usize::try_from(*rows).unwrap()).sum()
    }
}

/// How many rows of each writer a database holds; they are whole and without gaps.
pub(crate) fn counted(database: &Path) -> BTreeMap<String, i64> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let checked: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(checked, "ok", "{}", database.display());
    let mut statement = connection
        .prepare("SELECT who, count(*), max(n), sum(length(x) <> 40 + n % 300) FROM t GROUP BY who")
        .unwrap();
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    });
    let of_writer = |(who, count, newest, wrong): (String, i64, i64, i64)| {
        assert_eq!((count, wrong), (newest, 0), "{}: rows of {who} are missing or wrong", database.display());
        (who, count)
    };
    rows.unwrap().map(|row| of_writer(row.unwrap())).collect()
}

/// One row as its application writes it.
pub(crate) fn row(who: &str, n: i64) -> String {
    format!("INSERT INTO t VALUES ('{who}', {n}, zeroblob({}))", 40 + n % 300)
}
