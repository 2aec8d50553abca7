//! The application: a process that commits, and writes each commit into a ledger only when SQLite has acknowledged it.
//!
//! It is this test binary, started again to run one "test". Rows of its table are numbered without gaps, so any copy of the
//! database shows which prefix of its history it holds.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;

/// The running application; killed when dropped.
pub(crate) struct Application {
    child: Child,
}

impl Application {
    pub(crate) fn start(database: &Path, ledger: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "application::the_application", "--ignored", "--nocapture"])
            .env("CRASH_DATABASE", database)
            .env("CRASH_LEDGER", ledger)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Pulls the plug.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last row that was acknowledged to the application.
pub(crate) fn acknowledged(ledger: &Path) -> i64 {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    // A line without its end was not written yet.
    let lines = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    lines.lines().last().map_or(0, |line| line.parse().unwrap())
}

#[test]
#[ignore = "run by the other tests as a process of its own"]
fn the_application() {
    let Some(database) = std::env::var_os("CRASH_DATABASE") else { return };
    let ledger = PathBuf::from(std::env::var_os("CRASH_LEDGER").unwrap());
    let mut ledger = OpenOptions::new().create(true).append(true).open(ledger).unwrap();
    let application = connect(Path::new(&database));
    let newest = application.query_row("SELECT coalesce(max(n), 0) FROM t", [], |row| row.get(0));
    for n in newest.unwrap_or(0_i64) + 1.. {
        application.execute_batch(&transaction(n)).unwrap();
        writeln!(ledger, "{n}").unwrap();
        beside(&application, n);
    }
}

/// One row in the table that is counted, and something around it, in one transaction.
fn transaction(n: i64) -> String {
    let bytes = if n % 50 == 0 { 100_000 } else { 40 + n % 300 };
    format!(
        "BEGIN; INSERT INTO t VALUES ({n}, randomblob({bytes}));
         DELETE FROM other WHERE n % 7 = {n} % 7; INSERT INTO other VALUES ({n}, randomblob(900)); COMMIT"
    )
}

/// What an application does now and then, and need not succeed in.
fn beside(application: &Connection, n: i64) {
    let sql = match n % 100 {
        30 => "PRAGMA wal_checkpoint(PASSIVE)",
        60 => "PRAGMA wal_checkpoint(TRUNCATE)",
        90 => "PRAGMA wal_checkpoint(RESTART)",
        99 => "VACUUM",
        _ => return std::thread::sleep(Duration::from_millis(4)),
    };
    application.execute_batch(sql).unwrap();
}

/// Opens the database as the application does.
pub(crate) fn connect(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";
    let tables =
        "CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, x); CREATE TABLE IF NOT EXISTS other(n, x);";
    connection.execute_batch(&format!("{settings} {tables}")).unwrap();
    connection
}
