//! What one follower last said of its database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_wire::{DatabaseStatus, LostSpan, Verdict};

use crate::config::DatabaseConfig;
use crate::demand::Demand;
use crate::exit::Failure;
use crate::measures::Measures;
use crate::pulse::Pulse;

/// What one follower says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: DatabaseStatus,
    pub(super) measures: Measures,
    pub(super) is_asleep: bool,
    /// Whether it was found in a folder, and not named.
    pub(super) is_found: bool,
    pub(super) waits_since: Option<Instant>,
    pub(super) is_open: bool,
    pub(super) is_started: bool,
    /// Of the follower's thread.
    pub(super) pulse: Pulse,
    /// Requests a day beyond the budget, and since when that is known.
    pub(super) pace: Option<(u64, Instant)>,
    pub(super) demand: Arc<Demand>,
    /// What is wrong that keeps no commit from being stored. Told where nothing else is wrong.
    pub(super) standing: Option<Failure>,
}

impl Entry {
    pub(super) fn new(database: &DatabaseConfig) -> Self {
        let status = DatabaseStatus {
            name: database.name.clone(),
            path: database.path.display().to_string(),
            epoch: None,
            position: None,
            lag_seconds: None,
            unreplicated_bytes: None,
            requests_per_day: None,
            away_since: None,
            lost: Vec::new(),
            oldest_restorable: None,
            last_snapshot: None,
            merge_failures: 0,
            prune_failures: None,
            sqlite_version: None,
            has_wal_reset_race: false,
            at_stake: None,
            verdict: None,
            reason: None,
            message: String::new(),
        };
        Self {
            status,
            measures: Measures::default(),
            is_asleep: false,
            is_found: database.is_discovered,
            waits_since: None,
            is_open: false,
            is_started: false,
            pulse: Pulse::default(),
            pace: None,
            demand: Arc::default(),
            standing: None,
        }
    }

    pub(super) fn status(&self) -> DatabaseStatus {
        let mut status = self.status.clone();
        status.lag_seconds = match self.waits_since {
            Some(since) => Some(since.elapsed().as_secs_f64()),
            None => status.unreplicated_bytes.map(|_| 0.0),
        };
        // A pace that was not kept up is none any more.
        let is_kept =
            |(requests, since): &(u64, Instant)| since.elapsed() < 2 * DAY / pace_divisor(*requests);
        status.requests_per_day = self.pace.filter(is_kept).map(|(requests, _)| requests);
        if let Some(standing) = self.standing.as_ref().filter(|_| status.verdict.is_none()) {
            tell(&mut status, standing);
        }
        status
    }

    /// Whether it is refused, fenced or broken.
    pub(super) fn is_over(&self) -> bool {
        match self.status.verdict {
            Some(Verdict::Fence | Verdict::Refuse | Verdict::Halt) => true,
            Some(Verdict::Retry | Verdict::Rescan | Verdict::Unknown) | None => false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.status.verdict = None;
        self.status.reason = None;
        self.status.message.clear();
    }
}

/// Says in a status what is wrong.
pub(super) fn tell(status: &mut DatabaseStatus, failure: &Failure) {
    status.verdict = Some(failure.verdict());
    status.reason = Some(failure.reason);
    status.message.clone_from(&failure.message);
}

/// Adds a span, or makes the last one longer where it goes on without a break.
pub(super) fn lose(lost: &mut Vec<LostSpan>, from: jiff::Timestamp, to: jiff::Timestamp) -> bool {
    let goes_on = lost.last_mut().filter(|last| {
        last.to.parse::<jiff::Timestamp>().is_ok_and(|end| from <= end + jiff::SignedDuration::from_secs(1))
    });
    if let Some(last) = goes_on {
        last.to = to.to_string();
        return false;
    }
    lost.push(LostSpan { from: from.to_string(), to: to.to_string() });
    if lost.len() > LOST_MAX {
        lost.remove(0);
    }
    true
}

fn pace_divisor(requests: u64) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX).max(1)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Spans of lost points in time that a status tells of.
const LOST_MAX: usize = 10;
