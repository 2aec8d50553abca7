//! What is wrong with a replica, found without believing any of it.
//!
//! | module | finds |
//! |---|---|
//! | [`listing`] | what a list of names and the head already say: slots that are missing, files that lead nowhere |
//! | [`walk`] | what headers and pages say: files that do not continue each other, levels that do not agree |
//!
//! A state of the database is named by its TXID and known by its checksum. Whoever verifies asks of every file whether the
//! state before it, together with its pages, is the state that it and every other file with the same end claims.

use std::collections::BTreeSet;

use lifeboat_ltx::Txid;
use serde::Serialize;

use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;
use crate::restore::points::points;

pub mod listing;
pub mod walk;

#[cfg(test)]
mod tests;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort of thing.
    pub kind: Kind,
    /// The object, where it is about one: its key below the replica's prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// One sentence: which thing, what is wrong.
    pub message: String,
    /// The file that it contradicts: perhaps that one is wrong.
    #[serde(skip)]
    pub other: Option<Covered>,
}

/// A file as its name says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Its level.
    pub level: Level,
    /// The first TXID it covers.
    pub min: Txid,
    /// The last TXID it covers.
    pub max: Txid,
}

impl Covered {
    fn is(self, file: &FileEntry) -> bool {
        (self.level, self.min, self.max) == (file.level, file.min, file.max)
    }
}

impl std::fmt::Display for Covered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file {}-{} of level {}", self.min, self.max, self.level.get())
    }
}

/// The sorts of things that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Bytes are not what was written.
    Damaged,
    /// A file that must be there is not.
    Missing,
    /// A file holds what belongs under another name.
    Misplaced,
    /// A file continues another history than the one before it, or was written by somebody who is not the writer.
    Foreign,
    /// Two files end at one TXID and lead to two databases.
    Disagreement,
    /// The head says otherwise than the files.
    Head,
    /// What this machine noted when it stored the database is not what is stored.
    Local,
    /// The database cannot be restored, or SQLite finds it damaged.
    Restore,
    /// A condition that the restored database should fulfil is not true.
    Sql,
}

impl Finding {
    /// Something wrong with one file.
    #[must_use]
    pub fn of(kind: Kind, file: &FileEntry, what: impl std::fmt::Display) -> Self {
        Self { kind, key: Some(file.key.clone()), message: format!("{}: {what}", file.key), other: None }
    }

    /// Something that is not wrong with one file alone.
    #[must_use]
    pub fn about(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, key: None, message: message.into(), other: None }
    }
}

/// What to say of a file that was listed and could not be read any more, after a new look: `None` where it was given up
/// meanwhile, as every file is in the end.
#[must_use]
pub fn gone(file: &FileEntry, now: &Inventory) -> Option<Finding> {
    // Who has no floors deletes without a word.
    let head = now.head()?;
    if !head.is_live(file.level, file.max) {
        return None;
    }
    let what = if now.files().iter().any(|listed| listed.key == file.key) {
        "was replaced while it was read; nothing that is stored is ever written again"
    } else {
        "was deleted while it was read, and was not given up"
    };
    Some(Finding::of(Kind::Missing, file, what))
}

/// What could be restored if the files that something is wrong with, or may be, were not there: how many states, and the
/// newest of them.
#[must_use]
pub fn restorable(inventory: &Inventory, findings: &[Finding]) -> (usize, Option<Txid>) {
    let keys: BTreeSet<_> = findings.iter().filter_map(|finding| finding.key.as_ref()).collect();
    let others: Vec<_> = findings.iter().filter_map(|finding| finding.other).collect();
    let is_sound =
        |file: &&FileEntry| !keys.contains(&file.key) && !others.iter().any(|other| other.is(file));
    let sound = inventory.files().iter().filter(is_sound).cloned().collect();
    let sound = Inventory::new(sound, inventory.head().cloned());
    let points = points(&sound);
    (points.len(), points.last().map(|point| point.txid))
}
