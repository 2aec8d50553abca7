//! The one case in which rolling back what a killed writer left would destroy a database.
//!
//! A transaction over several attached databases gives each of them a journal, and all of these name one *super-journal*.
//! As long as that exists the transaction is not committed, and every journal is to be rolled back; once it is gone, the
//! journals are leftovers that may be deleted. It lies beside the first of the databases, and that may be a volume that we
//! do not see. For us, then, an unfinished transaction looks like a committed one: SQLite would delete the journal and
//! with it the only way back.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{DatabaseError, connection};
use crate::disk;

/// Refuses a database whose journal names a super-journal that is not there. To be called before SQLite may write to the
/// database, for then it rolls back by itself.
pub(super) fn require_super_journal(database: &Path) -> Result<(), DatabaseError> {
    let journal = disk::beside(database, "-journal");
    let named = match read_super_journal(&journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        named => named.map_err(|error| DatabaseError::io(&journal, "read", error))?,
    };
    match named {
        Some(super_journal) if !super_journal.exists() => {
            Err(DatabaseError::HotJournal { path: database.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Lets SQLite roll back what a killed writer left. Only for when the application does not run, and waits for us.
///
/// # Errors
///
/// A [`DatabaseError`], [`DatabaseError::HotJournal`] when it would not be safe.
pub fn roll_back(database: &Path) -> Result<(), DatabaseError> {
    let error = |error| DatabaseError::io(database, "find", error);
    let database = &database.canonicalize().map_err(error)?;
    require_super_journal(database)?;
    let connection = connection::open(database)?;
    connection::require_pages(&connection, database)
}

/// The name at the end of a journal: four bytes, the name, its length, the sum of its bytes, a magic number.
fn read_super_journal(journal: &Path) -> io::Result<Option<PathBuf>> {
    let file = File::open(journal)?;
    let Some(end) = file.metadata()?.len().checked_sub(TAIL_BYTES as u64) else { return Ok(None) };
    let mut tail = [0; TAIL_BYTES];
    file.read_exact_at(&mut tail, end)?;
    let (length, rest) = tail.split_at(4);
    let (sum, magic) = rest.split_at(4);
    let length = u64::from(number(length));
    if magic != MAGIC || length == 0 || length > NAME_BYTES_MAX || length > end {
        return Ok(None);
    }
    let mut name = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut name, end - length)?;
    // SQLite adds up signed bytes.
    let found = name.iter().fold(0_u32, |sum, byte| sum.wrapping_add_signed(i32::from(byte.cast_signed())));
    Ok((found == number(sum)).then(|| PathBuf::from(OsString::from_vec(name))))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

const TAIL_BYTES: usize = 16;
/// SQLite's own limit is less.
const NAME_BYTES_MAX: u64 = 4096;
const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
