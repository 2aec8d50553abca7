//! How far a restore is: a bar where a person looks at a terminal, else a log line now and then.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How much of a known number of bytes has come.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// The bar's own number jumps to the end when it is taken away.
    bytes: Arc<AtomicU64>,
    said: Arc<Mutex<Instant>>,
}

impl Progress {
    /// Begins. Of the bytes some may turn out not to be needed.
    #[must_use]
    pub fn begin(bytes: u64) -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
        bar.set_length(bytes);
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, ..Self::none() }
    }

    /// Shows nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { bar: ProgressBar::hidden(), bytes: Arc::default(), said: Arc::new(Mutex::new(Instant::now())) }
    }

    /// So many bytes more have come.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
        if !self.bar.is_hidden() {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= SAY_EVERY {
            *said = Instant::now();
            let (fetched, total) = (self.bytes(), self.bar.length().unwrap_or_default());
            tracing::info!(fetched, total, "fetched {} of {}", HumanBytes(fetched), HumanBytes(total));
        }
    }

    /// How many bytes have come.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

const SAY_EVERY: Duration = Duration::from_secs(10);
