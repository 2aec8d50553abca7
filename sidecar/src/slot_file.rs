//! Cuts a slot: reads what changed from a view of the live database and encodes it.
//!
//! Every page is read once: its checksum says whether it changed, and if so it is encoded at once. The header, which holds
//! the checksum of the whole, is put in front at the end.

mod reserving;

use std::cell::Cell;
use std::io::{self, BufWriter, IntoInnerError, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use lifeboat_ltx::{Checksum, EncodeError, HEADER_SIZE, Header, HeaderLast, Headless, Mark, Txid};
use lifeboat_replica::claim::NO_WAL_OFFSET;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::page_sums::{Change, Draft, PageSums, Undo};
use lifeboat_replica::slot::SlotIdentity;
use lifeboat_store::Body;
use lifeboat_wal::{PageCount, PageSize};

pub use self::reserving::Reserve;
use self::reserving::Reserving;
use crate::clock::wall_ms;
use crate::database::Pages;
use crate::disk;
use crate::exit::Failure;
use lifeboat_wire::Reason;

/// One slot, encoded and waiting to be stored. Its bytes never change: an unclear upload is repeated with the same.
#[derive(Debug)]
pub struct SlotFile {
    /// What it says of itself.
    pub header: Header,
    /// The rolling checksum after it.
    pub post_apply: Checksum,
    /// Its bytes.
    pub body: Body,
    /// What tells it apart from another writer's.
    pub identity: SlotIdentity,
    /// The pages it holds.
    pub changed: DirtyPages,
}

/// A slot whose header is not in front of it yet.
pub(crate) struct Encoded<W> {
    /// Room for the header, and what stands behind it.
    pub(crate) out: W,
    /// Takes the slot back out of the page checksums.
    pub(crate) undo: Undo,
    header: Header,
    post_apply: Checksum,
    /// What tells it apart; the header is in it.
    pub(crate) identity: SlotIdentity,
    changed: DirtyPages,
}

/// Where the next slot goes and what it continues.
#[derive(Clone, Copy, Debug)]
pub struct NextSlot {
    /// Its number.
    pub txid: Txid,
    /// Who writes it.
    pub epoch: Epoch,
    /// The rolling checksum before it.
    pub pre_apply: Checksum,
}

/// What came of cutting a slot.
#[derive(Debug)]
pub enum Cut {
    /// The slot.
    Slot(Box<SlotFile>),
    /// The bucket has exactly that already.
    Nothing,
    /// It does not fit into memory, and there is nowhere to spool it.
    TooLarge,
}

/// Where a slot goes that is too large for memory.
#[derive(Clone, Copy, Debug)]
pub struct Spool<'f> {
    /// The folder of the file, which has no name.
    pub folder: &'f Path,
    /// What it must leave of the disk.
    pub reserve: Reserve,
}

impl Spool<'_> {
    fn has_room(&self) -> bool {
        self.reserve.is_left(disk::total_and_free_bytes(self.folder))
    }

    fn refuse(&self, error: &io::Error) -> Failure {
        no_room(&format!("{}: {error}", self.folder.display()))
    }
}

/// Cuts the slot that brings the bucket to what `view` shows. Where the disk has no room from the beginning, what fits into
/// memory is cut all the same.
///
/// # Errors
/// [`Failure`] when a page cannot be read, or the file cannot be spooled. After that, and without a slot, `sums` are as before.
pub fn cut(
    view: &Pages<'_>,
    dirty: DirtyPages,
    sums: &mut PageSums,
    next: NextSlot,
    spool: Option<Spool<'_>>,
) -> Result<Cut, Failure> {
    cut_while(view, dirty, sums, next, spool, || true)
}

/// The same for as long as somebody wants it, who is asked before each page.
///
/// # Errors
/// As [`cut`]; also when nobody wants the rest.
pub fn cut_while(
    view: &Pages<'_>,
    dirty: DirtyPages,
    sums: &mut PageSums,
    next: NextSlot,
    spool: Option<Spool<'_>>,
    is_wanted: impl FnMut() -> bool,
) -> Result<Cut, Failure> {
    let candidates = sums.candidates(dirty, view.page_count());
    let may_be_large = raw_bytes(&candidates, view.page_count(), view.page_size()) > MEMORY_BYTES_MAX;
    let spool = spool.filter(|_| may_be_large);
    if let Some(spool) = spool.filter(|spool| spool.has_room()) {
        return spooled(view, &candidates, sums, next, spool, is_wanted);
    }
    let is_full = Cell::new(false);
    let max = if may_be_large { MEMORY_BYTES_MAX } else { u64::MAX };
    let front = Limited { bytes: Vec::from([0; HEADER_SIZE]), max, is_full: &is_full };
    let mut encoded = match encode(view, &candidates, sums, next, front, is_wanted) {
        Ok(Some(encoded)) => encoded,
        Ok(None) => return Ok(Cut::Nothing),
        Err(_) if is_full.get() => {
            return spool.map_or(Ok(Cut::TooLarge), |spool| Err(spool.refuse(&reserving::no_room())));
        }
        Err(failure) => return Err(failure),
    };
    let mut bytes = std::mem::take(&mut encoded.out.bytes);
    bytes.splice(..HEADER_SIZE, encoded.identity.header.iter().copied());
    Ok(Cut::Slot(Box::new(encoded.with_body(Body::from(bytes)).0)))
}

/// Memory that is full after so many bytes.
struct Limited<'c> {
    bytes: Vec<u8>,
    max: u64,
    is_full: &'c Cell<bool>,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.max {
            self.is_full.set(true);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many bytes the slot of a database of so many pages of this size would have at most, as far as is known before any of
/// them is read.
#[must_use]
pub fn bytes_at_most(page_count: PageCount, page_size: PageSize, dirty: &DirtyPages, sums: &PageSums) -> u64 {
    raw_bytes(&sums.candidates(dirty.clone(), page_count), page_count, page_size)
}

/// Looks at the candidates and writes those that changed to `out`, which has room for the header, for as long as somebody
/// wants them. Without a slot, and after an error, `sums` are as before.
pub(crate) fn encode<W: Write>(
    view: &Pages<'_>,
    candidates: &DirtyPages,
    sums: &mut PageSums,
    next: NextSlot,
    out: W,
    is_wanted: impl FnMut() -> bool,
) -> Result<Option<Encoded<W>>, Failure> {
    let mut draft = sums.begin(view.page_count());
    let written = HeaderLast::begin(next.header(view), out).map_err(Failure::from);
    let written = written.and_then(|encoder| write_changed(view, candidates, &mut draft, encoder, is_wanted));
    let Change { pages: changed, post_apply, is_any, undo } = draft.finish();
    let ended = match written {
        Ok(_) if !is_any => return Ok(None),
        Ok(encoder) => encoder.finish(post_apply).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(Headless { out, header, front, trailer, size }) => {
            let identity = SlotIdentity { size, header: front.to_vec(), trailer: trailer.to_vec() };
            Ok(Some(Encoded { out, undo, header, post_apply, identity, changed }))
        }
        Err(failure) => {
            sums.undo(undo);
            Err(failure)
        }
    }
}

/// Whether a page changed is known only when it was read; one that did is encoded at once, so none is read twice.
fn write_changed<W: Write>(
    view: &Pages<'_>,
    candidates: &DirtyPages,
    draft: &mut Draft<'_>,
    encoder: HeaderLast<W>,
    mut is_wanted: impl FnMut() -> bool,
) -> Result<HeaderLast<W>, Failure> {
    let mut encoder = Some(encoder);
    view.for_each(candidates, |page, image| {
        // Pages that did not change are not written, and may be many.
        if !is_wanted() {
            return Err(Failure::unavailable("nobody wants the rest of the slot"));
        }
        if draft.look(page, image) {
            encoder = encoder.take().map(|encoder| encoder.page(page, image)).transpose()?;
        }
        Ok::<(), Failure>(())
    })?;
    encoder.ok_or_else(|| Failure::bug("an encoder was lost between two pages"))
}

/// A large file goes to an unnamed file beside the database, as far as there is room for it: nothing is left of it when the
/// process ends.
fn spooled(
    view: &Pages<'_>,
    candidates: &DirtyPages,
    sums: &mut PageSums,
    next: NextSlot,
    spool: Spool<'_>,
    is_wanted: impl FnMut() -> bool,
) -> Result<Cut, Failure> {
    let refuse = |error: io::Error| spool.refuse(&error);
    let mut file = tempfile::tempfile_in(spool.folder).map_err(refuse)?;
    file.seek(SeekFrom::Start(HEADER_SIZE as u64)).map_err(refuse)?;
    let out = BufWriter::with_capacity(SPOOL_BUFFER, Reserving::new(file, || spool.has_room()));
    let Some(encoded) = encode(view, candidates, sums, next, out, is_wanted)? else {
        return Ok(Cut::Nothing);
    };
    let Encoded { out, undo, header, post_apply, identity, changed } = encoded;
    let placed = out.into_inner().map_err(IntoInnerError::into_error);
    let placed = placed.map(Reserving::into_inner);
    let placed = placed.and_then(|file| file.write_all_at(&identity.header, 0).map(|()| file));
    match placed {
        Ok(file) => {
            let body = Body::File { file: Arc::new(file), len: identity.size };
            Ok(Cut::Slot(Box::new(SlotFile { header, post_apply, body, identity, changed })))
        }
        Err(error) => {
            sums.undo(undo);
            Err(refuse(error))
        }
    }
}

impl<W> Encoded<W> {
    /// The slot, when its bytes have been taken care of.
    pub(crate) fn with_body(self, body: Body) -> (SlotFile, Undo) {
        let Self { header, post_apply, identity, changed, undo, .. } = self;
        (SlotFile { header, post_apply, body, identity, changed }, undo)
    }
}

fn raw_bytes(pages: &DirtyPages, page_count: PageCount, page_size: PageSize) -> u64 {
    pages.len(page_count, page_size) as u64 * u64::from(page_size.get())
}

impl NextSlot {
    /// The one after this slot, which makes of the database what has the checksum `post_apply`.
    pub(crate) fn after(self, post_apply: Checksum) -> Result<Self, Failure> {
        let txid = self.txid.next().ok_or_else(|| Failure::bug("no txid is left"))?;
        Ok(Self { txid, pre_apply: post_apply, ..self })
    }

    /// The header, except for the checksum of what the slot makes of the database.
    fn header(&self, view: &Pages<'_>) -> Header {
        Header {
            page_size: view.page_size(),
            commit: view.page_count(),
            min_txid: self.txid,
            max_txid: self.txid,
            timestamp_ms: wall_ms(),
            wal_offset: NO_WAL_OFFSET,
            wal_size: 0,
            salts: (0, 0),
            node_id: self.epoch.get(),
            mark: Some(Mark { pre_apply: self.pre_apply, post_apply: self.pre_apply }),
        }
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        if let EncodeError::Write { source, .. } = &error {
            return no_room(&source.to_string());
        }
        Self::bug(format!("a slot cannot be encoded: {error}"))
    }
}

/// Time may heal it: somebody makes room.
fn no_room(why: &str) -> Failure {
    Failure {
        reason: Reason::DatabaseUnreadable,
        ..Failure::unavailable(format!("a large slot cannot be spooled beside the database: {why}"))
    }
}

/// Slots with no more than this much page content stay in memory.
pub const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What S3 takes in one request.
pub const WHOLE_BYTES_MAX: u64 = 5 << 30;
const SPOOL_BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests;
