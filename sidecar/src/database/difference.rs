//! How two database files differ, table by table, as SQLite sees it. Nobody has them open.

use std::collections::BTreeSet;
use std::path::Path;

use lifeboat_wire::Reason;
use rusqlite::Connection;
use serde::Serialize;

use super::check;
use crate::exit::Failure;

/// How one table of the first database differs from that of the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableDifference {
    /// The table.
    pub(crate) name: String,
    /// Rows that only the first has; `None` where that cannot be said.
    pub(crate) added: Option<u64>,
    /// Rows that only the second has.
    pub(crate) removed: Option<u64>,
    /// Rows that both have under one key, with other values.
    pub(crate) changed: Option<u64>,
    /// Why something cannot be said, or is not what it seems.
    pub(crate) remark: Option<String>,
}

/// The columns of a table.
#[derive(Debug, PartialEq, Eq)]
struct Columns {
    all: Vec<String>,
    /// What tells rows apart: the columns of the primary key, or the number of the row.
    key: Vec<String>,
}

impl TableDifference {
    /// Whether there is anything to be said.
    pub(crate) fn is_any(&self) -> bool {
        let is_equal = [self.added, self.removed, self.changed].iter().all(|count| *count == Some(0));
        !is_equal || self.remark.is_some()
    }

    fn said(name: &str, remark: impl Into<String>) -> Self {
        Self { name: name.to_owned(), added: None, removed: None, changed: None, remark: Some(remark.into()) }
    }
}

/// Compares every table of two databases, by primary key where there is one, else by the number of the row.
///
/// # Errors
/// Refused when one of them cannot be read as a database. A table that cannot be compared is said so.
pub(crate) fn differences(first: &Path, second: &Path) -> Result<Vec<TableDifference>, Failure> {
    let unreadable = |error: rusqlite::Error| {
        let what = format!("{} and {} cannot be compared: {error}", first.display(), second.display());
        Failure::refused(Reason::DatabaseUnreadable, what)
    };
    let connection = check::open(first).map_err(unreadable)?;
    connection.execute("ATTACH ?1 AS theirs", [check::uri(second)]).map_err(unreadable)?;
    let ours = tables(&connection, "main").map_err(unreadable)?;
    let theirs = tables(&connection, "theirs").map_err(unreadable)?;
    Ok(ours
        .union(&theirs)
        .map(|name| compare(&connection, name, ours.contains(name), theirs.contains(name)))
        .collect())
}

fn tables(connection: &Connection, schema: &str) -> rusqlite::Result<BTreeSet<String>> {
    // What an index or a virtual table is made of is in other tables.
    let sql = format!(
        "SELECT name FROM pragma_table_list WHERE schema = '{schema}' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite_%'"
    );
    let mut statement = connection.prepare(&sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

fn compare(connection: &Connection, name: &str, is_ours: bool, is_theirs: bool) -> TableDifference {
    let compared = match (is_ours, is_theirs) {
        (true, true) => compare_rows(connection, name),
        (true, false) => count(connection, "main", name).map(|rows| TableDifference {
            added: Some(rows),
            removed: Some(0),
            changed: Some(0),
            ..TableDifference::said(name, "only the fork has this table")
        }),
        (false, _) => count(connection, "theirs", name).map(|rows| TableDifference {
            added: Some(0),
            removed: Some(rows),
            changed: Some(0),
            ..TableDifference::said(name, "only the replica has this table")
        }),
    };
    compared.unwrap_or_else(|error| TableDifference::said(name, format!("cannot be compared: {error}")))
}

fn count(connection: &Connection, schema: &str, name: &str) -> rusqlite::Result<u64> {
    ask(connection, &format!("SELECT count(*) FROM {schema}.{}", quoted(name)))
}

fn compare_rows(connection: &Connection, name: &str) -> rusqlite::Result<TableDifference> {
    let (ours, theirs) = (columns(connection, "main", name)?, columns(connection, "theirs", name)?);
    if ours != theirs {
        return Ok(TableDifference::said(name, "its columns differ"));
    }
    let table = quoted(name);
    let same_key = ours.key.iter().map(|column| format!("a.{column} IS b.{column}"));
    let same_key = same_key.collect::<Vec<_>>().join(" AND ");
    // As stored: not as a collation sees it, and 1 is not 1.0.
    let other = |column: &String| {
        format!("a.{column} COLLATE BINARY IS NOT b.{column} OR typeof(a.{column}) <> typeof(b.{column})")
    };
    let other = ours.all.iter().map(other).collect::<Vec<_>>().join(" OR ");
    let missing = |from: &str, there: &str| {
        format!(
            "SELECT count(*) FROM {from}.{table} AS a WHERE NOT EXISTS (SELECT 1 FROM {there}.{table} AS b WHERE {same_key})"
        )
    };
    let changed = format!(
        "SELECT count(*) FROM main.{table} AS a JOIN theirs.{table} AS b ON {same_key} WHERE {other}"
    );
    Ok(TableDifference {
        name: name.to_owned(),
        added: Some(ask(connection, &missing("main", "theirs"))?),
        removed: Some(ask(connection, &missing("theirs", "main"))?),
        changed: Some(ask(connection, &changed)?),
        remark: None,
    })
}

fn columns(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Columns> {
    let mut statement = connection.prepare("SELECT name, pk FROM pragma_table_info(?1, ?2) ORDER BY cid")?;
    let found = statement
        .query_map([table, schema], |row| Ok((quoted(&row.get::<_, String>(0)?), row.get::<_, i64>(1)?)))?;
    let found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
    let all: Vec<_> = found.iter().map(|(name, _)| name.clone()).collect();
    let mut key: Vec<_> =
        found.iter().filter(|(_, place)| *place > 0).map(|(name, _)| name.clone()).collect();
    if key.is_empty() {
        // A column of that name hides the number of the row.
        let is_free = |name: &&str| !all.iter().any(|column| column.eq_ignore_ascii_case(&quoted(name)));
        key.extend(["rowid", "_rowid_", "oid"].into_iter().find(is_free).map(str::to_owned));
    }
    if key.is_empty() {
        key.clone_from(&all);
    }
    Ok(Columns { all, key })
}

fn ask(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(schema: &str, ours: &str, theirs: &str) -> Vec<TableDifference> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, sql: &str| {
            let path = folder.path().join(name);
            Connection::open(&path).unwrap().execute_batch(&format!("{schema}; {sql}")).unwrap();
            path
        };
        differences(&file("a b?.db", ours), &file("b.db", theirs)).unwrap()
    }

    fn counts(table: &TableDifference) -> (Option<u64>, Option<u64>, Option<u64>) {
        (table.added, table.removed, table.changed)
    }

    #[test]
    fn rows_are_told_apart_by_primary_key_or_by_their_number() {
        for schema in [
            "CREATE TABLE t (k INTEGER PRIMARY KEY, v)",
            "CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
            "CREATE TABLE t (v, k TEXT, PRIMARY KEY (k))",
            "CREATE TABLE t (v, k UNIQUE)",
            "CREATE TABLE t (\"rowid\", v, k)",
        ] {
            let insert = |rows: &[(u8, u8)]| {
                rows.iter()
                    .map(|(k, v)| format!("INSERT INTO t (k, v) VALUES ({k}, {v});"))
                    .collect::<String>()
            };
            // The same rows under the same numbers, so that both ways to tell them apart agree.
            let found =
                differ(schema, &insert(&[(1, 1), (2, 2), (3, 3), (4, 4)]), &insert(&[(1, 1), (2, 9)]));
            assert_eq!(counts(&found[0]), (Some(2), Some(0), Some(1)), "{schema}");
            let found = differ(schema, &insert(&[(1, 1)]), &insert(&[(1, 1), (2, 9)]));
            assert_eq!(counts(&found[0]), (Some(0), Some(1), Some(0)), "{schema}");
        }
    }

    #[test]
    fn what_a_collation_or_a_comparison_takes_for_equal_is_not() {
        let schema = "CREATE TABLE t (k INTEGER PRIMARY KEY, v COLLATE NOCASE)";
        for (ours, theirs) in [("'a'", "'A'"), ("1", "1.0"), ("NULL", "''"), ("x'61'", "'a'")] {
            let insert = |value: &str| format!("INSERT INTO t VALUES (1, {value})");
            assert_eq!(differ(schema, &insert(ours), &insert(theirs))[0].changed, Some(1), "{ours} {theirs}");
            assert!(!differ(schema, &insert(ours), &insert(ours))[0].is_any());
        }
    }

    #[test]
    fn tables_that_are_not_on_both_sides_and_other_columns_are_said() {
        let found = differ(
            "",
            "CREATE TABLE a (n); INSERT INTO a VALUES (1); CREATE TABLE c (n)",
            "CREATE TABLE b (n); CREATE TABLE c (m)",
        );
        assert_eq!(found.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(counts(&found[0]), (Some(1), Some(0), Some(0)));
        assert!(found.iter().all(TableDifference::is_any));
        assert_eq!(found[2].remark.as_deref(), Some("its columns differ"));
    }

    #[test]
    fn a_table_that_cannot_be_compared_hides_no_other() {
        let schema = "CREATE TABLE a (n); CREATE VIRTUAL TABLE f USING fts5(body)";
        let found = differ(schema, "INSERT INTO a VALUES (1); INSERT INTO f VALUES ('words')", "");
        assert_eq!(counts(&found[0]), (Some(1), Some(0), Some(0)));
    }
}
