//! The file operations of a [`super::Directory`]. They wait for the disk.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::Trouble;
use super::etag;
use crate::store::{Body, ETag, Listed, Object};

pub(super) fn check_root(root: &Path) -> Result<(), Trouble> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Trouble::NoFolder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble::RootAbsent),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Trouble::NoFolder),
        Err(error) => Err(error.into()),
    }
}

/// Creates a folder and those above it, each durable before the next.
pub(super) fn create_folder(folder: &Path) -> Result<(), Trouble> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_folder(above)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            return Err(Trouble::NoFolder);
        }
        Err(error) => return Err(error.into()),
    }
    sync_folder(above.unwrap_or_else(|| Path::new(".")))
}

pub(super) fn put_new(
    root: &Path,
    key: &str,
    body: &Body,
    timestamp_ms: Option<i64>,
) -> Result<ETag, Trouble> {
    let path = path_of(root, key)?;
    let folder = folder_of(root, &path)?;
    create_folder(folder)?;
    if path.symlink_metadata().is_ok() {
        sync_folder(folder)?;
        return Err(Trouble::Exists);
    }
    let temporary = write_temporary(folder, body)?;
    if let Some(time) = timestamp_ms.and_then(system_time) {
        temporary.as_file().set_times(FileTimes::new().set_modified(time))?;
    }
    temporary.as_file().sync_all()?;
    let placed = temporary.persist_noclobber(&path);
    // Also when the name is taken: the caller will rely on what is there.
    sync_folder(folder)?;
    match placed {
        Ok(file) => Ok(etag::of(&file)?.1),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Err(Trouble::Exists),
        Err(failed) => Err(failed.error.into()),
    }
}

/// Gives a file one more name; where the file system cannot do that, a copy gets it.
pub(super) fn link(root: &Path, from: &Listed, to: &str) -> Result<ETag, Trouble> {
    let (file, size, etag) = open(root, &from.key, Some(&from.etag))?;
    let path = path_of(root, to)?;
    let folder = folder_of(root, &path)?;
    create_folder(folder)?;
    match fs::hard_link(path_of(root, &from.key)?, &path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Trouble::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Absent),
        Err(_) => {
            let ms = modified_ms(&file);
            return put_new(root, to, &Body::File { file: Arc::new(file), len: size }, ms);
        }
    }
    sync_folder(folder)?;
    Ok(etag)
}

pub(super) fn put_if_match(root: &Path, key: &str, body: &Bytes, expected: &ETag) -> Result<ETag, Trouble> {
    let (size, max) = (body.len() as u64, etag::REPLACEABLE_MAX);
    if size > max {
        return Err(Trouble::TooLarge { size, max });
    }
    let path = path_of(root, key)?;
    let folder = folder_of(root, &path)?;
    let _lock = lock(root, folder)?;
    let (found_size, found) = etag::of(&open_file(root, &path)?)?;
    if found_size > max {
        return Err(Trouble::TooLarge { size: found_size, max });
    }
    if found != *expected {
        return Err(Trouble::LostRace);
    }
    let temporary = write_temporary(folder, &Body::Bytes(body.clone()))?;
    temporary.as_file().sync_all()?;
    let file = temporary.persist(&path).map_err(|failed| failed.error)?;
    sync_folder(folder)?;
    Ok(etag::of(&file)?.1)
}

pub(super) fn get(root: &Path, key: &str, max: u64) -> Result<Object, Trouble> {
    let file = open_file(root, &path_of(root, key)?)?;
    let (size, etag) = etag::of(&file)?;
    if size > max {
        return Err(Trouble::TooLarge { size, max });
    }
    Ok(Object { bytes: read_range(&file, &(0..size))?, etag })
}

pub(super) fn get_range(
    root: &Path,
    key: &str,
    range: Range<u64>,
    if_match: Option<&ETag>,
) -> Result<Bytes, Trouble> {
    let (file, size, _) = open(root, key, if_match)?;
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    if range.end > size {
        return Err(Trouble::OutOfRange { size });
    }
    read_range(&file, &range)
}

pub(super) fn open(root: &Path, key: &str, if_match: Option<&ETag>) -> Result<(File, u64, ETag), Trouble> {
    let file = open_file(root, &path_of(root, key)?)?;
    let (size, etag) = etag::of(&file)?;
    if if_match.is_some_and(|expected| *expected != etag) {
        Err(Trouble::LostRace)
    } else {
        Ok((file, size, etag))
    }
}

pub(super) fn list(root: &Path, prefix: &str, after: &str) -> Result<Vec<Listed>, Trouble> {
    check_root(root)?;
    // Only the folder that holds the whole prefix can hold keys that begin with it.
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut listed = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        list_folder(root, &folder, (prefix, after), &mut folders, &mut listed)?;
    }
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(listed)
}

pub(super) fn delete(root: &Path, key: &str) -> Result<(), Trouble> {
    let path = path_of(root, key)?;
    let folder = folder_of(root, &path)?;
    let _lock = match lock(root, folder) {
        Err(Trouble::Absent) => return Ok(()),
        held => held?,
    };
    match fs::remove_file(&path) {
        Ok(()) => sync_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// When the file was changed last: milliseconds since 1970.
fn modified_ms(file: &File) -> Option<i64> {
    let modified = file.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(modified.as_millis()).ok()
}

/// Lists one folder, and notes those inside it.
fn list_folder(
    root: &Path,
    folder: &str,
    (prefix, after): (&str, &str),
    folders: &mut Vec<String>,
    listed: &mut Vec<Listed>,
) -> Result<(), Trouble> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = entry?;
        // Names that are not text, or hidden, were not made here; hidden ones may be files under construction.
        let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned)
        else {
            continue;
        };
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            folders.push(key);
        } else if key.starts_with(prefix) && key.as_str() > after {
            match open(root, &key, None) {
                Ok((file, size, etag)) => {
                    let modified_ms = modified_ms(&file);
                    listed.push(Listed { key, size, etag, modified_ms });
                }
                // Deleted since the folder was read.
                Err(Trouble::Absent) => {}
                Err(trouble) => return Err(trouble),
            }
        }
    }
    Ok(())
}

pub(super) fn path_of(root: &Path, key: &str) -> Result<PathBuf, Trouble> {
    let is_plain = |part: &str| matches!(Path::new(part).components().next(), Some(Component::Normal(_)));
    let is_key = key.split('/').all(|part| is_plain(part) && !part.starts_with('.'));
    if is_key { Ok(root.join(key)) } else { Err(Trouble::BadKey) }
}

pub(super) fn folder_of<'a>(root: &'a Path, path: &'a Path) -> Result<&'a Path, Trouble> {
    check_root(root)?;
    path.parent().ok_or(Trouble::BadKey)
}

fn open_file(root: &Path, path: &Path) -> Result<File, Trouble> {
    match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(Trouble::Absent),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_root(root)?;
            Err(Trouble::Absent)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a file under a hidden name. It vanishes again unless it gets its place.
fn write_temporary(folder: &Path, body: &Body) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let mut temporary =
        builder.prefix(".new-").permissions(Permissions::from_mode(FILE_MODE)).tempfile_in(folder)?;
    match body {
        Body::Bytes(bytes) => temporary.write_all(bytes)?,
        Body::File { file, len } => copy(file, *len, &mut temporary)?,
    }
    Ok(temporary)
}

fn copy(file: &File, len: u64, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < len {
        let want = usize::try_from(len - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let (chunk, _) = buffer.split_at_mut(want);
        file.read_exact_at(chunk, at)?;
        to.write_all(chunk)?;
        at += want as u64;
    }
    Ok(())
}

fn read_range(file: &File, range: &Range<u64>) -> Result<Bytes, Trouble> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

/// Locks a folder against other writers that replace or delete in it. Released when dropped.
fn lock(root: &Path, folder: &Path) -> Result<File, Trouble> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_root(root)?;
            return Err(Trouble::Absent);
        }
        Err(error) => return Err(error.into()),
    };
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // Not waiting in the kernel: a frozen process may hold it, and then this thread would never come back.
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOCK_RETRY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Trouble::LockHeld),
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), Trouble> {
    Ok(File::open(folder)?.sync_all()?)
}

pub(super) fn system_time(ms: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 { SystemTime::UNIX_EPOCH.checked_sub(since) } else { SystemTime::UNIX_EPOCH.checked_add(since) }
}

pub(super) const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;
pub(super) const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
const COPY_BYTES: usize = 1 << 20;
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(5);
