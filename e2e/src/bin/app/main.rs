//! The application that the demo and the tests protect: it knows nothing of Lifeboat.
//!
//! It does what ordinary applications with SQLite do: creates its database when there is none, switches it to WAL, commits
//! small transactions for as long as it runs, and stops in order on SIGTERM. Its rows are numbered, every commit is one
//! line of output, and `GET /rows` says what is there: that is how a test knows what was written, and what came back.

mod database;
mod http;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use database::Database;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Writes numbered rows into a SQLite database, and shows them over HTTP.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The database; made when it does not exist, as applications do
    #[arg(long, env = "APP_DB", default_value = "/data/app.db")]
    db: PathBuf,

    /// Pause between two commits, such as 100ms or 2s
    #[arg(long, env = "APP_EVERY", default_value = "100ms", value_parser = parse_pause)]
    every: Duration,

    /// Address of the HTTP server
    #[arg(long, env = "APP_ADDR", default_value = "0.0.0.0:8080")]
    addr: SocketAddr,

    /// Name of this pod: it is written into every row and shown by GET /rows
    #[arg(long, env = "HOSTNAME", default_value = "")]
    pod: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;

    let database = Database::open(&args.db, args.pod.clone())?;
    let last_at_start = database.last()?;
    say(&format!("opened {}, last row {last_at_start}", args.db.display()));

    let listener = TcpListener::bind(args.addr).await.with_context(|| format!("listen on {}", args.addr))?;
    let server = http::serve(listener, http::Source { db: args.db.clone(), pod: args.pod, last_at_start });
    let stop = Arc::new(AtomicBool::new(false));
    let (wake, woken) = mpsc::channel();
    let writer = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || write(&database, last_at_start, args.every, &stop, &woken)
    });

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = server => ended.context("the HTTP server ended")?,
    }
    stop.store(true, Ordering::SeqCst);
    drop(wake);
    let last = writer.await.context("the writer broke")?;
    say(&format!("stopped after row {last}"));
    Ok(())
}

/// Inserts rows until told to stop, and returns the number of the last one.
///
/// A commit that fails (a busy database, a full disk) is reported and tried again: the number after n is always n + 1.
fn write(
    database: &Database,
    mut last: i64,
    every: Duration,
    stop: &AtomicBool,
    woken: &mpsc::Receiver<()>,
) -> i64 {
    while !stop.load(Ordering::SeqCst) {
        match database.insert(last + 1) {
            Ok(()) => {
                last += 1;
                say(&format!("committed {last}"));
            }
            Err(error) => say(&format!("cannot commit {}: {error}", last + 1)),
        }
        // Ends early when the other side is dropped.
        let _ = woken.recv_timeout(every);
    }
    last
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("'{text}' must end with ms or s")),
    }
}

/// One line of output. A reader that went away is no reason to stop writing rows.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
