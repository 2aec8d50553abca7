//! Reads the `-wal` file from the place reached up to a header of the WAL-index.
//!
//! The file has no locks, so a descriptor of our own does no harm. What makes its frames readable is the pin that
//! [`WalDatabase`](super::WalDatabase) holds; what proves that they were is [`continuity`](lifeboat_wal::continuity).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lifeboat_replica::audit::Audit;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::continuity::{Discontinuity, NextRead, Reading, Tally, WalPlace};
use lifeboat_wal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameNo, frame_bytes};
use lifeboat_wal::header::{WAL_HEADER_BYTES, WalHeader};
use lifeboat_wal::wal_index::IndexHeader;
use lifeboat_wal::{PageNo, PageSize};

/// Reads the WAL and knows how far it has come.
#[derive(Debug)]
pub(super) struct Follower {
    wal: File,
    page_size: PageSize,
    place: WalPlace,
    buffer: Vec<u8>,
    /// What the frames read said of their pages.
    said: Audit,
}

/// Why a header could not be reached.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file cannot be read.
    Io(io::Error),
    /// What was read does not lead from the place reached to the header.
    Lost(Discontinuity),
}

impl Follower {
    /// Begins at the header, knowing nothing earlier.
    pub(super) fn open(wal: &Path, page_size: PageSize, header: &IndexHeader) -> io::Result<Self> {
        let buffer = vec![0; BUFFER_BYTES.max(frame_bytes(page_size))];
        Ok(Self { wal: File::open(wal)?, page_size, place: WalPlace::at(header), buffer, said: Audit::new() })
    }

    /// Reads every frame up to the header and adds its page to `dirty`. After an error the place is the old one.
    pub(super) fn read_to(&mut self, to: &IndexHeader, dirty: &mut DirtyPages) -> Result<Tally, Unread> {
        // What was read of a run that cannot be read to its end proves nothing.
        self.try_read_to(to, dirty).inspect_err(|_| self.said.forget())
    }

    fn try_read_to(&mut self, to: &IndexHeader, dirty: &mut DirtyPages) -> Result<Tally, Unread> {
        let mut reading = match self.place.next_read(to)? {
            NextRead::Nothing(place) => {
                let tally = Tally::nothing(place.is_recovered_from(&self.place));
                self.place = place;
                return Ok(tally);
            }
            NextRead::After(scanner) => Reading::resume(self.place, *to, scanner),
            NextRead::FromStart => {
                self.said.begin_run();
                Reading::begin(self.place, *to, &self.read_header()?)?
            }
        };
        while self.read_frames(&mut reading, dirty)? > 0 {}
        let (place, tally) = reading.finish()?;
        self.place = place;
        Ok(tally)
    }

    /// Whether the file holds the last frame that the header names.
    pub(super) fn holds(&self, header: &IndexHeader) -> io::Result<bool> {
        let Some(before) = header.last_frame.get().checked_sub(1) else { return Ok(true) };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        match self.wal.read_exact_at(&mut bytes, FrameNo::new(before).end_offset(self.page_size)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                let frame = FrameHeader::decode(&bytes);
                Ok(frame.salts == header.salts && frame.checksum == header.frame_checksum)
            }
        }
    }

    /// Whether the file goes on behind the last frame that the header names, which is where we are: a transaction that is
    /// being written or synced, or one that was rolled back. Where the header names no frame, a run that has begun shows
    /// by its salts: whoever begins a WAL may draw them, and the header names them when the first transaction is committed.
    pub(super) fn goes_on(&self, header: &IndexHeader) -> io::Result<bool> {
        if header.last_frame == FrameNo::START {
            return match self.read_header() {
                Ok(run) => Ok(!self.place.is_past(run.salts)),
                Err(Unread::Lost(Discontinuity::TooShort { .. })) => Ok(false),
                // Somebody may be writing it just now.
                Err(Unread::Lost(_)) => Ok(true),
                Err(Unread::Io(error)) => Err(error),
            };
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        match self.wal.read_exact_at(&mut bytes, header.last_frame.end_offset(self.page_size)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(FrameHeader::decode(&bytes).salts == header.salts),
        }
    }

    /// What the frames read said of their pages, as of the place reached.
    pub(super) const fn said(&self) -> &Audit {
        &self.said
    }

    /// A view of the run that `header` names showed every page that was due as it was said.
    pub(super) fn said_held(&mut self, header: &IndexHeader) {
        self.said.held(self.place.is_in_run_of(header));
    }

    /// Forgets what frames said: it is proved, or no longer true.
    pub(super) fn forget_said(&mut self) {
        self.said.forget();
    }

    /// The place reached.
    pub(super) const fn place(&self) -> &WalPlace {
        &self.place
    }

    /// Goes on from another place; returns the one before. Whether frames can be read from there shows when they are read.
    pub(super) const fn go_to(&mut self, place: WalPlace) -> WalPlace {
        std::mem::replace(&mut self.place, place)
    }

    /// Gives up continuity and goes on from this header.
    pub(super) fn restart_at(&mut self, header: &IndexHeader) {
        self.place = WalPlace::at(header);
        self.said.forget();
    }

    fn read_header(&self) -> Result<WalHeader, Unread> {
        let mut bytes = [0; WAL_HEADER_BYTES];
        match self.wal.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Unread::Lost(Discontinuity::TooShort { frame: FrameNo::START.next() }))
            }
            Err(error) => Err(Unread::Io(error)),
            Ok(()) => WalHeader::decode(&bytes).map_err(|error| Unread::Lost(Discontinuity::Header(error))),
        }
    }

    /// Reads at most one buffer of frames; returns how many it took.
    fn read_frames(&mut self, reading: &mut Reading, dirty: &mut DirtyPages) -> Result<u32, Unread> {
        let (from, size) = (reading.last(), self.page_size);
        let frames = (self.buffer.len() / frame_bytes(size)).min(reading.remaining() as usize);
        let mut space = self.buffer.get_mut(..frames * frame_bytes(size)).unwrap_or_default();
        let mut offset = from.end_offset(size);
        while !space.is_empty() {
            match self.wal.read_at(space, offset) {
                Ok(0) => break,
                Ok(bytes) => {
                    space = space.get_mut(bytes..).unwrap_or_default();
                    offset += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Unread::Io(error)),
            }
        }
        let unfilled = space.len();
        let mut filled = self.buffer.get(..frames * frame_bytes(size) - unfilled).unwrap_or_default();
        reading.take(&mut filled, &mut |page| dirty.insert(page))?;
        let taken = reading.last().since(from);
        let frames = self.buffer.chunks_exact(frame_bytes(size)).take(taken as usize);
        self.said.say(frames.rev().filter_map(page_of));
        Ok(taken)
    }
}

impl From<Discontinuity> for Unread {
    fn from(why: Discontinuity) -> Self {
        Self::Lost(why)
    }
}

/// What a whole frame says of its page.
fn page_of(frame: &[u8]) -> Option<(PageNo, &[u8])> {
    let (header, image) = frame.split_first_chunk()?;
    Some((PageNo::try_new(FrameHeader::decode(header).page)?, image))
}

/// How much of the WAL is read at once, unless a frame is larger.
const BUFFER_BYTES: usize = 256 * 1024;
