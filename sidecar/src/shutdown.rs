//! When the process is told to stop.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// A token that SIGTERM or SIGINT cancels. A second one ends the process at once.
///
/// # Errors
/// A bug where the kernel does not let us listen.
pub fn on_signal() -> Result<CancellationToken, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::bug(format!("cannot listen to signals: {error}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
        tracing::info!("{name}: storing the last commits");
        token.cancel();
        // Some programs send one stop as two signals.
        let begun = Instant::now();
        while begun.elapsed() < ONE_STOP {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        tracing::warn!("told to stop again; ending without waiting for the store");
        std::process::exit(i32::from(crate::exit::Exit::Unavailable as u8));
    });
    Ok(stop)
}

/// Waits for a moment that may not be set.
pub async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Signals that come together mean one stop.
const ONE_STOP: Duration = Duration::from_secs(1);
