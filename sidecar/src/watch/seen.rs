//! What the names of a database and its WAL lead to, without opening either.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::disk;

/// A look at a database from outside. Two different ones mean that something happened; two equal ones mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    database: Option<File>,
    wal: Option<File>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    /// Looks at the paths. What cannot be looked at counts as absent: whoever is woken by that finds out more.
    ///
    /// `database` is the path as configured, whose links may lead elsewhere one day; `real` is where they lead now: the WAL is
    /// beside that.
    pub(super) fn of(database: &Path, real: &Path) -> Self {
        let file = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            let modified = (found.mtime(), found.mtime_nsec());
            Some(File { device: found.dev(), inode: found.ino(), size: found.len(), modified })
        };
        let wal = file(&disk::beside(real, "-wal"));
        // Whoever arms a watch has settled the WAL: no checkpoint changes the database's time from then on.
        Self { database: file(database), wal }
    }
}
