//! An application's SQLite, as far as whoever follows it can tell: a database file, a WAL with real bytes, the header of the
//! WAL-index, checkpoints, restarts, rolled-back frames.
//!
//! One follower may hold a read transaction, its *pin*. As in SQLite, a checkpoint copies no frame behind a pin, and a
//! writer begins the WAL again only if nobody needs what is in it.

use lifeboat_replica::page_log::FileStamp;
use lifeboat_wal::checksum::{ByteOrder, Checksum};
use lifeboat_wal::frame::FrameNo;
use lifeboat_wal::header::{Salts, WAL_HEADER_BYTES, WalHeader};
use lifeboat_wal::wal_index::IndexHeader;
use lifeboat_wal::{PageCount, PageNo, PageSize};

use crate::dice::Dice;
use crate::image::{Change, Image, PageImage, blank};

/// A database that an application has open.
#[derive(Clone, Debug)]
pub struct Sqlite {
    file: Vec<PageImage>,
    wal: Vec<u8>,
    index: IndexHeader,
    /// The committed frames of the present run.
    frames: Vec<(PageNo, PageImage)>,
    backfilled: usize,
    pin: Option<Pin>,
    /// Whether a follower has it open too: then its application is not the last to close it.
    is_followed: bool,
    salts: Dice,
    /// How often the file was written to.
    written: u32,
}

/// What an open read transaction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pin {
    /// The WAL up to this frame, and of the file what is not in it.
    Wal(usize),
    /// The file as it is.
    File,
}

impl Sqlite {
    /// Opens a database whose WAL is empty.
    #[must_use]
    pub fn open(image: &Image, seed: u64) -> Self {
        let mut salts = Dice::new(seed);
        let index = IndexHeader {
            change_counter: 0,
            order: ByteOrder::NATIVE,
            page_size: None,
            last_frame: FrameNo::START,
            page_count: image.size(),
            frame_checksum: Checksum::default(),
            salts: Salts(salts.next().to_be_bytes()),
        };
        let (file, wal, frames) = (image.pages.clone(), Vec::new(), Vec::new());
        Self { file, wal, index, frames, backfilled: 0, pin: None, is_followed: false, salts, written: 0 }
    }

    /// The header of the WAL-index.
    #[must_use]
    pub const fn index(&self) -> IndexHeader {
        self.index
    }

    /// The `-wal` file.
    #[must_use]
    pub fn wal(&self) -> &[u8] {
        &self.wal
    }

    /// The newest committed state, as a reader sees it.
    #[must_use]
    pub fn view(&self, page_size: PageSize) -> Image {
        let mut pages = self.file.clone();
        pages.resize(self.index.page_count.get() as usize, blank(page_size));
        for (page, image) in &self.frames {
            if let Some(place) = pages.get_mut(page.get() as usize - 1) {
                place.clone_from(image);
            }
        }
        Image::new(page_size, pages)
    }

    /// A transaction.
    pub fn commit(&mut self, change: &Change, page_size: PageSize) {
        let may_restart = self.pin.is_none_or(|pin| pin == Pin::File);
        if self.index.page_size.is_none() || (self.is_backfilled() && may_restart) {
            self.begin_run(page_size);
        }
        let last = change.writes.len().saturating_sub(1);
        let from = usize::try_from(self.index.last_frame.end_offset(page_size)).unwrap_or(usize::MAX);
        let overwritten = self.wal.split_off(from.min(self.wal.len()));
        for (at, (page, image)) in change.writes.iter().enumerate() {
            let commit = if at == last { change.size } else { PageCount::new(0) };
            self.index.frame_checksum = self.append(*page, image, commit, self.index.frame_checksum);
            self.frames.push((*page, image.clone()));
        }
        self.index.last_frame = FrameNo::new(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
        self.index.page_count = change.size;
        self.index.change_counter = self.index.change_counter.wrapping_add(1);
        let mut checksum = self.index.frame_checksum;
        for (page, image) in &change.rolled_back {
            checksum = self.append(*page, image, PageCount::new(0), checksum);
        }
        let written = self.wal.len() - from;
        self.wal.extend(overwritten.get(written..).unwrap_or_default());
    }

    /// Copies what may be copied into the database file.
    pub fn checkpoint(&mut self) {
        let until = match self.pin {
            None => self.frames.len(),
            Some(Pin::Wal(frame)) => frame.min(self.frames.len()),
            Some(Pin::File) => return,
        };
        let size = self.index.page_count.get() as usize;
        let page_size = self.index.page_size.unwrap_or(PageSize::MIN);
        self.file.resize(size.max(self.file.len()), blank(page_size));
        for (page, image) in self.frames.get(self.backfilled..until).unwrap_or_default() {
            if let Some(place) = self.file.get_mut(page.get() as usize - 1) {
                place.clone_from(image);
            }
        }
        self.written += u32::from(until > self.backfilled);
        self.backfilled = self.backfilled.max(until);
        if self.is_backfilled() {
            self.file.truncate(size);
        }
    }

    /// The last program closes it: everything is in the file, and there is no WAL. `false` where a follower is not gone.
    pub fn close(&mut self) -> bool {
        if self.is_followed {
            return false;
        }
        self.checkpoint();
        let (page_count, salts) = (self.index.page_count, Salts(self.salts.next().to_be_bytes()));
        (self.wal, self.frames, self.backfilled) = (Vec::new(), Vec::new(), 0);
        self.index = IndexHeader {
            change_counter: 0,
            page_size: None,
            last_frame: FrameNo::START,
            page_count,
            salts,
            ..self.index
        };
        true
    }

    /// The follower's read transaction begins here; the one before it ends.
    pub const fn pin(&mut self) {
        self.is_followed = true;
        self.pin = Some(if self.is_backfilled() { Pin::File } else { Pin::Wal(self.frames.len()) });
    }

    /// The follower lost its read transaction, and has the database open still.
    pub const fn unpin(&mut self) {
        self.pin = None;
    }

    /// The follower is gone.
    pub const fn leave(&mut self) {
        (self.pin, self.is_followed) = (None, false);
    }

    /// What the database file looks like from outside.
    #[must_use]
    pub const fn stamp(&self) -> FileStamp {
        FileStamp { bytes: self.file.len() as u64, modified: (0, self.written) }
    }

    /// Whether the file holds everything that the WAL does.
    #[must_use]
    pub const fn is_backfilled(&self) -> bool {
        self.backfilled == self.frames.len()
    }

    /// The next transaction begins at frame 1, over what is there.
    fn begin_run(&mut self, page_size: PageSize) {
        let first = self.index.salts.first().wrapping_add(1);
        let second = self.salts.next().to_be_bytes();
        let [a, b, c, d] = first.to_be_bytes();
        let [e, f, g, h, ..] = second;
        let salts = Salts([a, b, c, d, e, f, g, h]);
        let header = wal_header(page_size, salts);
        let behind = self.wal.split_off(self.wal.len().min(WAL_HEADER_BYTES));
        self.wal = header.to_vec();
        // The old frames stay behind it until they are overwritten.
        self.wal.extend(behind);
        let decoded = WalHeader::decode(&header).ok();
        self.index.frame_checksum = decoded.map_or_else(Checksum::default, |header| header.checksum);
        (self.index.salts, self.index.page_size) = (salts, Some(page_size));
        self.index.last_frame = FrameNo::START;
        self.frames.clear();
        self.backfilled = 0;
    }

    /// Writes one frame behind `checksum`; the checksum after it.
    fn append(&mut self, page: PageNo, image: &[u8], commit: PageCount, checksum: Checksum) -> Checksum {
        let head: Vec<u8> = page.get().to_be_bytes().into_iter().chain(commit.get().to_be_bytes()).collect();
        let after = checksum.update(ByteOrder::NATIVE, &head).update(ByteOrder::NATIVE, image);
        self.wal.extend(head);
        self.wal.extend(self.index.salts.0);
        self.wal.extend(after.first.to_be_bytes());
        self.wal.extend(after.second.to_be_bytes());
        self.wal.extend(image);
        after
    }
}

fn wal_header(page_size: PageSize, salts: Salts) -> [u8; WAL_HEADER_BYTES] {
    let magic = MAGIC + u32::from(ByteOrder::NATIVE == ByteOrder::Big);
    let words = [magic, VERSION, page_size.get(), 0, salts.first(), salts.second()];
    let mut bytes = [0; WAL_HEADER_BYTES];
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    let [summed @ .., _, _, _, _, _, _, _, _] = &bytes;
    let checksum = Checksum::default().update(ByteOrder::NATIVE, summed);
    let [.., a, b] = bytes.as_chunks_mut::<4>().0 else { return bytes };
    (*a, *b) = (checksum.first.to_be_bytes(), checksum.second.to_be_bytes());
    bytes
}

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
