//! What is done so that our reading does not make the WAL grow, nor keep a checkpoint of the application waiting.

use std::thread;
use std::time::{Duration, Instant};

use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::wal_index::IndexHeader;

use super::connection::Checkpointed;
use super::pressure::{FEW_FRAMES, Relief};
use super::{DatabaseError, Followed, WalDatabase};

impl WalDatabase {
    /// Whether the WAL was so long at the last look that bringing it to rest pays.
    #[must_use]
    pub const fn has_long_wal(&self) -> bool {
        self.pressure.is_long()
    }

    /// Keeps the WAL short under a load without pauses, as [`pressure`](super::pressure) decides.
    pub(super) fn relieve(
        &mut self,
        header: &IndexHeader,
        dirty: &mut DirtyPages,
    ) -> Result<Followed, DatabaseError> {
        // Right after a quiet time the application may be about to begin a checkpoint, and who asks for the lock at that very
        // moment makes it fail.
        if self.settled_at.is_none() {
            if self.keeper.sees_checkpoint() {
                return self.accompany(dirty);
            }
            // Whoever we waited with, or found busy, is done; the next one begins anew.
            self.busy_since = None;
        }
        match self.pressure.decide(header) {
            Relief::None => Ok(Followed::NOTHING),
            // Nobody is kept out for a checkpoint that may fail as the last one did.
            Relief::Restart if self.copying.is_failing() => {
                self.roll_and_checkpoint(dirty).map(|(followed, _)| followed)
            }
            Relief::Checkpoint => {
                let (followed, _) = self.roll_and_checkpoint(dirty)?;
                Ok(followed.and(self.give_way_if_stuck(dirty)?))
            }
            // The lock would be for nothing. When the view closes, it is not.
            Relief::Restart if self.is_viewed() => Ok(Followed::NOTHING),
            Relief::Restart => self.prepare_restart(dirty),
        }
    }

    /// Copies as much as possible without a lock, then the rest under the write lock.
    fn prepare_restart(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        let mut followed = Followed::NOTHING;
        for _ in 0..self.pressure.copy_rounds() {
            let (meanwhile, checkpointed) = self.roll_and_checkpoint(dirty)?;
            followed = followed.and(meanwhile);
            match checkpointed {
                Checkpointed::Ran => {}
                Checkpointed::Busy => return Ok(followed.and(self.give_way_if_stuck(dirty)?)),
                Checkpointed::Failed => return Ok(followed),
            }
            if self.sync_early()? != Checkpointed::Ran {
                return Ok(followed);
            }
            let index = self.read_index()?;
            if self.pressure.is_hindered(&index) {
                return Ok(followed);
            }
            if index.header.last_frame.since(index.backfilled) < FEW_FRAMES {
                break;
            }
        }
        if !self.keeper.lock_writers_out() {
            return Ok(followed);
        }
        let locked = Instant::now();
        let finished = self.finish_under_lock(dirty);
        self.keeper.let_writers_in();
        let held = locked.elapsed();
        self.kept_writers_out = Some(held);
        tracing::debug!("{}: the write lock was held for {} µs", self.path.display(), held.as_micros());
        Ok(followed.and(finished?).and(self.give_way_if_stuck(dirty)?))
    }

    fn finish_under_lock(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        // A torn WAL-index can be repaired only by whoever gets the write lock, so not now.
        let Some(index) = super::poll_index(&self.checkpointer, &self.path)? else {
            return Ok(Followed::NOTHING);
        };
        // The application may have restarted the WAL before we had the lock.
        if self.pressure.decide(&index.header) != Relief::Restart {
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
        self.keeper.await_no_reader();
        Ok(followed.and(rolled.followed))
    }

    /// Moves the pin forward, and copies into the database file what that allows.
    pub(super) fn roll_and_checkpoint(
        &mut self,
        dirty: &mut DirtyPages,
    ) -> Result<(Followed, Checkpointed), DatabaseError> {
        let (header, rolled) = self.roll(dirty)?;
        let checkpointed = self.checkpoint()?;
        match checkpointed {
            Checkpointed::Ran => {
                self.note_untouched()?;
                self.busy_since = None;
                self.pressure.copied(&header, &self.read_index()?.header);
            }
            Checkpointed::Busy => {
                let _ = self.busy_since.get_or_insert_with(Instant::now);
            }
            Checkpointed::Failed => {}
        }
        Ok((rolled.followed, checkpointed))
    }

    /// Moves the pin along while somebody else checkpoints. A checkpoint that wants to restart the WAL, and all writers
    /// with it, waits until our pin needs nothing from the WAL: that takes one roll before everything is copied and one
    /// after.
    pub(super) fn accompany(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        let mut followed = Followed::NOTHING;
        let begun = Instant::now();
        while self.keeper.sees_checkpoint() {
            let _ = self.busy_since.get_or_insert(begun);
            if begun.elapsed() > ACCOMPANY {
                return Ok(followed.and(self.give_way_if_stuck(dirty)?));
            }
            let (_, rolled) = self.roll(dirty)?;
            followed = followed.and(rolled.followed);
            thread::sleep(ACCOMPANY_PAUSE);
        }
        self.busy_since = None;
        Ok(followed)
    }

    /// Gets out of the way of a checkpoint of the application that waits for our pin.
    ///
    /// Such a checkpoint waits for a read mark by its *number*. A rolled pin may get the same number again, because SQLite
    /// gives readers of the same snapshot the same mark; so rolling alone might never free it, and the checkpoint, with
    /// all writers behind it, would wait as long as its busy timeout.
    pub(super) fn give_way_if_stuck(&mut self, dirty: &mut DirtyPages) -> Result<Followed, DatabaseError> {
        if self.busy_since.is_none_or(|since| since.elapsed() < STUCK_AFTER) || !self.keeper.hold() {
            return Ok(Followed::NOTHING);
        }
        self.busy_since = None;
        // This takes longer than the guard may be held.
        self.keeper.unguard();
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

/// A checkpoint of the application that takes longer may be waiting for us.
const STUCK_AFTER: Duration = Duration::from_millis(100);
/// SQLite's busy handler looks at least every 100 ms.
const GIVE_WAY: Duration = Duration::from_millis(130);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How long a checkpoint of the application is accompanied at a time.
const ACCOMPANY: Duration = Duration::from_millis(50);
const ACCOMPANY_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
