//! One process on its machine: it claims, stores slots and what is merged of them, prunes, and closes. What talks to the bucket
//! is what production runs; what it stores is made up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat::board::{Board, Post};
use lifeboat::bucket::Bucket;
use lifeboat::config::Config;
use lifeboat::exit::{Exit, Failure};
use lifeboat::handover::HandOver;
use lifeboat::limits::Shared;
use lifeboat::prune::Prune;
use lifeboat::retry::Trying;
use lifeboat::slot_file::SlotFile;
use lifeboat::watch::Watcher;
use lifeboat::{claim, upload};
use lifeboat_ltx::{Checksum, FileName, HEADER_SIZE, Header, LtxFile, Mark, TRAILER_SIZE, Txid};
use lifeboat_replica::claim::{Claimant, NO_WAL_OFFSET, Opened, Patience};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::head::{Nonce, Owner};
use lifeboat_replica::layout::Level;
use lifeboat_replica::slot::SlotIdentity;
use lifeboat_store::{Body, Store, StoreError};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use tokio_util::sync::CancellationToken;

use crate::road::Road;
use crate::truth::{Pages, checksum};
use crate::world::{LAYOUT, World};

pub(crate) struct Process {
    world: Arc<World>,
    road: Road,
    bucket: Bucket,
    post: Post,
    shared: Shared,
}

/// What may be written, and what is stored.
struct Writer {
    opened: Opened,
    /// The newest slot, and the database there.
    txid: u64,
    pages: Pages,
    /// Where its own slots begin.
    first: u64,
    /// Up to here its slots are merged.
    merged: u64,
    is_first_round: bool,
    may_prune: bool,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, who: usize, watcher: &Watcher) -> Self {
        let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
        let post = Board::new(watcher.clone()).add(&config.databases[0]);
        let shared = Shared::new(Arc::new(config), watcher.clone(), Arc::default());
        let road = Road { world: Arc::clone(world), who };
        let bucket = Bucket::new(Arc::new(road.clone()), LAYOUT);
        Self { world: Arc::clone(world), road, bucket, post, shared }
    }

    pub(crate) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Lives until it has stored so many slots, or another one took over. Everything else that it is told is wrong here, as
    /// nobody else writes.
    pub(crate) async fn live(self, slots: usize) {
        let ended = self.write(slots).await;
        let outcome = match ended {
            Ok(()) => Ok(()),
            Err(failure) if failure.exit == Exit::Fenced => Ok(()),
            Err(failure) => Err(format!("process {} is told: {failure}", self.road.who)),
        };
        self.world.require(outcome);
    }

    async fn write(&self, slots: usize) -> Result<(), Failure> {
        let mut trying = Trying::forever();
        let opened = match self.open(&mut trying).await {
            Err(failure) if failure.exit == Exit::Fenced => {
                self.world.state().reached.overtaken += 1;
                return Ok(());
            }
            opened => opened?,
        };
        let txid = opened.head.base.txid;
        let pages = self.world.state().truth.at(txid);
        let mut writer = Writer {
            opened,
            txid,
            pages,
            first: txid + 1,
            merged: txid,
            is_first_round: true,
            may_prune: true,
        };
        for _ in 0..slots {
            self.world.rest(3_000).await;
            self.store_slot(&mut writer).await?;
            if self.world.state().dice.percent(25) {
                self.merge(&mut writer).await;
            }
            if writer.may_prune && self.world.state().dice.percent(25) {
                self.prune(&mut writer).await?;
            }
        }
        let closed = writer.opened.head.close();
        let answer = self.bucket.replace_head(&closed, &writer.opened.etag).await;
        self.world.state().reached.closed += usize::from(answer.is_ok());
        Ok(())
    }

    async fn open(&self, trying: &mut Trying) -> Result<Opened, Failure> {
        let sealed = claim::seal(&self.bucket, self.claimant(), trying).await?;
        claim::open(&self.bucket, HandOver::from(&sealed), trying).await
    }

    fn claimant(&self) -> Claimant {
        let mut bits = [0; 16];
        bits.copy_from_slice(&self.world.state().dice.bytes(16));
        let name = |text: &str| text.to_owned();
        Claimant {
            owner: Owner {
                nonce: Nonce::new(bits),
                cluster: name("cluster"),
                namespace: name("namespace"),
                name: name("shop"),
                pod_uid: format!("pod {}", self.road.who),
            },
            new_lineage: name("lineage"),
            wall_ms: 0,
            patience: Patience::new(500, 8_000),
            is_restarted: false,
            expected: None,
            promise: None,
        }
    }

    async fn store_slot(&self, writer: &mut Writer) -> Result<(), Failure> {
        let before = checksum(&writer.pages);
        let (pages, changed) = self.commit(&writer.pages);
        let txid = writer.txid + 1;
        let bytes = writer.encode((txid, txid), before, &pages, &changed);
        let slot = slot_of(&bytes, &changed);
        match upload::store(&self.bucket, &slot, &self.post, &self.shared).await {
            Err(failure) if failure.exit == Exit::Fenced => {
                self.world.state().reached.fenced += 1;
                return Err(failure);
            }
            stored => stored?,
        }
        let outcome = self.world.state().truth.acknowledge(txid, &bytes);
        self.world.require(outcome);
        self.world.state().reached.slots += 1;
        (writer.txid, writer.pages) = (txid, pages);
        Ok(())
    }

    /// A database after one more commit, and the pages that changed. No two are alike.
    fn commit(&self, before: &Pages) -> (Pages, Vec<usize>) {
        let mut state = self.world.state();
        let dice = &mut state.dice;
        let mut pages = before.clone();
        pages.resize(1 + dice.below(6), Vec::new());
        let new = before.len()..pages.len();
        let mut changed: Vec<_> =
            (0..pages.len()).filter(|page| *page == 0 || new.contains(page) || dice.percent(30)).collect();
        changed.dedup();
        for page in &changed {
            pages[*page] = dice.bytes(PAGE_BYTES);
        }
        (pages, changed)
    }

    /// A snapshot, or a merged file of what this process stored, true to the slot that it ends at. Whether it arrives or not,
    /// nobody counts on it before it is read back.
    async fn merge(&self, writer: &mut Writer) {
        let is_snapshot = self.world.state().dice.percent(50);
        let all: Vec<_> = (0..writer.pages.len()).collect();
        let (level, min) =
            if is_snapshot { (Level::SNAPSHOT, 1) } else { (Level::MERGED[0], writer.merged + 1) };
        if min > writer.txid || writer.txid < writer.first {
            return;
        }
        let before = checksum(&self.world.state().truth.at(min - 1));
        let bytes = writer.encode((min, writer.txid), before, &writer.pages, &all);
        let name = FileName::try_new(number(min), number(writer.txid)).unwrap();
        let written = self.road.put_new(&LAYOUT.file_key(level, name), Body::from(bytes), None).await;
        if matches!(written, Ok(_) | Err(StoreError::Exists { .. })) {
            writer.merged = writer.txid;
        }
    }

    async fn prune(&self, writer: &mut Writer) -> Result<(), Failure> {
        if writer.txid < writer.first {
            return Ok(());
        }
        let prune = Prune {
            bucket: self.bucket.clone(),
            opened: writer.opened.clone(),
            newest: number(writer.txid),
            settled: writer.merged,
            window: Duration::ZERO,
            proved: BTreeSet::new(),
            is_first: std::mem::take(&mut writer.is_first_round),
            stop: CancellationToken::new(),
        };
        let pruned = prune.run().await;
        let is_raised = pruned.opened.head.floors != writer.opened.head.floors;
        self.world.state().reached.raised += usize::from(is_raised);
        writer.opened = pruned.opened;
        writer.may_prune = !pruned.is_lost;
        match pruned.failure {
            Some(failure) if failure.exit != Exit::Unavailable => Err(failure),
            Some(_) | None => Ok(()),
        }
    }
}

impl Writer {
    /// A file of this epoch that leads from one checksum to these pages, and holds some of them.
    fn encode(&self, span: (u64, u64), before: Checksum, pages: &Pages, held: &[usize]) -> Bytes {
        let header = Header {
            page_size: PageSize::MIN,
            commit: PageCount::new(u32::try_from(pages.len()).unwrap()),
            min_txid: number(span.0),
            max_txid: number(span.1),
            timestamp_ms: LONG_AGO,
            wal_offset: NO_WAL_OFFSET,
            wal_size: 0,
            salts: (0, 0),
            node_id: self.opened.head.epoch.get(),
            mark: Some(Mark { pre_apply: before, post_apply: checksum(pages) }),
        };
        let pages = held.iter().map(|place| (page(*place), pages[*place].clone())).collect();
        LtxFile { header, pages }.encode().unwrap().into()
    }
}

/// A slot as the follower hands it to whoever stores it.
fn slot_of(bytes: &Bytes, held: &[usize]) -> SlotFile {
    let front = &bytes[..HEADER_SIZE];
    let header = Header::decode(front).unwrap();
    let trailer = bytes[bytes.len() - TRAILER_SIZE..].to_vec();
    let mut changed = DirtyPages::new();
    held.iter().for_each(|place| changed.insert(page(*place)));
    SlotFile {
        post_apply: header.mark.unwrap().post_apply,
        header,
        body: Body::from(bytes.clone()),
        identity: SlotIdentity { size: bytes.len() as u64, header: front.to_vec(), trailer },
        changed,
    }
}

fn page(place: usize) -> PageNo {
    PageNo::try_new(u32::try_from(place).unwrap() + 1).unwrap()
}

fn number(txid: u64) -> Txid {
    Txid::try_new(txid).unwrap()
}

const PAGE_BYTES: usize = 512;
/// Older than any window.
const LONG_AGO: i64 = 1_000;
