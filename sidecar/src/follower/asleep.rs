//! A database that sleeps: stored to the last commit, closed, and still claimed. A few hundred bytes are left of it.

use std::sync::Arc;

use lifeboat_ltx::Checksum;
use lifeboat_replica::slot;

use super::{Capture, Ended, Follower};
use crate::bucket::Bucket;
use crate::capture::{Begin, Order};
use crate::exit::{Exit, Failure};
use crate::places::Place;
use crate::watch::Watch;
use crate::writer::Writer;

impl Follower {
    /// Stores whatever is cut, and sleeps in between, until there is nothing more to store.
    pub(super) async fn store_and_sleep(
        &self,
        writer: &mut Writer,
        mut capture: Capture,
    ) -> Result<Ended, Failure> {
        loop {
            match Box::pin(self.store_all(writer, &mut capture)).await {
                Ok(Some(ended)) => return Ok(ended),
                Ok(None) => {}
                Err(failure) if failure.exit == Exit::Fenced => {
                    return Err(Box::pin(self.lose(writer, &mut capture, failure)).await);
                }
                Err(failure) => return Err(failure),
            }
            tracing::debug!("{}: asleep", self.database.name);
            self.post.falls_asleep();
            let watch = capture.into_watch();
            self.sleep(&watch).await;
            if self.stop.is_cancelled() && self.post.demand().is_met() && watch.is_unchanged() {
                return Ok(Ended::Finished);
            }
            self.post.wakes_up();
            // Two watches of one file would be in each other's way.
            drop(watch);
            match Box::pin(self.wake(writer)).await? {
                Some(awake) => capture = awake,
                None => return Ok(Ended::Replaced),
            }
            writer.history.wake().into_iter().for_each(|order| capture.tell(order));
            tracing::debug!("{}: awake", self.database.name);
        }
    }

    /// Until something happens to the file, or somebody wants something.
    async fn sleep(&self, watch: &Watch) {
        let demand = self.post.demand();
        // In this order: a demand that comes in between is newer than what counts as met.
        let newest = demand.newest();
        let told = if demand.is_met() { newest } else { 0 };
        tokio::select! {
            _ = watch.rung() => {}
            _ = demand.newer_than(told) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// The right to have the database open. Beyond the limit, where nobody rests, only for a bucket that answers: each that is
    /// opened for one that is away would stay open until that is back.
    pub(super) async fn place(&self, bucket: &Bucket) -> Place {
        let waits = || self.post.waits(WAITS);
        let place = self.shared.places.take(bucket.answers(waits)).await;
        self.post.waits("");
        place
    }

    /// Opens the database again and goes on where it was, under the same claim. `None` when it is another file now.
    async fn wake(&self, writer: &Writer) -> Result<Option<Capture>, Failure> {
        let Some(database) = self.open_database(&writer.bucket, &writer.chain).await? else {
            return Ok(None);
        };
        if database.file_id != writer.file_id {
            return Ok(None);
        }
        self.adopt(&database, &writer.chain)?;
        let (head, base) = (&writer.opened.head, writer.base());
        database.capture.tell(Order::Begin(Begin {
            lineage: head.lineage.clone(),
            epoch: head.epoch,
            first: slot::next(base.txid).ok_or_else(|| Failure::bug("no txid is left"))?,
            pre_apply: base.checksum.unwrap_or(Checksum::EMPTY),
        }));
        Ok(Some(database.capture))
    }
}

const WAITS: &str = "it is opened when the bucket answers, or one of max-open-databases rests";

impl Capture {
    /// What is left when the thread has ended: the channels to it would be kilobytes for each database that sleeps.
    fn into_watch(mut self) -> Arc<Watch> {
        self.orders = None;
        Arc::clone(&self.watch)
    }
}
