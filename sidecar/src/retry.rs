//! Trying again: the store is away, and comes back.

use std::time::{Duration, Instant};

use crate::exit::Failure;

/// How long to go on trying.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// Until it works or the process is told to stop.
    Unlimited,
    /// Until this moment.
    Until(Instant),
}

/// Attempts at one thing, with growing pauses between them.
#[derive(Debug)]
pub struct Trying {
    budget: Budget,
    pause: Duration,
    said: Option<Instant>,
}

impl Trying {
    /// No attempt was made yet.
    #[must_use]
    pub const fn new(budget: Budget) -> Self {
        Self { budget, pause: PAUSE_MIN, said: None }
    }

    /// For as long as `wait` from now on.
    #[must_use]
    pub fn lasting(wait: Duration) -> Self {
        Self::new(Budget::Until(Instant::now() + wait))
    }

    /// Takes the failure of an attempt and lets some time pass; the next attempt may follow.
    ///
    /// # Errors
    /// The failure itself, when there is no time left.
    pub async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        if let Budget::Until(end) = self.budget
            && Instant::now() + self.pause >= end
        {
            return Err(failure);
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!("{failure}; trying again");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    /// An attempt worked.
    pub fn worked(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("the store answers again");
        }
        self.pause = PAUSE_MIN;
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const SAY_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trying_ends_with_the_last_failure_when_the_time_is_over() {
        let mut trying = Trying::lasting(Duration::from_millis(250));
        trying.again(Failure::unavailable("first")).await.unwrap();
        let last = trying.again(Failure::unavailable("second")).await.unwrap_err();
        assert_eq!(last.message, "second");
    }
}
