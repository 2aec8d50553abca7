//! What a replicating process answers to whoever demands that everything be stored now.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lifeboat_wire::{DatabaseStatus, NotSynced, Reason, Synced, Verdict};

use crate::args::parse_duration;
use crate::board::{Board, Post};
use crate::exit::{Exit, Failure};

/// `POST /v1/databases/<name>/sync?timeout=30s`: answers when everything committed before the request is stored.
///
/// A database whose follower has ended is answered at once. One in trouble that may pass is waited for.
pub async fn sync(
    State(board): State<Arc<Board>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let answer = match board.find(&name) {
        Some(post) => stored(&post, query.as_deref().unwrap_or_default()).await,
        None => Err((StatusCode::NOT_FOUND, unknown(&name, &board.status().databases))),
    };
    match answer {
        Ok(synced) => Json(synced).into_response(),
        Err((status, failure)) => {
            let failure = if failure.message.contains(&name) { failure } else { failure.about(&name) };
            (status, Json(not_synced(name, failure))).into_response()
        }
    }
}

async fn stored(post: &Post, query: &str) -> Result<Synced, (StatusCode, Failure)> {
    let patience = patience(query).map_err(|wrong| (StatusCode::BAD_REQUEST, Failure::usage(wrong)))?;
    let demanded = tokio::time::timeout(patience, post.demand().made()).await;
    let gone = || Failure::unavailable("its file is gone, and it is not followed any more");
    let status = post.status().ok_or_else(|| (StatusCode::NOT_FOUND, gone()))?;
    match demanded {
        Ok(Ok(())) => Ok(Synced { name: status.name, position: status.position }),
        Ok(Err(_)) => Err(ended(&status)),
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, missing(&status, patience))),
    }
}

fn patience(query: &str) -> Result<Duration, String> {
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "timeout");
    let patience = asked.map_or(Ok(PATIENCE), |(_, value)| parse_duration(&value))?;
    if patience > PATIENCE_MAX { Err(format!("timeout is at most {PATIENCE_MAX:?}")) } else { Ok(patience) }
}

/// The sentence about a name that no database of this process has.
#[must_use]
pub fn unknown(name: &str, known: &[DatabaseStatus]) -> Failure {
    let mut shown: Vec<_> = known.iter().take(NAMED_MAX).map(|database| database.name.as_str()).collect();
    if shown.is_empty() {
        shown.push("none");
    }
    let shown = shown.join(", ");
    let others = known.len().saturating_sub(NAMED_MAX);
    let others = if others > 0 { format!(" and {others} more") } else { String::new() };
    Failure::usage(format!(
        "database {name} is not followed by this process; it follows {shown}{others}. If another process follows it, \
         name its socket with --socket"
    ))
}

/// Why nobody will store what was committed.
fn ended(status: &DatabaseStatus) -> (StatusCode, Failure) {
    let (code, exit) = match (status.verdict, status.reason) {
        (Some(Verdict::Fence), _) => (StatusCode::CONFLICT, Exit::Fenced),
        (Some(Verdict::Refuse), _) => (StatusCode::CONFLICT, Exit::Refused),
        (Some(Verdict::Halt), Some(Reason::Bug)) => (StatusCode::INTERNAL_SERVER_ERROR, Exit::Bug),
        (Some(Verdict::Halt), _) => (StatusCode::INTERNAL_SERVER_ERROR, Exit::Damaged),
        (Some(Verdict::Retry | Verdict::Rescan | Verdict::Unknown) | None, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, Exit::Unavailable)
        }
    };
    let message = if status.message.is_empty() {
        format!("{}: replication has stopped", status.name)
    } else {
        status.message.clone()
    };
    let reason = status.reason.unwrap_or(Reason::StoreUnavailable);
    (code, Failure { exit, ..Failure::refused(reason, message) })
}

/// What is not stored to the last commit after `waited`, and what waits.
fn missing(status: &DatabaseStatus, waited: Duration) -> Failure {
    let waits = match (status.unreplicated_bytes, status.lag_seconds) {
        (Some(bytes), Some(lag)) if bytes > 0 => {
            format!("{bytes} bytes of commits wait, the oldest for {lag:.1} s")
        }
        (Some(_), _) => "its last slot is not proved to be stored".to_owned(),
        (None, _) => "it is not followed yet".to_owned(),
    };
    let why = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    let message = format!(
        "{}: not everything is stored after {:.1} s; {waits}{why}",
        status.name,
        waited.as_secs_f64()
    );
    Failure { reason: status.reason.unwrap_or(Reason::StoreUnavailable), ..Failure::unavailable(message) }
}

fn not_synced(name: String, failure: Failure) -> NotSynced {
    NotSynced { name, exit_code: failure.exit as u8, reason: failure.reason, message: failure.message }
}

/// How long is waited when nothing is said.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_MAX: Duration = Duration::from_secs(60 * 60);
/// Names in one message.
const NAMED_MAX: usize = 10;
