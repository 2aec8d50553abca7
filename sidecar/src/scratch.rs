//! A temporary folder that does not stay for long when its process is killed: the next one removes it.
//!
//! Who uses a folder holds a lock on it, which ends with the process. So one that can be locked is nobody's any more; but for the
//! moment between its creation and its lock, after which its owner looks whether it is still there.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use tempfile::TempDir;

use crate::exit::Failure;
use crate::rebuild::unwritable;

/// A folder of this process alone. It goes with everything in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// `None` where the file system knows no locks. Nobody removes anything there but its owner.
    _lock: Option<OwnedFd>,
}

impl Scratch {
    /// Creates one in `$TMPDIR`, and removes those that killed processes of this user left there.
    ///
    /// # Errors
    /// Refused when nothing can be created there.
    pub fn create() -> Result<Self, Failure> {
        Self::create_in(&std::env::temp_dir())
    }

    fn create_in(parent: &Path) -> Result<Self, Failure> {
        sweep(parent);
        loop {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
            let folder = folder.map_err(|error| unwritable(parent, &error.to_string()))?;
            match take(folder.path()) {
                Ok(Some(lock)) => return Ok(Self { folder, _lock: Some(lock) }),
                // Somebody took it for a leftover, a moment too early.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(
                        "{}: {error}; left behind if this process is killed",
                        folder.path().display()
                    );
                    return Ok(Self { folder, _lock: None });
                }
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes every folder that nobody uses. What cannot be removed is in nobody's way.
fn sweep(parent: &Path) {
    let ours = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_scratch || !entry.metadata().is_ok_and(|found| found.uid() == ours) {
            continue;
        }
        let Ok(Some(_lock)) = take(&entry.path()) else { continue };
        match std::fs::remove_dir_all(entry.path()) {
            Ok(()) => tracing::info!("removed {}, which a killed process left", entry.path().display()),
            Err(error) => tracing::warn!("{}: {error}", entry.path().display()),
        }
    }
}

/// Locks a folder; `None` where another process has it, or has just removed it.
fn take(folder: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = match open(folder, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let locked = fstat(&lock)?;
    let is_there = std::fs::symlink_metadata(folder)
        .is_ok_and(|now| (now.dev(), now.ino()) == (locked.st_dev, locked.st_ino));
    Ok(is_there.then_some(lock))
}

const PREFIX: &str = "lifeboat-scratch-";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_folder_goes_with_its_process_and_one_that_was_left_goes_with_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("restored.db"), b"rows").unwrap();
        std::fs::create_dir(parent.path().join("somebody-elses")).unwrap();
        let ours = Scratch::create_in(parent.path()).unwrap();
        assert!(!left.exists() && ours.path().is_dir());
        drop(ours);
        assert_eq!(names(parent.path()), ["somebody-elses"]);
    }

    #[test]
    fn a_folder_that_is_in_use_is_never_removed() {
        let parent = tempfile::tempdir().unwrap();
        let first = Scratch::create_in(parent.path()).unwrap();
        std::fs::write(first.path().join("restored.db"), b"rows").unwrap();
        let second = Scratch::create_in(parent.path()).unwrap();
        assert!(first.path().join("restored.db").exists() && second.path() != first.path());
    }

    #[test]
    fn whoever_locks_a_folder_that_is_gone_or_another_by_now_has_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a");
        assert!(take(&folder).unwrap().is_none());
        std::fs::create_dir(&folder).unwrap();
        let lock = take(&folder).unwrap();
        assert!(lock.is_some() && take(&folder).unwrap().is_none());
        drop(lock);
        std::os::unix::fs::symlink(&folder, parent.path().join("link")).unwrap();
        take(&parent.path().join("link")).unwrap_err();
    }
}
