//! The endpoints: status and health over TCP, and the pod's own questions over a Unix socket.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use lifeboat_wire::{STATUS_PATH, Status};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::exit::Failure;

/// Serves the status endpoint on `addr` until `stop`.
///
/// # Errors
/// Usage when the address cannot be listened on.
pub async fn serve_status(addr: &str, board: Arc<Board>, stop: CancellationToken) -> Result<(), Failure> {
    let all_interfaces = addr.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
    let addr = all_interfaces.as_deref().unwrap_or(addr);
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|error| Failure::usage(format!("addr {addr}: {error}; choose another with --addr")))?;
    tokio::spawn(async move {
        let served =
            axum::serve(listener, status_routes(board)).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!("the status endpoint ended: {error}");
        }
    });
    Ok(())
}

/// Serves the control socket at `path` until `stop`.
///
/// # Errors
/// Usage when the socket cannot be made.
pub fn serve_control(path: &Path, board: Arc<Board>, stop: CancellationToken) -> Result<(), Failure> {
    let refuse =
        |error| Failure::usage(format!("socket {}: {error}; choose another with --socket", path.display()));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refuse(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(refuse)?;
    tokio::spawn(async move {
        let routes = status_routes(Arc::clone(&board)).merge(control_routes(board));
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
        {
            tracing::error!("the control socket ended: {error}");
        }
    });
    Ok(())
}

fn status_routes(board: Arc<Board>) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route("/healthz", get(async |State(board): State<Arc<Board>>| word(board.is_alive())))
        .route("/readyz", get(async |State(board): State<Arc<Board>>| word(board.is_ready())))
        .with_state(board)
}

fn control_routes(board: Arc<Board>) -> Router {
    Router::new()
        .route("/startedz", get(async |State(board): State<Arc<Board>>| word(board.is_started())))
        .route("/v1/prestop", post(prestop))
        .with_state(board)
}

async fn status(State(board): State<Arc<Board>>) -> Json<Status> {
    Json(board.status())
}

async fn prestop(State(board): State<Arc<Board>>) -> &'static str {
    board.hurry.cancel();
    "ok\n"
}

fn word(is_so: bool) -> (StatusCode, &'static str) {
    if is_so { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not yet\n") }
}
