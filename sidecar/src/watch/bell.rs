//! What a follower waits at, on a thread or asleep.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Rung by the watcher when something happened, and by whoever has an order. Rings that nobody has heard yet are one.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    thread: Condvar,
    task: Notify,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something may have happened to the database, its WAL, or their names.
    Event,
    /// Somebody called [`Watch::call`](super::Watch::call).
    Called,
    /// The time is over.
    Timeout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rung {
    event: bool,
    called: bool,
}

impl Rung {
    /// Takes the rings, calls first.
    const fn take(&mut self) -> Option<Woken> {
        if std::mem::replace(&mut self.called, false) {
            Some(Woken::Called)
        } else if std::mem::replace(&mut self.event, false) {
            Some(Woken::Event)
        } else {
            None
        }
    }
}

impl Bell {
    pub(super) fn event(&self) {
        self.lock().event = true;
        self.wake();
    }

    pub(super) fn call(&self) {
        self.lock().called = true;
        self.wake();
    }

    /// Forgets an event: whoever calls this looks afterwards.
    pub(super) fn forget_event(&self) {
        self.lock().event = false;
    }

    /// Blocks until it rings, at most until `end`.
    pub(super) fn wait(&self, end: Option<Instant>) -> Woken {
        self.wait_for(end, Rung::take)
    }

    /// Blocks until it is called, at most until `end`. Events stay for the next wait.
    pub(super) fn wait_for_call(&self, end: Instant) -> Woken {
        let called = |rung: &mut Rung| std::mem::replace(&mut rung.called, false).then_some(Woken::Called);
        self.wait_for(Some(end), called)
    }

    fn wait_for(&self, end: Option<Instant>, take: impl Fn(&mut Rung) -> Option<Woken>) -> Woken {
        let mut rung = self.lock();
        loop {
            if let Some(woken) = take(&mut rung) {
                return woken;
            }
            rung = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Woken::Timeout,
                Some(rest) => {
                    let waited = self.thread.wait_timeout(rung, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.thread.wait(rung).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits until it rings, without a thread.
    pub(super) async fn rung(&self) -> Woken {
        loop {
            let woken = self.lock().take();
            match woken {
                Some(woken) => return woken,
                None => self.task.notified().await,
            }
        }
    }

    fn wake(&self) {
        self.thread.notify_all();
        self.task.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
