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
        let has_floor = self.head.as_ref().is_some_and(|head| head.floor(Level::CAPTURED) > 0);
        has_floor && (self.slots().next().is_none() || !self.holds_pages())
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
