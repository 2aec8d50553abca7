//! One database on its way to its replica: lock, claim, adopt, follow, store, close.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use lifeboat_ltx::Checksum;
use lifeboat_replica::adoption::{Adoption, Chain, Content, Record};
use lifeboat_replica::claim::Opened;
use lifeboat_replica::head::Base;
use lifeboat_replica::slot;
use lifeboat_wire::Reason;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::board::{Post, position};
use crate::bucket::Bucket;
use crate::capture::{self, Begin, Order, Report, Task};
use crate::config::DatabaseConfig;
use crate::exit::{Exit, Failure};
use crate::first_view::{self, Expected};
use crate::handover::{self, HandOver};
use crate::history::History;
use crate::limits::{START_MAX, Shared};
use crate::marks::{self, Marks};
use crate::places::Place;
use crate::retry::Trying;
use crate::watch::Watch;
use crate::writer::Writer;
use crate::{adopt, claim, connect, disk, pod};

mod storing;

mod adopting;
mod asleep;
mod fenced;

/// The follower of one database.
#[derive(Debug)]
pub struct Follower {
    database: DatabaseConfig,
    shared: Arc<Shared>,
    post: Post,
    stop: CancellationToken,
    marks: Marks,
    parts: storing::Parts,
}

/// The capture thread, seen from outside.
struct Capture {
    /// `None` once the thread is abandoned.
    orders: Option<mpsc::Sender<Order>>,
    reports: Receiver<Report>,
    watch: Arc<Watch>,
}

/// A database that is followed already, before anything of it is stored.
struct OpenedDatabase {
    capture: Capture,
    content: Content,
    /// Whether the page log says what the bucket has.
    is_known: bool,
    file_id: String,
    /// Whether it took its application's time until there was a database.
    was_waited_for: bool,
}

/// Everything that a start leads to.
struct Started {
    database: OpenedDatabase,
    adoption: Adoption,
    opened: Opened,
    base: Base,
    chain: Chain,
}

/// Why a follower has nothing more to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Finished,
    Replaced,
}

impl Follower {
    /// A follower that has done nothing yet.
    #[must_use]
    pub fn new(database: DatabaseConfig, shared: Arc<Shared>, post: Post, stop: CancellationToken) -> Self {
        let marks = Marks::beside(&database.path);
        Self { database, shared, post, stop, marks, parts: storing::Parts::default() }
    }

    /// Follows until told to stop, then stores the last commits and closes the replica.
    ///
    /// # Errors
    /// [`Failure`] when the replica may not be written, or the database cannot be followed any more.
    pub async fn run(self) -> Result<(), Failure> {
        let ended = self.follow().await.map_err(|failure| self.name(failure));
        if let Err(failure) = &ended {
            if self.shared.config.databases.len() > 1 || self.database.is_discovered {
                tracing::error!("{failure}; the other databases go on");
            }
            self.post.troubled(failure);
        }
        self.post.demand().end();
        ended
    }

    /// Says which database it is about, unless the message begins with it already.
    fn name(&self, failure: Failure) -> Failure {
        if failure.message.starts_with(&self.database.name) {
            failure
        } else {
            failure.about(&self.database.name)
        }
    }

    /// What may pass is tried again for ever: the worst end is one that nobody notices.
    async fn follow(&self) -> Result<(), Failure> {
        let (mut trying, mut refused) = (Trying::forever(), Trying::patiently());
        loop {
            let ended = self.follow_once(&mut trying).await;
            if ended != Ok(Ended::Finished) {
                self.post.unfollowed();
            }
            match ended {
                Ok(Ended::Finished) => return Ok(()),
                Ok(Ended::Replaced) if self.is_gone() => return Ok(()),
                Ok(Ended::Replaced) => {
                    tracing::warn!(
                        "{}: the file was replaced by another, or deleted; looking at what comes",
                        self.database.name
                    );
                }
                Err(failure) if failure.exit == Exit::Unavailable && !self.stop.is_cancelled() => {
                    self.post.troubled(&failure);
                    trying.again(failure).await?;
                }
                // Nobody watches over each of many; whoever puts one right need not start the process again.
                Err(failure) if self.database.is_discovered && failure.exit == Exit::Refused => {
                    self.post.troubled(&failure);
                    tokio::select! {
                        tried = refused.again(self.name(failure.clone())) => tried?,
                        () = self.stop.cancelled() => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            }
            if self.is_gone() {
                return Ok(());
            }
        }
    }

    /// Whether this was found in a folder, and is not there any more.
    fn is_gone(&self) -> bool {
        self.database.is_discovered && disk::is_absent(&self.database.path)
    }

    async fn follow_once(&self, trying: &mut Trying) -> Result<Ended, Failure> {
        let started = tokio::select! {
            started = self.start_in_turn() => match started {
                // On a bare machine nothing was written, and whoever reads the failure decides.
                Err(failure) if failure.exit == Exit::Fenced && pod::is_pod() => {
                    return Err(Box::pin(self.lose_at_the_start(failure)).await);
                }
                started => started?,
            },
            () = self.gave_up_starting(), if !pod::is_pod() => {
                return Err(Failure::unavailable("stopped before it could begin; nothing new was stored"));
            }
        };
        let Some((mut writer, capture)) = started else { return Ok(Ended::Finished) };
        trying.worked();
        let ended = self.store_and_sleep(&mut writer, capture).await?;
        if ended == Ended::Finished {
            Box::pin(writer.close(&self.database.name, &self.post)).await;
        }
        Ok(ended)
    }

    /// Thousands do not start at once. Whoever takes long lets others begin meanwhile.
    async fn start_in_turn(&self) -> Result<Option<(Writer, Capture)>, Failure> {
        let turn = self.shared.start().await;
        let mut start = Box::pin(self.start());
        let started = tokio::time::timeout(START_MAX, &mut start).await;
        drop(turn);
        match started {
            Ok(started) => started,
            Err(_) => start.await,
        }
    }

    /// On a bare machine nobody waits long for a start that was told to stop: the database is still there.
    async fn gave_up_starting(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(STOP_PATIENCE).await;
    }

    /// Everything before the first slot; `None` when told to stop while there is no database.
    ///
    /// In a pod the claim comes first, because the pod's start waits for it. On a bare machine the database does, so that
    /// a machine without one, or with a wrong one, takes the replica from nobody.
    async fn start(&self) -> Result<Option<(Writer, Capture)>, Failure> {
        let lock = self.marks.lock(self.shared.config.handover_timeout).await?;
        self.marks.require_not_fenced()?;
        let bucket = self.shared.stores.open(&self.database.location, connect::Folder::Create).await?;
        let mut trying = Trying::forever();
        if self.shared.config.adopt {
            Box::pin(adopt::run(&bucket, &self.database.path, &self.marks, &mut trying)).await?;
        }
        let started = if pod::is_pod() {
            self.claim_first(&bucket, &mut trying).await?
        } else {
            self.look_first(&bucket, &mut trying).await?
        };
        let Some(Started { database, adoption, opened, base, chain }) = started else { return Ok(None) };
        let (boot_id, file_id) = (marks::boot_id()?, database.file_id.clone());
        let history = History::new(&self.database.name, &bucket, self.database.history, &opened, base);
        let writer = Writer {
            history,
            bucket,
            opened,
            chain: chain.recorded(),
            boot_id,
            file_id,
            said: None,
            unsaid: 0,
            is_swept: false,
            lock: Arc::new(lock),
        };
        self.begin(&database, &writer, base, adoption)?;
        Ok(Some((writer, database.capture)))
    }

    /// Waits for the database and refuses a wrong one before anything is taken from anybody. The bucket is looked at once;
    /// should another slot be there by the time of the claim, everything begins anew.
    async fn look_first(&self, bucket: &Bucket, trying: &mut Trying) -> Result<Option<Started>, Failure> {
        let chain = self.chain(bucket, trying).await?;
        let Some(database) = self.open_database(bucket, &chain).await? else { return Ok(None) };
        if database.was_waited_for && self.chain(bucket, trying).await? != chain {
            return Err(claim::moved(bucket));
        }
        let adoption = self.adopt(&database, &chain)?;
        let newest = chain.newest;
        let (opened, base, _) = self.claim(bucket, Some(newest), trying).await?;
        self.post.opened(opened.head.epoch.get());
        let chain = chain.sealed(&opened.head, base).ok_or_else(|| claim::moved(bucket))?;
        Ok(Some(Started { database, adoption, opened, base, chain }))
    }

    /// Claims, and only then waits for the database.
    async fn claim_first(&self, bucket: &Bucket, trying: &mut Trying) -> Result<Option<Started>, Failure> {
        let (opened, base, handed) = self.claim(bucket, None, trying).await?;
        self.post.opened(opened.head.epoch.get());
        let chain = match handed {
            Some(chain) => chain,
            None => self.chain(bucket, trying).await?,
        };
        let Some(database) = self.open_database(bucket, &chain).await? else { return Ok(None) };
        let adoption = self.adopt(&database, &chain)?;
        Ok(Some(Started { database, adoption, opened, base, chain }))
    }

    /// The claim, and what the bucket holds behind it where the init step left word of that.
    async fn claim(
        &self,
        bucket: &Bucket,
        expected: Option<u64>,
        trying: &mut Trying,
    ) -> Result<(Opened, Base, Option<Chain>), Failure> {
        let handed = match &self.shared.config.handover_dir {
            Some(folder) => handover::take(folder, &self.database.name)?,
            None => None,
        };
        let claim = match handed {
            Some(claim) => claim,
            None => {
                let (interval, timeout) = (self.database.sync_interval, self.shared.config.handover_timeout);
                let promise = self.marks.promise(bucket, self.database.expects_data)?;
                let claimant = claim::claimant(interval, timeout, pod::is_pod(), expected, promise)?;
                HandOver::from(&claim::seal(bucket, claimant, trying).await?)
            }
        };
        let (base, chain) = (claim.base, claim.chain.clone());
        Ok((claim::open(bucket, claim, trying).await?, base, chain))
    }

    async fn chain(&self, bucket: &Bucket, trying: &mut Trying) -> Result<Chain, Failure> {
        let marks = (&self.marks, self.database.expects_data);
        claim::chain(bucket, marks, trying, |failure| self.post.troubled(failure)).await
    }

    /// Starts the capture thread and waits until the database is open; `None` when there is still none when told to stop.
    async fn open_database(&self, bucket: &Bucket, chain: &Chain) -> Result<Option<OpenedDatabase>, Failure> {
        let place = self.place(bucket).await;
        let mut capture = self.spawn_capture(self.marks.expected(chain), place)?;
        let (mut is_stopping, mut was_waited_for) = (false, false);
        loop {
            let report = tokio::select! {
                report = capture.reports.recv() => report,
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    capture.tell(Order::Finish);
                    continue;
                }
            };
            match report {
                Some(Report::Waiting(failure)) => {
                    was_waited_for = true;
                    tracing::info!("{failure}");
                    if self.is_gone() {
                        return Ok(None);
                    }
                    self.post.troubled(&failure);
                    if failure.reason == Reason::WaitingForDatabase {
                        self.post.started();
                        self.post.nothing_waits();
                    } else {
                        self.post.unfollowed();
                    }
                }
                Some(Report::Opened { content, is_known, switched_to_wal, file_id }) => {
                    self.post.recovered();
                    if switched_to_wal {
                        tracing::info!(
                            "{}: switched to WAL mode, which replication needs",
                            self.database.name
                        );
                    }
                    return Ok(Some(OpenedDatabase { capture, content, is_known, file_id, was_waited_for }));
                }
                Some(Report::Failed(failure)) => return Err(failure),
                Some(Report::Finished) => return Ok(None),
                Some(
                    Report::Slot(_)
                    | Report::Large
                    | Report::Spool
                    | Report::Streamed(_)
                    | Report::Derived(_)
                    | Report::Replaced
                    | Report::Halted { .. }
                    | Report::Asleep,
                )
                | None => {
                    return Err(Failure::bug("the capture thread went on before it was told to begin"));
                }
            }
        }
    }

    fn spawn_capture(&self, expected: Expected, place: Place) -> Result<Capture, Failure> {
        let watch = Arc::new(self.shared.watcher.watch(&self.database.path));
        let theirs = Arc::clone(&watch);
        let (orders, their_orders) = mpsc::channel();
        let (their_reports, reports) = tokio::sync::mpsc::channel(REPORTS_MAX);
        let task = Task {
            path: self.database.path.clone(),
            enforce: self.database.enforce(),
            synchronous: self.database.synchronous,
            rhythm: self.database.rhythm(),
            expected,
            place,
            boot_id: marks::boot_id()?,
            folder: self.marks.folder().to_owned(),
            reserve: self.shared.config.disk_reserve,
        };
        let post = self.post.clone();
        std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || capture::run(task, &theirs, &their_orders, &their_reports, &post))
            .map_err(|error| Failure::no_thread(&error))?;
        Ok(Capture { orders: Some(orders), reports, watch })
    }

    fn begin(
        &self,
        database: &OpenedDatabase,
        writer: &Writer,
        base: Base,
        adoption: Adoption,
    ) -> Result<(), Failure> {
        let head = &writer.opened.head;
        let first = slot::next(base.txid).ok_or_else(|| Failure::bug("no txid is left"))?;
        // Before the first slot: whoever is killed right after storing it must know the file again.
        self.marks.write_record(&self.record(writer, base))?;
        self.marks.remove_fenced()?;
        if database.is_known {
            self.post.stored(position(base, Some(jiff::Timestamp::now())));
        }
        self.post.started();
        database.capture.tell(Order::Begin(Begin {
            lineage: head.lineage.clone(),
            epoch: head.epoch,
            first,
            pre_apply: base.checksum.unwrap_or(Checksum::EMPTY),
        }));
        tracing::info!(
            "{}: following {} to {}, epoch {}; {}",
            self.database.name,
            self.database.path.display(),
            writer.bucket,
            head.epoch,
            first_view::describe(adoption, database.content, database.is_known)
        );
        Ok(())
    }

    /// The loop: whatever the thread cuts is stored, until it has finished; `None` when it sleeps.
    async fn store_all(&self, writer: &mut Writer, capture: &mut Capture) -> Result<Option<Ended>, Failure> {
        let (mut is_stopping, mut is_hurried) = (false, false);
        let (demand, mut demanded) = (self.post.demand(), 0);
        loop {
            tokio::select! {
                report = capture.reports.recv() => {
                    let orders = match report {
                        Some(Report::Slot(slot)) => Box::pin(self.store(writer, &slot)).await?,
                        Some(Report::Large) => Box::pin(self.large(writer)).await?,
                        Some(Report::Spool) => Box::pin(self.spool(writer)).await?,
                        Some(Report::Streamed(slot)) => Box::pin(self.store_streamed(writer, *slot)).await?,
                        Some(Report::Derived(file)) => {
                            writer.history.write(file);
                            continue;
                        }
                        Some(Report::Finished) => return Ok(Some(Ended::Finished)),
                        Some(Report::Replaced) => return Ok(Some(Ended::Replaced)),
                        Some(Report::Asleep) => return Ok(None),
                        Some(Report::Failed(failure)) => return Err(failure),
                        Some(Report::Waiting(_) | Report::Opened { .. } | Report::Halted { .. }) => continue,
                        None => return Err(Failure::bug("the capture thread is gone")),
                    };
                    // First what was demanded meanwhile: then one next slot is enough for all of it.
                    if demand.newest() > demanded {
                        demanded = demand.newest();
                        capture.tell(Order::Sync(demanded));
                    }
                    orders.into_iter().for_each(|order| capture.tell(order));
                }
                done = writer.history.done() => writer.history.take(done, &self.post),
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    capture.tell(Order::Finish);
                }
                newest = demand.newer_than(demanded) => {
                    demanded = newest;
                    capture.tell(Order::Sync(demanded));
                }
                () = self.post.hurry().cancelled(), if !is_hurried => {
                    is_hurried = true;
                    capture.tell(Order::Hurry);
                }
            }
        }
    }

    fn record(&self, writer: &Writer, base: Base) -> Record {
        let (boot_id, file_id) = (writer.boot_id.clone(), writer.file_id.clone());
        Record::new(&writer.opened.head, base, boot_id, file_id).stored_at(writer.bucket.to_string())
    }
}

impl Capture {
    /// Gives an order. A thread that is gone meanwhile has said why in its last report, which comes next.
    fn tell(&self, order: Order) {
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
        self.watch.call();
    }
}

impl Drop for Capture {
    /// The thread may be waiting for nothing but us.
    fn drop(&mut self) {
        if self.orders.take().is_some() {
            self.watch.call();
        }
    }
}

/// Reports that may wait: one slot is in flight, so there is hardly ever more than one.
const REPORTS_MAX: usize = 4;
/// How long a start may still take on a bare machine after the order to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
