//! `lifeboat ctl`: the probes' questions to the replicating process, over its socket.

use std::time::Duration;

use hyper::{Method, StatusCode};

use crate::args::{CtlArgs, CtlVerb};
use crate::exit::Failure;
use crate::socket;

/// Asks, and succeeds if the answer is yes.
///
/// # Errors
/// Unavailable when the process does not answer, or answers no.
pub async fn run(args: &CtlArgs) -> Result<(), Failure> {
    let (method, path) = match args.verb {
        CtlVerb::Started => (Method::GET, "/startedz"),
        CtlVerb::Alive => (Method::GET, "/healthz"),
        CtlVerb::Prestop => (Method::POST, "/v1/prestop"),
    };
    let (status, _) = socket::ask(args.socket.as_deref(), method, path, ANSWER_MAX).await?;
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(Failure::unavailable(format!("the replicating process answers {status} to {path}")))
}

const ANSWER_MAX: Duration = Duration::from_millis(2_500);
