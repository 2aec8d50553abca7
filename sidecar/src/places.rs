//! How many databases are open at a time. Each open one has a thread, connections and memory; all others sleep.
//!
//! When one more wants to be open, the one that has rested longest is asked to leave. Where nobody rests, because as many
//! as may be open are being written to, whoever has waited a second is let in all the same, if his bucket answers: the
//! limit is about memory, and a database that nobody follows would be worse. The next that rests leaves then. While the
//! bucket is away nobody rests who has something to store, and whoever is let in would be one more of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::watch::Watch;

/// The places of the process.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    resting: Mutex<Resting>,
}

#[derive(Debug, Default)]
struct Resting {
    next: u64,
    /// Those that rest, the longest first.
    watches: BTreeMap<u64, Arc<Watch>>,
}

/// The place of one open database; dropped when it is closed.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// Its number while it rests.
    number: Option<u64>,
    /// `None` for one beyond the limit.
    permit: Option<OwnedSemaphorePermit>,
}

/// Somebody waits, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        let (free, resting) = (Arc::new(Semaphore::new(max)), Mutex::default());
        Arc::new(Self { free, waiting: AtomicUsize::new(0), resting })
    }

    /// A place, in the order of asking. Beyond the limit there is one only when `answered` has ended, which says that what is
    /// committed can be stored.
    pub async fn take(self: &Arc<Self>, answered: impl Future<Output = ()>) -> Place {
        let place = |permit| Place { places: Arc::clone(self), number: None, permit };
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return place(Some(permit));
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        if let Some(watch) = self.longest_resting() {
            watch.call();
        }
        let beyond = async {
            tokio::time::sleep(PATIENCE).await;
            answered.await;
        };
        tokio::select! {
            biased;
            permit = Arc::clone(&self.free).acquire_owned() => place(permit.ok()),
            () = beyond => place(None),
        }
    }

    fn longest_resting(&self) -> Option<Arc<Watch>> {
        self.resting().watches.pop_first().map(|(_, watch)| watch)
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The database has nothing to do. Says whether it is to leave now, because another waits for its place, or its place
    /// is one too many; else it is called when that changes.
    pub fn rests(&mut self, watch: &Arc<Watch>) -> bool {
        if self.permit.is_none() || self.places.waiting.load(Ordering::SeqCst) > 0 {
            return true;
        }
        if self.number.is_none() {
            let mut resting = self.places.resting();
            resting.next += 1;
            let number = resting.next;
            resting.watches.insert(number, Arc::clone(watch));
            self.number = Some(number);
        }
        // Whoever came to wait meanwhile may not have seen it.
        self.places.waiting.load(Ordering::SeqCst) > 0
    }

    /// The database has something to do.
    pub fn works(&mut self) {
        if let Some(number) = self.number.take() {
            self.places.resting().watches.remove(&number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
    }
}

const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Watcher, Woken};

    fn watches() -> [Arc<Watch>; 2] {
        let watcher = Watcher::start().unwrap();
        ["/a.db", "/b.db"].map(|path| Arc::new(watcher.watch(path.as_ref())))
    }

    async fn take(places: &Arc<Places>) -> Place {
        places.take(std::future::ready(())).await
    }

    #[tokio::test]
    async fn the_one_that_rests_longest_is_asked_to_leave() {
        let (places, [first, second]) = (Places::new(2), watches());
        let (mut one, mut two) = (take(&places).await, take(&places).await);
        assert!(!one.rests(&first) && !two.rests(&second));
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { take(&places).await }
        });
        assert_eq!(first.rung().await, Woken::Called);
        one.works();
        assert!(one.rests(&first), "somebody waits");
        drop(one);
        assert!(waiting.await.unwrap().permit.is_some());
        assert!(!two.rests(&second), "nobody waits any more");
        assert_eq!(second.wait(Some(Duration::ZERO)), Woken::Timeout);
    }

    #[tokio::test]
    async fn while_all_work_one_more_is_let_in_and_leaves_when_it_rests() {
        let (places, [watch, _]) = (Places::new(1), watches());
        let mut working = take(&places).await;
        let mut beyond = take(&places).await;
        assert!(beyond.permit.is_none());
        assert!(beyond.rests(&watch));
        drop(beyond);
        assert!(!working.rests(&watch));
    }

    #[tokio::test]
    async fn while_the_bucket_is_away_nobody_is_let_in_beyond_the_limit_and_the_next_free_place_is_taken() {
        let places = Places::new(1);
        let working = take(&places).await;
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(std::future::pending()).await }
        });
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(!waiting.is_finished());
        drop(working);
        assert!(waiting.await.unwrap().permit.is_some());
    }
}
