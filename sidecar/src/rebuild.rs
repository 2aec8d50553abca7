//! Builds a database file out of LTX files, beside its place, and puts it there whole and verified.
//!
//! Until the very end nothing but an unfinished file of our own exists; whatever fails, it is removed and the target is
//! as it was.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lifeboat_ltx::{Checksum, Decoder, Header, PageChecksum, ReadError};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::{PageNo, PageSize};
use lifeboat_wire::Reason;
use rustix::fs::{Gid, Uid, fchown};
use tempfile::NamedTempFile;

use crate::disk;
use crate::exit::Failure;

/// What may happen to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the restore is refused.
    Never,
    /// It is replaced, once the new one is whole.
    Force,
}

/// A database being built.
#[derive(Debug)]
pub struct Rebuild {
    target: PathBuf,
    temp: NamedTempFile,
    last: Option<Header>,
    page_size: Option<PageSize>,
}

/// A file that could not be applied.
#[derive(Debug)]
pub enum ApplyError {
    /// The reader failed: the file may be fine.
    Read(io::Error),
    /// The file, or the chain, is not what it must be; or the disk refused.
    Failed(Failure),
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
    /// The checksum of every page, as recomputed from the file.
    pub sums: PageSums,
}

impl Rebuild {
    /// Begins beside `target`.
    ///
    /// # Errors
    /// Refused when the folder cannot be written.
    pub fn begin(target: &Path) -> Result<Self, Failure> {
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
        Ok(Self { target: target.to_owned(), temp, last: None, page_size: None })
    }

    /// Applies the next file of the plan.
    ///
    /// # Errors
    /// [`ApplyError`]; then this rebuild is of no use any more.
    pub fn apply(&mut self, entry: &FileEntry, reader: impl Read) -> Result<(), ApplyError> {
        let damaged = |error: ReadError| match error {
            ReadError::Read { source, .. } => ApplyError::Read(source),
            error @ (ReadError::Decode(_) | _) => ApplyError::Failed(Failure::damaged(
                Reason::IntegrityFailed,
                format!("{}: {error}", entry.key),
            )),
        };
        let mut decoder = Decoder::begin(reader).map_err(damaged)?;
        let header = decoder.header().clone();
        self.check(entry, &header).map_err(ApplyError::Failed)?;
        let size = u64::from(header.page_size.get());
        let mut has_pages = false;
        while let Some(page) = decoder.next_page().map_err(damaged)? {
            has_pages = true;
            let place = u64::from(page.no.get() - 1) * size;
            self.temp.as_file().write_all_at(page.image, place).map_err(|error| self.disk_failed(&error))?;
        }
        decoder.finish().map_err(damaged)?;
        if has_pages {
            self.page_size = Some(header.page_size);
        }
        if self.page_size.is_some() {
            let bytes = u64::from(header.commit.get()) * size;
            self.temp.as_file().set_len(bytes).map_err(|error| self.disk_failed(&error))?;
        }
        self.last = Some(header);
        Ok(())
    }

    fn check(&self, entry: &FileEntry, header: &Header) -> Result<(), Failure> {
        let damaged =
            |what: &str| Err(Failure::damaged(Reason::IntegrityFailed, format!("{}: {what}", entry.key)));
        if (header.min_txid, header.max_txid) != (entry.min, entry.max) {
            return damaged("its name and its header differ: it is another file than it says");
        }
        if self.page_size.is_some_and(|size| size != header.page_size) {
            return damaged("its page size differs from the files before it");
        }
        let Some(last) = &self.last else { return Ok(()) };
        let is_next = last.max_txid.next() == Some(header.min_txid);
        match (last.mark, header.mark) {
            (Some(before), Some(after)) if is_next && before.post_apply != after.pre_apply => {
                damaged("it does not continue the file before it: their database checksums differ")
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Verifies the whole and puts it in place.
    ///
    /// # Errors
    /// Damaged when the file is not what the last file's mark says; refused when the target exists and may not be
    /// replaced, or the disk refuses.
    pub fn finish(self, overwrite: Overwrite) -> Result<Rebuilt, Failure> {
        let bytes = self.temp.as_file().metadata().map_err(|error| self.write_failed(&error))?.len();
        let (page_size, checksum, sums) = self.verify()?;
        let replaced = disk_metadata(&self.target)?;
        if replaced.is_some() && overwrite == Overwrite::Never {
            return Err(target_exists(&self.target));
        }
        self.take_owner(replaced.as_ref()).map_err(|error| self.write_failed(&error))?;
        self.temp.as_file().sync_all().map_err(|error| self.write_failed(&error))?;
        let target = self.target.clone();
        remove_stale(&target)?;
        let persisted = match overwrite {
            Overwrite::Never => self.temp.persist_noclobber(&target),
            Overwrite::Force => self.temp.persist(&target),
        };
        persisted.map_err(|error| {
            let is_taken = error.error.kind() == io::ErrorKind::AlreadyExists;
            if is_taken { target_exists(&target) } else { unwritable(&target, &error.error.to_string()) }
        })?;
        disk::sync_folder(disk::folder_of(&target))
            .map_err(|error| unwritable(&target, &error.to_string()))?;
        Ok(Rebuilt { bytes, checksum, page_size, sums })
    }

    /// Reads the file back: what counts is what the disk holds, not what was sent to it.
    fn verify(&self) -> Result<(PageSize, Checksum, PageSums), Failure> {
        let (Some(last), Some(page_size)) = (&self.last, self.page_size) else {
            return Err(Failure::bug("a database was finished before any page of it came"));
        };
        let file = self.temp.as_file();
        let sums = sums_of(file, page_size).map_err(|error| self.write_failed(&error))?;
        let found = sums.checksum().unwrap_or(Checksum::EMPTY);
        match last.mark.map(|mark| mark.post_apply) {
            Some(expected) if expected != found => Err(Failure::damaged(
                Reason::IntegrityFailed,
                format!(
                    "the restored database has the checksum {found}, but the replica says {expected} at txid {}; \
                     nothing was written",
                    last.max_txid
                ),
            )),
            Some(_) | None => Ok((page_size, found, sums)),
        }
    }

    /// The file becomes as accessible as the one it replaces; a new one as its folder is, but never writable for all.
    fn take_owner(&self, replaced: Option<&Metadata>) -> io::Result<()> {
        let folder = std::fs::metadata(disk::folder_of(&self.target))?;
        let (model, mode) = match replaced {
            Some(replaced) => (replaced, replaced.mode() & 0o777),
            None if folder.mode() & OPEN_TO_ALL != 0 => (&folder, 0o600),
            None => (&folder, 0o600 | (folder.mode() & 0o064)),
        };
        let file = self.temp.as_file();
        file.set_permissions(Permissions::from_mode(mode))?;
        let now = file.metadata()?;
        if rustix::process::geteuid().is_root() && (now.uid(), now.gid()) != (model.uid(), model.gid()) {
            fchown(file, Some(Uid::from_raw(model.uid())), Some(Gid::from_raw(model.gid())))?;
        }
        Ok(())
    }

    fn disk_failed(&self, error: &io::Error) -> ApplyError {
        ApplyError::Failed(self.write_failed(error))
    }

    fn write_failed(&self, error: &io::Error) -> Failure {
        unwritable(&self.target, &error.to_string())
    }
}

/// The refusal of a restore whose target is in the way.
#[must_use]
pub fn target_exists(target: &Path) -> Failure {
    Failure::refused(
        Reason::TargetExists,
        format!("{} exists; choose another with -o, or replace it with --force", target.display()),
    )
}

/// The checksums of the pages of a closed database file, without its WAL.
fn sums_of(file: &File, page_size: PageSize) -> io::Result<PageSums> {
    let mut reader = BufReader::with_capacity(READ_BUFFER, file.try_clone()?);
    io::Seek::rewind(&mut reader)?;
    let (mut image, mut sums) = (vec![0; page_size.get() as usize], Vec::new());
    let mut page = Some(PageNo::FIRST);
    while let Some(no) = page {
        match reader.read_exact(&mut image) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            done => done?,
        }
        let is_lock_page = no == page_size.lock_page();
        sums.push(if is_lock_page { PageChecksum::from_bits(0) } else { PageChecksum::of(no, &image) });
        page = no.next();
    }
    Ok(PageSums::known(sums))
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

fn unwritable(path: &Path, why: &str) -> Failure {
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

/// A sticky folder, or one that everybody may write to, says nothing about who should read what is in it.
const OPEN_TO_ALL: u32 = 0o1002;
const READ_BUFFER: usize = 1024 * 1024;
