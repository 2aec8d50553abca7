//! Small files that are whole or not there, what tells one file from another, and what lies beside a database.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Puts `bytes` at `path`, whole or not at all. Nothing is synced: what is written here is of use in this boot only.
///
/// # Errors
/// Whatever the file system says; then the old content stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Puts `bytes` into a file that exists, in its place, which needs no room on a full disk. Who is killed meanwhile may
/// leave a mixture of old and new.
///
/// # Errors
/// Whatever the file system says.
pub fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

/// Makes renames and creations in a folder durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder a file is in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Where a path leads, links followed, as far as it leads anywhere.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// How the names of the files end that SQLite keeps beside a database.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The file beside a database whose name ends so.
#[must_use]
pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Reads a file, `None` where it is proved absent.
///
/// # Errors
/// Every other reason than absence.
pub fn read_if_exists(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is proved that nothing is there. What cannot be looked at is not absent.
#[must_use]
pub fn is_absent(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

/// How many bytes whoever is not root may still write to the file system of a path; `None` where it does not say.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    total_and_free_bytes(path).map(|(_, free)| free)
}

/// The size of the file system of a path, and what of it is [free](free_bytes).
#[must_use]
pub fn total_and_free_bytes(path: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_blocks), bytes(found.f_bavail)))
}

/// The processes besides this one that have a file open, as far as this one may see that: root sees all of this machine, others
/// their own.
#[must_use]
pub fn users(path: &Path) -> Vec<u32> {
    let Ok(wanted) = std::fs::metadata(path) else { return Vec::new() };
    let is_it = |found: std::fs::Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let has_it = |process: &u32| {
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        open.filter_map(|file| std::fs::metadata(file.path()).ok()).any(is_it)
    };
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|process| *process != std::process::id()).filter(has_it).collect()
}

/// Device, inode and birth of a file, without opening it: who closes a descriptor of a database drops every lock that
/// the process holds on it. `None` where it is proved absent; empty where the file system keeps no birth, because inodes
/// are used again.
///
/// # Errors
/// Every other reason than absence.
pub fn file_id(path: &Path) -> io::Result<Option<String>> {
    match std::fs::metadata(path) {
        Ok(found) => {
            let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let id = |born: std::time::Duration| {
                format!("{:x}:{:x}:{:x}", found.dev(), found.ino(), born.as_nanos())
            };
            Ok(Some(born.map(id).unwrap_or_default()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_if_exists(&path).unwrap().unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(is_absent(&path));
        std::os::unix::fs::symlink("a", &path).unwrap();
        assert!(!is_absent(&path), "a link to itself leads nowhere, and nobody knows what was meant");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"one").unwrap();
        assert!(!is_absent(&path));
    }

    #[test]
    fn there_is_some_room_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let free = free_bytes(folder.path()).unwrap();
        assert!((1 << 20..1 << 60).contains(&free), "{free}");
        assert_eq!(free_bytes(&folder.path().join("nothing")), None);
    }

    #[test]
    fn a_new_file_under_an_old_name_has_another_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(file_id(&path).unwrap(), None);
        std::fs::write(&path, b"one").unwrap();
        let first = file_id(&path).unwrap();
        std::fs::write(&path, b"changed").unwrap();
        assert_eq!(file_id(&path).unwrap(), first);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"one").unwrap();
        assert_ne!(file_id(&path).unwrap(), first);
    }
}
