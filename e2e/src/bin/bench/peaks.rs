//! Watches how much disk is used while something runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::process::{BLOCK_BYTES, unnamed_bytes};

/// The most that was seen at once, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peaks {
    /// Of everything beside the database that is not SQLite's, and of the sidecar's files without a name.
    pub(crate) extra_disk: u64,
    /// Of the WAL file.
    pub(crate) wal: u64,
}

/// Looks twenty times a second until it is stopped.
#[derive(Debug)]
pub(crate) struct Watching {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Peaks>,
}

impl Watching {
    /// Watches the folder of this database, and the files of the sidecar if there is one.
    pub(crate) fn begin(database: &Path, sidecar: Option<u32>) -> Self {
        let (database, stop) = (database.to_owned(), Arc::new(AtomicBool::new(false)));
        let is_stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut peaks = Peaks::default();
            while !is_stopped.load(Ordering::Relaxed) {
                peaks = peaks.and(look(&database, sidecar));
                thread::sleep(LOOK_PAUSE);
            }
            peaks
        });
        Self { stop, thread }
    }

    /// What was seen until now.
    pub(crate) fn end(self) -> Peaks {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Peaks {
    fn and(self, other: Self) -> Self {
        Self { extra_disk: self.extra_disk.max(other.extra_disk), wal: self.wal.max(other.wal) }
    }
}

fn look(database: &Path, sidecar: Option<u32>) -> Peaks {
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    let sqlites = ["", "-wal", "-shm", "-journal"].map(beside);
    let folder = database.parent().unwrap_or(database);
    let unnamed = sidecar.and_then(|pid| unnamed_bytes(pid).ok()).unwrap_or(0);
    Peaks {
        extra_disk: unnamed + disk_bytes(folder, &sqlites),
        wal: fs::metadata(&sqlites[1]).map_or(0, |metadata| metadata.len()),
    }
}

/// Bytes on disk of all files below a folder but some. What vanishes while we look counts nothing.
fn disk_bytes(folder: &Path, but: &[PathBuf]) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&path, but),
        Ok(metadata) if !but.contains(&path) => metadata.blocks() * BLOCK_BYTES,
        Ok(_) | Err(_) => 0,
    };
    entries.flatten().map(|entry| size(entry.path())).sum()
}

const LOOK_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_sqlites_counts_as_extra() {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("a.db");
        let write = |name: &str, bytes: usize| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![1; bytes]).unwrap();
            fs::File::open(path).unwrap().sync_all().unwrap();
        };
        write("a.db", 100_000);
        write("a.db-wal", 50_000);
        assert_eq!(look(&db, None), Peaks { extra_disk: 0, wal: 50_000 });
        write(".a.db-somebody/ltx/0/1", 8192);
        assert_eq!(look(&db, None).extra_disk, 8192);
    }
}
