//! The shared memory of SQLite's WAL, through SQLite's own VFS methods.
//!
//! In:  a connection that has read a database in WAL mode.
//! Out: the first bytes of its WAL-index (`-shm`), copied so that a change in between shows; and, if asked, a synced
//! database file, or one of the locks by which connections keep out of each other's way.
//!
//! *Why not simply open the `-shm` file?* POSIX drops every lock a process holds on a file as soon as it closes *any*
//! descriptor of it, SQLite's locks included. So nobody but SQLite may open the database or its `-shm`, and we go through
//! the memory SQLite has mapped already. Asking its VFS for that needs calls through C pointers.
//!
//! *Invariant:* this is the only crate with `unsafe` code; everything it hands out is a plain copy.

mod error;

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use libsqlite3_sys as ffi;
use rusqlite::Connection;

pub use error::WalIndexError;

/// How many bytes [`read`] copies: two headers of 48 bytes, and 40 bytes about checkpoints.
pub const WAL_INDEX_BYTES: usize = 136;

/// Copies the first bytes of the WAL-index: first header, second header, checkpoint words, in this order.
///
/// Writers change the second header first. So when both copies are equal and their checksum is right, no writer was
/// between them; else read again.
///
/// The connection must have read its database in WAL mode before, so that it has the WAL-index mapped.
///
/// # Errors
///
/// A [`WalIndexError`] when the connection's VFS has no shared memory, or when nothing is mapped.
pub fn read(connection: &Connection) -> Result<[u8; WAL_INDEX_BYTES], WalIndexError> {
    let words = map(connection)?;
    let mut bytes = [0; WAL_INDEX_BYTES];
    for (number, chunk) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        if number == HEADER_WORDS || number == 2 * HEADER_WORDS {
            fence(Ordering::SeqCst);
        }
        // SAFETY: `words` points to a mapped region of REGION_BYTES, of which this is word `number` < 34.
        let word = unsafe { words.add(number) };
        // SAFETY: `word` is aligned, as regions begin on pages of memory. The region stays mapped until the connection
        // closes, and the connection is borrowed. Others change it while we read; atomic loads are made for that.
        let word = unsafe { AtomicU32::from_ptr(word) };
        *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    Ok(bytes)
}

/// One of the locks in the shared memory by which SQLite's connections keep out of each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The write lock, as a writer has it: nobody else writes.
    Write,
    /// The checkpoint lock, as a checkpoint has it: nobody else checkpoints, and nobody can repair the WAL-index.
    Checkpoint,
    /// Read mark 0, shared, as a reader has it that needs nothing from the WAL: nobody copies frames into the database.
    Backfill,
    /// Read marks 1 to 4, as a writer has them for the moment in which it restarts the WAL: nobody reads from the WAL.
    Readers,
}

/// Takes a lock if that is possible now; `false` when somebody else has it, or this connection already.
///
/// It is held until [`unlock`], or the end of the connection's process. The connection must be used for nothing else
/// meanwhile: SQLite does not know that it has this lock.
///
/// # Errors
///
/// A [`WalIndexError`] when the lock cannot be asked for.
pub fn try_lock(connection: &Connection, lock: Lock) -> Result<bool, WalIndexError> {
    match change_lock(connection, lock, ffi::SQLITE_SHM_LOCK)? {
        ffi::SQLITE_OK => Ok(true),
        ffi::SQLITE_BUSY => Ok(false),
        code => Err(WalIndexError::Sqlite { call: "xShmLock", code }),
    }
}

/// Gives back what [`try_lock`] took. Without that, does nothing.
///
/// # Errors
///
/// A [`WalIndexError`] when the lock cannot be given back.
pub fn unlock(connection: &Connection, lock: Lock) -> Result<(), WalIndexError> {
    match change_lock(connection, lock, ffi::SQLITE_SHM_UNLOCK)? {
        ffi::SQLITE_OK => Ok(()),
        code => Err(WalIndexError::Sqlite { call: "xShmLock", code }),
    }
}

/// Locks or unlocks; returns SQLite's result code.
fn change_lock(connection: &Connection, lock: Lock, operation: c_int) -> Result<c_int, WalIndexError> {
    // The locks belong to the mapping, so there must be one.
    map(connection)?;
    let file = file_pointer(connection)?;
    // SAFETY: as in `map`.
    let methods = unsafe { (*file).pMethods };
    // SAFETY: as in `map`.
    let methods = unsafe { methods.as_ref() }.ok_or(WalIndexError::NoSharedMemory)?;
    let shm_lock = methods.xShmLock.filter(|_| methods.iVersion >= 2).ok_or(WalIndexError::NoSharedMemory)?;
    let (number, count, mode) = lock.range_and_mode();
    // SAFETY: the file is open and its shared memory mapped; offset, count and flags are a combination SQLite uses.
    Ok(unsafe { shm_lock(file, number, count, operation | mode) })
}

impl Lock {
    /// SQLite's number of the lock, or of the first and how many there are, and how we take it.
    const fn range_and_mode(self) -> (c_int, c_int, c_int) {
        match self {
            Self::Write => (0, 1, ffi::SQLITE_SHM_EXCLUSIVE),
            Self::Checkpoint => (1, 1, ffi::SQLITE_SHM_EXCLUSIVE),
            Self::Backfill => (3, 1, ffi::SQLITE_SHM_SHARED),
            Self::Readers => (4, 4, ffi::SQLITE_SHM_EXCLUSIVE),
        }
    }
}

/// Makes what was copied into the database file durable, as SQLite does at the end of a complete checkpoint.
///
/// A checkpoint that comes only part of the way does not sync the database file, so a later one would have to sync all of
/// it at once. This changes nothing but that.
///
/// # Errors
///
/// [`WalIndexError::Sqlite`] when the file cannot be synced.
pub fn sync_database(connection: &Connection) -> Result<(), WalIndexError> {
    let file = file_pointer(connection)?;
    // SAFETY: as in `map`.
    let methods = unsafe { (*file).pMethods };
    // SAFETY: as in `map`.
    let methods = unsafe { methods.as_ref() }.ok_or(WalIndexError::NoSharedMemory)?;
    let sync = methods.xSync.ok_or(WalIndexError::NoSharedMemory)?;
    // SAFETY: the file is open, and the flag is one of those SQLite documents.
    let code = unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(WalIndexError::Sqlite { call: "xSync", code }) }
}

/// Where the connection has the first region of the WAL-index in memory.
fn map(connection: &Connection) -> Result<*mut u32, WalIndexError> {
    let file = file_pointer(connection)?;
    // SAFETY: SQLite returned this pointer as its open file; it stays open as long as the connection, which is borrowed.
    let methods = unsafe { (*file).pMethods };
    // SAFETY: the methods of an open file are a static table or null.
    let methods = unsafe { methods.as_ref() }.ok_or(WalIndexError::NoSharedMemory)?;
    let shm_map = methods.xShmMap.filter(|_| methods.iVersion >= 2).ok_or(WalIndexError::NoSharedMemory)?;
    let mut region: *mut c_void = ptr::null_mut();
    // SAFETY: called as SQLite's WAL module calls it: region 0 of its own region size, without extending the file.
    // The connection is not `Sync`, so no other thread is inside SQLite with it; locks between connections are the VFS's.
    let code = unsafe { shm_map(file, 0, REGION_BYTES, 0, &raw mut region) };
    if code != ffi::SQLITE_OK {
        return Err(WalIndexError::Sqlite { call: "xShmMap", code });
    }
    if region.is_null() {
        return Err(WalIndexError::NotMapped);
    }
    Ok(region.cast())
}

/// SQLite's own open file of the main database.
fn file_pointer(connection: &Connection) -> Result<*mut ffi::sqlite3_file, WalIndexError> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is used within this function only, and neither closed nor stored.
    let handle = unsafe { connection.handle() };
    let out = (&raw mut file).cast();
    // SAFETY: the handle is open; this operation writes one pointer to `out`, which is a place for one.
    let code =
        unsafe { ffi::sqlite3_file_control(handle, c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, out) };
    if code != ffi::SQLITE_OK {
        return Err(WalIndexError::Sqlite { call: "SQLITE_FCNTL_FILE_POINTER", code });
    }
    if file.is_null() {
        return Err(WalIndexError::NoSharedMemory);
    }
    Ok(file)
}

/// SQLite's size of a region of the WAL-index (`WALINDEX_PGSZ`); every caller must use the same.
const REGION_BYTES: c_int = 32_768;
const HEADER_WORDS: usize = 12;

#[cfg(test)]
mod tests;
