//! When the process is told to stop.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// Whether, and by which signal, we were told to stop.
#[derive(Clone, Debug)]
pub struct Told {
    /// Cancelled when we are.
    pub stop: CancellationToken,
    signal: Arc<OnceLock<Signal>>,
}

impl Told {
    /// The signal; SIGTERM while there was none.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal.get().copied().unwrap_or(Signal::TERM)
    }
}

/// A token that SIGTERM or SIGINT cancels. A second one ends the process at once. `what` is said to happen then.
///
/// # Errors
/// A bug where the kernel does not let us listen.
pub fn on_signal(what: &'static str) -> Result<Told, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::bug(format!("cannot listen to signals: {error}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let told = Told { stop: CancellationToken::new(), signal: Arc::default() };
    let tell = told.clone();
    tokio::spawn(async move {
        let (name, signal) = tokio::select! {
            _ = term.recv() => ("SIGTERM", Signal::TERM),
            _ = int.recv() => ("SIGINT", Signal::INT),
        };
        tracing::info!("{name}: {what}");
        let _ = tell.signal.set(signal);
        tell.stop.cancel();
        // Some programs send one stop as two signals.
        let begun = Instant::now();
        while begun.elapsed() < ONE_STOP {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        tracing::warn!("told to stop again; ending without waiting for the store");
        std::process::exit(i32::from(crate::exit::Exit::Unavailable as u8));
    });
    Ok(told)
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
