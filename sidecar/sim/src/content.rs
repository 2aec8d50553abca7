//! What databases and files hold here: a database is the list of its commits, a file leads from one list to another.
//!
//! That is less than pages and as much as the protocol can tell apart: a page checksum says *same or not*, and a file with
//! pages, laid over a state between the two it leads from and to, gives the latter; over any other state, a mixture.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use lifeboat_ltx::{Checksum, FileName, Header, Mark, SEAL_SIZE, TRAILER_SIZE, Txid};
use lifeboat_replica::claim::NO_WAL_OFFSET;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_replica::slot::SlotIdentity;
use lifeboat_wal::{PageCount, PageSize};

use crate::image::{Image, Unseen};
use crate::visited::fingerprint;

/// A database: the commits in it, oldest first. Each has a number of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Commits {
    /// Their numbers.
    pub numbers: Vec<u16>,
    /// The pages that they make, in worlds from a seed.
    pub image: Unseen<Option<Rc<Image>>>,
}

impl Commits {
    /// The rolling checksum of a database with these commits.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        if let Some(image) = &self.image.0 {
            return image.checksum;
        }
        if self.numbers.is_empty() {
            return Checksum::EMPTY;
        }
        #[expect(clippy::cast_possible_truncation, reason = "any bits of it are as good")]
        let bits = fingerprint(&self.numbers) as u64;
        Checksum::try_new(bits | 1 << 63).unwrap_or(Checksum::EMPTY)
    }

    /// Whether these are the other's commits and perhaps more after them.
    #[must_use]
    pub fn continue_from(&self, other: &Self) -> bool {
        self.numbers.starts_with(&other.numbers)
    }
}

/// Where a file is: its level, and the first and last TXID it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Its level.
    pub level: Level,
    /// The TXIDs.
    pub min: Txid,
    /// The TXIDs.
    pub max: Txid,
}

impl Place {
    /// Of a slot.
    #[must_use]
    pub const fn slot(txid: Txid) -> Self {
        Self { level: Level::CAPTURED, min: txid, max: txid }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.level {
            Level::CAPTURED => write!(f, "slot {}", self.max.get()),
            Level::SNAPSHOT => write!(f, "snapshot {}", self.max.get()),
            level => write!(f, "level {} file {}-{}", level.get(), self.min.get(), self.max.get()),
        }
    }
}

/// An LTX file.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it goes.
    pub place: Place,
    /// Its header.
    pub header: Header,
    /// All of it, for a seal.
    pub seal: Option<Vec<u8>>,
    /// The state it leads from; unknown of a seal, as is `to`.
    pub from: Commits,
    /// The state it leads to.
    pub to: Commits,
    /// As it is listed.
    pub entry: FileEntry,
    /// All of it, in worlds from a seed.
    pub bytes: Unseen<Option<Rc<[u8]>>>,
    print: u128,
}

impl File {
    /// A file with pages.
    #[must_use]
    pub fn with_pages(place: Place, epoch: Epoch, from: Commits, to: Commits) -> Self {
        let mark = Mark { pre_apply: from.checksum(), post_apply: to.checksum() };
        let header = Header {
            page_size: PageSize::MIN,
            commit: PageCount::new(1),
            min_txid: place.min,
            max_txid: place.max,
            timestamp_ms: 0,
            wal_offset: NO_WAL_OFFSET,
            wal_size: 0,
            salts: (0, 0),
            node_id: epoch.get(),
            mark: Some(mark),
        };
        Self::new(place, header, None, (from, to))
    }

    /// A file that is real LTX.
    #[must_use]
    pub fn with_bytes(place: Place, header: Header, bytes: Vec<u8>, ends: (Commits, Commits)) -> Self {
        let mut file = Self::new(place, header, None, ends);
        file.entry.size = bytes.len() as u64;
        file.bytes = Unseen(Some(Rc::from(bytes)));
        file
    }

    /// A seal.
    #[must_use]
    pub fn seal(header: Header, bytes: Vec<u8>) -> Self {
        let place = Place::slot(header.max_txid);
        Self::new(place, header, Some(bytes), <(Commits, Commits)>::default())
    }

    /// The same file at another place.
    #[must_use]
    pub fn copy_to(&self, place: Place) -> Self {
        let ends = (self.from.clone(), self.to.clone());
        let mut copy = Self::new(place, self.header.clone(), self.seal.clone(), ends);
        (copy.bytes, copy.entry.size) = (self.bytes.clone(), self.entry.size);
        copy
    }

    fn new(place: Place, header: Header, seal: Option<Vec<u8>>, (from, to): (Commits, Commits)) -> Self {
        let Place { level, min, max } = place;
        let print = fingerprint(&(place, &header, &seal, &from, &to));
        let bytes = Unseen(seal.as_deref().map(Rc::from));
        let key = FileName::try_new(min, max).map(|name| Layout::Bucket.file_key(level, name));
        let size = if seal.is_some() { SEAL_SIZE } else { SIZE };
        let (key, etag) = (key.unwrap_or_default(), format!("{print:032x}"));
        Self {
            place,
            header,
            seal,
            from,
            to,
            entry: FileEntry { level, min, max, size, key, etag },
            bytes,
            print,
        }
    }

    /// Who made it.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch::new(self.header.node_id)
    }

    /// The rolling checksum that it says it ends at.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.header.mark.map_or(Checksum::EMPTY, |mark| mark.post_apply)
    }

    /// What tells it from another file of its name.
    #[must_use]
    pub fn identity(&self) -> SlotIdentity {
        let header = self.header.encode().map(|bytes| bytes.to_vec()).unwrap_or_default();
        let trailer = self.bytes.0.as_deref().and_then(<[u8]>::last_chunk::<TRAILER_SIZE>);
        let trailer = trailer.map_or_else(|| self.print.to_be_bytes().to_vec(), |trailer| trailer.to_vec());
        SlotIdentity { size: self.entry.size, header, trailer }
    }
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for File {}

impl Hash for File {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

/// What a file with pages is as large as; only that it is no seal matters.
const SIZE: u64 = 1_000;
