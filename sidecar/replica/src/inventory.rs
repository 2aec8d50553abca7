//! What the bucket holds, as one value, read at one moment.

use lifeboat_ltx::{Txid, is_seal};

use crate::head::Head;
use crate::layout::Level;

/// One LTX file, as listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileEntry {
    /// How far merged it is.
    pub level: Level,
    /// The first TXID it covers.
    pub min: Txid,
    /// The last TXID it covers.
    pub max: Txid,
    /// Bytes.
    pub size: u64,
    /// Its key, relative to the prefix.
    pub key: String,
    /// Its version; whoever reads it demands this one.
    pub etag: String,
}

impl FileEntry {
    /// Whether this is a seal: a slot without pages that begins an epoch.
    #[must_use]
    pub fn is_seal(&self) -> bool {
        self.level == Level::CAPTURED && is_seal(self.size)
    }
}

/// Every file of every level, then the head: listed upwards, the head last, so that its floors are at least as new as
/// every list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inventory {
    files: Vec<FileEntry>,
    head: Option<Head>,
}

impl Inventory {
    /// The live files of a complete listing, sorted; `head` is `None` only where it is proved absent, as in
    /// Litestream's own replicas.
    #[must_use]
    pub fn new(listed: Vec<FileEntry>, head: Option<Head>) -> Self {
        let is_live = |file: &FileEntry| head.as_ref().is_none_or(|head| head.is_live(file.level, file.max));
        let mut files: Vec<_> = listed.into_iter().filter(is_live).collect();
        files.sort_by_key(|file| (file.level, file.min, file.max));
        Self { files, head }
    }

    /// The files that may be counted on, by level and TXID.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The same files, for whoever needs nothing else.
    #[must_use]
    pub fn into_files(self) -> Vec<FileEntry> {
        self.files
    }

    /// The head, where there is one.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether any file holds pages: seals alone restore to no database.
    #[must_use]
    pub fn holds_pages(&self) -> bool {
        self.files.iter().any(|file| !file.is_seal())
    }

    /// Whether the lists are older than the head: slots were given up, and no slot is left, although the newest always stays,
    /// or nothing that they were merged into. Where both are there, a gap between them tells.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.given_up() > 0 && (self.slots().next().is_none() || !self.holds_pages())
    }

    /// Up to which TXID slots were given up when the head was read; 0 where none were.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.floor(Level::CAPTURED))
    }

    /// Whether a file that ends at `txid` may be stored although none was listed: slots were given up in favour of files that
    /// were stored after their list was read. Lists that were begun when slots were given up only to `before` tell.
    #[must_use]
    pub fn may_lack(&self, txid: Txid, before: u64) -> bool {
        let is_given_up = txid.get() > before && txid.get() <= self.given_up();
        let mut others = self.files.iter().filter(|file| file.level != Level::SNAPSHOT);
        let is_covered = others.any(|file| file.min <= txid && txid <= file.max);
        (is_given_up && !is_covered) || (txid.get() > self.given_up() && self.is_outdated())
    }

    /// The live slots, ascending.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = &FileEntry> {
        self.files.iter().filter(|file| file.level == Level::CAPTURED)
    }
}

/// A file that tests vary.
#[cfg(test)]
pub(crate) fn test_file(level: u8, min: u64, max: u64) -> FileEntry {
    FileEntry {
        level: Level::from_number(level).unwrap(),
        min: Txid::try_new(min).unwrap(),
        max: Txid::try_new(max).unwrap(),
        size: 1000,
        key: format!("{level}/{min}-{max}"),
        etag: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::test_head;

    #[test]
    fn a_state_may_be_there_whose_slot_was_given_up_for_a_file_that_was_not_listed() {
        let may_lack = |files: &[FileEntry], txid, before| {
            let inventory = Inventory::new(files.to_vec(), Some(test_head(&[(0, 8)])));
            inventory.may_lack(Txid::try_new(txid).unwrap(), before)
        };
        let hole = [test_file(9, 1, 4), test_file(0, 9, 9), test_file(9, 1, 9)];
        assert!(may_lack(&hole, 8, 0) && may_lack(&hole, 6, 0));
        assert!(!may_lack(&hole, 8, 8), "lists that were begun later would have it");
        assert!(!may_lack(&hole, 10, 0), "it is not stored yet, or lost");
        let merged = [test_file(1, 5, 8), test_file(0, 9, 9)];
        assert!(!may_lack(&merged, 6, 0), "no file ends in the middle of a merged one any more");
        assert!(may_lack(&[test_file(1, 5, 8)], 9, 0), "no slot was listed, and the newest always stays");
        assert!(!Inventory::new(hole.to_vec(), None).may_lack(Txid::try_new(6).unwrap(), 0));
    }
}
