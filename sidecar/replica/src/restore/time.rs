//! Which target a point in time means.
//!
//! The newest target whose file is not younger than the time. Only headers know their times, so they are found by
//! halving: a dozen headers for thousands of files. The writer's clock is believed: where it was set back several targets
//! fit, each at or before the time and followed by one after it, and one of them is taken.

use lifeboat_ltx::Txid;

use super::points::{Point, points};
use crate::error::PlanError;
use crate::inventory::{FileEntry, Inventory};

/// A search that asks for one header after the other.
#[derive(Clone, Debug)]
pub struct TimeSearch<'a> {
    points: Vec<Point<'a>>,
    /// The oldest file beyond the last target, where files are missing before it.
    stranded: Option<&'a FileEntry>,
    wanted_ms: i64,
    /// Everything before is at or before the time.
    low: usize,
    /// Everything from here on is after it.
    high: usize,
    found_ms: Option<i64>,
    /// The time of the file at `high`, once it is known.
    after_ms: i64,
}

/// What a point in time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The TXID to restore.
    pub txid: Txid,
    /// When its file was made: milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl<'a> TimeSearch<'a> {
    /// Begins the search for a time in milliseconds since 1970.
    ///
    /// # Errors
    /// [`PlanError`] where there is nothing to restore at any time.
    pub fn begin(inventory: &'a Inventory, wanted_ms: i64) -> Result<Self, PlanError> {
        super::require_pages(inventory, false)?;
        let points = points(inventory);
        let Some(last) = points.last() else {
            return Err(super::plan_latest(inventory).err().unwrap_or(PlanError::EmptyReplica));
        };
        let beyond = inventory.files().iter().filter(|file| file.max > last.txid);
        let stranded = beyond.min_by_key(|file| file.max);
        let high = points.len() + usize::from(stranded.is_some());
        Ok(Self { points, stranded, wanted_ms, low: 0, high, found_ms: None, after_ms: i64::MAX })
    }

    /// The file whose header must be read next; `None` when the search is over.
    #[must_use]
    pub fn ask(&self) -> Option<&'a FileEntry> {
        (self.low < self.high).then(|| self.at(self.middle())).flatten()
    }

    /// Takes the time in the header of the file that was asked for.
    pub fn answer(&mut self, timestamp_ms: i64) {
        let middle = self.middle();
        if timestamp_ms > self.wanted_ms {
            (self.high, self.after_ms) = (middle, timestamp_ms);
        } else {
            self.low = middle + 1;
            self.found_ms = Some(timestamp_ms);
        }
    }

    /// What the search found.
    ///
    /// # Errors
    /// [`PlanError`] where every target is younger than the time, or files are missing before it.
    pub fn finish(&self) -> Result<Found, PlanError> {
        let found = self.low.checked_sub(1).map(|found| (self.points.get(found), self.found_ms));
        match (found, self.points.first(), self.points.last(), self.stranded) {
            (Some((Some(point), Some(timestamp_ms))), ..) => Ok(Found { txid: point.txid, timestamp_ms }),
            (Some(_), _, Some(last), Some(next)) => Err(PlanError::Gap { after: last.txid, next: next.min }),
            (None, Some(oldest), ..) => {
                Err(PlanError::TooEarly { oldest: oldest.txid, oldest_ms: self.after_ms })
            }
            (Some(_) | None, ..) => Err(PlanError::EmptyReplica),
        }
    }

    const fn middle(&self) -> usize {
        self.low + (self.high - self.low) / 2
    }

    fn at(&self, place: usize) -> Option<&'a FileEntry> {
        self.points.get(place).map(|point| point.file).or(self.stranded)
    }
}
