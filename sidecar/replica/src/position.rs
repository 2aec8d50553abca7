//! The exact state a replica stands at.

use lifeboat_ltx::{Checksum, Txid};

use crate::epoch::Epoch;

/// A stored state: which writer stored it, under which TXID, and the checksum of the whole database there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The writer of the slot.
    pub epoch: Epoch,
    /// The slot.
    pub txid: Txid,
    /// The rolling checksum of the whole database after the slot; `None` for files without our mark.
    pub checksum: Option<Checksum>,
}
