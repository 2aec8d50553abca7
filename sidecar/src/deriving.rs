//! A merged file or a snapshot, encoded while its pages are read: no copy of it is ever whole on this machine.
//!
//! In:  the view that was kept when its last slot was cut, and the checksums of that slot's pages.
//! Out: parts of equal size through a narrow channel, so that the reader waits for the network.
//!
//! Every page is held against the checksum it has at that slot: a file that shows anything else is never whole, and what is
//! not whole is never stored.

use std::io::Write;

use bytes::Bytes;
use lifeboat_ltx::{Header, HeaderLast, Mark, PageChecksum, TRAILER_SIZE};
use lifeboat_replica::claim::NO_WAL_OFFSET;
use lifeboat_replica::compaction::Job;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::PageNo;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::database::{DetachedView, Pages, ViewFromOutside};
use crate::exit::Failure;
use crate::parts::{Line, Parts, part_bytes};

/// A file on its way from the database to the bucket.
#[derive(Debug)]
pub struct DerivedFile {
    /// What it is.
    pub job: Job,
    /// Its header.
    pub header: Header,
    /// Size of every part but the last.
    pub part_bytes: u64,
    /// Its parts in order, then its end; without an end it is given up.
    pub pieces: Receiver<DerivedPiece>,
    /// Cancelled when the reader must not wait for the network any longer.
    pub cancelled: CancellationToken,
}

/// What comes through the channel.
#[derive(Debug)]
pub enum DerivedPiece {
    /// The next part.
    Part(Bytes),
    /// Nothing more comes: the file is whole.
    End(WholeFile),
}

impl From<Bytes> for DerivedPiece {
    fn from(part: Bytes) -> Self {
        Self::Part(part)
    }
}

/// What is known of a file that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeFile {
    /// Bytes.
    pub size: u64,
    /// Its last bytes.
    pub trailer: [u8; TRAILER_SIZE],
    /// How many pages it holds.
    pub pages: usize,
}

/// The thread that reads, seen from the one that follows. Dropped, it makes the thread let go of the view.
#[derive(Debug)]
pub struct Deriving {
    view: ViewFromOutside,
    cancelled: CancellationToken,
}

/// What the pages must be.
#[derive(Debug)]
enum Expected {
    /// All of them have the checksum that the header names; the encoder finds out.
    All,
    /// Each has this checksum, in the order of the pages.
    Each(Vec<PageChecksum>),
}

/// Begins to read a file from the view of its last slot, whose pages have these checksums.
///
/// # Errors
/// When there is no thread, or the view cannot be looked at.
pub fn begin(
    view: DetachedView,
    job: Job,
    sums: &PageSums,
    (epoch, timestamp_ms): (Epoch, i64),
) -> Result<(Deriving, DerivedFile), Failure> {
    let (header, expected, part_bytes) = {
        let pages = view.pages()?;
        let expected = expected(&job, sums, &pages)?;
        (
            header(&job, &pages, epoch, timestamp_ms),
            expected,
            part_bytes(pages.page_count(), pages.page_size()),
        )
    };
    let cancelled = CancellationToken::new();
    let (line, pieces) = Line::new(cancelled.clone());
    let parts = Parts::new(line, part_bytes);
    let (wanted, of_file) = (job.pages.clone(), header.clone());
    let thread = std::thread::Builder::new().name("derive".to_owned());
    let outside = view.from_outside();
    let spawned = thread.spawn(move || read(view, &wanted, &of_file, &expected, parts));
    spawned.map_err(|error| Failure::no_thread(&error))?;
    let file = DerivedFile { job, header, part_bytes, pieces, cancelled: cancelled.clone() };
    Ok((Deriving { view: outside, cancelled }, file))
}

impl Deriving {
    /// Makes the thread end soon, and the view with it.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Whether the view is not needed any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancelled.is_cancelled() || !self.view.is_open()
    }
}

impl Drop for Deriving {
    fn drop(&mut self) {
        // What was read to its end may still be on its way.
        if self.view.is_open() {
            self.cancel();
        }
    }
}

fn expected(job: &Job, sums: &PageSums, pages: &Pages<'_>) -> Result<Expected, Failure> {
    if job.pages.is_all() {
        return Ok(Expected::All);
    }
    let wanted = job.pages.iter(pages.page_count(), pages.page_size());
    let each: Option<Vec<_>> = wanted.map(|page| sums.of(page)).collect();
    let unknown = || Failure::bug("a page of a merged file is not in its last slot's database");
    Ok(Expected::Each(each.ok_or_else(unknown)?))
}

fn header(job: &Job, pages: &Pages<'_>, epoch: Epoch, timestamp_ms: i64) -> Header {
    Header {
        page_size: pages.page_size(),
        commit: pages.page_count(),
        min_txid: job.name.min(),
        max_txid: job.name.max(),
        timestamp_ms,
        wal_offset: NO_WAL_OFFSET,
        wal_size: 0,
        salts: (0, 0),
        node_id: epoch.get(),
        mark: Some(Mark { pre_apply: job.pre_apply, post_apply: job.post_apply }),
    }
}

fn read(
    view: DetachedView,
    wanted: &DirtyPages,
    header: &Header,
    expected: &Expected,
    parts: Parts<DerivedPiece>,
) {
    let line = parts.line();
    let encoded = view.pages().map_err(Failure::from);
    let encoded = encoded.and_then(|pages| encode(&pages, wanted, header, expected, parts));
    // From here on nothing waits for the network any more.
    drop(view);
    match encoded {
        Ok((last, whole)) => {
            // Whoever received the parts says what became of them.
            let _ = line.send(DerivedPiece::Part(last.into()));
            let _ = line.send(DerivedPiece::End(whole));
        }
        Err(_) if !line.is_wanted() => {}
        Err(failure) => {
            tracing::warn!("{}-{} is not written: {failure}", header.min_txid, header.max_txid);
        }
    }
}

/// Encodes the file; the last part, and what the whole is.
fn encode(
    view: &Pages<'_>,
    wanted: &DirtyPages,
    header: &Header,
    expected: &Expected,
    mut parts: Parts<DerivedPiece>,
) -> Result<(Vec<u8>, WholeFile), Failure> {
    let front = header.encode().map_err(|error| Failure::bug(format!("a header is impossible: {error}")))?;
    parts.write_all(&front).map_err(|error| Failure::unavailable(error.to_string()))?;
    let mark = header.mark.ok_or_else(|| Failure::bug("a file of ours without a mark"))?;
    let mut encoder = Some(HeaderLast::begin(header.clone(), parts)?);
    let mut count = 0;
    view.for_each(wanted, |page, image| {
        expected.require(count, page, image)?;
        count += 1;
        encoder = encoder.take().map(|encoder| encoder.page(page, image)).transpose()?;
        Ok::<(), Failure>(())
    })?;
    let encoder = encoder.ok_or_else(|| Failure::bug("an encoder was lost between two pages"))?;
    let mut written = encoder.finish(mark.post_apply)?;
    let whole = WholeFile { size: written.size, trailer: written.trailer, pages: count };
    Ok((written.out.take_rest().1, whole))
}

impl Expected {
    fn require(&self, at: usize, page: PageNo, image: &[u8]) -> Result<(), Failure> {
        match self {
            Self::All => Ok(()),
            Self::Each(sums) if sums.get(at) == Some(&PageChecksum::of(page, image)) => Ok(()),
            Self::Each(_) => {
                Err(Failure::bug(format!("page {page} is not as the last slot of this file left it")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
