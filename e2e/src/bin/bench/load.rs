//! The application of the measurements: commits small rows, at a pace or as fast as it can, and times every commit.
//!
//! It runs as a process of its own, because SQLite's locks belong to processes, and because its time is not the sidecar's.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rusqlite::{Connection, ErrorCode};
use serde::{Deserialize, Serialize};

use crate::process;

/// What the application does.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// The database; made when it does not exist
    #[arg(long)]
    pub(crate) db: PathBuf,

    /// How long to commit
    #[arg(long)]
    pub(crate) seconds: f64,

    /// Commits in a second; as many as there can be when it is left out
    #[arg(long)]
    pub(crate) rate: Option<u32>,

    /// PRAGMA synchronous
    #[arg(long, default_value = "NORMAL")]
    pub(crate) synchronous: String,

    /// PRAGMA journal_mode
    #[arg(long, default_value = "WAL")]
    pub(crate) journal_mode: String,

    /// How long SQLite waits for a lock, milliseconds
    #[arg(long, default_value_t = 5000)]
    pub(crate) busy_timeout: u64,
}

/// What the application saw.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// Rows committed.
    pub(crate) commits: u64,
    /// Commits refused with SQLITE_BUSY; each was tried again.
    pub(crate) busy: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// User and system time of the application for each commit, microseconds.
    pub(crate) cpu_us: f64,
    /// The middle commit, milliseconds.
    pub(crate) p50_ms: f64,
    /// One of a hundred took longer.
    pub(crate) p99_ms: f64,
    /// One of a thousand took longer.
    pub(crate) p999_ms: f64,
    /// The longest.
    pub(crate) max_ms: f64,
}

/// Commits until the time is over.
///
/// # Errors
/// When SQLite refuses something else than a lock.
pub(crate) fn run(args: &LoadArgs) -> Result<LoadReport> {
    let connection = open(args)?;
    let mut insert = connection.prepare("INSERT INTO load(at, body) VALUES (?1, randomblob(100))")?;
    let span = Duration::from_secs_f64(args.seconds);
    let pace = args.rate.map(|rate| Duration::from_secs(1) / rate.max(1));
    let mut latencies = Vec::with_capacity(LATENCIES_EXPECTED);
    let cpu_began = process::usage(std::process::id())?.cpu_s;
    let (began, mut busy, mut number) = (Instant::now(), 0_u64, 0_u32);
    while began.elapsed() < span {
        if let Some(pace) = pace {
            thread::sleep((began + pace * number).saturating_duration_since(Instant::now()));
        }
        let commit_began = Instant::now();
        match insert.execute([number]) {
            Ok(_) => {
                latencies.push(commit_began.elapsed());
                number += 1;
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => busy += 1,
            Err(error) => return Err(error).context("commit a row"),
        }
    }
    ensure!(!latencies.is_empty(), "not one commit in {span:?}");
    let span = began.elapsed();
    let cpu_s = process::usage(std::process::id())?.cpu_s - cpu_began;
    Ok(LoadReport { cpu_us: cpu_s * 1e6 / f64::from(number), ..report(latencies, busy, span) })
}

fn open(args: &LoadArgs) -> Result<Connection> {
    let connection = Connection::open(&args.db).with_context(|| format!("open {}", args.db.display()))?;
    // Making the table may meet a lock even where the load itself will not wait for one.
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String =
        connection.query_row(&format!("PRAGMA journal_mode={}", args.journal_mode), [], |row| row.get(0))?;
    ensure!(mode.eq_ignore_ascii_case(&args.journal_mode), "the journal mode stayed {mode}");
    connection.execute_batch(&format!("PRAGMA synchronous={}", args.synchronous))?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS load(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL)",
    )?;
    connection.busy_timeout(Duration::from_millis(args.busy_timeout))?;
    Ok(connection)
}

fn report(mut latencies: Vec<Duration>, busy: u64, span: Duration) -> LoadReport {
    latencies.sort_unstable();
    LoadReport {
        commits: latencies.len() as u64,
        busy,
        seconds: span.as_secs_f64(),
        cpu_us: 0.0,
        p50_ms: part(&latencies, 500),
        p99_ms: part(&latencies, 990),
        p999_ms: part(&latencies, 999),
        max_ms: part(&latencies, 1000),
    }
}

/// The latency that so many of a thousand commits do not exceed, in milliseconds.
fn part(sorted: &[Duration], of_thousand: usize) -> f64 {
    let rank = (sorted.len() * of_thousand).div_ceil(1000).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

/// How long SQLite waits for a lock, as most applications set it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Space for the latencies, so that the measurement itself seldom stops for memory.
const LATENCIES_EXPECTED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_latency_that_so_many_do_not_exceed() {
        let latencies: Vec<_> = (1..=2000).map(Duration::from_millis).collect();
        assert_eq!([500, 999, 1000].map(|of| part(&latencies, of).round()), [1000.0, 1998.0, 2000.0]);
        assert_eq!(part(&latencies[..1], 500).round(), 1.0);
    }

    #[test]
    fn a_paced_load_commits_as_many_rows_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("a.db");
        let args = LoadArgs {
            db: db.clone(),
            seconds: 0.3,
            rate: Some(100),
            synchronous: "OFF".to_owned(),
            journal_mode: "WAL".to_owned(),
            busy_timeout: 0,
        };
        let report = run(&args).unwrap();
        let rows: i64 = Connection::open(db)
            .unwrap()
            .query_row("SELECT count(*) FROM load", [], |row| row.get(0))
            .unwrap();
        assert_eq!(u64::try_from(rows).unwrap(), report.commits);
        assert!(report.commits <= 31, "{} commits at 100 a second in 0.3 s", report.commits);
    }
}
