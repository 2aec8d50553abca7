//! The locks we take in the shared memory ourselves, without SQLite's knowledge, and how soon each is given back.
//!
//! - The *guard* is the checkpoint lock, held while frames flood into a long WAL and we look every few milliseconds. An
//!   application that checkpoints after a commit then finds the lock taken and goes on writing, and its pages are copied in
//!   our thread. Who repairs a torn WAL-index needs this lock too, so we must never hold it and sleep, nor hold it and wait.
//! - The *hold* keeps everybody from copying frames into the database. It takes a pin's place for a while.
//! - The *write lock* keeps the application out for the moment in which the last few frames are copied.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lifeboat_wal_index::Lock;
use rusqlite::Connection;

use super::DatabaseError;
use super::connection;

/// A connection that takes locks and does nothing else. Dropped, it gives all of them back.
#[derive(Debug)]
pub(super) struct Keeper {
    connection: Connection,
    is_guarding: Cell<bool>,
    has_write_lock: Cell<bool>,
}

impl Keeper {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = connection::open(path)?;
        // One look maps the WAL-index.
        let looked = connection.query_row("PRAGMA user_version", [], |_| Ok(()));
        looked.map_err(|source| DatabaseError::sqlite(path, "read", source))?;
        Ok(Self { connection, is_guarding: Cell::new(false), has_write_lock: Cell::new(false) })
    }

    /// Takes the guard, unless somebody is checkpointing.
    pub(super) fn guard(&self) {
        if !self.is_guarding.get() {
            // Without it the application checkpoints for itself, as it always did. So no failure matters.
            self.is_guarding.set(self.try_lock(Lock::Checkpoint));
        }
    }

    /// Gives the guard back, if it is held.
    pub(super) fn unguard(&self) {
        if self.is_guarding.replace(false) {
            self.unlock(Lock::Checkpoint);
        }
    }

    /// Does what may have to repair the WAL-index, or to checkpoint, without the guard, and then takes it again if it was
    /// held.
    pub(super) fn unguarded<T>(
        &self,
        work: impl FnOnce() -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let was_guarding = self.is_guarding.get();
        self.unguard();
        let done = work()?;
        if was_guarding {
            self.guard();
        }
        Ok(done)
    }

    /// Whether somebody is checkpointing just now.
    pub(super) fn sees_checkpoint(&self) -> bool {
        let was_guarding = self.is_guarding.get();
        self.guard();
        let is_free = self.is_guarding.get();
        if !was_guarding {
            self.unguard();
        }
        !is_free
    }

    /// Begins to hold; `false` when somebody is copying at this moment.
    pub(super) fn hold(&self) -> bool {
        self.try_lock(Lock::Backfill)
    }

    /// Ends to hold, if it does.
    pub(super) fn release(&self) {
        self.unlock(Lock::Backfill);
    }

    /// Takes the write lock, if it is free now or within a few milliseconds. Nobody is checkpointing then: an application that
    /// was half way through a checkpoint of its own would keep ours from coming to its end, and the lock would be for nothing.
    pub(super) fn lock_writers_out(&self) -> bool {
        let was_guarding = self.is_guarding.get();
        for _ in 0..LOCK_ATTEMPTS {
            self.guard();
            if self.is_guarding.get() && self.try_lock(Lock::Write) {
                self.has_write_lock.set(true);
                return true;
            }
            thread::sleep(LOCK_PAUSE);
        }
        if !was_guarding {
            self.unguard();
        }
        false
    }

    /// Looks while nobody can be writing; `None` when somebody is. Asked once: who writes at the moment of the look finds
    /// the lock taken.
    pub(super) fn while_nobody_writes<T>(&self, look: impl FnOnce() -> T) -> Option<T> {
        if !self.try_lock(Lock::Write) {
            return None;
        }
        let looked = look();
        self.unlock(Lock::Write);
        Some(looked)
    }

    /// Whether we have the write lock.
    pub(super) const fn keeps_writers_out(&self) -> bool {
        self.has_write_lock.get()
    }

    /// Gives the write lock back.
    pub(super) fn let_writers_in(&self) {
        if self.has_write_lock.replace(false) {
            self.unlock(Lock::Write);
        }
    }

    /// Waits a moment until nobody reads from the WAL. With the write lock in our hands, a writer that began to read before
    /// everything was copied finds that lock taken and lets go of what it reads; otherwise its commit would be one more of
    /// the same run, and the WAL would not restart.
    pub(super) fn await_no_reader(&self) {
        let begun = Instant::now();
        while !self.try_lock(Lock::Readers) {
            if begun.elapsed() > READERS_MAX {
                return;
            }
            std::hint::spin_loop();
        }
        self.unlock(Lock::Readers);
    }

    /// A lock that cannot be asked for is one that we do not have.
    fn try_lock(&self, lock: Lock) -> bool {
        lifeboat_wal_index::try_lock(&self.connection, lock).unwrap_or(false)
    }

    /// It fails only if the operating system refuses to unlock, and nothing could be done about that.
    fn unlock(&self, lock: Lock) {
        if let Err(error) = lifeboat_wal_index::unlock(&self.connection, lock) {
            tracing::error!("a lock cannot be given back: {error}");
        }
    }
}

impl Drop for Keeper {
    /// SQLite does not know of the locks, and would leave them to the process when it closes the connection.
    fn drop(&mut self) {
        self.unguard();
        self.release();
        self.let_writers_in();
    }
}

/// The write lock is asked for at most this many times, so that following is not delayed.
const LOCK_ATTEMPTS: u32 = 40;
/// A writer between two locks needs microseconds; whoever reads for longer is not waited for.
const READERS_MAX: Duration = Duration::from_micros(200);
const LOCK_PAUSE: Duration = Duration::from_micros(50);
