//! Objects that are sent in parts: a hidden file beside their place, which gets its name when it is whole.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempPath;

use super::files::{
    FILE_MODE, NO_FOLLOW, check_root, create_folder, folder_of, path_of, sync_folder, system_time,
};
use super::{Trouble, etag};
use crate::store::{ETag, Upload};

/// Begins an upload; its name is that of the hidden file, which holds the object's.
pub(super) fn begin(root: &Path, key: &str, timestamp_ms: Option<i64>) -> Result<String, Trouble> {
    let path = path_of(root, key)?;
    let folder = folder_of(root, &path)?;
    create_folder(folder)?;
    let mut builder = tempfile::Builder::new();
    let time = timestamp_ms.map_or(String::new(), |ms| ms.to_string());
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(Trouble::BadKey)?;
    let prefix = format!("{PREFIX}{name}{BEHIND_NAME}");
    builder.prefix(&prefix).permissions(Permissions::from_mode(FILE_MODE));
    let (_, path) = builder.tempfile_in(folder)?.keep().map_err(|failed| failed.error)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(Trouble::BadKey)?;
    Ok(format!("{name}{TIME}{time}"))
}

/// Writes a part where it belongs.
pub(super) fn put(root: &Path, upload: &Upload, number: u32, bytes: &Bytes) -> Result<ETag, Trouble> {
    let before = u64::from(number).checked_sub(1).and_then(|before| before.checked_mul(upload.part_bytes));
    open(&hidden(root, upload)?)?.write_all_at(bytes, before.ok_or(Trouble::WrongParts)?)?;
    Ok(ETag::new(bytes.len().to_string()))
}

/// Gives the file its name, if that is free.
pub(super) fn complete(root: &Path, upload: &Upload, parts: &[ETag]) -> Result<ETag, Trouble> {
    let path = path_of(root, &upload.key)?;
    let folder = folder_of(root, &path)?;
    let hidden = hidden(root, upload)?;
    let file = open(&hidden)?;
    if file.metadata()?.len() != size(upload, parts).ok_or(Trouble::WrongParts)? {
        return Err(Trouble::WrongParts);
    }
    if let Some(time) = time(upload).and_then(system_time) {
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    file.sync_all()?;
    let placed = TempPath::try_from_path(hidden)?.persist_noclobber(&path);
    // Also when the name is taken: the caller will rely on what is there.
    sync_folder(folder)?;
    match placed {
        Ok(()) => Ok(etag::of(&file)?.1),
        Err(failed) => {
            // It stays: what failed may be tried again.
            let error = failed.error;
            failed.path.keep().map_err(|kept| kept.error)?;
            Err(if error.kind() == io::ErrorKind::AlreadyExists { Trouble::Exists } else { error.into() })
        }
    }
}

/// Removes the file.
pub(super) fn abandon(root: &Path, upload: &Upload) -> Result<(), Trouble> {
    match fs::remove_file(hidden(root, upload)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The uploads in one folder, whoever began them.
pub(super) fn unfinished(root: &Path, prefix: &str) -> Result<Vec<Upload>, Trouble> {
    check_root(root)?;
    let (folder, beginning) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let Some(file) = file.to_str() else { continue };
        let name = file.strip_prefix(PREFIX).and_then(|name| name.rsplit_once(BEHIND_NAME));
        if let Some((name, _)) = name.filter(|(name, _)| name.starts_with(beginning)) {
            let key = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            found.push(Upload { key, id: format!("{file}{TIME}"), part_bytes: 0 });
        }
    }
    Ok(found)
}

fn hidden(root: &Path, upload: &Upload) -> Result<PathBuf, Trouble> {
    let path = path_of(root, &upload.key)?;
    let (name, _) = upload.id.rsplit_once(TIME).ok_or(Trouble::BadKey)?;
    let is_ours = name.starts_with(PREFIX) && !name.contains('/');
    if is_ours { Ok(folder_of(root, &path)?.join(name)) } else { Err(Trouble::BadKey) }
}

fn open(hidden: &Path) -> Result<File, Trouble> {
    match OpenOptions::new().write(true).read(true).custom_flags(NO_FOLLOW).open(hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble::UploadGone),
        opened => Ok(opened?),
    }
}

fn time(upload: &Upload) -> Option<i64> {
    upload.id.rsplit_once(TIME)?.1.parse().ok()
}

/// How many bytes the parts have together, if they can be those of the upload.
fn size(upload: &Upload, parts: &[ETag]) -> Option<u64> {
    let sizes: Option<Vec<u64>> = parts.iter().map(|part| part.as_str().parse().ok()).collect();
    let (last, full) = sizes.as_ref()?.split_last()?;
    let is_full = full.iter().all(|&size| size == upload.part_bytes);
    is_full.then(|| (full.len() as u64).checked_mul(upload.part_bytes)?.checked_add(*last))?
}

const PREFIX: &str = ".parts-";
/// Stands between the object's name and what makes the file's own unique.
const BEHIND_NAME: &str = "-";
/// Stands in an upload's name between the file and the time the object is to have.
const TIME: &str = "@";
