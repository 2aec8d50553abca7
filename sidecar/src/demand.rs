//! Demands that everything committed before them be stored now: `lifeboat sync`, `POST /v1/databases/<name>/sync`.
//!
//! One [`Demand`] for each database stands between those who wait and the follower that stores. It counts: a demand is a
//! number, and the follower says up to which number all are met. So a follower that starts anew forgets nobody, and
//! nobody who went away is remembered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// What is demanded of one database, and what is met.
#[derive(Debug, Default)]
pub struct Demand {
    made: AtomicU64,
    met: AtomicU64,
    has_ended: AtomicBool,
    changed: Notify,
}

/// The follower has ended for good, and meets no demand any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl Demand {
    /// Demands that everything committed until now be stored, and waits until it is. A caller that stops waiting leaves
    /// nothing behind.
    ///
    /// # Errors
    /// When the follower has ended, or ends meanwhile.
    pub async fn made(&self) -> Result<(), Ended> {
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        self.changed.notify_waiters();
        self.wait(|| {
            if self.met.load(Ordering::SeqCst) >= number {
                return Some(Ok(()));
            }
            self.has_ended.load(Ordering::SeqCst).then_some(Err(Ended))
        })
        .await
    }

    /// Waits until there is a newer demand than `told`; returns its number.
    pub async fn newer_than(&self, told: u64) -> u64 {
        self.wait(|| Some(self.newest()).filter(|newest| *newest > told)).await
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.met.load(Ordering::SeqCst) >= self.newest()
    }

    /// The number of the newest demand, 0 when there was none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Everything committed before demand `number` is stored.
    pub fn meet(&self, number: u64) {
        if self.met.fetch_max(number, Ordering::SeqCst) < number {
            self.changed.notify_waiters();
        }
    }

    /// Nobody will meet a demand any more.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    async fn wait<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listening before looking: a change in between is not missed.
            changed.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_demand_is_answered_when_it_is_met_and_not_by_an_earlier_one() {
        let demand = Arc::new(Demand::default());
        let waiting = |demand: &Arc<Demand>| {
            let demand = Arc::clone(demand);
            tokio::spawn(async move { demand.made().await })
        };
        let first = waiting(&demand);
        assert_eq!(demand.newer_than(0).await, 1);
        let second = waiting(&demand);
        assert_eq!(demand.newer_than(1).await, 2);
        demand.meet(1);
        assert_eq!(first.await.unwrap(), Ok(()));
        assert!(!second.is_finished());
        demand.meet(2);
        assert_eq!(second.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_follower_that_has_ended() {
        let demand = Demand::default();
        demand.end();
        assert_eq!(demand.made().await, Err(Ended));
    }
}
