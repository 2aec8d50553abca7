//! The number of the current writer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers the writers of one replica, one process each, from 1. It stands in `NodeID` of every file it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of whoever created the replica.
    pub const FIRST: Self = Self(1);

    /// An epoch as read from a file or from `head.json`. Zero is a file without an epoch, such as Litestream's.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch of the next claimant.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
