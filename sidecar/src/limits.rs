//! What all followers of the process share: the watcher, the ways to the stores, and what there is only so much of.

use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_store::Requests;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::connect::Stores;
use crate::database::WriteLock;
use crate::marks::Lock;
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
    /// Databases that lost their replica: nobody commits to them any more, for as long as this process lives.
    held: Mutex<Vec<Held>>,
    starts: Semaphore,
    uploads: Arc<Semaphore>,
    /// Turns to write merged files: few, because each may have some parts in memory, and nobody waits for one.
    pub merges: Arc<Semaphore>,
    /// Large uploads need one of these too, so that they leave room for small ones.
    large_uploads: Arc<Semaphore>,
}

/// What keeps others from a database that lost its replica: the application from writing, other processes of ours from it.
#[derive(Debug)]
pub struct Held {
    /// SQLite's write lock, taken back when this goes.
    pub writers: Arc<WriteLock>,
    /// The right to the database on this machine.
    pub machine: Arc<Lock>,
}

/// The turn to upload one slot; over when dropped.
#[derive(Debug)]
pub struct Turn {
    _large: Option<OwnedSemaphorePermit>,
    _any: Option<OwnedSemaphorePermit>,
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
            held: Mutex::default(),
            starts: Semaphore::new(STARTS_MAX),
            uploads: Arc::new(Semaphore::new(uploads)),
            large_uploads: Arc::new(Semaphore::new(uploads.div_ceil(2))),
            merges: Arc::new(Semaphore::new(uploads.div_ceil(4))),
            config,
        }
    }

    /// Keeps a database's writers out for as long as this process lives.
    pub fn hold(&self, held: Held) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    /// Waits for the turn to start: claims are several requests each, and thousands must not be made at once. Whoever takes
    /// long does not keep the others; see [`START_MAX`].
    pub async fn start(&self) -> Option<SemaphorePermit<'_>> {
        self.starts.acquire().await.ok()
    }

    /// Waits for the turn to upload a slot of so many bytes.
    pub async fn upload(&self, bytes: u64) -> Turn {
        if bytes > LARGE { self.large_upload().await } else { self.small_upload().await }
    }

    /// Waits for the turn to upload a slot that may take hours. Where one upload is allowed at a time, one large and one
    /// small are: else nothing of the other databases would be stored meanwhile.
    pub async fn large_upload(&self) -> Turn {
        let large = Arc::clone(&self.large_uploads).acquire_owned().await.ok();
        let is_alone = self.config.max_concurrent_uploads == 1;
        let any = if is_alone { None } else { Arc::clone(&self.uploads).acquire_owned().await.ok() };
        Turn { _large: large, _any: any }
    }

    async fn small_upload(&self) -> Turn {
        Turn { _large: None, _any: Arc::clone(&self.uploads).acquire_owned().await.ok() }
    }
}

#[cfg(test)]
impl Turn {
    /// A turn that nobody waits for.
    pub(crate) const fn of_nobody() -> Self {
        Self { _large: None, _any: None }
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

    fn shared(max_concurrent_uploads: usize) -> Shared {
        let config = Config { max_concurrent_uploads, ..Config::default() };
        Shared::new(Arc::new(config), Watcher::start().unwrap(), Arc::default())
    }

    async fn must_wait(turn: impl Future<Output = Turn>) {
        tokio::time::timeout(Duration::from_millis(20), turn).await.unwrap_err();
    }

    #[tokio::test]
    async fn large_uploads_leave_room_for_small_ones() {
        for max in [1, 2] {
            let shared = shared(max);
            let large = shared.upload(LARGE + 1).await;
            must_wait(shared.large_upload()).await;
            let small = tokio::time::timeout(Duration::from_secs(5), shared.upload(1)).await;
            assert!(small.is_ok(), "a large one keeps all others out");
            must_wait(shared.upload(1)).await;
            drop(large);
            let _large = shared.large_upload().await;
        }
    }

    #[tokio::test]
    async fn large_uploads_take_half_of_all() {
        let shared = shared(5);
        let turns = [shared.large_upload().await, shared.large_upload().await, shared.large_upload().await];
        must_wait(shared.large_upload()).await;
        drop(turns);
        shared.large_upload().await;
    }
}
