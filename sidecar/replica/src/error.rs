//! Why a head cannot be read, and why a restore target cannot be reached.

use lifeboat_ltx::Txid;
use thiserror::Error;

/// `head.json` is not one this release can act on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The bytes are no head.
    #[error("lifeboat/head.json is malformed: {why}; it was not written by lifeboat or is damaged")]
    Malformed {
        /// What the parser met.
        why: String,
    },
    /// The prefix has another layout.
    #[error(
        "the replica has layout version {found} and this lifeboat knows {known}; use the release that wrote it"
    )]
    FormatVersion {
        /// The version in the object.
        found: u32,
        /// The version this release knows.
        known: u32,
    },
}

impl HeadError {
    pub(crate) fn from_json(error: serde_json::Error) -> Self {
        Self::Malformed { why: error.to_string() }
    }
}

/// A restore target that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing restorable is stored: no file, or seals alone.
    #[error("nothing to restore: the replica holds no database yet")]
    EmptyReplica,
    /// No slot of those that must be there was listed.
    #[error("every slot that was listed was given up meanwhile, or somebody deleted the newest ones")]
    Outdated,
    /// Files are missing in the middle.
    #[error(
        "the chain has a gap: the files reach txid {after} and go on at {next}; a file was deleted or lost"
    )]
    Gap {
        /// The last TXID that is reachable.
        after: Txid,
        /// The first TXID beyond the hole.
        next: Txid,
    },
    /// No chain of files ends at this TXID.
    #[error("txid {wanted} cannot be restored: {}", nearest(*.before, *.after))]
    NoPoint {
        /// What was asked for.
        wanted: Txid,
        /// The nearest restorable TXID before it.
        before: Option<Txid>,
        /// The nearest restorable TXID after it.
        after: Option<Txid>,
    },
    /// Every state that can be restored is younger than the time asked for.
    #[error(
        "nothing can be restored from that time: the oldest restorable state is txid {oldest}; choose its time or a later one"
    )]
    TooEarly {
        /// The oldest TXID that can be restored.
        oldest: Txid,
        /// When its file was made: milliseconds since 1970.
        oldest_ms: i64,
    },
    /// A copy cannot be brought on along the files that are left.
    #[error(
        "no files lead on from txid {from}, where the copy is; those that did were damaged, deleted or lost"
    )]
    NoWayOn {
        /// Where the copy is.
        from: Txid,
    },
    /// The replica ends before a state that it had.
    #[error(
        "the replica ends at txid {newest}, and the copy is at {from} already: it is another replica, or its newest files were \
         deleted; restore the copy anew with --force"
    )]
    SetBack {
        /// Where the copy is.
        from: Txid,
        /// The newest TXID of the replica.
        newest: Txid,
    },
    /// The oldest files are missing.
    #[error(
        "the chain has no beginning: the oldest file starts at txid {oldest} and no snapshot covers what is before"
    )]
    NoBeginning {
        /// Where the oldest file begins.
        oldest: Txid,
    },
}

fn nearest(before: Option<Txid>, after: Option<Txid>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => {
            format!("the nearest restorable states are {before} before it and {after} after it")
        }
        (Some(before), None) => format!("the newest restorable state is {before}"),
        (None, Some(after)) => format!("the oldest restorable state is {after}"),
        (None, None) => "nothing can be restored".to_owned(),
    }
}
