//! Bringing the WAL to rest in quiet moments.

use std::time::Duration;

use lifeboat_replica::dirty_pages::DirtyPages;

use super::calm::{self, Calm};
use super::connection::Checkpointed;
use super::{DatabaseError, Settled, WalDatabase, file_system};

impl WalDatabase {
    /// The housekeeping of quiet moments, when it is worth while: brings everything into the database file, so that the
    /// next writer restarts the WAL instead of making it longer. `quiet` is the time since the last commit was seen.
    ///
    /// Never waits for anybody and never holds the write lock. Commits it comes across are added to `dirty`.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn ease(&mut self, quiet: Duration, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        let index = self.read_index()?;
        if self.settled_at == Some(index.header) {
            // The file holds everything, so it has the length for that. The next checkpoint would make it that long again,
            // with zeros for what was cut off.
            if !self.is_overwritten() {
                file_system::require_length(&self.path, index.header.page_count.bytes(self.page_size))?;
            }
            return Ok(Settled::Yes);
        }
        match calm::decide(quiet, &index, self.pressure.is_long(), self.keeper.sees_checkpoint()) {
            Calm::Wait => Ok(Settled::NotYet),
            Calm::Accompany => self.accompany(dirty).map(|_| Settled::NotYet),
            Calm::Settle => self.settle(dirty),
        }
    }

    /// The same without asking whether it is worth while. Cheap when nothing was committed since the last time.
    ///
    /// Never waits for anybody and never holds the write lock. Commits it comes across are added to `dirty`.
    ///
    /// # Errors
    ///
    /// A [`DatabaseError`]; a later attempt may succeed.
    pub fn settle(&mut self, dirty: &mut DirtyPages) -> Result<Settled, DatabaseError> {
        self.keeper.unguard();
        if self.settled_at == Some(self.read_index()?.header) {
            return Ok(Settled::Yes);
        }
        self.settled_at = None;
        let (_, checkpointed) = self.roll_and_checkpoint(dirty)?;
        self.give_way_if_stuck(dirty)?;
        let before = self.read_index()?;
        if checkpointed != Checkpointed::Ran || !before.is_backfilled() {
            return Ok(Settled::NotYet);
        }
        // Now the pin gets read mark 0, which lets the next writer restart the WAL.
        self.roll(dirty)?;
        if self.read_index()? != before {
            return Ok(Settled::NotYet);
        }
        self.pinned_untouched(&before.header);
        self.audit_settled(dirty)?;
        self.settled_at = Some(before.header);
        Ok(Settled::Yes)
    }
}
