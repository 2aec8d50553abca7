//! The loser: what a writer does that finds out that the replica is another one's.
//!
//! ```text
//! mark ─► write lock ─► a last look ─► fork ─► in a pod: stay; else: end with code 3
//! ```
//!
//! The mark comes first: whatever happens after it, this pod does not claim again. With SQLite's write lock in our hands nothing
//! more is committed that the replica will never have; reads go on. The lock ends with the process, so in a pod it stays: a
//! container that ended would be started again, and the application would write on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::fork::{FencedMark, Why};
use lifeboat_wire::Verdict;

use super::{Capture, Follower};
use crate::bucket::Bucket;
use crate::capture::{Order, Report};
use crate::connect::Folder;
use crate::database::{DatabaseError, WriteLock};
use crate::exit::{Exit, Failure};
use crate::fork::{self, Story};
use crate::limits::Held;
use crate::marks::Lock;
use crate::pod;
use crate::retry::Trying;
use crate::writer::Writer;

impl Follower {
    /// Another writer has the replica. Returns the failure with which this database ends, and in a pod only when that is told to.
    pub(super) async fn lose(&self, writer: &Writer, capture: &mut Capture, failure: Failure) -> Failure {
        let head = &writer.opened.head;
        let story = Story {
            why: Why::Fenced,
            owner: head.owner.clone(),
            lineage: head.lineage.clone(),
            epoch: head.epoch,
            base: Some(writer.base()),
            transactions: None,
        };
        let machine = Arc::clone(&writer.lock);
        self.give_way(&writer.bucket, story, machine, Some(capture), failure).await
    }

    /// The same for a pod that may not even begin. What it has of commits, an earlier process of it left.
    pub(super) async fn lose_at_the_start(&self, failure: Failure) -> Failure {
        match self.try_lose_at_the_start(failure.clone()).await {
            Ok(failure) => failure,
            Err(other) => failure.about(format!("{other}; and")),
        }
    }

    async fn try_lose_at_the_start(&self, failure: Failure) -> Result<Failure, Failure> {
        let machine = Arc::new(self.marks.lock(self.shared.config.handover_timeout).await?);
        let bucket = self.shared.stores.open(&self.database.location, Folder::MustExist).await?;
        let record = self.marks.record()?;
        let story = Story {
            why: Why::Fenced,
            owner: pod::new_owner()?,
            lineage: record.as_ref().map(|record| record.lineage.clone()).unwrap_or_default(),
            epoch: record.as_ref().and_then(|record| record.epoch).unwrap_or(Epoch::new(0)),
            base: record.map(|record| record.slot),
            transactions: None,
        };
        Ok(self.give_way(&bucket, story, machine, None, failure).await)
    }

    async fn give_way(
        &self,
        bucket: &Bucket,
        mut story: Story,
        machine: Arc<Lock>,
        capture: Option<&mut Capture>,
        failure: Failure,
    ) -> Failure {
        let name = &self.database.name;
        self.leave_mark(story.epoch, &failure);
        self.post.troubled(&failure);
        let writers = self.keep_writers_out().await;
        if let Some(writers) = &writers {
            tracing::error!("{name}: {failure}. Its application can read on, and write nothing");
            self.shared.hold(Held { writers: Arc::clone(writers), machine });
        }
        if let Some(capture) = capture {
            story.transactions = capture.halt().await.filter(|count| *count > 0);
        }
        self.post.lost(story.transactions, None);
        let failure = match &writers {
            Some(writers) => self.save(bucket, writers, &story, failure).await,
            None => failure,
        };
        self.post.troubled(&failure);
        self.post.demand().end();
        if pod::is_pod() {
            tracing::warn!("{name}: {failure}. This process stays, so that nothing more is written");
            self.stop.cancelled().await;
        }
        failure
    }

    /// Without it the lock holds all the same; only a container that is started again would have to find out anew.
    fn leave_mark(&self, epoch: Epoch, failure: &Failure) {
        let written = pod::new_owner().and_then(|owner| {
            let message = failure.message.clone();
            self.marks.write_fenced(&FencedMark { pod_uid: owner.pod_uid, epoch, message })
        });
        if let Err(error) = written {
            tracing::warn!("{}: {error}", self.database.name);
        }
    }

    /// SQLite's write lock; `None` where it cannot be had. Who is in the middle of a transaction is waited for; in a pod, where
    /// the database may yet be created, without an end.
    async fn keep_writers_out(&self) -> Option<Arc<WriteLock>> {
        let mut trying = patience();
        loop {
            let path = self.database.path.clone();
            let taken = tokio::task::spawn_blocking(move || WriteLock::take(&path)).await.ok()?;
            let error = match taken {
                Ok(lock) => return Some(Arc::new(lock)),
                Err(error) => error,
            };
            let is_absent = matches!(error, DatabaseError::Absent { .. } | DatabaseError::Empty { .. });
            let is_hopeless = error.verdict() != Verdict::Retry || (is_absent && !pod::is_pod());
            let failure = Failure { exit: Exit::Unavailable, ..error.into() };
            let tried = if is_hopeless { Err(failure) } else { trying.again(failure).await };
            if let Err(failure) = tried {
                tracing::error!("{}: its application may go on writing: {failure}", self.database.name);
                return None;
            }
        }
    }

    /// Saves the tail, and says in the failure what is at stake and where it is.
    async fn save(&self, bucket: &Bucket, lock: &Arc<WriteLock>, story: &Story, failure: Failure) -> Failure {
        let mut trying = patience();
        let saved = loop {
            match Box::pin(fork::save(bucket, lock, story)).await {
                Err(error) if error.exit == Exit::Unavailable => {
                    if let Err(error) = trying.again(error).await {
                        break Err(error);
                    }
                }
                saved => break saved,
            }
        };
        let stake = match story.transactions {
            Some(1) => "1 transaction is not in the replica".to_owned(),
            Some(count) => format!("{count} transactions are not in the replica"),
            None => "commits may not be in the replica".to_owned(),
        };
        match saved {
            Ok(None) => {
                Failure { message: format!("{failure}; nothing of ours is missing there"), ..failure }
            }
            Ok(Some(fork)) => {
                self.post.lost(story.transactions, Some(fork.to_string()));
                let place = &self.database.location;
                let message = format!(
                    "{failure}; {stake}, but saved as fork {fork} of {place}: see `lifeboat forks show`"
                );
                Failure { message, ..failure }
            }
            Err(error) => {
                let message = format!(
                    "{failure}; {stake}, only in the local database, as no fork could be saved: {error}"
                );
                Failure { message, ..failure }
            }
        }
    }
}

/// A pod has nothing else to do. A process on a bare machine is to end.
fn patience() -> Trying {
    if pod::is_pod() { Trying::forever() } else { Trying::lasting(PATIENCE) }
}

impl Capture {
    /// Lets the thread look once more and end; how many transactions are in no slot of ours, where it could still count.
    async fn halt(&mut self) -> Option<u64> {
        self.tell(Order::Halt);
        let counted = async {
            loop {
                match self.reports.recv().await {
                    Some(Report::Halted { commits }) => return Some(commits),
                    Some(Report::Failed(_) | Report::Finished | Report::Replaced | Report::Asleep) | None => {
                        return None;
                    }
                    Some(
                        Report::Waiting(_)
                        | Report::Opened { .. }
                        | Report::Slot(_)
                        | Report::Large
                        | Report::Spool
                        | Report::Streamed(_)
                        | Report::Derived(_),
                    ) => {}
                }
            }
        };
        tokio::time::timeout(LAST_LOOK_MAX, counted).await.ok().flatten()
    }
}

/// How long a bare machine tries what keeps a fenced process from ending.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a last look may take.
const LAST_LOOK_MAX: Duration = Duration::from_secs(20);
