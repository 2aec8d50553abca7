//! How a writer follows its application's database, in worlds from a seed: from the WAL to the bytes of a slot.
//!
//! Which frames are read next, and whether any was missed, is decided by `lifeboat_wal`; which pages a slot holds, when it is
//! due and when merged files are, by `lifeboat_replica`. What is here does what `sidecar/src/capture` does with the answers.

use std::rc::Rc;

use lifeboat_ltx::{Checksum, Header, Mark, Txid};
use lifeboat_replica::claim::{Millis, NO_WAL_OFFSET};
use lifeboat_replica::compaction::{Compaction, Job, Rules, StoredSlot};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::flush::{Decision, Flush, Rhythm};
use lifeboat_replica::head::Base;
use lifeboat_replica::page_log::{self, Anchor, FileStamp, LogIdentity};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::PageSize;
use lifeboat_wal::continuity::{Discontinuity, NextRead, Reading, WalPlace};
use lifeboat_wal::header::WalHeader;

use crate::image::Image;
use crate::sqlite::Sqlite;
use crate::volume::FILE_ID;

/// A follower.
#[derive(Clone, Debug)]
pub struct Following {
    place: WalPlace,
    dirty: DirtyPages,
    sums: PageSums,
    flush: Flush,
    /// When merged files are due.
    pub compaction: Compaction,
    flying: Option<Flying>,
    /// Whether it went on from a place that the page log names.
    pub is_resumed: bool,
    /// A merged file that is due, and the view it is read from.
    pub due: Option<(Job, Rc<Image>)>,
}

/// What is noted beside the database.
#[derive(Clone, Copy, Debug)]
pub struct Noted<'n> {
    /// The page log.
    pub log: &'n [u8],
    /// The newest slot with pages that the bucket has.
    pub newest: u64,
    /// The present boot of the machine.
    pub boot_id: &'n str,
}

/// What a slot on its way holds.
#[derive(Clone, Debug)]
struct Flying {
    changed: DirtyPages,
    post_apply: Checksum,
    bytes: u64,
    view: Option<Rc<Image>>,
    anchor: Anchor,
}

/// What a slot is cut for.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Its number.
    pub txid: Txid,
    /// Who cuts it.
    pub epoch: Epoch,
    /// The checksum of what it goes on from.
    pub pre_apply: Checksum,
    /// The time, and the wall clock, which may be wrong.
    pub now: (Millis, i64),
}

impl Following {
    /// Behind a claim that ends at `base`. `log` is the page log beside the database, `newest` the newest slot with pages.
    #[must_use]
    pub fn begin(sqlite: &Sqlite, base: Base, floor: u64, past: &Noted<'_>, now: Millis) -> Self {
        let stored = base.checksum.unwrap_or(Checksum::EMPTY);
        let known = page_log::find(past.log, past.newest, stored);
        let anchor = known.as_ref().and_then(|known| known.anchor_in(past.boot_id, FILE_ID).copied());
        let mut following = Self {
            place: WalPlace::at(&sqlite.index()),
            dirty: DirtyPages::new(),
            sums: known.map_or_else(PageSums::unknown, |known| known.sums),
            flush: Flush::new(RHYTHM),
            compaction: Compaction::new(RULES, base, floor, now),
            flying: None,
            is_resumed: false,
            due: None,
        };
        following.is_resumed = anchor.is_some_and(|anchor| following.resume(sqlite, &anchor));
        if !following.is_resumed {
            // Every page is looked at; with sums only what differs is stored.
            following.dirty.insert_all();
        }
        following
    }

    /// Goes on at the place of an anchor, as `sidecar/src/database/resume.rs` does; whether it could.
    fn resume(&mut self, sqlite: &Sqlite, anchor: &Anchor) -> bool {
        if anchor.stamp != sqlite.stamp() || !anchor.place.is_in_run_of(&sqlite.index()) {
            return false;
        }
        let here = std::mem::replace(&mut self.place, anchor.place);
        let is_read = self.read(sqlite).is_ok();
        if !is_read {
            self.place = here;
        }
        is_read
    }

    /// Reads what was committed since the last look; whether the WAL proved that nothing is missing.
    pub fn look(&mut self, sqlite: &mut Sqlite, is_rescanned: bool) -> bool {
        let read = self.read(sqlite);
        if read.is_err() {
            self.place = WalPlace::at(&sqlite.index());
            if is_rescanned {
                self.dirty.insert_all();
            }
        }
        self.flush.looked(!self.dirty.is_empty());
        read.is_ok()
    }

    fn read(&mut self, sqlite: &Sqlite) -> Result<(), Discontinuity> {
        let to = sqlite.index();
        let mut reading = match self.place.next_read(&to)? {
            NextRead::Nothing(place) => {
                self.place = place;
                return Ok(());
            }
            NextRead::After(scanner) => Reading::resume(self.place, to, scanner),
            NextRead::FromStart => {
                let header = sqlite.wal().first_chunk();
                let header = header.ok_or(Discontinuity::TooShort { frame: to.last_frame })?;
                Reading::begin(self.place, to, &WalHeader::decode(header).map_err(Discontinuity::Header)?)?
            }
        };
        let page_size = to.page_size.unwrap_or(PageSize::MIN);
        let from = usize::try_from(reading.last().end_offset(page_size)).unwrap_or(usize::MAX);
        let mut bytes = sqlite.wal().get(from..).unwrap_or_default();
        let dirty = &mut self.dirty;
        reading.take(&mut bytes, &mut |page| dirty.insert(page))?;
        self.place = reading.finish()?.0;
        Ok(())
    }

    /// Whether anything is to be read or cut; and whether the rhythm lets a slot be cut now.
    #[must_use]
    pub fn wants(&self, sqlite: &Sqlite, now: Millis) -> Wants {
        let has_news = !matches!(self.place.next_read(&sqlite.index()), Ok(NextRead::Nothing(_)));
        let decision = self.flush.clone().decide(now, has_news || !self.dirty.is_empty());
        Wants { look: has_news, cut: decision == Decision::Cut, waits: matches!(decision, Decision::Wait(_)) }
    }

    /// The bytes of the next slot and its header; `None` where nothing changed.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn cut(
        &mut self,
        view: &Rc<Image>,
        cut: &Cut,
        (log, stamp): (&mut Vec<u8>, FileStamp),
    ) -> Result<Option<(Header, Vec<u8>)>, String> {
        let _ = self.flush.decide(cut.now.0, true);
        let mut dirty = self.dirty.take();
        if cut.txid == Txid::FIRST {
            dirty.insert_all();
        }
        let candidates = self.sums.candidates(dirty, view.size());
        let mut draft = self.sums.begin(view.size());
        for page in candidates.iter(view.size(), view.page_size) {
            if let Some(image) = view.page(page) {
                draft.look(page, image);
            }
        }
        let change = draft.finish();
        if !change.is_any {
            self.flush.nothing_to_cut();
            return Ok(None);
        }
        let header = header(view, cut, (cut.txid, cut.pre_apply, change.post_apply));
        let bytes = view.encode(header.clone(), &change.pages)?;
        let kept = self.compaction.wants_view(cut.now.0).then(|| Rc::clone(view));
        let changed = change.pages.iter(view.size(), view.page_size);
        let anchor = Anchor { place: self.place, stamp, is_settled: false };
        log.extend(page_log::delta(cut.txid.get(), &self.sums, changed, Some(&anchor)).unwrap_or_default());
        let (changed, post_apply) = (change.pages, change.post_apply);
        self.flying = Some(Flying { changed, post_apply, bytes: bytes.len() as u64, view: kept, anchor });
        self.flush.cut(cut.now.0);
        Ok(Some((header, bytes)))
    }

    /// The slot is proved to be stored. A page log that has no base gets one.
    pub fn stored(&mut self, txid: Txid, identity: LogIdentity, log: &mut Vec<u8>, now: Millis) {
        self.flush.stored();
        let Some(Flying { changed, post_apply, bytes, view, anchor }) = self.flying.take() else { return };
        let slot = StoredSlot { txid, bytes, checksum: post_apply, changed: &changed };
        self.compaction.stored(&slot, now);
        if let Some(view) = view {
            self.due = self.compaction.begin(now).map(|job| (job, view));
        }
        if page_log::find(log, txid.get(), post_apply).is_none() {
            let base = page_log::base(&identity, PageSize::MIN, txid.get(), &self.sums, Some(&anchor));
            *log = base.unwrap_or_default();
        }
    }

    /// A merged file or a snapshot, read from this view.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn derived(job: &Job, view: &Image, cut: &Cut) -> Result<(Header, Vec<u8>), String> {
        let header = header(view, cut, (job.name.min(), job.pre_apply, job.post_apply));
        let bytes = view.encode(header.clone(), &job.pages)?;
        Ok((header, bytes))
    }
}

/// What there is to do for a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// The WAL holds something new.
    pub look: bool,
    /// A slot may be cut.
    pub cut: bool,
    /// A slot may be cut later.
    pub waits: bool,
}

fn header(view: &Image, cut: &Cut, (min_txid, pre_apply, post_apply): (Txid, Checksum, Checksum)) -> Header {
    Header {
        page_size: view.page_size,
        commit: view.size(),
        min_txid,
        max_txid: cut.txid,
        timestamp_ms: cut.now.1,
        wal_offset: NO_WAL_OFFSET,
        wal_size: 0,
        salts: (0, 0),
        node_id: cut.epoch.get(),
        mark: Some(Mark { pre_apply, post_apply }),
    }
}

const RHYTHM: Rhythm = Rhythm { interval: 1_000, max_lag: 10_000, max_requests_per_day: None };
/// Short, so that a world of some minutes has files of every level.
const RULES: Rules =
    Rules { intervals: [3_000, 30_000, 120_000], snapshot_interval: 600_000, max_log_ratio: 1_500 };
