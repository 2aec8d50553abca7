//! Brings the pages of a plan into a file: each is fetched once, from the newest file that has it, and written once.
//!
//! The files are looked at from the newest to the oldest. A small one is fetched whole and proved by its own checksum. Of a
//! large one only the page index is read, and then the ranges with pages that no newer file had; what comes is held against
//! the index, and in the end the whole database against the rolling checksum of the newest file. Where that file has none,
//! as Litestream's, every file is read whole.
//!
//! Memory: one bit for each page of the database, the list of files, and for each request that is under way at most
//! [`WHOLE_BYTES_MAX`] or [`FETCH_BYTES_MAX`](lifeboat_replica::restore::fetches::FETCH_BYTES_MAX) bytes and the pages
//! decoded from them.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, stream};
use lifeboat_ltx::{HEADER_SIZE, Header, IndexReader, PageEntry, Tail, decode_whole};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::restore::RestorePlan;
use lifeboat_replica::restore::fetches::{Fetch, Fetches};
use lifeboat_replica::restore::placement::Placement;
use lifeboat_wal::PageNo;

use super::jobs::Jobs;
use super::pages::{self, Destination};
use super::source::{Source, damaged};
use crate::blocking::blocking;
use crate::exit::Failure;
use crate::local::Local;
use crate::rebuild::Rebuild;

/// Gathers the pages of the plan's files beside `target`; also returns the header of the newest.
///
/// # Errors
/// [`Failure`]; then nothing is left of it.
pub(super) async fn gather(
    source: &Source,
    plan: &RestorePlan,
    target: &Path,
    local: Option<&Local>,
    parallelism: usize,
) -> Result<(Rebuild, Header), Failure> {
    let witness = heard(source, plan.witness()).await?;
    let opening =
        stream::iter(plan.files().iter().rev()).map(|file| open(source, file)).buffered(parallelism);
    let mut opening = std::pin::pin!(opening);
    let first = opening.next().await.ok_or_else(|| Failure::bug("a plan without files"))??;
    let newest = first.header.clone();
    if let Some((file, header)) = witness {
        require_agreement((first.file, &newest), (file, &header))?;
    }
    let rebuild = Rebuild::begin(target, &newest)?;
    let mut gathering = Gathering {
        source,
        rebuild: &rebuild,
        local: local.filter(|_| newest.mark.is_some()),
        placement: Placement::begin(newest.commit),
        newer: None,
        is_proved_at_the_end: newest.mark.is_some(),
        jobs: Jobs::new(parallelism),
    };
    let mut next = Some(first);
    while let Some(opened) = next {
        match gathering.take(opened).await? {
            More::Older => next = opening.next().await.transpose()?,
            More::Nothing => break,
        }
    }
    gathering.jobs.finish().await?;
    Ok((rebuild, newest))
}

/// A file whose header was read.
struct Opened<'f> {
    file: &'f FileEntry,
    header: Header,
    content: Content,
}

/// What came with the header.
enum Content {
    /// All of it.
    Whole(Bytes),
    /// The last bytes of a large file.
    Tail(Bytes),
}

/// Whether older files are needed.
enum More {
    Older,
    Nothing,
}

async fn open<'f>(source: &Source, file: &'f FileEntry) -> Result<Opened<'f>, Failure> {
    if file.size <= WHOLE_BYTES_MAX {
        let bytes = source.fetch(file, 0..file.size).await?;
        let header = Header::decode(&bytes).map_err(|error| damaged(file, error))?;
        return Ok(Opened { file, header, content: Content::Whole(bytes) });
    }
    let header = source.header(file).await?;
    let tail = source.fetch(file, file.size - TAIL_BYTES..file.size).await?;
    Ok(Opened { file, header, content: Content::Tail(tail) })
}

/// The header of the file that must agree with the end of the plan.
async fn heard<'f>(
    source: &Source,
    witness: Option<&'f FileEntry>,
) -> Result<Option<(&'f FileEntry, Header)>, Failure> {
    let Some(file) = witness else { return Ok(None) };
    let opened = open(source, file).await?;
    if let Content::Whole(bytes) = &opened.content {
        decode_whole(bytes).map_err(|error| damaged(file, error))?;
    }
    require_named(file, &opened.header)?;
    Ok(Some((file, opened.header)))
}

/// Holds the header of a file against that of another one that speaks of the state at its end.
///
/// # Errors
/// Damaged, with the files that are suspected, where they differ or one is damaged; as those of [`Source::fetch`].
pub(super) async fn require_witness(
    source: &Source,
    file: &FileEntry,
    witness: &FileEntry,
) -> Result<(), Failure> {
    let Some((other, also)) = heard(source, Some(witness)).await? else { return Ok(()) };
    let header = source.header(file).await?;
    require_named(file, &header)?;
    require_agreement((file, &header), (other, &also))
}

fn require_named(file: &FileEntry, header: &Header) -> Result<(), Failure> {
    if (header.min_txid, header.max_txid) == (file.min, file.max) {
        return Ok(());
    }
    Err(damaged(file, "its name and its header differ: it is another file than it says"))
}

/// Two files that end at one TXID speak of one state, and so does one that goes on from there. A strange snapshot has nothing
/// before it that would contradict.
fn require_agreement(
    (file, says): (&FileEntry, &Header),
    (other, also): (&FileEntry, &Header),
) -> Result<(), Failure> {
    let ends_there = says.max_txid == also.max_txid;
    let is_same = says.mark.zip(also.mark).is_none_or(|(one, other)| {
        one.post_apply == if ends_there { other.post_apply } else { other.pre_apply }
    });
    if is_same && says.page_size == also.page_size && (says.commit == also.commit || !ends_there) {
        return Ok(());
    }
    let what =
        format!("it says another state of txid {} than {}: one of them is foreign", file.max, other.key);
    Err(damaged(file, what).suspecting([file, other].map(|file| file.key.clone())))
}

struct Gathering<'a> {
    source: &'a Source,
    rebuild: &'a Rebuild,
    /// A file at the target that may be an older state.
    local: Option<&'a Local>,
    placement: Placement,
    /// The header of the file taken before, which is the next newer one.
    newer: Option<(String, Header)>,
    is_proved_at_the_end: bool,
    jobs: Jobs,
}

impl Gathering<'_> {
    /// Takes the next older file.
    async fn take(&mut self, opened: Opened<'_>) -> Result<More, Failure> {
        let Opened { file, header, content } = opened;
        if let Err(failure) = self.check(file, &header) {
            // What a file says of others does not count when it is torn itself.
            self.jobs.finish().await?;
            return Err(match &content {
                Content::Whole(bytes) => {
                    decode_whole(bytes).err().map_or(failure, |error| damaged(file, error))
                }
                Content::Tail(_) => failure,
            });
        }
        self.placement.enter(header.commit);
        if self.local.is_some_and(|local| local.is_state_after(&header)) {
            self.take_local().await?;
            return Ok(More::Nothing);
        }
        match content {
            Content::Whole(bytes) => self.take_whole(file, &header, bytes).await?,
            Content::Tail(tail) if self.is_proved_at_the_end => {
                self.take_ranges(file, &header, &tail).await?
            }
            Content::Tail(_) => self.take_streamed(file).await?,
        }
        self.newer = Some((file.key.clone(), header));
        Ok(More::Older)
    }

    fn check(&self, file: &FileEntry, header: &Header) -> Result<(), Failure> {
        require_named(file, header)?;
        let Some((newer_key, newer)) = &self.newer else { return Ok(()) };
        let either = |what: &str| damaged(file, what).suspecting([newer_key, &file.key].map(Clone::clone));
        if newer.page_size != header.page_size && !file.is_seal() {
            return Err(either("its page size differs from the files after it"));
        }
        let is_next = header.max_txid.next() == Some(newer.min_txid);
        match (header.mark, newer.mark) {
            (Some(before), Some(after)) if is_next && before.post_apply != after.pre_apply => Err(either(
                &format!("{newer_key} does not continue the file before it: their database checksums differ"),
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn destination(&self, file: &FileEntry) -> Destination {
        Destination { file: file.clone(), writer: self.rebuild.writer() }
    }

    /// Everything older is in the local file already.
    async fn take_local(&mut self) -> Result<(), Failure> {
        let Some(local) = self.local else { return Ok(()) };
        let (placement, copier) = (self.placement.clone(), self.rebuild.copier(local));
        self.jobs.start(blocking(move || copier.copy(&placement))).await
    }

    async fn take_whole(&mut self, file: &FileEntry, header: &Header, bytes: Bytes) -> Result<(), Failure> {
        let tail = Tail::decode(header, file.size, &bytes).map_err(|error| damaged(file, error))?;
        let entries = tail.index.entries().iter();
        let wanted: Vec<PageNo> =
            entries.map(|entry| entry.page).filter(|page| self.placement.claim(*page)).collect();
        let destination = self.destination(file);
        self.jobs.start(blocking(move || pages::write_whole(destination, &bytes, &wanted))).await
    }

    async fn take_ranges(&mut self, file: &FileEntry, header: &Header, tail: &[u8]) -> Result<(), Failure> {
        let size = Tail::size(tail, file.size).map_err(|error| damaged(file, error))?;
        let (mut at, end) = (file.size - size, file.size - Tail::MIN_SIZE);
        let (mut reader, mut fetches) = (IndexReader::begin(header, at), Fetches::default());
        let known = file.size - tail.len() as u64;
        while at < end {
            let piece = if at >= known {
                let place = |at: u64| usize::try_from(at - known).unwrap_or(usize::MAX);
                Bytes::copy_from_slice(tail.get(place(at)..place(end)).unwrap_or_default())
            } else {
                self.source.fetch(file, at..end.min(at + INDEX_BYTES)).await?
            };
            if piece.is_empty() {
                return Err(damaged(file, "its page index is not where its end says"));
            }
            at += piece.len() as u64;
            let mut wanted = Vec::new();
            let claim = |entry: PageEntry| {
                if self.placement.claim(entry.page) {
                    wanted.push(entry);
                }
            };
            reader.push(&piece, claim).map_err(|error| damaged(file, error))?;
            for fetch in wanted.into_iter().filter_map(|entry| fetches.add(entry)).collect::<Vec<_>>() {
                self.fetch(file, fetch).await?;
            }
        }
        reader.finish().map_err(|error| damaged(file, error))?;
        match fetches.finish() {
            Some(last) => self.fetch(file, last).await,
            None => Ok(()),
        }
    }

    async fn fetch(&mut self, file: &FileEntry, fetch: Fetch) -> Result<(), Failure> {
        let (source, destination) = (self.source.clone(), self.destination(file));
        let job = async move {
            let bytes = source.fetch(&destination.file, fetch.range.clone()).await?;
            blocking(move || pages::write_frames(destination, &fetch, &bytes)).await
        };
        self.jobs.start(job).await
    }

    /// Reads a large file from front to back, because only its own checksum proves its pages.
    async fn take_streamed(&mut self, file: &FileEntry) -> Result<(), Failure> {
        let pieces = Box::pin(self.source.pieces(file));
        let (destination, placement) = (self.destination(file), self.placement.clone());
        self.placement = blocking(move || pages::write_stream(destination, pieces, placement)).await?;
        Ok(())
    }
}

/// Files up to this size are fetched whole.
pub const WHOLE_BYTES_MAX: u64 = 256 * 1024;
/// So much of a large file's end is fetched with its header; the page indexes of most are smaller.
const TAIL_BYTES: u64 = 16 * 1024;
/// A large page index is read in pieces of this size.
const INDEX_BYTES: u64 = 1024 * 1024;

const _: () = assert!(TAIL_BYTES + (HEADER_SIZE as u64) < WHOLE_BYTES_MAX);
