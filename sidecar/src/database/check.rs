//! SQLite's own opinion of a database file that nobody has open yet.

use std::path::Path;

use lifeboat_wire::Reason;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
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

fn ask(path: &Path, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let name = path.to_string_lossy();
    let uri = format!("file:{}?mode=ro&immutable=1", utf8_percent_encode(&name, NOT_IN_A_URI));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
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
