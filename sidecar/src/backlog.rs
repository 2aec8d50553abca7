//! Commits that are not stored yet, as a number and an age.

use std::time::Instant;

/// What waits to be stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Bytes of it, as they stand in the WAL.
    pub bytes: u64,
    /// How many transactions, as far as that is known: without a WAL only that there was one or more.
    pub commits: u64,
    /// When the oldest of it was found.
    pub since: Option<Instant>,
}

impl Backlog {
    /// Something waits, whatever its size.
    pub fn begin(&mut self) {
        let _ = self.since.get_or_insert_with(Instant::now);
    }

    /// More was found.
    pub fn add(&mut self, bytes: u64, commits: u64) {
        self.bytes += bytes;
        self.commits += commits;
        if bytes > 0 {
            self.begin();
        }
    }
}
