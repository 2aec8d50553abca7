//! Who wants to know of what: the watcher's list of databases and folders, and the kernel's watches on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inotify::{Event, EventMask, WatchDescriptor, WatchMask, Watches};

use super::bell::Bell;
use super::seen::Seen;
use crate::disk;

/// One database that is watched.
pub(super) type Key = u64;

/// Everything that is watched. Behind one lock; nothing here waits for a file system, except the kernel's adding of a watch.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// `None` where the kernel gave us no inotify: then every database is looked at every second.
    watches: Option<Watches>,
    entries: BTreeMap<Key, Entry>,
    next_key: Key,
    files: HashMap<WatchDescriptor, Key>,
    folders: HashMap<PathBuf, Folder>,
    folder_names: HashMap<WatchDescriptor, PathBuf>,
    /// Armed, but without working watches.
    blind: BTreeSet<Key>,
    /// The last database that was looked at in turn.
    last_polled: Key,
}

#[derive(Debug)]
struct Entry {
    bell: Arc<Bell>,
    /// The database file, links followed as SQLite does: its WAL is beside the file and not beside the link.
    real: PathBuf,
    /// The path as it was given, where that is another.
    link: Option<PathBuf>,
    file: Option<WatchDescriptor>,
    /// What was seen when it was armed; `None` while nobody waits for a change.
    armed: Option<Seen>,
}

/// What was seen of a database when it was armed, and where.
#[derive(Debug)]
pub(super) struct Armed {
    link: Option<PathBuf>,
    real: PathBuf,
    pub(super) seen: Seen,
}

impl Armed {
    /// Whether it still is what one sees.
    pub(super) fn is_as_seen(&self) -> bool {
        Seen::of(self.link.as_ref().unwrap_or(&self.real), &self.real) == self.seen
    }
}

#[derive(Debug, Default)]
struct Folder {
    watch: Option<WatchDescriptor>,
    databases: HashMap<OsString, Key>,
    lookouts: Vec<Arc<Bell>>,
}

impl Register {
    pub(super) fn new(watches: Option<Watches>) -> Self {
        Self { watches, ..Self::default() }
    }

    /// There will be no more events.
    pub(super) fn go_blind(&mut self) {
        self.watches = None;
        self.ring_all();
    }

    pub(super) fn add(&mut self, database: &Path, real: PathBuf, bell: Arc<Bell>) -> Key {
        self.next_key += 1;
        let key = self.next_key;
        self.enter_folder(key, &real);
        let link = (database != real).then(|| database.to_owned());
        self.entries.insert(key, Entry { bell, link, real, file: None, armed: None });
        key
    }

    pub(super) fn remove(&mut self, key: Key) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.blind.remove(&key);
        self.forget_file(entry.file);
        self.leave_folder(key, &entry.real);
    }

    /// From now on the next change rings the bell, once. Says whether the kernel will tell; else only looks will.
    pub(super) fn arm(&mut self, key: Key, real: PathBuf, seen: Seen) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.armed = Some(seen);
        if entry.real != real {
            let old = std::mem::replace(&mut entry.real, real.clone());
            self.leave_folder(key, &old);
            self.enter_folder(key, &real);
        }
        let is_watched = self.watch_folder_of(key, &real) && self.watch_file(key, &real).is_ok();
        if is_watched {
            self.blind.remove(&key);
        } else {
            self.blind.insert(key);
        }
        is_watched
    }

    /// What was seen when the database was armed, if it still is.
    pub(super) fn armed(&self, key: Key) -> Option<Armed> {
        let entry = self.entries.get(&key)?;
        entry.armed.map(|seen| Armed { link: entry.link.clone(), real: entry.real.clone(), seen })
    }

    /// Whoever looks out for new files in a folder is rung when one comes that is not watched already.
    pub(super) fn look_out(&mut self, folder: &Path, bell: &Arc<Bell>) {
        let entry = self.folders.entry(folder.to_owned()).or_default();
        if !entry.lookouts.iter().any(|known| Arc::ptr_eq(known, bell)) {
            entry.lookouts.push(Arc::clone(bell));
        }
        self.watch_folder(folder);
    }

    pub(super) fn end_lookout(&mut self, bell: &Arc<Bell>) {
        let folders: Vec<_> = self.folders.keys().cloned().collect();
        for name in folders {
            if let Some(folder) = self.folders.get_mut(&name) {
                folder.lookouts.retain(|known| !Arc::ptr_eq(known, bell));
            }
            self.forget_folder_if_unused(&name);
        }
    }

    /// Takes one event of the kernel and rings whom it concerns.
    pub(super) fn event(&mut self, event: &Event<&OsStr>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return self.ring_all();
        }
        if let Some(key) = self.files.remove(&event.wd) {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.file = None;
            }
            return self.ring(key);
        }
        let Some(name) = self.folder_names.get(&event.wd).cloned() else { return };
        if event.mask.contains(EventMask::IGNORED) {
            self.folder_names.remove(&event.wd);
            if let Some(folder) = self.folders.get_mut(&name) {
                folder.watch = None;
            }
            return self.ring_folder(&name);
        }
        if let Some(file) = event.name {
            self.entry_changed(&name, file);
        }
    }

    /// Tries again to watch folders that were missing, and rings whom that concerns.
    pub(super) fn find_folders(&mut self) {
        if self.watches.is_none() || self.folders.len() == self.folder_names.len() {
            return;
        }
        let missing = self.folders.iter().filter(|(_, folder)| folder.watch.is_none());
        let missing: Vec<_> = missing.map(|(name, _)| name.clone()).collect();
        for name in missing {
            if self.watch_folder(&name) {
                self.ring_folder(&name);
            }
        }
    }

    /// The databases whose turn it is to be looked at: all that have no working watch, and a share of the others, so that
    /// some 75 seconds are enough for everybody.
    pub(super) fn due(&mut self) -> Vec<(Key, Armed)> {
        let keys: BTreeSet<Key> = self.turn().into_iter().chain(self.blind.iter().copied()).collect();
        keys.into_iter().filter_map(|key| Some((key, self.armed(key)?))).collect()
    }

    /// A share of all databases, the next one each time.
    pub(super) fn turn(&mut self) -> Vec<Key> {
        let share = POLLS_MIN.max(self.entries.len().div_ceil(POLL_ROUNDS));
        let after = (Bound::Excluded(self.last_polled), Bound::Unbounded);
        let turn = self.entries.range(after).chain(self.entries.range(..=self.last_polled));
        let turn: Vec<Key> = turn.take(share).map(|(key, _)| *key).collect();
        self.last_polled = turn.last().copied().unwrap_or_default();
        turn
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let (files, folders) = (&self.files, &self.folders);
        self.entries.is_empty() && files.is_empty() && folders.is_empty() && self.folder_names.is_empty()
    }

    /// A look found something else than when the database was armed.
    pub(super) fn changed(&mut self, key: Key, before: Seen) {
        if self.entries.get(&key).is_some_and(|entry| entry.armed == Some(before)) {
            self.ring(key);
        }
    }

    pub(super) fn ring_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.armed = None;
            entry.bell.event();
        }
        self.blind.clear();
        self.folders.values().flat_map(|folder| &folder.lookouts).for_each(|bell| bell.event());
    }

    fn ring(&mut self, key: Key) {
        self.blind.remove(&key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.armed = None;
            entry.bell.event();
        }
    }

    fn ring_folder(&mut self, name: &Path) {
        let Some(folder) = self.folders.get(name) else { return };
        folder.lookouts.iter().for_each(|bell| bell.event());
        let keys: Vec<_> = folder.databases.values().copied().collect();
        keys.into_iter().for_each(|key| self.ring(key));
    }

    /// A name in a folder came, went, or leads to another file now.
    fn entry_changed(&mut self, folder: &Path, file: &OsStr) {
        let Some(found) = self.folders.get(folder) else { return };
        let known = found.databases.get(file).or_else(|| found.databases.get(database_of(file)));
        if let Some(&key) = known {
            // SQLite's shared memory comes and goes with every first and last connection, and says nothing.
            if !file.as_encoded_bytes().ends_with(b"-shm") {
                self.ring(key);
            }
        } else {
            found.lookouts.iter().for_each(|bell| bell.event());
        }
    }

    /// Watches the WAL, or where there is none the database itself. The folder tells when that changes.
    fn watch_file(&mut self, key: Key, real: &Path) -> io::Result<()> {
        let Some(watches) = &mut self.watches else { return Err(ErrorKind::Unsupported.into()) };
        let once = WatchMask::MODIFY | WatchMask::ONESHOT;
        let mut added = watches.add(disk::beside(real, "-wal"), once);
        if added.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            added = watches.add(real, once);
        }
        let file = match added {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(file) = &file
            && let Some(other) = self.files.insert(file.clone(), key)
            && other != key
        {
            // Two names of one file: the kernel tells us only once, so neither may rely on it.
            self.files.insert(file.clone(), other);
            return Err(ErrorKind::AlreadyExists.into());
        }
        let old = self.entries.get_mut(&key).map(|entry| std::mem::replace(&mut entry.file, file.clone()));
        if let Some(old) = old.flatten().filter(|old| Some(old) != file.as_ref()) {
            self.forget_file(Some(old));
        }
        Ok(())
    }

    fn forget_file(&mut self, file: Option<WatchDescriptor>) {
        if let Some(file) = file
            && self.files.remove(&file).is_some()
            && let Some(watches) = &mut self.watches
        {
            // Gone already if the file is, and then there is nothing to forget.
            let _ = watches.remove(file);
        }
    }

    fn enter_folder(&mut self, key: Key, real: &Path) {
        let folder = self.folders.entry(disk::folder_of(real).to_owned()).or_default();
        folder.databases.entry(real.file_name().unwrap_or_default().to_owned()).or_insert(key);
    }

    fn leave_folder(&mut self, key: Key, real: &Path) {
        let (name, file) = (disk::folder_of(real), real.file_name().unwrap_or_default());
        if let Some(folder) = self.folders.get_mut(name)
            && folder.databases.get(file) == Some(&key)
        {
            folder.databases.remove(file);
        }
        self.forget_folder_if_unused(name);
    }

    fn watch_folder_of(&mut self, key: Key, real: &Path) -> bool {
        let (name, file) = (disk::folder_of(real), real.file_name().unwrap_or_default());
        // Of two entries for one file, the folder's events go to one.
        let is_known = self
            .folders
            .get_mut(name)
            .is_some_and(|folder| *folder.databases.entry(file.to_owned()).or_insert(key) == key);
        is_known && self.watch_folder(name)
    }

    fn watch_folder(&mut self, name: &Path) -> bool {
        let (Some(watches), Some(folder)) = (&mut self.watches, self.folders.get_mut(name)) else {
            return false;
        };
        if folder.watch.is_none()
            && let Ok(watch) = watches.add(name, ENTRIES)
        {
            // Two names of one folder, as mounts may have: the events go to one.
            let known = self.folder_names.entry(watch.clone()).or_insert_with(|| name.to_owned());
            folder.watch = Some(watch).filter(|_| known == name);
        }
        folder.watch.is_some()
    }

    fn forget_folder_if_unused(&mut self, name: &Path) {
        let is_used = |folder: &Folder| !folder.databases.is_empty() || !folder.lookouts.is_empty();
        if self.folders.get(name).is_none_or(is_used) {
            return;
        }
        if let Some(watch) = self.folders.remove(name).and_then(|folder| folder.watch) {
            self.folder_names.remove(&watch);
            if let Some(watches) = &mut self.watches {
                let _ = watches.remove(watch);
            }
        }
    }
}

/// The name of the database that a file belongs to.
fn database_of(file: &OsStr) -> &OsStr {
    let name = file.to_str().unwrap_or_default();
    let suffix = disk::COMPANIONS.iter().find_map(|suffix| name.strip_suffix(suffix));
    suffix.filter(|name| !name.is_empty()).map_or(file, OsStr::new)
}

/// Entries that come, go or change their file. Writes to files are told by watches on these.
const ENTRIES: WatchMask =
    WatchMask::CREATE.union(WatchMask::DELETE).union(WatchMask::MOVED_TO).union(WatchMask::MOVED_FROM);
/// So many databases are looked at every second without thinking.
const POLLS_MIN: usize = 256;
/// So many seconds until everybody's turn has come.
const POLL_ROUNDS: usize = 60;
