//! `lifeboat ctl`: the probes' questions to the replicating process, over its socket.

use std::path::Path;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::args::{CtlArgs, CtlVerb};
use crate::exit::Failure;

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
    let asked = tokio::time::timeout(ANSWER_MAX, ask(&args.socket, method, path)).await;
    match asked {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => {
            Err(Failure::unavailable(format!("the replicating process answers {status} to {path}")))
        }
        Ok(Err(error)) => Err(Failure::unavailable(format!(
            "socket {}: {error}; is `lifeboat replicate` running with this --socket?",
            args.socket.display()
        ))),
        Err(_) => Err(Failure::unavailable(format!("socket {}: no answer", args.socket.display()))),
    }
}

async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", "lifeboat").body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

const ANSWER_MAX: Duration = Duration::from_millis(2_500);
