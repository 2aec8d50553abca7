//! `lifeboat sync`: everything committed until now is stored, or it is said what is not.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use hyper::{Method, StatusCode};
use lifeboat_wire::{DatabaseStatus, NotSynced, STATUS_PATH, Status, Synced};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use crate::args::SyncArgs;
use crate::exit::{Exit, Failure};
use crate::{answer, socket};

/// Runs the command.
///
/// # Errors
/// The gravest [`Failure`] of all databases asked for.
pub async fn run(args: &SyncArgs) -> Result<(), Failure> {
    let until = Instant::now() + args.timeout;
    let socket = socket::named(args.socket.as_deref(), &args.config);
    let status = ask_status(socket.as_deref()).await?;
    let names = names(&status.databases, &args.databases)?;
    let asked =
        stream::iter(&names).map(|name| demand(socket.as_deref(), name, until)).buffer_unordered(AT_ONCE);
    let answers: Vec<_> = asked.collect().await;
    let mut failures: Vec<_> = answers.iter().filter_map(|answer| say(args, answer)).collect();
    if failures.len() == 1 && names.len() == 1 {
        return failures.pop().map_or(Ok(()), Err);
    }
    for failure in &failures {
        tracing::error!("{failure}");
    }
    let count = failures.len();
    Failure::gravest(failures).map_err(|failure| {
        let message = format!("{count} of {} databases are not stored to the last commit", names.len());
        Failure { message, ..failure }
    })
}

/// What the replicating process says of all its databases.
///
/// # Errors
/// Unavailable when none answers.
pub async fn ask_status(socket: Option<&Path>) -> Result<Status, Failure> {
    let (_, body) = socket::ask(socket, Method::GET, STATUS_PATH, GRACE).await?;
    decode(&body)
}

/// The databases that are meant: those named, by name or path; all of them when none is named.
///
/// # Errors
/// Usage for a name that is not followed, unavailable when none is followed at all.
pub fn names(known: &[DatabaseStatus], wanted: &[String]) -> Result<Vec<String>, Failure> {
    if known.is_empty() {
        return Err(Failure::unavailable(
            "the running process follows no database yet; none was found in its folders",
        ));
    }
    if wanted.is_empty() {
        return Ok(known.iter().map(|database| database.name.clone()).collect());
    }
    let find = |wanted: &String| {
        let path = std::path::absolute(wanted).unwrap_or_default();
        let is_meant =
            |database: &&DatabaseStatus| database.name == *wanted || Path::new(&database.path) == path;
        let found = known.iter().find(is_meant).map(|database| database.name.clone());
        found.ok_or_else(|| answer::unknown(wanted, known))
    };
    wanted.iter().map(find).collect()
}

async fn demand(socket: Option<&Path>, name: &str, until: Instant) -> Result<Synced, NotSynced> {
    let left = until.saturating_duration_since(Instant::now());
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let path = format!("/v1/databases/{encoded}/sync?timeout={}ms", left.as_millis());
    let asked = socket::ask(socket, Method::POST, &path, left + GRACE).await;
    let failed = |failure: Failure| NotSynced {
        name: name.to_owned(),
        exit_code: failure.exit as u8,
        reason: failure.reason,
        message: format!("{name}: {failure}"),
    };
    let (status, body) = asked.map_err(failed)?;
    if status == StatusCode::OK { decode(&body).map_err(failed) } else { Err(decode(&body).map_err(failed)?) }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::unavailable(format!(
            "the process behind the socket does not answer like lifeboat ({error}); is it another release?"
        ))
    })
}

/// Prints an answer; returns the failure of one that is none.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn say(args: &SyncArgs, answer: &Result<Synced, NotSynced>) -> Option<Failure> {
    match answer {
        Ok(synced) => {
            if args.json {
                println!("{}", serde_json::to_string(synced).unwrap_or_default());
            } else {
                println!("{}", sentence(synced));
            }
            None
        }
        Err(not) => {
            if args.json {
                println!("{}", serde_json::to_string(not).unwrap_or_default());
            }
            let exit = Exit::from_code(not.exit_code).unwrap_or(Exit::Unavailable);
            Some(Failure { exit, ..Failure::refused(not.reason, &not.message) })
        }
    }
}

fn sentence(synced: &Synced) -> String {
    let place = synced.position.as_ref().map(|position| {
        let time = position.time.as_deref().unwrap_or("an unknown time");
        format!(", txid {} at {time}", position.txid)
    });
    format!("{}: everything committed is stored{}", synced.name, place.unwrap_or_default())
}

/// How long an answer may take that waits for nothing.
const GRACE: Duration = Duration::from_secs(10);
/// Databases asked about at the same time.
const AT_ONCE: usize = 256;
