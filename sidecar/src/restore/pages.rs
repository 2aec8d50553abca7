//! From the bytes of a file to pages at their places. Runs on threads that may wait for the disk.

use std::io::{self, Read};

use bytes::Bytes;
use futures::Stream;
use lifeboat_ltx::{Decoder, PageFrameDecoder, ReadError};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::restore::fetches::Fetch;
use lifeboat_replica::restore::placement::Placement;
use lifeboat_wal::PageNo;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::source::damaged;
use crate::exit::Failure;
use crate::rebuild::TargetWriter;

/// A file of the replica, and where its pages go.
#[derive(Debug)]
pub(super) struct Destination {
    /// The file.
    pub(super) file: FileEntry,
    /// The database that is being built.
    pub(super) writer: TargetWriter,
}

/// Proves a whole file and writes the wanted pages of it, which ascend.
///
/// # Errors
/// Damaged when the file is not what was written; refused when the disk refuses.
pub(super) fn write_whole(to: Destination, bytes: &[u8], wanted: &[PageNo]) -> Result<(), Failure> {
    let mut wanted = wanted.iter().copied().peekable();
    write_decoded(to, bytes, |page| wanted.next_if_eq(&page).is_some())
}

/// Proves a file that is still coming, and writes every page of it that `placement` has no newer image of.
///
/// # Errors
/// As [`write_whole`]; unavailable when the bytes stop to come.
pub(super) fn write_stream(
    to: Destination,
    pieces: impl Stream<Item = io::Result<Bytes>> + Unpin,
    mut placement: Placement,
) -> Result<Placement, Failure> {
    let reader = SyncIoBridge::new(StreamReader::new(pieces));
    write_decoded(to, reader, |page| placement.claim(page))?;
    Ok(placement)
}

fn write_decoded(
    mut to: Destination,
    reader: impl Read,
    mut is_wanted: impl FnMut(PageNo) -> bool,
) -> Result<(), Failure> {
    let file = to.file.clone();
    let failed = |error| failed(&file, error);
    let mut decoder = Decoder::begin(reader).map_err(failed)?;
    while let Some(page) = decoder.next_page().map_err(failed)? {
        if is_wanted(page.no) {
            to.writer.put(page.no, page.image)?;
        }
    }
    decoder.finish().map_err(failed)?;
    to.writer.flush()
}

/// Why a file could not be read to its end. The failure of the source comes through the reader as it is.
pub(crate) fn failed(file: &FileEntry, error: ReadError) -> Failure {
    match error {
        ReadError::Read { source, .. } => {
            source.downcast().unwrap_or_else(|error| Failure::unavailable(format!("{}: {error}", file.key)))
        }
        error @ (ReadError::Decode(_) | _) => damaged(file, error),
    }
}

/// Decodes the pages of one range and writes them.
///
/// # Errors
/// Damaged when the range is not what the page index says; refused when the disk refuses.
pub(super) fn write_frames(mut to: Destination, fetch: &Fetch, bytes: &[u8]) -> Result<(), Failure> {
    let mut decoder = PageFrameDecoder::new(to.writer.page_size());
    for entry in &fetch.pages {
        let place = |at: u64| usize::try_from(at - fetch.range.start).unwrap_or(usize::MAX);
        let frame = bytes.get(place(entry.offset)..place(entry.offset + entry.size)).unwrap_or_default();
        let page = decoder
            .decode(frame)
            .map_err(|error| damaged(&to.file, format!("{error}, in the page at byte {}", entry.offset)))?;
        if page.no != entry.page {
            let what =
                format!("page {} lies at byte {}, where its index has {}", page.no, entry.offset, entry.page);
            return Err(damaged(&to.file, what));
        }
        to.writer.put(page.no, page.image)?;
    }
    to.writer.flush()
}
