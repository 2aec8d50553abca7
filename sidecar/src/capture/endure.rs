//! What the follower's loop does about a database that cannot be read for a while.

use std::time::Instant;

use super::Capture;
use crate::backlog::Backlog;
use crate::database::DatabaseError;
use crate::disk;
use crate::exit::{Exit, Failure};

impl Capture<'_> {
    /// What waited was read.
    pub(super) fn healed(&mut self) {
        if self.trouble.over() {
            tracing::info!("{}: it can be read again", self.task.path.display());
            self.post.recovered();
            if self.dirty.is_empty() {
                self.waiting = Backlog::default();
            }
        }
    }

    /// A checkpoint of ours that fails keeps no commit from being stored, but somebody has to know.
    pub(super) fn tell_uncopied(&mut self) {
        let failure = self.database.uncopied().map(Failure::from);
        let was_said = std::mem::replace(&mut self.is_uncopied_said, failure.is_some());
        match &failure {
            Some(failure) if !was_said => tracing::warn!("{failure}; trying again from time to time"),
            None if was_said => tracing::info!("{}: its WAL is copied again", self.task.path.display()),
            Some(_) => {}
            None => return,
        }
        self.post.stands(failure);
    }

    /// What can heal is tried again. A busy database stays open, so nothing is missed meanwhile; any other is closed and
    /// opened again, and compared page by page.
    pub(super) fn endure(&mut self, error: DatabaseError) -> Result<(), Failure> {
        self.pace.failed();
        self.notes.if_damaged(&error);
        if !error.can_heal() {
            return Err(error.into());
        }
        // The file is gone, and cannot be read through our connections either.
        if disk::is_absent(&self.task.path) {
            self.is_lost = true;
            return Ok(());
        }
        let is_worth_saying = if error.is_brief() {
            self.trouble.brief(Instant::now())
        } else {
            self.database.close();
            // What comes after it begins anew.
            self.is_uncopied_said = false;
            self.post.stands(None);
            self.trouble.lasting(Instant::now())
        };
        let failure = Failure { exit: Exit::Unavailable, ..error.into() };
        if is_worth_saying {
            tracing::warn!("{failure}; looking again from time to time");
        }
        if self.trouble.is_said() {
            self.post.troubled(&failure);
            // Whatever is committed meanwhile waits, though nobody sees it: a lag of nothing would be a lie.
            self.waiting.begin();
        }
        Ok(())
    }
}
