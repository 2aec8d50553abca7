//! Waiting for something to become true, with a limit; tests never sleep for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

/// How long anything that the lab does in seconds may take when the machine is busy.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a wait may take that goes through Kubernetes' own back-off.
pub const PATIENTLY: Duration = Duration::from_secs(240);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks again and again until the look succeeds, and returns what it saw.
///
/// A look fails with the reason why it is not there yet.
///
/// # Errors
/// When the limit has passed: the last look's reason, and what was waited for.
pub async fn until<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        // One look may hang, for instance at a server that was stopped.
        let seen = match tokio::time::timeout(limit, look()).await {
            Ok(seen) => seen,
            Err(_) => Err(anyhow!("no answer")),
        };
        match seen {
            Ok(seen) => return Ok(seen),
            Err(reason) if Instant::now() >= end => {
                return Err(reason).with_context(|| format!("waited {} s for {what}", limit.as_secs()));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
