//! What is done so that our reading does not make the WAL grow, nor keep a checkpoint of the application waiting.

use std::thread;
use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::wal_index::IndexHeader;

use super::connection::{self, Checkpointed};
use super::pressure::{FEW_FRAMES, Relief};
use super::{Database, DatabaseError, Followed};

impl Database {
    /// Keeps the WAL short under a load without pauses, as [`pressure`](super::pressure) decides.
    pub(super) fn relieve(
        &mut self,
        header: &IndexHeader,
        dirty: &mut DirtyPages,
    ) -> Result<Followed, DatabaseError> {
        match self.pressure.decide(header) {
            Relief::None => Ok(Followed::NOTHING),
            Relief::Checkpoint => {
                let (followed, _) = self.roll_and_checkpoint(dirty)?;
                Ok(followed.and(self.give_way_if_stuck(dirty)?))
            }
            Relief::Restart => self.prepare_restart(dirty),
        }
    }

    /// Copies as much as possible without a lock, then the rest under the write lock.
    fn prepare_restart(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        let mut followed = Followed::NOTHING;
        for _ in 0..COPY_ROUNDS {
            let (meanwhile, checkpointed) = self.roll_and_checkpoint(dirty)?;
            followed = followed.and(meanwhile);
            if checkpointed == Checkpointed::Busy {
                return Ok(followed.and(self.give_way_if_stuck(dirty)?));
            }
            // A checkpoint that is not complete leaves the syncing to the one that is. Better now than under the lock.
            lifeboat_wal_index::sync_database(&self.checkpointer)
                .map_err(|source| DatabaseError::wal_index(&self.path, source))?;
            let index = self.read_index()?;
            if self.pressure.is_hindered(&index) {
                return Ok(followed);
            }
            if index.header.last_frame.since(index.backfilled) < FEW_FRAMES {
                break;
            }
        }
        if !self.locker.try_lock() {
            return Ok(followed);
        }
        let finished = self.finish_under_lock(dirty);
        self.locker.unlock();
        Ok(followed.and(finished?))
    }

    fn finish_under_lock(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        // The application may have restarted the WAL before we had the lock.
        if self.pressure.decide(&self.read_index()?.header) != Relief::Restart {
            return Ok(Followed::NOTHING);
        }
        let (followed, _) = self.roll_and_checkpoint(dirty)?;
        let index = self.read_index()?;
        self.pressure.locked(&index.header);
        if !index.is_backfilled() {
            return Ok(followed);
        }
        // Read mark 0 for the pin: now the next writer restarts the WAL.
        let (_, rolled) = self.roll(dirty)?;
        Ok(followed.and(rolled.followed))
    }

    /// Moves the pin forward, and copies into the database file what that allows.
    pub(super) fn roll_and_checkpoint(
        &mut self,
        dirty: &mut DirtyPages,
    ) -> Result<(Followed, Checkpointed), DatabaseError> {
        let (_, rolled) = self.roll(dirty)?;
        let checkpointed = connection::checkpoint_passive(&self.checkpointer, &self.path)?;
        self.busy_since = match checkpointed {
            Checkpointed::Ran => None,
            Checkpointed::Busy => self.busy_since.or_else(|| Some(Instant::now())),
        };
        Ok((rolled.followed, checkpointed))
    }

    /// Gets out of the way of a checkpoint of the application that waits for our pin.
    ///
    /// Such a checkpoint waits for a read mark by its *number*. A rolled pin may get the same number again, because SQLite
    /// gives readers of the same snapshot the same mark; so rolling alone might never free it, and the checkpoint, with
    /// all writers behind it, would wait as long as its busy timeout.
    pub(super) fn give_way_if_stuck(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        if self.busy_since.is_none_or(|since| since.elapsed() < STUCK_AFTER)
            || !self.keeper.try_hold(&self.path)?
        {
            return Ok(Followed::NOTHING);
        }
        self.busy_since = None;
        // Nobody can copy frames now, so as with a pin at read mark 0 there is at most one WAL restart, from a header that
        // is read here, before the pin closes. From here on an error leaves the hold in place until a roll succeeds.
        let (_, mut followed) = self.follow_to_header(dirty)?;
        self.current().end();
        let until = Instant::now() + GIVE_WAY;
        while Instant::now() < until {
            thread::sleep(LOOK_PAUSE);
            followed = followed.and(self.follow_to_header(dirty)?.1);
        }
        let (_, rolled) = self.roll(dirty)?;
        Ok(followed.and(rolled.followed))
    }
}

/// Copying without a lock is repeated this many times, if the application is so fast that many frames came meanwhile.
const COPY_ROUNDS: u32 = 3;

/// A checkpoint of the application that takes longer may be waiting for us.
const STUCK_AFTER: Duration = Duration::from_millis(100);
/// SQLite's busy handler looks at least every 100 ms.
const GIVE_WAY: Duration = Duration::from_millis(130);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
