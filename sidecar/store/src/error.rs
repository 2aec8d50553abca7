//! What a store says when it does not do what it was asked.
//!
//! Each variant is something a caller reacts to differently. Each message says where, and what to do next. None holds
//! a secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// Which object of which store, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object's key, or a prefix; empty for the store itself.
    pub key: String,
    /// The store, as [`crate::Store::describe`] says it.
    pub store: Arc<str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, store } = self;
        if key.is_empty() { write!(f, "{store}") } else { write!(f, "{key} in {store}") }
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object. The store is there, and was able to say so.
    #[error("there is no {place}")]
    Absent {
        /// Which object.
        place: Place,
    },
    /// There is no such bucket or directory. This says nothing about objects.
    #[error("there is no bucket or directory {place}; check its name, or create it")]
    BucketAbsent {
        /// Which store.
        place: Place,
    },
    /// The key was to be created and is taken, perhaps by an earlier attempt of the same write.
    #[error("{place} exists already")]
    Exists {
        /// Which object.
        place: Place,
    },
    /// The object is another one than expected.
    #[error("{place} was changed by somebody else")]
    LostRace {
        /// Which object.
        place: Place,
    },
    /// There is no such unfinished upload: it was completed, given up, or removed. This says nothing about the object.
    #[error("the unfinished upload of {place} is gone; begin it again")]
    UploadGone {
        /// Which object.
        place: Place,
    },
    /// Another conditional write was under way. This one may or may not have happened.
    #[error("{place} was being written by somebody else at the same moment; try again")]
    Conflict {
        /// Which object.
        place: Place,
    },
    /// The store is overloaded or broken for now. A write may or may not have happened.
    #[error("{place} is busy: {reason}; try again later")]
    Busy {
        /// Which object.
        place: Place,
        /// What the store said.
        reason: String,
        /// How long the store wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer. A write may or may not have happened.
    #[error("no answer for {place}: {reason}; check endpoint and network")]
    Unreachable {
        /// Which object.
        place: Place,
        /// What went wrong, outermost first.
        reason: String,
    },
    /// The store knows who is asking and does not allow it, or does not believe the credentials.
    #[error("not allowed: {place}: {reason}; check credentials and permissions")]
    Denied {
        /// Which object.
        place: Place,
        /// What the store said.
        reason: String,
    },
    /// There are no credentials to ask with.
    #[error(
        "no credentials for {place}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or keys in the config file ({reason})"
    )]
    NoCredentials {
        /// Which object.
        place: Place,
        /// Where they were looked for.
        reason: String,
    },
    /// The bucket is in another region.
    #[error("{place} is in another region{}: {reason}; set the region", region.as_ref().map_or(String::new(), |region| format!(" ({region})")))]
    WrongRegion {
        /// Which object.
        place: Place,
        /// The right one, if the store said so.
        region: Option<String>,
        /// What the store said.
        reason: String,
    },
    /// The object is larger than the caller or the store can take.
    #[error("{place} has {size} bytes, more than the {max} allowed here")]
    TooLarge {
        /// Which object.
        place: Place,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The store's answer cannot be true: a cut list, a range of another length, an object without a size.
    #[error("{place} gave an answer that cannot be right: {reason}")]
    Mangled {
        /// Which object.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// The store refuses for a reason this version does not know, or cannot do what it was asked.
    #[error("{place} refused: {reason}")]
    Refused {
        /// Which object.
        place: Place,
        /// What the store said.
        reason: String,
    },
    /// The store is described in a way that cannot work.
    #[error("{place} cannot be used: {reason}")]
    Misconfigured {
        /// Which store.
        place: Place,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// Whether asking again, in the same words and later, may help. A write that ends like this may or may not have
    /// happened.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Busy { .. } | Self::Unreachable { .. } => true,
            Self::Absent { .. }
            | Self::BucketAbsent { .. }
            | Self::Exists { .. }
            | Self::LostRace { .. }
            | Self::UploadGone { .. }
            | Self::Denied { .. }
            | Self::NoCredentials { .. }
            | Self::WrongRegion { .. }
            | Self::TooLarge { .. }
            | Self::Mangled { .. }
            | Self::Refused { .. }
            | Self::Misconfigured { .. } => false,
        }
    }

    /// Whether a human has to change something first: names, credentials, permissions, configuration.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::BucketAbsent { .. }
            | Self::Denied { .. }
            | Self::NoCredentials { .. }
            | Self::WrongRegion { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Misconfigured { .. } => true,
            Self::Absent { .. }
            | Self::Exists { .. }
            | Self::LostRace { .. }
            | Self::UploadGone { .. }
            | Self::Conflict { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::Mangled { .. } => false,
        }
    }

    /// Whether the object is proved not to be there. A missing bucket proves nothing.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// One word for how a request ended, for counters.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "absent",
            Self::BucketAbsent { .. } => "bucket_absent",
            Self::Exists { .. } => "exists",
            Self::LostRace { .. } => "lost_race",
            Self::UploadGone { .. } => "upload_gone",
            Self::Conflict { .. } => "conflict",
            Self::Busy { .. } => "busy",
            Self::Unreachable { .. } => "unreachable",
            Self::Denied { .. } | Self::NoCredentials { .. } => "denied",
            Self::Mangled { .. } => "mangled",
            Self::WrongRegion { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Misconfigured { .. } => "refused",
        }
    }

    /// How long the store wants to be left alone, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Absent { .. }
            | Self::BucketAbsent { .. }
            | Self::Exists { .. }
            | Self::LostRace { .. }
            | Self::UploadGone { .. }
            | Self::Conflict { .. }
            | Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::NoCredentials { .. }
            | Self::WrongRegion { .. }
            | Self::TooLarge { .. }
            | Self::Mangled { .. }
            | Self::Refused { .. }
            | Self::Misconfigured { .. } => None,
        }
    }
}
