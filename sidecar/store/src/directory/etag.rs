//! ETags of files.
//!
//! Size, time of change and inode tell two contents of one name apart, except when a file is replaced twice within one
//! tick of the clock and the second takes the inode of the first. Only small files are ever replaced, so theirs also
//! hold a checksum of the content.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crc_fast::{CrcAlgorithm, checksum};

use crate::store::ETag;

/// Files up to this size may be replaced, bytes.
pub(super) const REPLACEABLE_MAX: u64 = 64 * 1024;

/// Size and ETag of an open file.
pub(super) fn of(file: &File) -> io::Result<(u64, ETag)> {
    let metadata = file.metadata()?;
    let size = metadata.size();
    let content = if size <= REPLACEABLE_MAX { checksum_of(file, size)? } else { 0 };
    let (seconds, nanos, inode) = (metadata.mtime(), metadata.mtime_nsec(), metadata.ino());
    Ok((size, ETag::new(format!("\"{size:x}-{seconds:x}.{nanos:x}-{inode:x}-{content:016x}\""))))
}

fn checksum_of(file: &File, size: u64) -> io::Result<u64> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(checksum(CrcAlgorithm::Crc64Nvme, &bytes))
}
