//! Builds a database file out of LTX files, beside its place, and puts it there whole and verified.
//!
//! Until the very end nothing but an unfinished file of our own exists; whatever fails, it is removed and the target is
//! as it was.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_ltx::{Checksum, Header};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::{PageCount, PageNo, PageSize};
use lifeboat_wire::Reason;
use rustix::fs::{FallocateFlags, Gid, Uid, fallocate, fchown};
use tempfile::NamedTempFile;

use crate::args::IntegrityCheck;
use crate::database::check;
use crate::disk;
use crate::exit::Failure;
use crate::local::{Copier, Local, rolling_checksum};
use crate::page_writer::{PageFile, PageWriter};

/// What may happen to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the restore is refused.
    Never,
    /// It is replaced, once the new one is whole.
    Force,
}

/// Whether the checksum of every page is kept: eight bytes for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepSums {
    /// For whoever goes on with the database.
    Yes,
    /// The same, as long as they take little memory.
    IfFew,
    /// Only the checksum of the whole.
    No,
}

impl KeepSums {
    /// Whether they are kept of a database with so many pages.
    const fn is_meant(self, pages: PageCount) -> bool {
        match self {
            Self::Yes => true,
            Self::IfFew => pages.get() <= FEW_PAGES,
            Self::No => false,
        }
    }
}

/// How a database is put in its place.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// What may happen to a file that is there.
    pub overwrite: Overwrite,
    /// What SQLite must say of it.
    pub integrity: IntegrityCheck,
    /// What is wanted of it besides.
    pub sums: KeepSums,
}

/// A database being built.
#[derive(Debug)]
pub struct Rebuild {
    target: PathBuf,
    temp: NamedTempFile,
    built: Arc<PageFile>,
    page_size: PageSize,
}

/// A database that is at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its size in bytes.
    pub bytes: u64,
    /// The rolling checksum of the whole, as recomputed from the file.
    pub checksum: Checksum,
    /// Size of every page.
    pub page_size: PageSize,
    /// The checksum of every page, as recomputed from the file, where they were to be kept.
    pub sums: Option<PageSums>,
    /// Device, inode and birth of the file.
    pub file_id: String,
}

impl Rebuild {
    /// Begins beside `target` the database that it is after the file with this header.
    ///
    /// # Errors
    /// Refused when the folder cannot be written, or has no room.
    pub fn begin(target: &Path, newest: &Header) -> Result<Self, Failure> {
        // Through a link the file it leads to is meant, and the WAL beside that.
        let target = &disk::real(target);
        let folder = disk::folder_of(target);
        let temp = tempfile::Builder::new().prefix(&temp_prefix(target)).tempfile_in(folder);
        let temp = temp.map_err(|error| {
            unwritable(
                target,
                &format!("{}: {error}; its folder must exist and be writable", folder.display()),
            )
        })?;
        let bytes = u64::from(newest.commit.get()) * u64::from(newest.page_size.get());
        let file = reserve(temp.as_file(), bytes).map_err(|error| unwritable(target, &error.to_string()))?;
        Ok(Self {
            target: target.to_owned(),
            temp,
            built: Arc::new(PageFile::new(file)),
            page_size: newest.page_size,
        })
    }

    /// A writer for one thread.
    #[must_use]
    pub fn writer(&self) -> TargetWriter {
        let pages = PageWriter::new(Arc::clone(&self.built), self.page_size);
        TargetWriter { pages, page_size: self.page_size, target: self.target.clone() }
    }

    /// Gives the database its size, where that was not known at the beginning.
    ///
    /// # Errors
    /// Refused when the disk refuses.
    pub fn resize(&self, commit: PageCount) -> Result<(), Failure> {
        let bytes = u64::from(commit.get()) * u64::from(self.page_size.get());
        self.built.file.set_len(bytes).map_err(|error| unwritable(&self.target, &error.to_string()))
    }

    /// Something that takes pages over from an older state of the database.
    #[must_use]
    pub fn copier(&self, local: &Local) -> Copier {
        local.copier(Arc::clone(&self.built), self.target.clone())
    }

    /// Verifies the whole and puts it in place. If it is wrong, one of the files with the keys `suspects` may be to blame.
    ///
    /// # Errors
    /// Damaged when the file is not what the mark of the newest file says, or SQLite finds it damaged; refused when the
    /// target exists and may not be replaced, or the disk refuses.
    pub fn finish(self, newest: &Header, how: &Finish, suspects: Vec<String>) -> Result<Rebuilt, Failure> {
        let failed = |error: io::Error| unwritable(&self.target, &error.to_string());
        let bytes = self.built.file.metadata().map_err(failed)?.len();
        // The disk works while the checksums are computed.
        let (verified, synced) = std::thread::scope(|scope| {
            let syncing = scope.spawn(|| self.built.file.sync_all());
            (self.verify(newest, how.sums), syncing.join())
        });
        let (checksum, sums) = verified.map_err(|failure| failure.suspecting(suspects))?;
        synced.map_err(|_| Failure::bug("the thread that syncs panicked"))?.map_err(failed)?;
        check::integrity(self.temp.path(), how.integrity)?;
        let replaced = disk_metadata(&self.target)?;
        if replaced.is_some() && how.overwrite == Overwrite::Never {
            return Err(target_exists(&self.target));
        }
        take_owner(self.temp.as_file(), &self.target, replaced.as_ref()).map_err(failed)?;
        self.built.file.sync_all().map_err(failed)?;
        // It keeps them when it gets its name, under which others may put another file at once.
        let file_id = disk::file_id(self.temp.path()).map_err(failed)?.unwrap_or_default();
        let target = self.target;
        remove_stale(&target)?;
        let persisted = match how.overwrite {
            Overwrite::Never => self.temp.persist_noclobber(&target),
            Overwrite::Force => self.temp.persist(&target),
        };
        persisted.map_err(|error| {
            let is_taken = error.error.kind() == io::ErrorKind::AlreadyExists;
            if is_taken { target_exists(&target) } else { unwritable(&target, &error.error.to_string()) }
        })?;
        disk::sync_folder(disk::folder_of(&target))
            .map_err(|error| unwritable(&target, &error.to_string()))?;
        Ok(Rebuilt { bytes, checksum, page_size: self.page_size, sums, file_id })
    }

    /// Reads the file back: what counts is what the disk holds, not what was sent to it.
    fn verify(&self, newest: &Header, keep: KeepSums) -> Result<(Checksum, Option<PageSums>), Failure> {
        let (mut kept, is_kept) = (Vec::new(), keep.is_meant(newest.commit));
        let found = rolling_checksum(&self.built.file, self.page_size, |sum| {
            if is_kept {
                kept.push(sum);
            }
        });
        let found = found.map_err(|error| unwritable(&self.target, &error.to_string()))?;
        match newest.mark.map(|mark| mark.post_apply) {
            Some(expected) if expected != found => Err(Failure::damaged(
                Reason::IntegrityFailed,
                format!(
                    "the restored database has the checksum {found}, but the replica says {expected} at txid {}; \
                     nothing was written",
                    newest.max_txid
                ),
            )),
            Some(_) | None => Ok((found, is_kept.then(|| PageSums::known(kept)))),
        }
    }
}

/// The file becomes as accessible as the one it replaces; a new one as its folder is, but never writable for all.
fn take_owner(file: &File, target: &Path, replaced: Option<&Metadata>) -> io::Result<()> {
    let folder = std::fs::metadata(disk::folder_of(target))?;
    let (model, mode) = match replaced {
        Some(replaced) => (replaced, replaced.mode() & 0o777),
        None if folder.mode() & OPEN_TO_ALL != 0 => (&folder, 0o600),
        None => (&folder, 0o600 | (folder.mode() & 0o064)),
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    let now = file.metadata()?;
    if rustix::process::geteuid().is_root() && (now.uid(), now.gid()) != (model.uid(), model.gid()) {
        fchown(file, Some(Uid::from_raw(model.uid())), Some(Gid::from_raw(model.gid())))?;
    }
    Ok(())
}

/// Puts a finished database of the same file system in the place of another one, whose WAL must be empty.
///
/// # Errors
/// Refused when the disk refuses.
pub(crate) fn put_in_place(finished: &Path, target: &Path) -> Result<(), Failure> {
    let target = &disk::real(target);
    let failed = |error: io::Error| unwritable(target, &error.to_string());
    let file = File::open(finished).map_err(failed)?;
    take_owner(&file, target, disk_metadata(target)?.as_ref()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    remove_stale(target)?;
    std::fs::rename(finished, target).map_err(failed)?;
    disk::sync_folder(disk::folder_of(target)).map_err(failed)
}

/// Puts pages at their places, and says of the target what the disk refuses.
#[derive(Debug)]
pub struct TargetWriter {
    pages: PageWriter,
    page_size: PageSize,
    target: PathBuf,
}

impl TargetWriter {
    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Writes one page, or keeps it until the next that does not follow it.
    ///
    /// # Errors
    /// Refused when the disk refuses.
    pub fn put(&mut self, page: PageNo, image: &[u8]) -> Result<(), Failure> {
        self.pages.put(page, image).map_err(|error| unwritable(&self.target, &error.to_string()))
    }

    /// Writes what was kept.
    ///
    /// # Errors
    /// Refused when the disk refuses.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.pages.flush().map_err(|error| unwritable(&self.target, &error.to_string()))
    }
}

/// Gives a new file its size, and the room for it where the file system can: a full disk is found out before anything is
/// fetched.
fn reserve(file: &File, bytes: u64) -> io::Result<File> {
    file.set_len(bytes)?;
    if bytes > 0
        && let Err(error) = fallocate(file, FallocateFlags::empty(), 0, bytes)
        && error == rustix::io::Errno::NOSPC
    {
        return Err(error.into());
    }
    file.try_clone()
}

/// The refusal of a restore whose target is in the way.
#[must_use]
pub fn target_exists(target: &Path) -> Failure {
    Failure::refused(
        Reason::TargetExists,
        format!("{} exists; choose another with -o, or replace it with --force", target.display()),
    )
}

/// SQLite would play a WAL that belongs to another file into the restored one.
fn remove_stale(target: &Path) -> Result<(), Failure> {
    for suffix in disk::COMPANIONS {
        let path = disk::beside(target, suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(&path, &error.to_string()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn disk_metadata(path: &Path) -> Result<Option<Metadata>, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unwritable(path, &error.to_string())),
    }
}

/// The refusal of a restore whose place cannot be written.
pub(crate) fn unwritable(path: &Path, why: &str) -> Failure {
    Failure::refused(Reason::DatabaseUnreadable, format!("cannot write {}: {why}", path.display()))
}

/// Removes what restores to `target` left behind that were killed. Only for whoever holds the database's lock.
pub fn remove_leftovers(target: &Path) {
    let prefix = temp_prefix(target);
    for entry in std::fs::read_dir(disk::folder_of(target)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!("{}: {error}", entry.path().display());
        }
    }
}

fn temp_prefix(target: &Path) -> String {
    format!(".{}-restore-", target.file_name().unwrap_or_default().to_string_lossy())
}

/// The most pages of which a restore keeps the checksums that only may be of use: 8 MiB of them, and a database of 4 GiB.
const FEW_PAGES: u32 = 1 << 20;
/// A sticky folder, or one that everybody may write to, says nothing about who should read what is in it.
const OPEN_TO_ALL: u32 = 0o1002;
