//! What can be learned about a database file without opening it.
//!
//! *Invariant:* nothing here opens the database. POSIX drops all locks of a process on a file, SQLite's included, when the
//! process closes any descriptor of it; so only SQLite's own connections may hold one.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_replica::page_log::FileStamp;

use super::DatabaseError;

/// Which file a path leads to, whatever the file is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The file at the path now, or `None` when there is none.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self { device: found.dev(), inode: found.ino() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What changes about a file that is written to, as it is now.
pub(super) fn stamp(path: &Path) -> io::Result<FileStamp> {
    look(path).map(|(_, stamp)| stamp)
}

/// Which file the path leads to, and what changes about it: one look at both.
pub(super) fn look(path: &Path) -> io::Result<(FileIdentity, FileStamp)> {
    let found = fs::metadata(path)?;
    let nanos = u32::try_from(found.mtime_nsec()).unwrap_or_default();
    let stamp = FileStamp { bytes: found.len(), modified: (found.mtime(), nanos) };
    Ok((FileIdentity { device: found.dev(), inode: found.ino() }, stamp))
}

/// For how long the file with this stamp was not written to; `None` where its time is in the future.
pub(super) fn age(stamp: FileStamp, now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    let (seconds, nanos) = stamp.modified;
    now.checked_sub(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Refuses a file that is shorter than what it must hold.
pub(super) fn require_length(path: &Path, expected: u64) -> Result<(), DatabaseError> {
    let found = match stamp(path) {
        // Nobody can cut a file that has no name any more; whoever has it open still reads all of it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| DatabaseError::io(path, "look at", error))?.bytes,
    };
    if found < expected {
        return Err(DatabaseError::Truncated { path: path.to_owned(), found, expected });
    }
    Ok(())
}

/// Looks whether there is a file worth opening, on a file system that can share memory between processes.
pub(super) fn require_database_file(path: &Path) -> Result<FileIdentity, DatabaseError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(DatabaseError::Absent { path: path.to_owned() });
        }
        found => found.map_err(|error| DatabaseError::io(path, "look at", error))?,
    };
    if !found.is_file() {
        return Err(DatabaseError::NotADatabase { path: path.to_owned() });
    }
    if found.len() == 0 {
        return Err(DatabaseError::Empty { path: path.to_owned() });
    }
    let statistics = rustix::fs::statfs(path)
        .map_err(|error| DatabaseError::io(path, "look at the file system of", error.into()))?;
    if let Some(file_system) = incoherent(i128::from(statistics.f_type)) {
        return Err(DatabaseError::UnsupportedFilesystem { path: path.to_owned(), file_system });
    }
    Ok(FileIdentity { device: found.dev(), inode: found.ino() })
}

/// The name of the file system of `path`, where another machine may have it mounted too and both may be told that they
/// created one file.
pub(crate) fn network_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    let name = incoherent(i128::from(rustix::fs::statfs(path)?.f_type));
    Ok(name.filter(|name| NOT_EXCLUSIVE.contains(name)))
}

/// The name of a file system on which memory mapped by two machines or servers is not the same memory.
fn incoherent(magic: i128) -> Option<&'static str> {
    // The kernel's number is 32 bits wide, but some machines widen it with the sign.
    let magic = magic & 0xffff_ffff;
    INCOHERENT.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Numbers from Linux, `include/uapi/linux/magic.h` and the file systems' own headers.
const INCOHERENT: [(i128, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
];

const NOT_EXCLUSIVE: [&str; 4] = ["NFS", "SMB", "CIFS", "SMB2"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_also_by_a_number_with_a_sign() {
        assert_eq!(incoherent(0x6969), Some("NFS"));
        assert_eq!(incoherent(i128::from(0xff53_4d42_u32.cast_signed())), Some("CIFS"));
        assert_eq!(incoherent(0xef53), None, "ext4");
        assert_eq!(incoherent(0x0102_1994), None, "tmpfs");
    }

    #[test]
    fn every_file_system_that_holds_no_replica_has_a_number() {
        assert!(NOT_EXCLUSIVE.iter().all(|name| INCOHERENT.iter().any(|(_, known)| known == name)));
        assert_eq!(network_file_system(Path::new("/")).unwrap(), None);
    }

    #[test]
    fn a_folder_is_no_database_and_a_missing_or_empty_file_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        assert!(matches!(require_database_file(&path), Err(DatabaseError::Absent { .. })));
        fs::write(&path, "").unwrap();
        assert!(matches!(require_database_file(&path), Err(DatabaseError::Empty { .. })));
        fs::write(&path, "x").unwrap();
        assert_eq!(require_database_file(&path).unwrap(), FileIdentity::of(&path).unwrap().unwrap());
        assert!(matches!(require_database_file(folder.path()), Err(DatabaseError::NotADatabase { .. })));
    }
}
