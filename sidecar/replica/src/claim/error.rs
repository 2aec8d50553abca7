//! Why a claim must not go on.

use lifeboat_ltx::Txid;
use thiserror::Error;

use super::{Fact, State};
use crate::epoch::Epoch;
use crate::promise::Promise;

/// A claim that ended without the replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// LTX files, but no head: Litestream's, or ours with the head lost.
    #[error(
        "the prefix holds {files} LTX files but no lifeboat/head.json: they are another program's, such as Litestream's, \
         or the head was deleted; choose an empty prefix, or continue what Litestream has written: stop it, and pass --adopt"
    )]
    UnclaimedData {
        /// How many.
        files: usize,
    },
    /// There is nothing where something was stored before.
    #[error("{0}")]
    Emptied(Promise),
    /// The replica belongs to another cluster, namespace or name.
    #[error("the replica belongs to {owner}; give each database a prefix of its own")]
    ForeignOwner {
        /// In words.
        owner: String,
    },
    /// Another pod took the replica over before this process was restarted.
    #[error(
        "the replica was taken over by {owner}; this process was superseded and does not take it back by itself"
    )]
    Superseded {
        /// In words.
        owner: String,
    },
    /// Somebody stored something since the claimant looked.
    #[error("slot {newest} was stored since the database was compared with the bucket")]
    Moved {
        /// The newest slot now.
        newest: u64,
    },
    /// A slot between the floor and the newest is missing.
    #[error("slot {missing} is missing below slot {newest}: somebody deletes or writes under this prefix")]
    Hole {
        /// The missing slot.
        missing: Txid,
        /// The newest slot.
        newest: Txid,
    },
    /// The slots that must never all be gone are gone.
    #[error("every slot above {floor} is gone: somebody deleted under this prefix")]
    NoSlots {
        /// The floor of level 0.
        floor: u64,
    },
    /// A file without our mark stands above our base.
    #[error(
        "slot {txid} was not written by lifeboat: another program writes under this prefix; stop it, and pass --adopt to \
         continue what it has written"
    )]
    ForeignFile {
        /// The slot.
        txid: Txid,
    },
    /// The checksums of two neighbours do not meet.
    #[error("slot {txid} does not continue the slot before it: their database checksums differ")]
    BrokenChain {
        /// The later slot.
        txid: Txid,
    },
    /// Another claimant has a higher epoch.
    #[error("another process took the replica over (epoch {}) while this one was claiming it", by.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string()))]
    Lost {
        /// The winner's epoch, where it is known.
        by: Option<Epoch>,
    },
    /// The store created an object that existed.
    #[error(
        "the store overwrote slot {txid} although it was told to create it only: it ignores If-None-Match, so one writer \
         cannot be guaranteed; use a store with conditional writes"
    )]
    NotConformant {
        /// The slot.
        txid: Txid,
    },
    /// Our own fault.
    #[error("BUG: {what}")]
    Bug {
        /// What did not fit.
        what: String,
    },
}

impl ClaimError {
    pub(super) fn bug(state: &State, fact: &Fact) -> Self {
        Self::Bug { what: format!("the claim was told {fact:?} while {state:?}") }
    }
}
