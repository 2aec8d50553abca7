//! `lifeboat replicate`: one follower for each database, until the process is told to stop.

use std::sync::Arc;

use lifeboat_wire::{DatabaseOutcome, DatabaseStatus, Outcome, Step, Termination, Verdict};
use tokio_util::sync::CancellationToken;

use crate::args::ReplicateArgs;
use crate::board::Board;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::fleet::Fleet;
use crate::watch::Watcher;
use crate::{http, limits, pod, shutdown, socket};

/// Follows every configured database, and those that are found in folders. Returns when all are done: stopped in order,
/// fenced, or failed.
///
/// # Errors
/// The gravest [`Failure`] of all databases.
pub async fn run(args: &ReplicateArgs) -> Result<(), Failure> {
    let config = Arc::new(Config::for_replicate(args)?);
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    limits::raise_open_files(&config);
    let watcher =
        Watcher::start().map_err(|error| Failure::bug(format!("no thread for the watcher: {error}")))?;
    let board = Board::new(watcher.clone());
    let serving = CancellationToken::new();
    if let Some(addr) = &config.addr {
        http::serve_status(addr, Arc::clone(&board), serving.clone()).await?;
    }
    if let Some(listener) = socket::open(&config.socket)? {
        http::serve_control(listener, Arc::clone(&board), serving.clone());
    }
    let stop = shutdown::on_signal()?;
    let fleet = Fleet::new(Arc::clone(&config), Arc::clone(&board), watcher, stop);
    let ended = fleet.follow_all().await;
    serving.cancel();
    pod::say_last_words(&last_words(&board, &ended));
    ended.map(|_| ())
}

fn last_words(board: &Board, ended: &Result<(), Failure>) -> Termination {
    let statuses = board.status().databases;
    let (message, reason, exit) = match ended {
        Ok(()) => (format!("{} databases stored to the last commit", statuses.len()), None, Exit::Done),
        Err(failure) => (failure.message.clone(), Some(failure.reason), failure.exit),
    };
    let databases = statuses.into_iter().map(|status| DatabaseOutcome {
        outcome: outcome(&status),
        name: status.name,
        position: status.position,
        bytes: status.unreplicated_bytes.unwrap_or(0),
        seconds: 0.0,
    });
    Termination {
        message,
        step: Step::Replicate,
        reason,
        exit_code: exit as u8,
        databases: databases.collect(),
    }
}

/// What became of one database, whatever became of the others.
fn outcome(status: &DatabaseStatus) -> Outcome {
    match status.verdict {
        None if status.unreplicated_bytes.is_none_or(|bytes| bytes == 0) => Outcome::Flushed,
        None | Some(Verdict::Retry | Verdict::Rescan) => Outcome::TailNotStored,
        Some(Verdict::Fence) => Outcome::Fenced,
        Some(Verdict::Refuse | Verdict::Halt | Verdict::Unknown) => Outcome::Failed,
    }
}
