//! `lifeboat replicate`: one follower for each database, until the process is told to stop.

use std::sync::Arc;

use lifeboat_wire::{DatabaseOutcome, DatabaseStatus, Outcome, Step, Termination, Verdict};
use tokio_util::sync::CancellationToken;

use crate::args::ReplicateArgs;
use crate::board::Board;
use crate::child::Application;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::fleet::{Fleet, Stay};
use crate::table::counted;
use crate::watch::Watcher;
use crate::{http, limits, pod, reload, shutdown, socket, table, take};

/// Follows every configured database, and those that are found in folders. Returns when all are done: stopped in order,
/// fenced, or failed. Beside an application it returns that one's exit code, else 0.
///
/// # Errors
/// The gravest [`Failure`] of all databases.
pub async fn run(args: &ReplicateArgs) -> Result<u8, Failure> {
    let config = Arc::new(Config::for_replicate(args)?);
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    if let Some(which) = args.take
        && take::run(&config, which).await? == take::Next::Stop
    {
        return Ok(0);
    }
    let application = config.exec.as_deref().filter(|_| !args.once).map(Application::parse).transpose()?;
    limits::raise_open_files(&config);
    let watcher =
        Watcher::start().map_err(|error| Failure::bug(format!("no thread for the watcher: {error}")))?;
    let (board, serving) = (Board::new(watcher.clone()), CancellationToken::new());
    serve(&config, &board, &serving).await?;
    let told = shutdown::on_signal(if application.is_some() { TELLING } else { STORING })?;
    let stop = if application.is_some() { CancellationToken::new() } else { told.stop.clone() };
    let reloads = reload::listen(args, told.stop.clone())?;
    let fleet = Fleet::new(Arc::clone(&config), Arc::clone(&board), watcher, stop.clone());
    let followers = fleet.follow_all(if args.once { Stay::Once } else { Stay::ForGood }, reloads);
    let (code, ended) = match application {
        Some(application) => application.run_beside(followers, Arc::clone(&board), told, stop).await,
        None => (None, followers.await),
    };
    serving.cancel();
    pod::say_last_words(&last_words(&board, &ended));
    report(&board, &ended);
    match (code, ended) {
        (Some(code), Err(failure)) if code != 0 => {
            tracing::error!("{failure}");
            Ok(code)
        }
        (Some(_) | None, Err(failure)) => Err(failure),
        (code, Ok(())) => Ok(code.unwrap_or(0)),
    }
}

/// Endpoints, as far as they are wanted.
async fn serve(config: &Config, board: &Arc<Board>, serving: &CancellationToken) -> Result<(), Failure> {
    let metrics_max = config.metrics_databases_max;
    if let Some(addr) = &config.addr {
        http::serve_status(addr, Arc::clone(board), metrics_max, serving.clone()).await?;
    }
    if let Some(listener) = socket::open(&config.socket)? {
        http::serve_control(listener, Arc::clone(board), metrics_max, serving.clone());
    }
    Ok(())
}

/// The last line of a process that stored everything; any other ends with its failure.
fn report(board: &Board, ended: &Result<(), Failure>) {
    if ended.is_ok() {
        let databases = board.status().databases;
        let [slots, bytes] = board.samples().iter().fold([0, 0], |[slots, bytes], sample| {
            [slots + sample.measures.slots, bytes + sample.measures.slot_bytes]
        });
        tracing::info!(
            "{} stored to the last commit; this process stored {}, {}",
            counted(databases.len(), "database"),
            counted(usize::try_from(slots).unwrap_or(usize::MAX), "slot"),
            table::bytes(bytes)
        );
    }
}

fn last_words(board: &Board, ended: &Result<(), Failure>) -> Termination {
    let statuses = board.status().databases;
    let (message, reason, exit) = match ended {
        Ok(()) => {
            (format!("{} stored to the last commit", counted(statuses.len(), "database")), None, Exit::Done)
        }
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
        None if status.is_stored() => Outcome::Flushed,
        None | Some(Verdict::Retry | Verdict::Rescan) => Outcome::TailNotStored,
        Some(Verdict::Fence) => Outcome::Fenced,
        Some(Verdict::Refuse | Verdict::Halt | Verdict::Unknown) => Outcome::Failed,
    }
}

const STORING: &str = "storing the last commits";
const TELLING: &str = "telling the command to end";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lifeboat_replica::head::Base;

    use super::*;
    use crate::board::position;

    #[test]
    fn only_what_is_known_to_be_stored_is_said_to_be_flushed() {
        let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
        let board = Board::new(Watcher::start().unwrap());
        let post = board.add(&config.databases[0]);
        let outcome = || last_words(&board, &Ok(())).databases.remove(0).outcome;
        assert_eq!(outcome(), Outcome::TailNotStored, "nobody has looked at it");
        post.turned(0, None);
        assert_eq!(outcome(), Outcome::TailNotStored, "it was never stored");
        post.stored(position(Base { txid: 1, checksum: None }, None));
        assert_eq!(outcome(), Outcome::Flushed);
        post.turned(0, Some(Instant::now()));
        assert_eq!(outcome(), Outcome::TailNotStored, "something waits, though nobody knows how much");
        post.turned(0, None);
        post.unfollowed();
        assert_eq!(outcome(), Outcome::TailNotStored, "nobody looks at it any more");
        post.troubled(&Failure::fenced("gone"));
        assert_eq!(outcome(), Outcome::Fenced);
    }
}
