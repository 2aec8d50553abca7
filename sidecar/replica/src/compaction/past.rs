//! What a replica's files say about what its next merged files must hold: for a writer that did not write them itself.
//!
//! In:  an inventory; then the headers and page indexes that [`Survey`] asks for.
//! Out: [`Past`], which a [`Compaction`](super::Compaction) goes on from.

use std::collections::BTreeMap;

use lifeboat_ltx::{Checksum, Header, Txid};

use super::{MERGED, all_pages};
use crate::claim::Millis;
use crate::dirty_pages::DirtyPages;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;
use crate::reach::Reach;

/// What was stored before a process began.
#[derive(Debug)]
pub struct Past {
    /// Of level 1, 2 and 3.
    pub levels: [Covered; MERGED],
    /// Of what a restore begins with, if there is anything: its size, its age, and the bytes fetched beyond it.
    pub snapshot: Option<(u64, Millis, u64)>,
}

/// How far the files of a level, and of those above it, go.
#[derive(Debug)]
pub struct Covered {
    /// The last TXID in them.
    pub to: u64,
    /// The rolling checksum there; `None` where nothing says.
    pub checksum: Option<Checksum>,
    /// How long ago that was.
    pub age: Millis,
    /// The pages that changed since.
    pub pages: DirtyPages,
    /// The bytes that a restore fetches beyond it.
    pub bytes: u64,
}

impl Past {
    /// Where what was stored up to `end` cannot be read, or does not lead there: nothing is known, and a snapshot is due.
    #[must_use]
    pub fn unreadable(end: u64) -> Self {
        Self { levels: [(); MERGED].map(|()| Covered::nothing(end)), snapshot: None }
    }
}

impl Covered {
    fn nothing(end: u64) -> Self {
        Self { to: end, checksum: None, age: 0, pages: all_pages(), bytes: 0 }
    }
}

/// What must be read of a replica to know its [`Past`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    end: u64,
    base: Option<FileEntry>,
    /// The file that each level ends with, or a higher one if that goes further.
    newest: [Option<FileEntry>; MERGED],
    /// The files that lead on from the end of level 3, in order.
    beyond: Vec<FileEntry>,
}

impl Survey {
    /// Of what was stored up to `end`; `None` where the files do not lead there.
    #[must_use]
    pub fn of(inventory: &Inventory, end: u64) -> Option<Self> {
        let files: Vec<_> = inventory.files().iter().filter(|file| file.max.get() <= end).collect();
        let snapshots = files.iter().filter(|file| file.level == Level::SNAPSHOT);
        let first_slot = files
            .iter()
            .find(|file| file.level == Level::CAPTURED && file.min == Txid::FIRST && !file.is_seal());
        let base = snapshots.max_by_key(|file| file.max).or(first_slot).map(|file| (*file).clone());
        let reach = Reach::of(files.iter().copied());
        let newest = Level::MERGED.map(|level| {
            let merged = files.iter().filter(|file| file.level >= level && reach.contains(file.max.get()));
            merged
                .max_by_key(|file| (file.max, file.level))
                .map(|file| (*file).clone())
                .or_else(|| base.clone())
        });
        let from = newest.last().and_then(Option::as_ref).map_or(0, |file| file.max.get());
        let beyond = leading_on(&files, from, end)?;
        Some(Self { end, base, newest, beyond })
    }

    /// The files whose headers are wanted, each once.
    #[must_use]
    pub fn headers(&self) -> Vec<&FileEntry> {
        let mut wanted: Vec<&FileEntry> = Vec::new();
        for file in self.base.iter().chain(self.newest.iter().flatten()) {
            if wanted.iter().all(|other| other.key != file.key) {
                wanted.push(file);
            }
        }
        wanted
    }

    /// The files whose page indexes are wanted. None where there are too many; then every page counts as changed.
    #[must_use]
    pub fn indexes(&self) -> Vec<&FileEntry> {
        let wanted: Vec<_> = self.beyond.iter().filter(|file| !file.is_seal()).collect();
        if wanted.len() > FILES_READ_MAX { Vec::new() } else { wanted }
    }

    /// What headers and page indexes, by key, say at this time of the wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn past(
        &self,
        headers: &BTreeMap<String, Header>,
        pages: &BTreeMap<String, DirtyPages>,
        wall_ms: i64,
    ) -> Past {
        let age = |file: &FileEntry| {
            let made = headers.get(&file.key).map_or(wall_ms, |header| header.timestamp_ms);
            Millis::try_from(wall_ms.saturating_sub(made)).unwrap_or(0)
        };
        let levels = self.newest.each_ref().map(|newest| match newest {
            Some(file) => Covered {
                to: file.max.get(),
                checksum: headers.get(&file.key).and_then(|header| header.mark).map(|mark| mark.post_apply),
                age: age(file),
                pages: self.pages_since(file.max, pages),
                bytes: self.bytes_since(file.max),
            },
            None => Covered::nothing(self.end),
        });
        let snapshot = self.base.as_ref().map(|file| (file.size, age(file), self.bytes_beyond_base(file)));
        Past { levels, snapshot }
    }

    fn pages_since(&self, txid: Txid, pages: &BTreeMap<String, DirtyPages>) -> DirtyPages {
        let mut since = DirtyPages::new();
        for file in self.beyond.iter().filter(|file| file.max > txid && !file.is_seal()) {
            since.merge(pages.get(&file.key).cloned().unwrap_or_else(all_pages));
        }
        since
    }

    fn bytes_since(&self, txid: Txid) -> u64 {
        self.beyond.iter().filter(|file| file.max > txid).map(|file| file.size).sum()
    }

    /// Files of level 3 are not looked at one by one: each is counted as large as the last.
    fn bytes_beyond_base(&self, base: &FileEntry) -> u64 {
        let merged = self.newest.last().and_then(Option::as_ref).filter(|file| file.max > base.max);
        self.bytes_since(base.max) + merged.map_or(0, |file| file.size)
    }
}

/// The files that lead from one state to another, as a restore would choose them.
fn leading_on(files: &[&FileEntry], from: u64, to: u64) -> Option<Vec<FileEntry>> {
    let (mut reached, mut chosen) = (from, Vec::new());
    while reached < to {
        let goes_on = |file: &&&FileEntry| file.min.get() <= reached + 1 && file.max.get() > reached;
        let next = files.iter().filter(goes_on).max_by_key(|file| (file.max, file.level))?;
        reached = next.max.get();
        chosen.push((*next).clone());
    }
    Some(chosen)
}

/// More requests are not worth it: a snapshot costs about as much, and ends the matter.
const FILES_READ_MAX: usize = 256;
