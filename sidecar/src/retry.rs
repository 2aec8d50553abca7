//! Trying again: the store is away, and comes back.

use std::time::Duration;

use tokio::time::Instant;

use crate::exit::{Exit, Failure};

/// Attempts at one thing, with growing pauses between them.
#[derive(Debug)]
pub struct Trying {
    limit: Option<Duration>,
    since: Instant,
    pause: Duration,
    pause_max: Duration,
    said: Option<Instant>,
}

impl Trying {
    /// Until it works or the process is told to stop.
    #[must_use]
    pub fn forever() -> Self {
        Self { limit: None, since: Instant::now(), pause: PAUSE_MIN, pause_max: PAUSE_MAX, said: None }
    }

    /// The same for what will hardly heal by itself, with long pauses.
    #[must_use]
    pub fn patiently() -> Self {
        Self { pause: PATIENT_PAUSE_MIN, pause_max: PATIENT_PAUSE_MAX, ..Self::forever() }
    }

    /// Until nothing has worked for as long as `limit`.
    #[must_use]
    pub fn lasting(limit: Duration) -> Self {
        Self { limit: Some(limit), ..Self::forever() }
    }

    /// Takes the failure of an attempt and lets some time pass; the next attempt may follow.
    ///
    /// # Errors
    /// The failure itself, when there is no time left.
    pub async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.limit.is_some_and(|limit| self.since.elapsed() + self.pause >= limit) {
            return Err(failure);
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!("{failure}; trying again");
        }
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(self.pause_max);
        Ok(())
    }

    /// An attempt worked.
    pub fn worked(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("it works again");
        }
        (self.pause, self.since) = (PAUSE_MIN, Instant::now());
    }
}

/// Tries until it works, or nothing has for as long as `limit`; what will not heal is not tried again.
///
/// # Errors
/// The last failure.
pub async fn lasting<T, F>(limit: Duration, attempt: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut trying = Trying::lasting(limit);
    loop {
        match attempt().await {
            Err(failure) if failure.exit == Exit::Unavailable => trying.again(failure).await?,
            answered => return answered,
        }
    }
}

/// A pause of about this length, so that thousands who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PATIENT_PAUSE_MIN: Duration = Duration::from_secs(2);
const PATIENT_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
const SAY_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_works_in_between_buys_new_time() {
        let mut trying = Trying::lasting(Duration::from_millis(250));
        for _ in 0..4 {
            trying.again(Failure::unavailable("late")).await.unwrap();
            trying.worked();
        }
    }

    #[tokio::test]
    async fn trying_ends_with_the_last_failure_when_the_time_is_over() {
        let mut trying = Trying::lasting(Duration::from_millis(250));
        trying.again(Failure::unavailable("first")).await.unwrap();
        let last = trying.again(Failure::unavailable("second")).await.unwrap_err();
        assert_eq!(last.message, "second");
    }
}
