//! What the follower's thread knows, and notes, of the pages that the bucket has.

use std::path::{Path, PathBuf};

use lifeboat_ltx::Checksum;
use lifeboat_replica::adoption::Content;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::{Anchor, KnownState, LogIdentity};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::{PageNo, PageSize};

use crate::damage;
use crate::database::{Database, DatabaseError, View};
use crate::first_view::{self, Expected};
use crate::page_log_file::PageLogFile;
use crate::scan::IsWanted;

/// The page log of a database that is followed: read once at the beginning, written from then on.
#[derive(Debug)]
pub struct Notes {
    folder: PathBuf,
    boot_id: String,
    file_id: String,
    page_size: PageSize,
    /// What the bucket has, between the first look and the beginning.
    known: Option<KnownState>,
    log: Option<PageLogFile>,
}

impl Notes {
    /// Of the database file `file_id` with its log in `folder`. Nothing is read yet.
    #[must_use]
    pub fn new(folder: &Path, boot_id: &str, file_id: &str, page_size: PageSize) -> Self {
        let (folder, boot_id, file_id) = (folder.to_owned(), boot_id.to_owned(), file_id.to_owned());
        Self { folder, boot_id, file_id, page_size, known: None, log: None }
    }

    /// Finds out what the database holds, for as long as somebody wants to know: see [`first_view::look`].
    ///
    /// # Errors
    /// What SQLite says.
    pub fn look(
        &mut self,
        database: &mut Database,
        expected: &mut Expected,
        dirty: &mut DirtyPages,
        is_wanted: &IsWanted<'_>,
    ) -> Result<Option<Content>, DatabaseError> {
        let here = (self.boot_id.as_str(), self.file_id.as_str());
        let Some(view) = first_view::look(database, expected, here, dirty, is_wanted)? else {
            return Ok(None);
        };
        self.known = view.known;
        Ok(Some(view.content))
    }

    /// Whether the first look found out what the bucket has, page by page.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Begins a log behind a chain that ends at `chain_end`. Returns the sums of the pages that the bucket has; where they
    /// are not known, every page becomes dirty.
    pub fn begin(&mut self, lineage: String, chain_end: Checksum, dirty: &mut DirtyPages) -> PageSums {
        let (boot_id, file_id) = (self.boot_id.clone(), self.file_id.clone());
        let identity = LogIdentity { lineage, boot_id, file_id };
        let log = self.log.insert(PageLogFile::new(&self.folder, identity, self.page_size));
        if let Some(known) = self.known.take().filter(|known| known.sums.checksum() == Some(chain_end)) {
            log.begin(known.txid, &known.sums, known.anchor.as_ref());
            return known.sums;
        }
        log.give_up();
        dirty.insert_all();
        PageSums::unknown()
    }

    /// Notes the slot that brings the bucket to `view`, before it is sent. It was cut because of `dirty`.
    pub fn cut(
        &mut self,
        txid: u64,
        sums: &PageSums,
        changed: &DirtyPages,
        dirty: &DirtyPages,
        view: &View<'_>,
    ) {
        let changed = changed.iter(view.page_count(), view.page_size());
        self.cut_pages(txid, sums, changed, dirty, view.anchor().as_ref());
    }

    /// The same, of a slot that changes these pages; without an anchor nobody can follow from there before it is moved.
    pub fn cut_pages(
        &mut self,
        txid: u64,
        sums: &PageSums,
        changed: impl Iterator<Item = PageNo>,
        dirty: &DirtyPages,
        anchor: Option<&Anchor>,
    ) {
        if let Some(log) = &mut self.log {
            log.cut(txid, sums, changed, dirty, anchor);
        }
    }

    /// Slot `txid`, which led to `sums`, is proved to be in the bucket.
    pub fn stored(&mut self, txid: u64, sums: &PageSums) {
        if let Some(log) = &mut self.log {
            log.stored(txid, sums);
        }
    }

    /// Slot `txid`, of which nothing was noted before, is proved to be in the bucket.
    pub fn stored_whole(&mut self, txid: u64, sums: &PageSums) {
        if let Some(log) = &mut self.log {
            log.begin(txid, sums, None);
        }
    }

    /// If the database lost a page, that is written down: nobody who comes later may take the file for good.
    pub fn if_damaged(&self, error: &DatabaseError) {
        let DatabaseError::LostPage { .. } = error else { return };
        let message = error.to_string();
        if let Err(error) = damage::mark(&self.folder, &self.file_id, &message) {
            tracing::error!(
                "{}: {error}; a process that comes later will not know: {message}",
                self.folder.display()
            );
        }
    }

    /// The database was looked at while it was followed: see [`PageLogFile::looked`].
    pub fn looked(&mut self, anchor: Option<Anchor>, dirty: &DirtyPages) {
        if let Some(log) = &mut self.log {
            log.looked(anchor, dirty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_later_is_told_of_a_lost_page_and_of_nothing_that_heals() {
        let (folder, path) = (tempfile::tempdir().unwrap(), PathBuf::from("/data/app.db"));
        let notes = Notes::new(folder.path(), "boot", "file", PageSize::MIN);
        notes.if_damaged(&DatabaseError::Absent { path: path.clone() });
        assert!(damage::require_none(folder.path(), "file").is_ok());
        notes.if_damaged(&DatabaseError::LostPage { path, page: PageNo::FIRST });
        assert!(damage::require_none(folder.path(), "file").is_err());
        assert!(damage::require_none(folder.path(), "another").is_ok());
    }
}
