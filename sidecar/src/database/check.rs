//! SQLite's own opinion of a database file that nobody has open yet.

use std::path::Path;

use lifeboat_wire::Reason;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::args::IntegrityCheck;
use crate::exit::Failure;

/// Lets SQLite check a file that is not in its place yet. Nothing is created beside it, also when it is in WAL mode.
///
/// # Errors
/// Damaged with the first lines that SQLite says.
pub(crate) fn integrity(path: &Path, how: IntegrityCheck) -> Result<(), Failure> {
    let pragma = match how {
        IntegrityCheck::None => return Ok(()),
        IntegrityCheck::Quick => "quick_check",
        IntegrityCheck::Full => "integrity_check",
    };
    let found = ask(path, pragma).map_err(|error| refused(pragma, &error.to_string()))?;
    if found == ["ok"] { Ok(()) } else { Err(refused(pragma, &found.join("; "))) }
}

/// Whether what a query says first is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It is.
    True,
    /// It is this instead.
    False(String),
}

/// Asks a file that nobody has open yet. Only reading is possible.
///
/// # Errors
/// What SQLite says.
pub(crate) fn truth(path: &Path, sql: &str) -> rusqlite::Result<Truth> {
    let connection = open(path)?;
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(Truth::False("no row".to_owned())) };
    // Truth as SQLite has it: a number that is not zero, also when it is written in a text.
    let (is_true, shown) = match row.get_ref(0)? {
        ValueRef::Null => (false, "null".to_owned()),
        ValueRef::Integer(number) => (number != 0, number.to_string()),
        ValueRef::Real(number) => (number != 0.0, number.to_string()),
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            (text.trim().parse().is_ok_and(|number: f64| number != 0.0), format!("'{text}'"))
        }
        ValueRef::Blob(_) => (false, "a blob".to_owned()),
    };
    Ok(if is_true { Truth::True } else { Truth::False(shown) })
}

/// What keeps this from being a query of any database.
#[must_use]
pub(crate) fn syntax_error(sql: &str) -> Option<String> {
    let prepared = Connection::open_in_memory().and_then(|connection| connection.prepare(sql).map(|_| ()));
    let said = prepared.err()?.to_string();
    // Tables and columns are another matter: they are looked for in the database that was restored.
    ["syntax error", "incomplete input", "unrecognized token"]
        .iter()
        .any(|word| said.contains(word))
        .then_some(said)
}

pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri(path), flags)
}

/// How SQLite opens a file that rests, and leaves everything beside it as it is.
pub(super) fn uri(path: &Path) -> String {
    let name = path.to_string_lossy();
    format!("file:{}?mode=ro&immutable=1", utf8_percent_encode(&name, NOT_IN_A_URI))
}

fn ask(path: &Path, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let connection = open(path)?;
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({LINES_MAX})"))?;
    let lines = statement.query_map([], |row| row.get(0))?;
    lines.collect()
}

fn refused(pragma: &str, said: &str) -> Failure {
    let what = format!("the restored database does not pass SQLite's {pragma}: {said}; nothing was written");
    Failure::damaged(Reason::IntegrityFailed, what)
}

/// What a path may not hold in a URI.
const NOT_IN_A_URI: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
const LINES_MAX: u32 = 5;
