//! What all followers of the process share: the watcher, the ways to the stores, and what there is only so much of.

use std::sync::Arc;

use lifeboat_store::Requests;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::connect::Stores;
use crate::places::Places;
use crate::watch::Watcher;

/// Shared by all followers.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Hears of changes.
    pub watcher: Watcher,
    /// Places for open databases.
    pub places: Arc<Places>,
    /// Ways to the stores.
    pub stores: Stores,
    starts: Semaphore,
    uploads: Semaphore,
    /// Large uploads need one of these too, so that they leave room for small ones.
    large_uploads: Semaphore,
}

impl Shared {
    /// As the configuration says. What is asked of stores counts into `requests`.
    #[must_use]
    pub fn new(config: Arc<Config>, watcher: Watcher, requests: Arc<Requests>) -> Self {
        let uploads = config.max_concurrent_uploads;
        Self {
            watcher,
            places: Places::new(config.max_open_databases),
            stores: Stores::counting(requests),
            starts: Semaphore::new(STARTS_MAX),
            uploads: Semaphore::new(uploads),
            large_uploads: Semaphore::new(uploads.div_ceil(2)),
            config,
        }
    }

    /// Waits for the turn to start: claims are several requests each, and thousands must not be made at once. Whoever takes
    /// long does not keep the others; see [`START_MAX`].
    pub async fn start(&self) -> Option<SemaphorePermit<'_>> {
        self.starts.acquire().await.ok()
    }

    /// Waits for the turn to upload a slot of so many bytes.
    pub async fn upload(&self, bytes: u64) -> (Option<SemaphorePermit<'_>>, Option<SemaphorePermit<'_>>) {
        let large = if bytes > LARGE { self.large_uploads.acquire().await.ok() } else { None };
        (large, self.uploads.acquire().await.ok())
    }
}

/// Lets the process open as many files as it may.
pub fn raise_open_files(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let needed = (config.max_open_databases * FILES_OF_AN_OPEN_DATABASE) as u64;
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        tracing::warn!(
            "max-open-databases {} may need {needed} open files, but {maximum} are allowed; raise the limit (ulimit -n, \
             LimitNOFILE), or lower max-open-databases",
            config.max_open_databases
        );
    }
}

/// How long a start keeps others from theirs.
pub const START_MAX: std::time::Duration = std::time::Duration::from_secs(5);
const STARTS_MAX: usize = 16;
/// A slot of more bytes is a large one.
const LARGE: u64 = 4 * 1024 * 1024;
/// Six connections with database, WAL and shared memory, and what is open beside them.
const FILES_OF_AN_OPEN_DATABASE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn large_uploads_leave_room_for_small_ones() {
        let config = Config { max_concurrent_uploads: 2, ..Config::default() };
        let shared = Shared::new(Arc::new(config), Watcher::start().unwrap(), Arc::default());
        let _large = shared.upload(LARGE + 1).await;
        tokio::time::timeout(Duration::from_millis(20), shared.upload(LARGE + 1)).await.unwrap_err();
        let _small = shared.upload(1).await;
        tokio::time::timeout(Duration::from_millis(20), shared.upload(1)).await.unwrap_err();
    }
}
