//! The closed lists of words that explain a state: what must be done ([`Verdict`]) and why ([`Reason`]).

use serde::{Deserialize, Serialize};

/// What whoever meets a trouble must do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The world was busy; the sidecar goes on trying by itself.
    Retry,
    /// Continuity with the WAL was lost; the difference is being found by page checksums.
    Rescan,
    /// Another writer owns the replica; this one has stopped for good.
    Fence,
    /// The request cannot be honoured; a human has to choose.
    Refuse,
    /// Data is not what it must be; stopped, with the evidence kept.
    Halt,
    /// A word of a newer release.
    #[serde(other)]
    Unknown,
}

/// Why a database is not simply well. `docs/errors.md` has one entry for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The bucket cannot be reached, throttles or answers with server errors.
    StoreUnavailable,
    /// The bucket refuses the credentials, or there are none.
    StoreAccessDenied,
    /// The bucket does not exist.
    BucketNotFound,
    /// The bucket ignores conditional writes, so one writer cannot be guaranteed.
    StoreNotConformant,
    /// A file between the oldest and the newest is missing.
    ChainGap,
    /// Stored bytes are not what their checksum says.
    IntegrityFailed,
    /// The local database is not a continuation of what the bucket holds.
    Diverged,
    /// The prefix holds files that no Lifeboat claimed.
    UnclaimedData,
    /// The replica belongs to another cluster, namespace or name.
    PrefixConflict,
    /// A newer writer owns the replica.
    SealedByNewerEpoch,
    /// The database is not in WAL mode and may not be switched.
    NotWal,
    /// The application holds the database exclusively.
    LockHeld,
    /// A killed writer left half a transaction in the database file.
    HotJournal,
    /// The database file is cut short, malformed, or has a page that cannot be read.
    DatabaseDamaged,
    /// The database file does not exist yet.
    WaitingForDatabase,
    /// The previous writer is still making progress.
    WaitingForPredecessor,
    /// The file or its folder cannot be read or written.
    DatabaseUnreadable,
    /// Nothing restorable is stored.
    NothingToRestore,
    /// Nothing is stored where something was before.
    ReplicaEmpty,
    /// A file that must not be overwritten is in the way.
    TargetExists,
    /// The configuration is wrong.
    InvalidConfig,
    /// An invariant of our own broke.
    Bug,
    /// A word of a newer release.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The word as it stands in JSON, in a condition's `reason` and in `docs/errors.md`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnavailable => "StoreUnavailable",
            Self::StoreAccessDenied => "StoreAccessDenied",
            Self::BucketNotFound => "BucketNotFound",
            Self::StoreNotConformant => "StoreNotConformant",
            Self::ChainGap => "ChainGap",
            Self::IntegrityFailed => "IntegrityFailed",
            Self::Diverged => "Diverged",
            Self::UnclaimedData => "UnclaimedData",
            Self::PrefixConflict => "PrefixConflict",
            Self::SealedByNewerEpoch => "SealedByNewerEpoch",
            Self::NotWal => "NotWal",
            Self::LockHeld => "LockHeld",
            Self::HotJournal => "HotJournal",
            Self::DatabaseDamaged => "DatabaseDamaged",
            Self::WaitingForDatabase => "WaitingForDatabase",
            Self::WaitingForPredecessor => "WaitingForPredecessor",
            Self::DatabaseUnreadable => "DatabaseUnreadable",
            Self::NothingToRestore => "NothingToRestore",
            Self::ReplicaEmpty => "ReplicaEmpty",
            Self::TargetExists => "TargetExists",
            Self::InvalidConfig => "InvalidConfig",
            Self::Bug => "Bug",
            Self::Unknown => "Unknown",
        }
    }

    /// Every reason this release can give, in the order of the documentation.
    pub const ALL: [Self; 22] = [
        Self::StoreUnavailable,
        Self::StoreAccessDenied,
        Self::BucketNotFound,
        Self::StoreNotConformant,
        Self::ChainGap,
        Self::IntegrityFailed,
        Self::Diverged,
        Self::UnclaimedData,
        Self::PrefixConflict,
        Self::SealedByNewerEpoch,
        Self::NotWal,
        Self::LockHeld,
        Self::HotJournal,
        Self::DatabaseDamaged,
        Self::WaitingForDatabase,
        Self::WaitingForPredecessor,
        Self::DatabaseUnreadable,
        Self::NothingToRestore,
        Self::ReplicaEmpty,
        Self::TargetExists,
        Self::InvalidConfig,
        Self::Bug,
    ];
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_spelled_in_json_as_it_is_shown() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }

    #[test]
    fn a_word_of_a_newer_release_is_unknown_and_not_an_error() {
        assert_eq!(serde_json::from_str::<Reason>("\"MoonPhase\"").unwrap(), Reason::Unknown);
    }
}
