//! The follower's loop: one thread for each database, because SQLite's calls block.
//!
//! The thread owns the database. It reports what it finds and takes orders; it never talks to the bucket. Whether a slot
//! is due is decided by [`Flush`], what a slot holds by [`PageSums`]; this loop only carries facts between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use lifeboat_ltx::{Checksum, Txid};
use lifeboat_replica::adoption::Content;
use lifeboat_replica::compaction::Job;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::flush::{Flush, Rhythm};
use lifeboat_replica::page_sums::PageSums;
use tokio::sync::mpsc::Sender;

use crate::backlog::Backlog;
use crate::board::Post;
use crate::clock::millis;
use crate::database::{Database, DatabaseError, EnforceWal, Followed, Gained, Settled, Synchronous};
use crate::deriving::DerivedFile;
use crate::disk;
use crate::exit::Failure;
use crate::first_view::Expected;
use crate::limits::Turn;
use crate::notes::Notes;
use crate::opening::{self, Opened};
use crate::pace::Pace;
use crate::places::Place;
use crate::slot_file::{NextSlot, Reserve, SlotFile};
use crate::streaming::StreamedSlot;
use crate::trouble::Trouble;
use crate::watch::Watch;

mod cutting;
mod derived;
mod endure;
mod large;
mod resting;
mod spooling;

use derived::Derived;
use large::LargeSlots;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// Write slots from here on.
    Begin(Begin),
    /// The slot on its way is stored, or would have changed nothing.
    Stored {
        /// How many requests it took.
        requests: u32,
    },
    /// The slot on its way is not stored and never will be: its pages are dirty again.
    GivenUp {
        /// Whether the next attempt had better not be sent in parts.
        is_spooled: bool,
        /// How many requests it took.
        requests: u32,
    },
    /// How the slot is to be sent that is too large for memory. Holds for the next cut only.
    Large(Way),
    /// The next slot is to keep its view, if it can: a merged file may end there.
    KeepView,
    /// The slot on its way is stored, and a file is to be read from its view; or none is, and the view is closed. Comes before
    /// [`Order::Stored`], as long as the page checksums are that slot's.
    Derive(Option<Box<Job>>),
    /// Nothing waits for the interval any more.
    Hurry,
    /// Everything committed until now is to be stored now: the demand of this number.
    Sync(u64),
    /// Store what is there, then end.
    Finish,
    /// Nothing can be stored any more, and nobody can commit: look once more, then end.
    Halt,
}

/// How a slot is sent that is too large for memory.
#[derive(Debug)]
pub enum Way {
    /// In parts while it is read, and it is the database's turn.
    InParts(Turn),
    /// Whole, from a file beside the database.
    Whole,
}

/// Where a writer begins.
///
/// If the pages of the state that the chain ends at are known, only those that differ are stored, else all.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The lineage of the replica.
    pub lineage: String,
    /// The writer.
    pub epoch: Epoch,
    /// Its first slot.
    pub first: Txid,
    /// The rolling checksum of the database at the chain's end.
    pub pre_apply: Checksum,
}

/// What the thread finds.
#[derive(Debug)]
pub enum Report {
    /// The database does not exist yet, or not usable yet; said once for each reason.
    Waiting(Failure),
    /// The database is open and followed.
    Opened {
        /// What it holds, compared with what was expected.
        content: Content,
        /// Whether the page log says what the bucket has.
        is_known: bool,
        /// Whether opening switched it to WAL mode.
        switched_to_wal: bool,
        /// Device, inode and birth of the file that is followed.
        file_id: String,
    },
    /// A slot to store.
    Slot(Box<SlotFile>),
    /// The next slot is too large for memory. How it is to be sent?
    Large,
    /// The next slot must go through a file beside the database. Does the bucket answer?
    Spool,
    /// A slot to store while its pages are read.
    Streamed(Box<StreamedSlot>),
    /// A merged file or a snapshot, while its pages are read; `None` where there was no view to read it from.
    Derived(Option<Box<DerivedFile>>),
    /// Everything committed before the order to finish is stored, or there was no database until then.
    Finished,
    /// Everything is stored, nothing happens, and another database needs the place: this one was closed.
    Asleep,
    /// After the order to halt: everything committed was seen, and so many transactions of it are in no slot that is proved.
    Halted {
        /// How many, as far as they can be counted.
        commits: u64,
    },
    /// Another file stands in the place of the one that was followed.
    Replaced,
    /// The database cannot be followed any more.
    Failed(Failure),
}

/// What the thread needs to know.
#[derive(Debug)]
pub struct Task {
    /// The database.
    pub path: PathBuf,
    /// Whether it may be switched to WAL mode.
    pub enforce: EnforceWal,
    /// What its application runs with.
    pub synchronous: Synchronous,
    /// How often slots may be cut.
    pub rhythm: Rhythm,
    /// What the bucket ends at.
    pub expected: Expected,
    /// The right to have it open.
    pub place: Place,
    /// The present boot of the machine.
    pub boot_id: String,
    /// Where large slots are spooled, and the page log is kept.
    pub folder: PathBuf,
    /// What of the disk no spooled slot takes.
    pub reserve: Reserve,
}

/// Runs the loop until it is told to finish, or cannot go on.
pub fn run(
    mut task: Task,
    watch: &Arc<Watch>,
    orders: &Receiver<Order>,
    reports: &Sender<Report>,
    post: &Post,
) {
    let ended = opening::open(&mut task, watch, orders, reports).and_then(|opened| match opened {
        Some(Opened { database, notes, content, dirty, file_id }) => {
            let is_known = notes.is_known();
            let switched_to_wal = database.switched_to_wal();
            let _ = reports.blocking_send(Report::Opened { content, is_known, switched_to_wal, file_id });
            let database = database.with_pulse(post.pulse());
            let capture = Capture { dirty, ..Capture::new(database, task, notes, post, watch) };
            capture.run(orders, reports)
        }
        None => Ok(Report::Finished),
    });
    post.ended();
    // Nobody listens any more when the process is ending; then nobody needs to know.
    let _ = reports.blocking_send(ended.unwrap_or_else(Report::Failed));
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    No,
    /// Told to end: one more slot must hold whatever was committed until now.
    Wanted,
    /// That slot is cut, or was not needed.
    Cut,
}

impl Finish {
    /// A slot is cut, or was not needed.
    fn cut(&mut self) {
        if *self == Self::Wanted {
            *self = Self::Cut;
        }
    }
}

struct Capture<'a> {
    database: Database,
    task: Task,
    notes: Notes,
    post: &'a Post,
    dirty: DirtyPages,
    sums: PageSums,
    flush: Flush,
    next: Option<NextSlot>,
    waiting: Backlog,
    flying: Backlog,
    finish: Finish,
    is_halting: bool,
    watch: &'a Arc<Watch>,
    pace: Pace,
    /// When commits were last seen.
    news_at: Instant,
    /// Whether the watch is armed, and if so, whether the kernel will tell.
    armed: Option<bool>,
    trouble: Trouble,
    /// Whether it was said that checkpoints fail.
    is_uncopied_said: bool,
    identity_checked: Instant,
    /// An event may have been about the names of the files.
    is_name_suspect: bool,
    /// The file was deleted, and nothing is in its place.
    is_gone: bool,
    /// It was deleted, and cannot be read through our connections either.
    is_lost: bool,
    is_asleep: bool,
    /// Whether it was asked which SQLite the application has.
    is_version_known: bool,
    not_before: Option<Instant>,
    large: LargeSlots,
    derived: Derived,
    begun: Instant,
}

impl<'a> Capture<'a> {
    fn new(database: Database, task: Task, notes: Notes, post: &'a Post, watch: &'a Arc<Watch>) -> Self {
        Self {
            flush: Flush::new(task.rhythm),
            database,
            task,
            notes,
            post,
            dirty: DirtyPages::new(),
            sums: PageSums::unknown(),
            next: None,
            waiting: Backlog::default(),
            flying: Backlog::default(),
            finish: Finish::No,
            is_halting: false,
            watch,
            pace: Pace::new(),
            news_at: Instant::now(),
            armed: None,
            trouble: Trouble::default(),
            is_uncopied_said: false,
            identity_checked: Instant::now(),
            is_name_suspect: false,
            is_gone: false,
            is_lost: false,
            is_asleep: false,
            is_version_known: false,
            not_before: None,
            large: LargeSlots::new(),
            derived: Derived::default(),
            begun: Instant::now(),
        }
    }

    fn run(mut self, orders: &Receiver<Order>, reports: &Sender<Report>) -> Result<Report, Failure> {
        while !self.is_done() {
            self.wait();
            if self.is_asleep {
                return Ok(Report::Asleep);
            }
            self.take_orders(orders, reports)?;
            let is_current = self.look()?;
            if self.is_halting && is_current {
                return Ok(Report::Halted { commits: self.waiting.commits + self.flying.commits });
            }
            let (is_replaced, is_current) = match self.is_replaced() {
                Ok(is_replaced) => (is_replaced, is_current),
                // Unreadable is not replaced: the next look may find it.
                Err(error) => {
                    self.endure(error)?;
                    (false, false)
                }
            };
            if self.is_lost {
                return Ok(Report::Replaced);
            }
            if is_replaced {
                if !disk::is_absent(&self.task.path) {
                    return Ok(Report::Replaced);
                }
                // Through our connections the file is still there, and with it what was committed at the end.
                self.is_gone = true;
                self.flush.hurry();
                self.finish = Finish::Wanted;
            }
            self.watch_over_reader();
            self.watch_over_derived();
            if is_current && let Some(report) = self.cut_if_due()? {
                let _ = reports.blocking_send(report);
            }
            self.large.forget_answer();
            self.post.demand().meet(self.flush.met());
            self.tell_backlog();
        }
        Ok(if self.is_gone { Report::Replaced } else { Report::Finished })
    }

    /// What waits is said to be a page at least: how much it is, nobody knows after a loss of continuity.
    fn tell_backlog(&mut self) {
        if !self.dirty.is_empty() {
            self.waiting.begin();
        }
        let since = self.flying.since.or(self.waiting.since);
        let least = since.map_or(0, |_| u64::from(self.database.page_size().get()));
        self.post.turned(least.max(self.waiting.bytes + self.flying.bytes), since);
    }

    fn take_orders(&mut self, orders: &Receiver<Order>, reports: &Sender<Report>) -> Result<(), Failure> {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(Failure::bug("the follower's thread was abandoned"));
                }
            };
            // Doing it may take long, or wait for whoever takes reports.
            self.database.stand_by(Duration::MAX);
            self.take(order, reports)?;
        }
    }

    fn take(&mut self, order: Order, reports: &Sender<Report>) -> Result<(), Failure> {
        match order {
            Order::Begin(begin) => self.begin(begin),
            Order::Stored { requests } => self.stored(requests)?,
            Order::GivenUp { is_spooled, requests } => self.given_up(is_spooled, requests)?,
            Order::Large(way) => self.large.answer(way),
            Order::KeepView => self.derived.keep_next(),
            Order::Derive(job) => {
                if let Some(report) = self.derive(job) {
                    let _ = reports.blocking_send(report);
                }
            }
            Order::Hurry => self.flush.hurry(),
            Order::Sync(number) => {
                self.flush.demand(number);
                // What is stored of a file that was replaced is no answer.
                self.is_name_suspect = true;
            }
            Order::Finish => {
                self.flush.hurry();
                self.finish = Finish::Wanted;
            }
            Order::Halt => self.is_halting = true,
        }
        Ok(())
    }

    fn begin(&mut self, begin: Begin) {
        let Begin { lineage, epoch, first, pre_apply } = begin;
        self.sums = self.notes.begin(lineage, pre_apply, &mut self.dirty);
        self.next = Some(NextSlot { txid: first, epoch, pre_apply });
    }

    fn stored(&mut self, requests: u32) -> Result<(), Failure> {
        self.flush.took(self.now(), requests);
        self.flush.stored();
        self.flying = Backlog::default();
        let was_read = self.large_stored()?;
        if let Some(next) = self.next {
            let txid = next.txid.get() - 1;
            if was_read {
                self.notes.stored_whole(txid, &self.sums);
            } else {
                self.notes.stored(txid, &self.sums);
            }
        }
        Ok(())
    }

    /// Reads what was committed, and in quiet moments lets the WAL be restarted. Returns whether the look succeeded: only
    /// then nothing that was committed before it is missing.
    fn look(&mut self) -> Result<bool, Failure> {
        if self.trouble.pause(Instant::now()).is_some() {
            return Ok(false);
        }
        let followed = self.database.follow(&mut self.dirty);
        self.count_gained();
        match followed {
            Ok(Followed::Continued(gained)) => {
                if gained.frames > 0 {
                    self.pace.news(gained.frames);
                    (self.armed, self.news_at) = (None, Instant::now());
                } else if !self.settle()? {
                    return Ok(false);
                }
            }
            Ok(Followed::Lost { .. }) => self.pace.failed(),
            Err(error) => return self.endure(error).map(|()| false),
        }
        if let Some(held) = self.database.take_kept_writers_out() {
            self.post.kept_writers_out(held);
        }
        self.tell_uncopied();
        // While pages wait to be read, only reading them proves that it works.
        if self.dirty.is_empty() {
            self.healed();
        }
        Ok(true)
    }

    /// Takes note of what was committed, whatever came across it.
    fn count_gained(&mut self) {
        let gained = self.database.take_gained();
        self.count(gained);
    }

    fn count(&mut self, gained: Gained) {
        self.waiting.add(gained.bytes, gained.commits);
        self.derived.committed(gained.bytes);
    }

    /// Says whether that worked. If not, nothing is healed, although nothing may wait to be read.
    fn settle(&mut self) -> Result<bool, Failure> {
        let eased = self.database.ease(self.news_at.elapsed(), &mut self.dirty);
        self.count_gained();
        match eased {
            Ok(Settled::Yes) => {
                self.pace.settled();
                match self.database.anchor() {
                    Ok(anchor) => self.note_look(anchor),
                    Err(error) => return self.endure(error).map(|()| false),
                }
            }
            Ok(Settled::NotYet) => self.pace.hindered(),
            Err(error) => return self.endure(error).map(|()| false),
        }
        Ok(true)
    }

    /// SQLite does not notice that its file was replaced, and would go on with the old one for ever.
    fn is_replaced(&mut self) -> Result<bool, DatabaseError> {
        let is_suspect = std::mem::take(&mut self.is_name_suspect) || self.finish != Finish::No;
        if self.is_gone || (self.identity_checked.elapsed() < SAFETY_POLL && !is_suspect) {
            return Ok(false);
        }
        self.identity_checked = Instant::now();
        // A link in the path may lead to another file, while the old one is where it was.
        let leads = self.task.path.canonicalize();
        Ok(self.database.is_replaced()? || leads.is_ok_and(|leads| leads != self.database.path()))
    }

    /// Whoever goes on committing after the order to end does not keep us from ending.
    fn is_done(&self) -> bool {
        self.finish == Finish::Cut && !self.flush.is_in_flight()
    }

    /// How long no slot may be cut: after a failed attempt, or because cutting keeps the application from committing.
    fn rest(&self) -> Option<Duration> {
        let rests = if self.finish == Finish::No { self.database.rests_until() } else { None };
        let until = [self.not_before, rests].into_iter().flatten().max()?;
        until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    }

    fn now(&self) -> u64 {
        millis(self.begun.elapsed())
    }
}

/// How long a look may be away when nothing happens.
const SAFETY_POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
