//! Work that is under way at once, and never more of it than was said.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::exit::Failure;

/// Jobs under way. Dropping it abandons them.
#[derive(Debug)]
pub(super) struct Jobs {
    under_way: JoinSet<Result<(), Failure>>,
    room: Arc<Semaphore>,
}

impl Jobs {
    /// Room for so many at once.
    #[must_use]
    pub(super) fn new(at_once: usize) -> Self {
        Self { under_way: JoinSet::new(), room: Arc::new(Semaphore::new(at_once)) }
    }

    /// Begins a job as soon as there is room.
    ///
    /// # Errors
    /// The failure of an earlier one.
    pub(super) async fn start(
        &mut self,
        job: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Result<(), Failure> {
        while let Some(done) = self.under_way.try_join_next() {
            outcome(done)?;
        }
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_err(|error| Failure::bug(error.to_string()))?;
        self.under_way.spawn(async move {
            let done = job.await;
            drop(room);
            done
        });
        Ok(())
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        while let Some(done) = self.under_way.join_next().await {
            outcome(done)?;
        }
        Ok(())
    }
}

fn outcome(done: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    done.map_err(|error| Failure::bug(error.to_string()))?
}
