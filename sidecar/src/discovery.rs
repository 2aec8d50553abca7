//! Finds the databases of folders: those that are there, and those that come.
//!
//! Which files are databases is decided by name, size and age. No file is opened for that: who closes a descriptor of a
//! database drops every lock that the process holds on it. What turns out to be none, SQLite says.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use walkdir::{DirEntry, WalkDir};

use crate::config::{DatabaseConfig, FolderConfig};
use crate::disk;
use crate::watch::{Lookout, Watcher};

/// The databases that have a follower: their names, and where they really lie.
#[derive(Clone, Debug, Default)]
pub struct Known {
    paths: Arc<Mutex<HashSet<PathBuf>>>,
}

/// One known database.
#[derive(Debug)]
pub struct KnownDatabase {
    names: [PathBuf; 2],
}

/// Looks into folders.
#[derive(Debug)]
pub struct Discovery {
    folders: Vec<FolderConfig>,
    lookout: Lookout,
    known: Known,
    /// Files that may be databases soon, and when they were first seen.
    unready: HashMap<PathBuf, Instant>,
}

impl Known {
    /// Notes a database; `None` when it is known already, perhaps by another name.
    #[must_use]
    pub fn add(&self, path: &Path) -> Option<KnownDatabase> {
        if self.contains(path) {
            return None;
        }
        let names = [path.to_owned(), disk::real(path)];
        self.lock().extend(names.iter().cloned());
        Some(KnownDatabase { names })
    }

    /// Forgets a database.
    pub fn remove(&self, database: &KnownDatabase) {
        let mut paths = self.lock();
        database.names.iter().for_each(|name| drop(paths.take(name)));
    }

    fn contains(&self, path: &Path) -> bool {
        // Most are known by their name, and then nobody asks the file system.
        self.lock().contains(path) || self.lock().contains(&disk::real(path))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery {
    /// Will look into `folders` for databases that are not `known`.
    #[must_use]
    pub fn new(folders: Vec<FolderConfig>, known: Known, watcher: &Watcher) -> Self {
        Self { folders, lookout: watcher.lookout(), known, unready: HashMap::new() }
    }

    /// Whether databases that come later are followed.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.folders.iter().any(|folder| folder.is_watched)
    }

    /// Looks into every folder when the process begins, and once more if a file is about to become a database. Blocks.
    pub fn look_first(&mut self) -> Vec<DatabaseConfig> {
        let mut found = self.look();
        if !self.unready.is_empty() {
            std::thread::sleep(STILL);
            found = self.look();
        }
        found
    }

    /// Looks once into every folder. Blocks.
    pub fn look(&mut self) -> Vec<DatabaseConfig> {
        let (mut found, mut unready, mut seen) = (Vec::new(), HashMap::new(), HashSet::new());
        for folder in &self.folders {
            for entry in self.walk(folder) {
                let Some(database) = folder.database(entry.path()) else { continue };
                if self.known.contains(&database.path) || !seen.insert(database.path.clone()) {
                    continue;
                }
                let since = self.unready.get(&database.path).copied().unwrap_or_else(Instant::now);
                match std::fs::metadata(&database.path) {
                    Ok(file) if is_ready(&database.path, &file, since) => found.push(database),
                    Ok(file) if file.is_file() => drop(unready.insert(database.path, since)),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        self.unready = unready;
        found
    }

    /// Looks again whenever a file may have come, until nobody listens.
    pub async fn run(mut self, found: Sender<DatabaseConfig>, stop: CancellationToken) {
        self.folders.retain(|folder| folder.is_watched);
        while !self.folders.is_empty() {
            let pause = if self.unready.is_empty() { RESCAN } else { UNREADY_PAUSE };
            tokio::select! {
                () = self.lookout.rung() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let begun = Instant::now();
            let looked = tokio::task::spawn_blocking(move || {
                let databases = self.look();
                (self, databases)
            });
            let Ok((returned, databases)) = looked.await else { return };
            self = returned;
            for database in databases {
                if found.send(database).await.is_err() {
                    return;
                }
            }
            // A look costs time by the number of files, and files that come and go all the time must not cost it all.
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
    }

    /// Every file of a folder, and of the folders in it that are entered; each of these is watched from here on.
    fn walk<'a>(&'a self, folder: &'a FolderConfig) -> impl Iterator<Item = DirEntry> + 'a {
        let depth = if folder.is_recursive { usize::MAX } else { 1 };
        let enters = move |entry: &DirEntry| {
            let is_entered = !entry.file_type().is_dir() || folder.enters(entry.path());
            if is_entered && entry.file_type().is_dir() && entry.depth() < depth && folder.is_watched {
                self.lookout.add(entry.path());
            }
            is_entered
        };
        let entries = WalkDir::new(&folder.dir).max_depth(depth).into_iter().filter_entry(enters);
        entries.filter_map(|entry| match entry {
            Ok(entry) => Some(entry).filter(|entry| !entry.file_type().is_dir()),
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        })
    }
}

/// Whether a file is worth a follower. A file that is being copied is not one yet: what is copied over it after we opened
/// it would go unnoticed. An application that writes with SQLite has a file beside it.
fn is_ready(path: &Path, file: &Metadata, since: Instant) -> bool {
    if !file.is_file() || file.len() < DATABASE_MIN {
        return false;
    }
    let beside = |suffix| disk::beside(path, suffix).exists();
    let now = SystemTime::now();
    let is_still = file.modified().is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age >= STILL));
    is_still || beside("-wal") || beside("-journal") || since.elapsed() >= UNREADY_MAX
}

/// The smallest page. What is smaller is not a database yet.
const DATABASE_MIN: u64 = 512;
/// Whoever copies a file does not pause for so long.
const STILL: Duration = Duration::from_millis(250);
/// One event is seldom alone.
const SETTLE: Duration = Duration::from_millis(30);
const UNREADY_PAUSE: Duration = Duration::from_millis(300);
/// A file that changes all the time, and is no copy any more.
const UNREADY_MAX: Duration = Duration::from_secs(60);
/// In case an event was missed.
const RESCAN: Duration = Duration::from_secs(60);
/// A look is followed by a rest of so many times its length.
const REST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn discovery(folder: &Path, keys: &str) -> Discovery {
        let text = format!(
            "dbs: [{{dir: '{}', pattern: '*.db', {keys}, replica: {{url: 'file://{0}/replica'}}}}]",
            folder.display()
        );
        let config = Config::parse(&text).unwrap();
        Discovery::new(config.folders, Known::default(), &Watcher::start().unwrap())
    }

    fn write(path: &Path, bytes: usize, age: Duration) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; bytes]).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn names(discovery: &mut Discovery) -> Vec<String> {
        let name =
            |database: DatabaseConfig| database.path.file_name().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<_> = discovery.look().into_iter().map(name).collect();
        names.sort_unstable();
        names
    }

    const OLD: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_a_database_by_name_size_and_age_is_found() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.db"), 512, OLD);
        write(&folder.path().join("small.db"), 511, OLD);
        write(&folder.path().join("copied-just-now.db"), 512, Duration::ZERO);
        write(&folder.path().join("written-by-sqlite.db"), 512, Duration::ZERO);
        write(&folder.path().join("written-by-sqlite.db-wal"), 0, Duration::ZERO);
        write(&folder.path().join("below/b.db"), 512, OLD);
        write(&folder.path().join("replica/a.db/not-again.db"), 512, OLD);
        write(&folder.path().join(".a.db-lifeboat/ours.db"), 512, OLD);
        assert_eq!(
            names(&mut discovery(folder.path(), "recursive: false")),
            ["a.db", "written-by-sqlite.db"]
        );
        let mut deep = discovery(folder.path(), "recursive: true");
        assert_eq!(names(&mut deep), ["a.db", "b.db", "written-by-sqlite.db"]);
        assert_eq!(deep.unready.len(), 2);
        std::thread::sleep(STILL);
        assert_eq!(names(&mut deep).len(), 4, "the copy is complete");
    }

    #[test]
    fn one_file_under_two_names_is_one_database() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.db"), 512, OLD);
        let mut discovery = discovery(folder.path(), "recursive: false");
        let known = discovery.known.add(&folder.path().join("a.db")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a.db"), folder.path().join("link.db")).unwrap();
        assert_eq!(names(&mut discovery), [""; 0]);
        discovery.known.remove(&known);
        assert_eq!(names(&mut discovery).len(), 2, "which of them is followed is decided when the first is");
    }

    #[tokio::test]
    async fn a_database_that_comes_later_in_a_folder_that_comes_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut discovery = discovery(folder.path(), "recursive: true");
        assert_eq!(names(&mut discovery), [""; 0]);
        let (found, mut databases) = tokio::sync::mpsc::channel(1);
        let stop = CancellationToken::new();
        tokio::spawn(discovery.run(found, stop.clone()));
        std::fs::create_dir(folder.path().join("new")).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        write(&folder.path().join("new/a.db"), 512, Duration::ZERO);
        let database = tokio::time::timeout(RESCAN / 2, databases.recv()).await.unwrap().unwrap();
        assert_eq!(database.path, folder.path().join("new/a.db"));
        stop.cancel();
    }
}
