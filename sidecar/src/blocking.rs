//! Work that waits for the disk or computes for long: never on the threads that wait for the network.

use crate::exit::Failure;

/// Runs it on a thread of its own.
///
/// # Errors
/// As `work`; a bug where it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::bug(error.to_string()))?
}
