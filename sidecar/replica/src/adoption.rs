//! Whether the database on this machine continues what the bucket holds.
//!
//! A wrong yes uploads one database over another's history; a wrong no costs a question to a human. So yes needs proof:
//! the same checksum as the chain's end, or our own record of having followed this file without a break since its last
//! stored slot, while nobody else stored anything.

use lifeboat_ltx::Checksum;
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::head::{Base, Head, checksum_text};

mod contradiction;
mod look;
mod why;

pub use self::contradiction::Contradiction;
pub use self::look::{Ask, Look, LookStep, Told};
pub use self::why::why_diverged;

/// What a writer notes beside the database after each stored slot, and a restore once: the database was exactly in the state of
/// this slot, and what differs was written to it afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The lineage in `head.json`.
    pub lineage: String,
    /// The writer that stored the slot; `None` where a restore left the record, which stores nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The slot.
    #[serde(flatten)]
    pub slot: Base,
    /// The boot of the machine: after a power cut the file may have lost commits that the bucket has.
    pub boot_id: String,
    /// Device, inode and birth of the file that was followed: another file under its name is another database.
    pub file_id: String,
    /// The place where the slot is stored, as messages spell it; empty where nothing says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// The local database, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Proved absent: no file, or one without a page.
    Absent,
    /// There is a database.
    Present {
        /// What it holds now.
        content: Content,
        /// Device, inode and birth of the file now.
        file_id: String,
        /// Our record beside it, if any.
        record: Option<Record>,
    },
}

/// What is known of a local database's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Every page was read: the rolling checksum.
    Read(Checksum),
    /// No page was read. The page log and the WAL prove that it is a state of the chain, or that state and commits after it.
    Continues {
        /// The rolling checksum of that state.
        from: Checksum,
        /// Whether anything was committed since.
        is_changed: bool,
    },
    /// No page was read, because the bucket holds none to compare with.
    Unread,
}

impl Content {
    /// The rolling checksum of the database, where it is known.
    const fn checksum(self) -> Option<Checksum> {
        match self {
            Self::Read(checksum) | Self::Continues { from: checksum, is_changed: false } => Some(checksum),
            Self::Continues { is_changed: true, .. } | Self::Unread => None,
        }
    }
}

/// One slot of the chain, for the rule about what came after the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainSlot {
    /// Its TXID.
    pub txid: u64,
    /// Who stored it.
    pub epoch: Epoch,
    /// Whether it is a seal.
    pub is_seal: bool,
}

/// What the bucket holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// The lineage in `head.json`.
    pub lineage: String,
    /// The checksum at the chain's end; `None` where nothing says.
    #[serde(default, with = "checksum_text")]
    pub checksum: Option<Checksum>,
    /// The checksum at the record's slot; `None` where that slot is not there, or nothing says.
    #[serde(default, with = "checksum_text")]
    pub at_record: Option<Checksum>,
    /// The newest slot; 0 where there is none.
    pub newest: u64,
    /// The newest slot with pages; 0 where there is none.
    pub newest_pages: u64,
    /// Whether any file holds pages.
    pub holds_pages: bool,
    /// Every slot after the record's, none missing; empty without a record.
    pub since_record: Vec<ChainSlot>,
}

/// What becomes of the local database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// Nothing here and nothing there: the application's first start.
    FirstStart,
    /// A database here and nothing there: it becomes the replica's first state.
    Initial,
    /// Nothing here: the bucket's state has to be restored.
    Restore,
    /// It is what the bucket restores to.
    Same,
    /// By the record it continues what the bucket holds; the next slot carries what changed.
    Continues,
    /// It is an unchanged older state of the same chain: restoring over it loses nothing.
    Behind,
    /// It is neither: a human has to choose.
    Diverged,
}

/// Decides what becomes of the local database. `boot_id` names the present boot of the machine.
#[must_use]
pub fn decide(local: &Local, chain: &Chain, boot_id: &str) -> Adoption {
    let (content, file_id, record) = match local {
        Local::Absent if chain.holds_pages => return Adoption::Restore,
        Local::Absent => return Adoption::FirstStart,
        Local::Present { content, file_id, record } => (*content, file_id, record.as_ref()),
    };
    if !chain.holds_pages {
        return Adoption::Initial;
    }
    let checksum = content.checksum();
    if checksum.is_some() && chain.checksum == checksum {
        return Adoption::Same;
    }
    let Some(record) = record.filter(|record| chain.has(record)) else {
        return Adoption::Diverged;
    };
    let stored_since: Vec<_> = chain.since_record.iter().filter(|slot| !slot.is_seal).collect();
    if checksum.is_some() && record.slot.checksum == checksum && !stored_since.is_empty() {
        return Adoption::Behind;
    }
    let is_same_file = !file_id.is_empty() && record.file_id == *file_id;
    if record.boot_id == boot_id
        && is_same_file
        && stored_since.iter().all(|slot| record.may_be_followed_by(slot))
    {
        return Adoption::Continues;
    }
    Adoption::Diverged
}

impl Chain {
    /// The same chain with the seal of `head`'s owner behind it, as it is after a claim. `None` when anything else was
    /// stored in between, or the chain is another: then it has to be read again.
    #[must_use]
    pub fn sealed(mut self, head: &Head, seal: Base) -> Option<Self> {
        if !self.lineage.is_empty() && self.lineage != head.lineage {
            return None;
        }
        self.lineage.clone_from(&head.lineage);
        if seal == Base::NOTHING && self.newest == 0 {
            return Some(self);
        }
        if seal.txid != self.newest + 1 || (self.checksum.is_some() && seal.checksum != self.checksum) {
            return None;
        }
        (self.newest, self.checksum) = (seal.txid, seal.checksum);
        self.since_record.push(ChainSlot { txid: seal.txid, epoch: head.epoch, is_seal: true });
        Some(self)
    }

    /// The same chain, seen from a record that was just written about its end.
    #[must_use]
    pub fn recorded(self) -> Self {
        Self { at_record: self.checksum, since_record: Vec::new(), ..self }
    }

    /// Whether the state that the record speaks of is one of this chain. A bucket that was set back, or another one under
    /// the same name, proves nothing about what is newer.
    #[must_use]
    pub fn has(&self, record: &Record) -> bool {
        let is_there =
            record.slot.txid == 0 || (self.at_record.is_some() && self.at_record == record.slot.checksum);
        record.lineage == self.lineage && is_there
    }
}

impl Record {
    /// The record of the writer of `head` that `slot` is stored.
    #[must_use]
    pub fn new(head: &Head, slot: Base, boot_id: String, file_id: String) -> Self {
        Self {
            lineage: head.lineage.clone(),
            epoch: Some(head.epoch),
            slot,
            boot_id,
            file_id,
            place: String::new(),
        }
    }

    /// The same record, of a slot that is stored at this place.
    #[must_use]
    pub fn stored_at(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// The record of a restore that this file was made of the replica at `slot`, and nothing else.
    #[must_use]
    pub const fn of_restore(lineage: String, slot: Base, boot_id: String, file_id: String) -> Self {
        Self { lineage, epoch: None, slot, boot_id, file_id, place: String::new() }
    }

    /// Whether a restore left it: then this machine has stored nothing of the database yet.
    #[must_use]
    pub const fn is_of_restore(&self) -> bool {
        self.epoch.is_none()
    }

    /// The record is written after every slot, before the next is sent. So at most one slot can have been stored after it
    /// by the same process; more of them mean that the record is an old one, put back with its volume. After a restore every
    /// one is somebody else's.
    fn may_be_followed_by(&self, slot: &ChainSlot) -> bool {
        self.epoch == Some(slot.epoch) && slot.txid == self.slot.txid + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "boot-1";

    fn sum(bits: u64) -> Checksum {
        format!("{:016x}", bits | 1 << 63).parse().unwrap()
    }

    fn local(now: u64, recorded: u64, boot: &str) -> Local {
        let slot = Base { txid: 5, checksum: Some(sum(recorded)) };
        let record = Record {
            lineage: "l".to_owned(),
            epoch: Some(Epoch::new(3)),
            slot,
            boot_id: boot.to_owned(),
            file_id: "file-1".to_owned(),
            place: String::new(),
        };
        Local::Present {
            content: Content::Read(sum(now)),
            file_id: "file-1".to_owned(),
            record: Some(record),
        }
    }

    fn chain(end: u64, since: &[(u64, bool)]) -> Chain {
        let slot = |(n, &(epoch, is_seal)): (usize, &(u64, bool))| ChainSlot {
            txid: 6 + n as u64,
            epoch: Epoch::new(epoch),
            is_seal,
        };
        Chain {
            lineage: "l".to_owned(),
            checksum: Some(sum(end)),
            at_record: Some(sum(1)),
            newest: 5 + since.len() as u64,
            newest_pages: 5,
            holds_pages: true,
            since_record: since.iter().enumerate().map(slot).collect(),
        }
    }

    #[test]
    fn what_the_bucket_restores_to_is_adopted_even_without_a_record() {
        let stranger =
            Local::Present { content: Content::Read(sum(9)), file_id: "file-1".to_owned(), record: None };
        assert_eq!(decide(&stranger, &chain(9, &[]), HERE), Adoption::Same);
        assert_eq!(decide(&stranger, &chain(8, &[]), HERE), Adoption::Diverged);
    }

    #[test]
    fn commits_made_while_we_were_away_are_a_continuation_in_the_same_boot_only() {
        assert_eq!(decide(&local(7, 1, HERE), &chain(1, &[(4, true)]), HERE), Adoption::Continues);
        assert_eq!(decide(&local(7, 1, "boot-0"), &chain(1, &[(4, true)]), HERE), Adoption::Diverged);
    }

    #[test]
    fn a_new_file_under_the_old_name_continues_nothing() {
        let Local::Present { content, record, .. } = local(7, 1, HERE) else { unreachable!() };
        let replaced = Local::Present { content, file_id: "file-2".to_owned(), record };
        assert_eq!(decide(&replaced, &chain(1, &[(4, true)]), HERE), Adoption::Diverged);
    }

    #[test]
    fn our_own_slot_stored_after_the_record_was_written_does_not_matter() {
        assert_eq!(
            decide(&local(7, 1, HERE), &chain(2, &[(3, false), (4, true)]), HERE),
            Adoption::Continues
        );
    }

    #[test]
    fn somebody_elses_commits_after_our_record_forbid_going_on() {
        assert_eq!(decide(&local(7, 1, HERE), &chain(2, &[(4, true), (4, false)]), HERE), Adoption::Diverged);
    }

    /// The same database, with the record of a restore beside it.
    fn restored(now: u64, recorded: u64, boot: &str) -> Local {
        let Local::Present { content, file_id, record } = local(now, recorded, boot) else { unreachable!() };
        let of_restore = |was: Record| Record::of_restore(was.lineage, was.slot, was.boot_id, was.file_id);
        Local::Present { content, file_id, record: record.map(of_restore) }
    }

    #[test]
    fn what_is_written_to_a_restored_file_continues_the_state_it_was_made_of() {
        assert_eq!(decide(&restored(7, 1, HERE), &chain(1, &[]), HERE), Adoption::Continues);
        assert_eq!(
            decide(&restored(7, 1, HERE), &chain(1, &[(4, true), (5, true)]), HERE),
            Adoption::Continues
        );
        assert_eq!(decide(&restored(7, 1, "boot-0"), &chain(1, &[]), HERE), Adoption::Diverged);
    }

    #[test]
    fn a_slot_stored_after_a_restore_is_somebody_elses_whoever_stored_it() {
        for epoch in [0, 1, 3, 4] {
            let gone_on = chain(2, &[(epoch, false)]);
            assert_eq!(decide(&restored(7, 1, HERE), &gone_on, HERE), Adoption::Diverged, "epoch {epoch}");
            assert_eq!(decide(&restored(1, 1, HERE), &gone_on, HERE), Adoption::Behind, "epoch {epoch}");
        }
    }

    #[test]
    fn a_record_of_a_restore_is_understood_again_and_was_none_before_there_were_any() {
        let Local::Present { record: Some(record), .. } = restored(7, 1, HERE) else { unreachable!() };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        assert!(!json.contains("epoch"), "a release that demands one must not find one: {json}");
    }

    #[test]
    fn an_unchanged_older_state_may_be_replaced() {
        assert_eq!(decide(&local(1, 1, HERE), &chain(2, &[(4, true), (4, false)]), HERE), Adoption::Behind);
        assert_eq!(decide(&local(1, 1, "boot-0"), &chain(2, &[(3, false)]), HERE), Adoption::Behind);
    }

    #[test]
    fn a_bucket_that_was_set_back_does_not_set_the_database_back() {
        let mut earlier = chain(2, &[]);
        earlier.at_record = None;
        assert_eq!(decide(&local(1, 1, "boot-0"), &earlier, HERE), Adoption::Diverged);
        assert_eq!(decide(&local(1, 1, HERE), &earlier, HERE), Adoption::Diverged);
        assert_eq!(decide(&local(7, 1, HERE), &earlier, HERE), Adoption::Diverged);
    }

    #[test]
    fn a_volume_that_was_set_back_in_the_same_boot_does_not_set_the_bucket_back() {
        let newer = chain(2, &[(3, false), (3, false)]);
        assert_eq!(decide(&local(1, 1, HERE), &newer, HERE), Adoption::Behind);
        assert_eq!(decide(&local(7, 1, HERE), &newer, HERE), Adoption::Diverged);
    }

    #[test]
    fn a_file_that_cannot_be_told_from_another_continues_nothing() {
        let Local::Present { content, mut record, .. } = local(7, 1, HERE) else { unreachable!() };
        if let Some(record) = &mut record {
            record.file_id = String::new();
        }
        let nameless = Local::Present { content, file_id: String::new(), record };
        assert_eq!(decide(&nameless, &chain(1, &[(4, true)]), HERE), Adoption::Diverged);
    }

    #[test]
    fn another_lineages_record_proves_nothing() {
        let mut other = chain(2, &[]);
        other.lineage = "m".to_owned();
        assert_eq!(decide(&local(7, 7, HERE), &other, HERE), Adoption::Diverged);
    }

    #[test]
    fn absence_on_either_side_is_told_apart() {
        let empty = Chain { holds_pages: false, checksum: None, ..chain(0, &[]) };
        assert_eq!(decide(&Local::Absent, &empty, HERE), Adoption::FirstStart);
        assert_eq!(decide(&Local::Absent, &chain(1, &[]), HERE), Adoption::Restore);
        assert_eq!(decide(&local(1, 1, HERE), &empty, HERE), Adoption::Initial);
    }
}
