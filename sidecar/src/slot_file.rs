//! Cuts a slot: reads what changed from a view of the live database and encodes it.
//!
//! The pages are read twice, first for their checksums and then to be encoded: the header, which comes first, holds the
//! checksum of the whole. The second read comes from memory, and no copy of the database is kept anywhere.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use lifeboat_ltx::{Checksum, EncodeError, Encoder, HEADER_SIZE, Header, Mark, TRAILER_SIZE, Txid};
use lifeboat_replica::claim::NO_WAL_OFFSET;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::page_sums::PageSums;
use lifeboat_replica::slot::SlotIdentity;
use lifeboat_store::Body;

use crate::database::{DatabaseError, View};
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
    /// The wall clock, milliseconds since 1970.
    pub wall_ms: i64,
}

/// Cuts the slot that brings the bucket to `view`; `None` when the bucket already has exactly that.
///
/// # Errors
/// [`Failure`] when a page cannot be read, or the file cannot be spooled in `folder`. Then `sums` must be given up.
pub fn cut(
    view: &mut View<'_>,
    dirty: DirtyPages,
    sums: &mut PageSums,
    next: NextSlot,
    folder: &Path,
) -> Result<Option<SlotFile>, Failure> {
    let candidates = sums.candidates(dirty, view.page_count());
    let mut draft = sums.begin(view.page_count());
    view.for_each_page(&candidates, |page, image| {
        draft.look(page, image);
        Ok::<(), DatabaseError>(())
    })?;
    let change = draft.finish();
    if !change.is_any {
        return Ok(None);
    }
    let header = Header {
        page_size: view.page_size(),
        commit: view.page_count(),
        min_txid: next.txid,
        max_txid: next.txid,
        timestamp_ms: next.wall_ms,
        wal_offset: NO_WAL_OFFSET,
        wal_size: 0,
        salts: (0, 0),
        node_id: next.epoch.get(),
        mark: Some(Mark { pre_apply: next.pre_apply, post_apply: change.post_apply }),
    };
    let pages = change.pages.len(view.page_count(), view.page_size()) as u64;
    let raw_bytes = pages.saturating_mul(u64::from(view.page_size().get()));
    let (body, identity) = if raw_bytes <= MEMORY_BYTES_MAX {
        in_memory(encode(view, &change.pages, &header, Vec::new())?)
    } else {
        spooled(view, &change.pages, &header, folder)?
    };
    Ok(Some(SlotFile { header, post_apply: change.post_apply, body, identity }))
}

fn encode<W: Write>(view: &mut View<'_>, pages: &DirtyPages, header: &Header, out: W) -> Result<W, Failure> {
    let mut encoder = Some(Encoder::begin(header, out)?);
    view.for_each_page(pages, |page, image| {
        encoder = encoder.take().map(|encoder| encoder.page(page, image)).transpose()?;
        Ok::<(), Failure>(())
    })?;
    let encoder = encoder.ok_or_else(|| Failure::bug("an encoder was lost between two pages"))?;
    Ok(encoder.finish()?.out)
}

fn in_memory(bytes: Vec<u8>) -> (Body, SlotIdentity) {
    let identity = SlotIdentity {
        size: bytes.len() as u64,
        header: bytes.iter().copied().take(HEADER_SIZE).collect(),
        trailer: bytes[bytes.len().saturating_sub(TRAILER_SIZE)..].to_vec(),
    };
    (Body::from(bytes), identity)
}

/// A large file goes to an unnamed file beside the database: nothing is left of it when the process ends.
fn spooled(
    view: &mut View<'_>,
    pages: &DirtyPages,
    header: &Header,
    folder: &Path,
) -> Result<(Body, SlotIdentity), Failure> {
    let refuse = |error: io::Error| no_room(&format!("{}: {error}", folder.display()));
    let file = tempfile::tempfile_in(folder).map_err(refuse)?;
    let writer = encode(view, pages, header, BufWriter::with_capacity(SPOOL_BUFFER, file))?;
    let mut file = writer.into_inner().map_err(|error| refuse(error.into_error()))?;
    let (size, identity) = identify(&mut file).map_err(refuse)?;
    Ok((Body::File { file: Arc::new(file), len: size }, identity))
}

fn identify(file: &mut File) -> io::Result<(u64, SlotIdentity)> {
    let size = file.seek(SeekFrom::End(0))?;
    let (mut header, mut trailer) = (vec![0; HEADER_SIZE], vec![0; TRAILER_SIZE]);
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header)?;
    file.seek(SeekFrom::Start(size.saturating_sub(TRAILER_SIZE as u64)))?;
    file.read_exact(&mut trailer)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((size, SlotIdentity { size, header, trailer }))
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
const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024;
const SPOOL_BUFFER: usize = 256 * 1024;
