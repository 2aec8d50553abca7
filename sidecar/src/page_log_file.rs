//! The page log on disk: the file `pages` in the folder beside the database.
//!
//! Nothing here may stop replication. A log that cannot be written is given up, said once, and begun anew later; without
//! it, coming back costs more time and never data.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat_ltx::Checksum;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::{self, Anchor, KnownState, LogIdentity};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::{PageNo, PageSize};

use crate::disk;

/// The page log of one database, while it is written.
#[derive(Debug)]
pub struct PageLogFile {
    path: PathBuf,
    identity: LogIdentity,
    page_size: PageSize,
    open: Option<OpenLog>,
    /// The anchor that the log gives its newest state.
    newest: Option<Anchor>,
    not_before: Option<Instant>,
    is_said: bool,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    base_bytes: u64,
    appended_bytes: u64,
}

/// The state of this lineage that slot `txid` led to, from the log in `folder`; `None` where there is none that can be used.
#[must_use]
pub fn find(folder: &Path, lineage: &str, txid: u64, checksum: Checksum) -> Option<KnownState> {
    let bytes = disk::read_if_exists(&folder.join(NAME)).unwrap_or_else(|error| {
        tracing::debug!("{}: {error}; every page is looked at instead", folder.display());
        None
    });
    page_log::find(&bytes?, txid, checksum).filter(|known| known.identity.lineage == lineage)
}

impl PageLogFile {
    /// A log in `folder`, which is not begun yet.
    #[must_use]
    pub fn new(folder: &Path, identity: LogIdentity, page_size: PageSize) -> Self {
        let path = folder.join(NAME);
        Self { path, identity, page_size, open: None, newest: None, not_before: None, is_said: false }
    }

    /// Begins with the state that the bucket has, or is about to have.
    pub fn begin(&mut self, txid: u64, sums: &PageSums, anchor: Option<&Anchor>) {
        match page_log::base(&self.identity, self.page_size, txid, sums, anchor) {
            Some(base) => self.rewrite(&base, anchor),
            None => self.give_up(),
        }
    }

    /// Notes what a slot changes that was cut because of `dirty`. To be called before it is sent: afterwards nobody can
    /// tell any more whether the bucket has it.
    pub fn cut(
        &mut self,
        txid: u64,
        sums: &PageSums,
        changed: impl Iterator<Item = PageNo>,
        dirty: &DirtyPages,
        anchor: Option<&Anchor>,
    ) {
        self.lost_if_all(dirty);
        if self.open.is_none() {
            // The state before is not in any log, so nothing is lost if this slot never arrives.
            return self.begin_again(txid, sums, anchor);
        }
        match page_log::delta(txid, sums, changed, anchor) {
            Some(delta) => self.append(&delta, anchor),
            None => self.give_up(),
        }
    }

    /// The newest state noted is proved to be in the bucket: those before it may go.
    pub fn stored(&mut self, txid: u64, sums: &PageSums) {
        let is_outgrown = self
            .open
            .as_ref()
            .is_some_and(|open| page_log::is_outgrown(open.base_bytes, open.appended_bytes));
        if is_outgrown {
            let newest = self.newest;
            self.begin(txid, sums, newest.as_ref());
        }
    }

    /// The database was looked at while it was followed: its newest commit can be followed from `anchor`, and `dirty` may
    /// differ from the newest state noted.
    pub fn looked(&mut self, anchor: Option<Anchor>, dirty: &DirtyPages) {
        self.lost_if_all(dirty);
        let better = match (anchor, self.newest) {
            (Some(anchor), _) if dirty.is_empty() => Some(anchor),
            // SQLite alone wrote to the file until now. No more than that: there are commits since the state.
            (Some(Anchor { stamp, .. }), Some(newest)) if newest.stamp != stamp => {
                Some(Anchor { stamp, is_settled: false, ..newest })
            }
            (Some(_) | None, _) => None,
        };
        if let Some(anchor) = better.filter(|anchor| self.open.is_some() && self.newest != Some(*anchor)) {
            self.append(&page_log::moved(Some(&anchor)), Some(&anchor));
        }
    }

    /// Where every page may have changed, following was interrupted, and whoever comes later must not go on from before.
    fn lost_if_all(&mut self, dirty: &DirtyPages) {
        if dirty.is_all() && self.newest.is_some() {
            self.append(&page_log::moved(None), None);
        }
    }

    fn begin_again(&mut self, txid: u64, sums: &PageSums, anchor: Option<&Anchor>) {
        if self.not_before.is_none_or(|moment| Instant::now() >= moment) {
            self.begin(txid, sums, anchor);
        }
    }

    fn rewrite(&mut self, base: &[u8], anchor: Option<&Anchor>) {
        let written = disk::replace(&self.path, base)
            .and_then(|()| OpenOptions::new().append(true).open(&self.path))
            .map(|file| OpenLog { file, base_bytes: base.len() as u64, appended_bytes: 0 });
        match written {
            Ok(open) => {
                self.open = Some(open);
                self.newest = anchor.copied();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn append(&mut self, entry: &[u8], anchor: Option<&Anchor>) {
        let Some(open) = &mut self.open else { return };
        match open.file.write_all(entry) {
            Ok(()) => {
                open.appended_bytes += entry.len() as u64;
                self.newest = anchor.copied();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Without a log nothing is believed. One that cannot even be removed does no harm: it has no state of a slot that is
    /// stored from now on.
    pub fn give_up(&mut self) {
        self.open = None;
        self.newest = None;
        let _ = std::fs::remove_file(&self.path);
    }

    fn failed(&mut self, error: &io::Error) {
        self.give_up();
        self.not_before = Some(Instant::now() + BEGIN_AGAIN);
        if !std::mem::replace(&mut self.is_said, true) {
            tracing::warn!(
                "{}: {error}; the page log cannot be written; replication goes on, but the next start stores every page",
                self.path.display()
            );
        }
    }
}

const NAME: &str = "pages";
/// How long after a log could not be written the next one is begun.
const BEGIN_AGAIN: Duration = Duration::from_secs(60);
