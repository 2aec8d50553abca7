//! `/healthz` and `/readyz`, over plain HTTP for the kubelet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the Service may send requests here. Starts as no, and ends as no for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    is_ready: AtomicBool,
    is_ending: AtomicBool,
}

impl Readiness {
    pub(crate) fn set(&self, is_ready: bool) {
        if self.0.is_ready.swap(is_ready, Ordering::Relaxed) != is_ready {
            tracing::info!("{}", if is_ready { "ready" } else { "not ready" });
        }
    }

    /// From now on the answer is no, whatever is set.
    pub(crate) fn end(&self) {
        self.0.is_ending.store(true, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready.load(Ordering::Relaxed) && !self.0.is_ending.load(Ordering::Relaxed)
    }
}

/// Serves until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    cancelled: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(readiness);
    axum::serve(listener, router).with_graceful_shutdown(cancelled.cancelled_owned()).await
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the webhook's certificate does not verify against the webhook configuration yet",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn who_is_ending_does_not_become_ready_again() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready());
        readiness.set(true);
        assert!(readiness.is_ready());
        readiness.end();
        readiness.set(true);
        assert!(!readiness.is_ready());
    }
}
