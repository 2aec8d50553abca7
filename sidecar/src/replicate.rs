//! `lifeboat replicate`: one follower for each database, until the process is told to stop.

use std::sync::Arc;
use std::time::Instant;

use lifeboat_wire::{DatabaseOutcome, DatabaseStatus, Outcome, Step, Termination, Verdict};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::ReplicateArgs;
use crate::board::{Board, Post};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::follower::Follower;
use crate::watch::Watcher;
use crate::{http, pod, shutdown, socket};

/// Follows every configured database. Returns when all are done: stopped in order, fenced, or failed.
///
/// # Errors
/// The gravest [`Failure`] of all databases.
pub async fn run(args: &ReplicateArgs) -> Result<(), Failure> {
    let config = Arc::new(Config::for_replicate(args)?);
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    let watcher =
        Watcher::start().map_err(|error| Failure::bug(format!("no thread for the watcher: {error}")))?;
    let (board, posts) = Board::new(&config.databases, watcher.clone());
    let serving = CancellationToken::new();
    if let Some(addr) = &config.addr {
        http::serve_status(addr, Arc::clone(&board), serving.clone()).await?;
    }
    if let Some(listener) = socket::open(&config.socket)? {
        http::serve_control(listener, Arc::clone(&board), serving.clone());
    }
    let stop = shutdown::on_signal()?;
    let ended = follow_all(&config, &posts, &watcher, &stop).await;
    serving.cancel();
    pod::say_last_words(&last_words(&posts, &ended));
    ended.map(|_| ())
}

async fn follow_all(
    config: &Arc<Config>,
    posts: &[Post],
    watcher: &Watcher,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut followers = JoinSet::new();
    for (database, post) in config.databases.iter().zip(posts) {
        let follower =
            Follower::new(database.clone(), Arc::clone(config), post.clone(), watcher.clone(), stop.clone());
        followers.spawn(follower.run());
    }
    let (mut gravest, mut deadline) = (Ok(()), None);
    loop {
        let next = tokio::select! {
            next = followers.join_next() => next,
            () = stop.cancelled(), if deadline.is_none() => {
                deadline = Some(Instant::now() + config.flush_timeout);
                continue;
            }
            () = shutdown::at(deadline) => {
                let failure = Failure::unavailable(format!(
                    "the last commits could not be stored within {:?}; they are only in the local database",
                    config.flush_timeout
                ));
                return Err(failure);
            }
        };
        match next {
            None => return gravest,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(failure))) => gravest = graver(gravest, failure),
            Some(Err(error)) => gravest = graver(gravest, Failure::bug(error.to_string())),
        }
    }
}

fn graver(known: Result<(), Failure>, new: Failure) -> Result<(), Failure> {
    match known {
        Err(known) if known.exit.gravity() >= new.exit.gravity() => Err(known),
        Ok(()) | Err(_) => Err(new),
    }
}

fn last_words(posts: &[Post], ended: &Result<(), Failure>) -> Termination {
    let statuses: Vec<_> = posts.iter().filter_map(Post::status).collect();
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
