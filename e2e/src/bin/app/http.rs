//! The application's HTTP server: `GET /rows`, `GET /healthz`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use lifeboat_e2e::rows::Rows;
use tokio::net::TcpListener;

use crate::database::read_rows;

/// What the answers are made of.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) db: PathBuf,
    pub(crate) pod: String,
    pub(crate) last_at_start: i64,
}

/// Serves until the listener breaks.
pub(crate) async fn serve(listener: TcpListener, source: Source) -> Result<()> {
    let routes = Router::new()
        .route("/rows", get(rows))
        .route("/healthz", get(async || "ok\n"))
        .with_state(Arc::new(source));
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn rows(State(source): State<Arc<Source>>) -> Result<Json<Rows>, (StatusCode, String)> {
    let read = move || read_rows(&source.db, source.pod.clone(), source.last_at_start);
    let answer = tokio::task::spawn_blocking(read).await;
    match answer {
        Ok(Ok(rows)) => Ok(Json(rows)),
        Ok(Err(error)) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n"))),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}
