//! The endpoints: status, health and demands; the pod's own questions only over the Unix socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lifeboat_wire::{STATUS_PATH, Status};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::exit::Failure;
use crate::{answer, metrics};

/// Serves status, metrics and health on `addr` until `stop`, and demands from this machine. With more than `metrics_max`
/// databases metrics are of all of them together.
///
/// # Errors
/// Usage when the address cannot be listened on.
pub async fn serve_status(
    addr: &str,
    board: Arc<Board>,
    metrics_max: usize,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let all_interfaces = addr.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
    let addr = all_interfaces.as_deref().unwrap_or(addr);
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|error| Failure::usage(format!("addr {addr}: {error}; choose another with --addr")))?;
    let demands = demand_routes(Arc::clone(&board)).layer(from_fn(only_from_this_machine));
    let routes =
        status_routes(board, metrics_max).merge(demands).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!("the status endpoint ended: {error}");
        }
    });
    Ok(())
}

/// The same on the control socket, with the pod's own questions.
pub fn serve_control(listener: UnixListener, board: Arc<Board>, metrics_max: usize, stop: CancellationToken) {
    tokio::spawn(async move {
        let routes = status_routes(Arc::clone(&board), metrics_max).merge(demand_routes(Arc::clone(&board)));
        let routes = routes.merge(control_routes(board));
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
        {
            tracing::error!("the control socket ended: {error}");
        }
    });
}

fn status_routes(board: Arc<Board>, metrics_max: usize) -> Router {
    let metrics = async move |State(board): State<Arc<Board>>| measured(board, metrics_max).await;
    Router::new()
        .route(STATUS_PATH, get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async |State(board): State<Arc<Board>>| word(board.is_alive())))
        .route("/readyz", get(async |State(board): State<Arc<Board>>| word(board.is_ready())))
        .with_state(board)
}

fn demand_routes(board: Arc<Board>) -> Router {
    Router::new().route("/v1/databases/{name}/sync", post(answer::sync)).with_state(board)
}

fn control_routes(board: Arc<Board>) -> Router {
    Router::new()
        .route("/startedz", get(async |State(board): State<Arc<Board>>| word(board.is_started())))
        .route("/v1/prestop", post(prestop))
        .with_state(board)
}

/// A demand costs a request to the bucket, so a stranger may not make one, and neither may a web page through the browser
/// of this machine, which always says where it comes from.
async fn only_from_this_machine(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if peer.ip().to_canonical().is_loopback() && !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "only programs of this machine may demand; ask over the loopback or the socket\n")
        .into_response()
}

async fn status(State(board): State<Arc<Board>>) -> Json<Status> {
    Json(board.status())
}

async fn measured(board: Arc<Board>, metrics_max: usize) -> Response {
    match tokio::task::spawn_blocking(move || metrics::text(&board, metrics_max)).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn prestop(State(board): State<Arc<Board>>) -> &'static str {
    board.hurry.cancel();
    "ok\n"
}

fn word(is_so: bool) -> (StatusCode, &'static str) {
    if is_so { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not yet\n") }
}
