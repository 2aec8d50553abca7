//! A large slot, cut into parts while its pages are read: no copy of it is ever whole on this machine.
//!
//! In:  a turn to upload, and a detached view, read by a thread of its own.
//! Out: parts of equal size through a narrow channel, so that the reader waits for the network. The first part comes last,
//! because it begins with the header.
//!
//! The page checksums go along and come back when the thread ends, with what takes the slot back out of them: the attempt
//! may be given up.

use std::thread::JoinHandle;

use bytes::Bytes;
use lifeboat_ltx::{Checksum, HEADER_SIZE};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_sums::{PageSums, Undo};
use lifeboat_store::Body;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::clock::wall_ms;
use crate::database::{DetachedView, ViewFromOutside};
use crate::exit::Failure;
use crate::limits::Turn;
use crate::parts::{Line, Parts};
use crate::slot_file::{Encoded, NextSlot, SlotFile, encode};

/// A slot on its way from the database to the bucket.
#[derive(Debug)]
pub struct StreamedSlot {
    /// Where it goes.
    pub next: NextSlot,
    /// When it was begun, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Size of every part but the last.
    pub part_bytes: u64,
    /// What comes; it ends early when the slot is given up.
    pub pieces: Receiver<Piece>,
    /// Cancelled when the reader must not wait for the network any longer.
    pub cancelled: CancellationToken,
    /// The right to have a view open and parts in memory; others wait for it.
    pub turn: Turn,
}

/// What comes through the channel.
#[derive(Debug)]
pub enum Piece {
    /// The next part, from the second on.
    Part(Bytes),
    /// The end. The slot's body is its first part; if no other part came before, it is all of it.
    Slot(Box<SlotFile>),
    /// The end of a slot that would change nothing. No part came before.
    Nothing,
}

impl From<Bytes> for Piece {
    fn from(part: Bytes) -> Self {
        Self::Part(part)
    }
}

/// The thread that reads, seen from the one that follows.
#[derive(Debug)]
pub struct Reading {
    thread: Option<JoinHandle<Option<Read>>>,
    cancelled: CancellationToken,
    view: ViewFromOutside,
}

/// A thread that can read a slot, and has none yet.
#[derive(Debug)]
pub struct ReadingThread {
    thread: JoinHandle<Option<Read>>,
    work: std::sync::mpsc::Sender<Work>,
}

/// What the thread reads.
#[derive(Debug)]
struct Work {
    view: DetachedView,
    dirty: DirtyPages,
    sums: PageSums,
    next: NextSlot,
    parts: Parts<Piece>,
}

/// What the reading thread leaves.
#[derive(Debug)]
pub struct Read {
    /// The page checksums, as of the slot if there is one.
    pub sums: PageSums,
    /// What became of the slot.
    pub outcome: Outcome,
}

/// What became of a slot that was read.
#[derive(Debug)]
pub enum Outcome {
    /// Every piece was handed over.
    Sent {
        /// The rolling checksum of the database after it.
        post_apply: Checksum,
        /// Takes it back out of the page checksums.
        undo: Undo,
    },
    /// It would change nothing.
    Nothing,
    /// Nobody wanted the rest.
    Interrupted,
    /// The database cannot be read.
    Failed(Failure),
}

impl ReadingThread {
    /// A thread that waits for its work, so that nothing is lost where there is no thread.
    ///
    /// # Errors
    /// When the machine has none at this moment.
    pub fn start() -> Result<Self, Failure> {
        Self::start_as(std::thread::Builder::new().name("stream".to_owned()))
    }

    fn start_as(thread: std::thread::Builder) -> Result<Self, Failure> {
        let (work, given) = std::sync::mpsc::channel();
        let thread = thread.spawn(move || given.recv().ok().map(read));
        Ok(Self { thread: thread.map_err(|error| Failure::no_thread(&error))?, work })
    }

    /// Begins to read the view.
    pub fn begin(
        self,
        view: DetachedView,
        pages: (DirtyPages, PageSums),
        next: NextSlot,
        part_bytes: u64,
        turn: Turn,
    ) -> (Reading, StreamedSlot) {
        let cancelled = CancellationToken::new();
        let (line, pieces) = Line::new(cancelled.clone());
        let parts = Parts::keeping_first(line, part_bytes, HEADER_SIZE);
        let (dirty, sums) = pages;
        let outside = view.from_outside();
        // It waits for nothing else.
        let _ = self.work.send(Work { view, dirty, sums, next, parts });
        let reading = Reading { thread: Some(self.thread), cancelled: cancelled.clone(), view: outside };
        (reading, StreamedSlot { next, timestamp_ms: wall_ms(), part_bytes, pieces, cancelled, turn })
    }
}

impl Reading {
    /// Makes the thread end soon, and the view with it; whoever receives the parts learns it too.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Whether everything was read, or cannot be: the view is closed, or soon will be. What was read may still be on its way.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancelled.is_cancelled() || !self.view.is_open()
    }

    /// Waits for the end of the thread, which has sent its last piece, or whose pieces nobody receives.
    ///
    /// # Errors
    /// When the thread panicked.
    pub fn end(mut self) -> Result<Read, Failure> {
        let read = self.thread.take().and_then(|thread| thread.join().ok()).flatten();
        read.ok_or_else(|| Failure::bug("the thread that read a large slot panicked"))
    }
}

impl Drop for Reading {
    /// Nobody waits for the end any more, so nobody may go on waiting for the network.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.cancel();
        }
    }
}

fn read(work: Work) -> Read {
    let Work { view, dirty, mut sums, next, parts } = work;
    let line = parts.line();
    let is_wanted = || line.is_wanted();
    let encoded = view.pages().map_err(Failure::from).and_then(|pages| {
        let candidates = sums.candidates(dirty, pages.page_count());
        encode(&pages, &candidates, &mut sums, next, parts, is_wanted)
    });
    // From here on nothing waits for the network any more.
    drop(view);
    let outcome = match encoded {
        Ok(Some(encoded)) => send_end(&line, encoded),
        Ok(None) => {
            let _ = line.send(Piece::Nothing);
            Outcome::Nothing
        }
        Err(_) if !is_wanted() => Outcome::Interrupted,
        Err(failure) => Outcome::Failed(failure),
    };
    Read { sums, outcome }
}

/// Sends what is left. Whether it arrives does not matter here: whoever receives says what became of the slot.
fn send_end(line: &Line<Piece>, mut encoded: Encoded<Parts<Piece>>) -> Outcome {
    let (first, mut last) = encoded.out.take_rest();
    // A slot of one part has no other.
    let mut first = first.unwrap_or_else(|| std::mem::take(&mut last));
    first.splice(..HEADER_SIZE, encoded.identity.header.iter().copied());
    if !last.is_empty() {
        let _ = line.send(Piece::Part(last.into()));
    }
    let (slot, undo) = encoded.with_body(Body::from(first));
    let post_apply = slot.post_apply;
    let _ = line.send(Piece::Slot(Box::new(slot)));
    Outcome::Sent { post_apply, undo }
}

#[cfg(test)]
mod tests;
