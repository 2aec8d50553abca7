//! What we leave beside a database: the folder `.<name>-lifeboat`, with a lock, a record and perhaps the mark `fenced`.
//! Nothing of ours is ever inside the database.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat_replica::adoption::{Chain, Record};
use lifeboat_replica::fork::FencedMark;
use lifeboat_replica::promise::Promise;
use rustix::fs::{FlockOperation, flock};

use crate::board::Post;
use crate::bucket::Bucket;
use crate::exit::Failure;
use crate::first_view::Expected;
use crate::retry::Trying;
use crate::{disk, page_log_file, pod};
use lifeboat_wire::Reason;

/// The folder beside one database.
#[derive(Clone, Debug)]
pub struct Marks {
    folder: PathBuf,
}

/// The exclusive right of this process to replicate or restore the database on this machine; ends with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Marks {
    /// The folder beside `database`. Nothing is created yet.
    #[must_use]
    pub fn beside(database: &Path) -> Self {
        // Two paths to one database are one database.
        let database = &disk::real(database);
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        Self { folder: disk::folder_of(database).join(format!(".{name}-lifeboat")) }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the lock, waiting at most `patience` for another process to end. Two processes on one volume would fence
    /// each other.
    ///
    /// # Errors
    /// Refused when the lock is held for longer, or the folder cannot be written.
    pub async fn lock(&self, patience: Duration) -> Result<Lock, Failure> {
        let path = self.folder.join("lock");
        let file = self.open_lock(&path).map_err(|error| self.unwritable(&error))?;
        let give_up = Instant::now() + patience;
        let mut is_said = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::info!(
                            "another lifeboat process holds {}; waiting for it to end",
                            path.display()
                        );
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Failure::refused(
                        Reason::LockHeld,
                        format!("another lifeboat process holds {}; stop it first", path.display()),
                    ));
                }
                Err(error) => return Err(self.unwritable(&error.into())),
            }
        }
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        // In a pod the application's folder may not be there at the first start. Elsewhere a missing one is a typing error.
        if pod::is_pod() {
            std::fs::create_dir_all(disk::folder_of(&self.folder))?;
        }
        match DirBuilder::new().mode(0o770).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o660).open(path)
    }

    /// Our record of the last stored slot; `None` where there is none, or none that can be understood: without it a
    /// database needs better proof, never less.
    ///
    /// # Errors
    /// Refused when the folder cannot be read.
    pub fn record(&self) -> Result<Option<Record>, Failure> {
        let bytes =
            disk::read_if_exists(&self.folder.join(RECORD)).map_err(|error| self.unwritable(&error))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// What is known to have been stored in this replica: what the record says, or else that whoever started us `expects_data`
    /// there; `None` where nobody knows of anything.
    ///
    /// # Errors
    /// Refused when the folder cannot be read.
    pub fn promise(&self, bucket: &Bucket, expects_data: bool) -> Result<Option<Promise>, Failure> {
        let place = bucket.to_string();
        if expects_data {
            return Ok(Some(Promise::told(&place)));
        }
        Ok(Promise::recorded(self.record()?.as_ref(), &place))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// Refused when the folder cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(record).map_err(|error| Failure::bug(error.to_string()))?;
        let path = self.folder.join(RECORD);
        let written = match disk::replace(&path, &json) {
            // A mixture is one that cannot be understood.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => disk::overwrite(&path, &json),
            written => written,
        };
        written.map_err(|error| self.unwritable(&error))
    }

    /// Takes the record away: nothing is known of what was stored.
    ///
    /// # Errors
    /// Refused when the folder cannot be written.
    pub fn remove_record(&self) -> Result<(), Failure> {
        self.remove(RECORD)
    }

    /// Gives the folder, and what is in it, to whom the database belongs: where root restores, another user replicates.
    ///
    /// # Errors
    /// Refused when the folder cannot be read, or given away.
    pub fn give_to_owner_of(&self, database: &Path) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let give = || -> io::Result<()> {
            let owner = std::fs::metadata(database)?;
            let give = |path: &Path| lchown(path, Some(owner.uid()), Some(owner.gid()));
            give(&self.folder)?;
            std::fs::read_dir(&self.folder)?.try_for_each(|entry| give(&entry?.path()))
        };
        give().map_err(|error| self.unwritable(&error))
    }

    /// What the database is expected to hold, after what the bucket holds and our page log says.
    #[must_use]
    pub fn expected(&self, chain: &Chain) -> Expected {
        let known =
            |checksum| page_log_file::find(&self.folder, &chain.lineage, chain.newest_pages, checksum);
        match chain.checksum.filter(|_| chain.holds_pages).and_then(known) {
            Some(known) => Expected::State(Box::new(known)),
            None if chain.holds_pages => Expected::Something,
            None => Expected::Nothing,
        }
    }

    /// Writes the record of a slot that is stored, however long that takes.
    ///
    /// Without it the next start would have to ask a human, so the next slot waits. What keeps it from being written, above
    /// all a full disk, keeps the application from writing too.
    pub async fn write_record_at_last(&self, record: &Record, post: &Post) {
        let mut trying = Trying::forever();
        while let Err(failure) = self.write_record(record) {
            post.troubled(&failure);
            // It has no limit, so it only waits.
            let _ = trying.again(failure).await;
        }
        trying.worked();
    }

    /// What a fenced writer left here; `None` where there is nothing.
    ///
    /// # Errors
    /// Refused when it cannot be read or understood: it is not absent then.
    pub fn fenced(&self) -> Result<Option<FencedMark>, Failure> {
        let path = self.folder.join(FENCED);
        let bytes = disk::read_if_exists(&path).map_err(|error| self.unwritable(&error))?;
        let wrong = |error: serde_json::Error| {
            let what = format!("{}: {error}; delete it to let this pod claim the replica", path.display());
            Failure::refused(Reason::SealedByNewerEpoch, what)
        };
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(wrong)).transpose()
    }

    /// Refuses to claim where this very pod lost the replica before: two restart loops would duel for ever.
    ///
    /// # Errors
    /// Fenced; refused when the mark cannot be read.
    pub fn require_not_fenced(&self) -> Result<(), Failure> {
        let Some(mark) = self.fenced()? else { return Ok(()) };
        if mark.forbids(&pod::new_owner()?.pod_uid) {
            return Err(Failure::fenced(format!(
                "this pod lost the replica before, and does not take it back by itself: {}",
                mark.message
            )));
        }
        Ok(())
    }

    /// Leaves the mark of a fenced writer.
    ///
    /// # Errors
    /// Refused when the folder cannot be written.
    pub fn write_fenced(&self, mark: &FencedMark) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(mark).map_err(|error| Failure::bug(error.to_string()))?;
        disk::replace(&self.folder.join(FENCED), &json).map_err(|error| self.unwritable(&error))
    }

    /// Takes that mark away: this process has the replica.
    ///
    /// # Errors
    /// Refused when the folder cannot be written.
    pub fn remove_fenced(&self) -> Result<(), Failure> {
        self.remove(FENCED)
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        match std::fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn unwritable(&self, error: &io::Error) -> Failure {
        let folder = self.folder.display();
        if error.kind() == io::ErrorKind::StorageFull {
            let reason = Reason::DatabaseUnreadable;
            return Failure { reason, ..Failure::unavailable(format!("{folder}: {error}; make room")) };
        }
        Failure::refused(
            Reason::DatabaseUnreadable,
            format!("{folder}: {error}; the folder of the database must exist and be writable"),
        )
    }
}

const FENCED: &str = "fenced.json";
const RECORD: &str = "record.json";

/// Names the present boot of this machine.
///
/// # Errors
/// A bug where the kernel does not tell.
pub fn boot_id() -> Result<String, Failure> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .map_err(|error| Failure::bug(format!("/proc/sys/kernel/random/boot_id: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_processes_cannot_hold_one_database() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::beside(&folder.path().join("a.db"));
        let lock = marks.lock(Duration::ZERO).await.unwrap();
        let refused = marks.lock(Duration::from_millis(60)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::LockHeld);
        drop(lock);
        marks.lock(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_understood_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::beside(&folder.path().join("a.db"));
        let _lock = marks.lock(Duration::ZERO).await.unwrap();
        assert_eq!(marks.record().unwrap(), None);
        std::fs::write(marks.folder().join("record.json"), b"{\"lineage\":").unwrap();
        assert_eq!(marks.record().unwrap(), None);
    }
}
