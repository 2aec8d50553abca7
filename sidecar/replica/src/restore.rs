//! Which files lead to a restore target.
//!
//! The rule is Litestream's, so that both restore the same: the newest snapshot, then again and again the file of any
//! level that extends furthest from the TXID reached. A hole is an error even when a later file holds every page;
//! overlaps are harmless, because a later file only rewrites pages with newer images.

use lifeboat_ltx::Txid;

use crate::error::PlanError;
use crate::inventory::{FileEntry, Inventory};
use crate::layout::Level;

/// The files that reach a target, oldest first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    files: Vec<FileEntry>,
}

impl RestorePlan {
    /// The files, oldest first.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The TXID that the last file ends at.
    #[must_use]
    pub fn target(&self) -> Option<Txid> {
        self.files.last().map(|file| file.max)
    }

    /// Bytes to fetch.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Plans the restore of the newest state.
///
/// # Errors
/// [`PlanError`] where there is no database, or the files do not reach the newest one.
pub fn plan_latest(inventory: &Inventory) -> Result<RestorePlan, PlanError> {
    if !inventory.holds_pages() {
        return Err(PlanError::EmptyReplica);
    }
    let mut files: Vec<FileEntry> = newest_snapshot(inventory).cloned().into_iter().collect();
    let mut reached = files.last().map_or(0, |file| file.max.get());
    while let Some(next) = furthest_from(inventory, reached) {
        reached = next.max.get();
        files.push(next.clone());
    }
    match inventory.files().iter().filter(|file| file.max.get() > reached).map(|file| file.min).min() {
        None => Ok(RestorePlan { files }),
        Some(next) => Err(Txid::try_new(reached)
            .map_or(PlanError::NoBeginning { oldest: next }, |after| PlanError::Gap { after, next })),
    }
}

fn newest_snapshot(inventory: &Inventory) -> Option<&FileEntry> {
    let snapshots = inventory.files().iter().filter(|file| file.level == Level::SNAPSHOT);
    snapshots.filter(|file| file.min == Txid::FIRST).max_by_key(|file| file.max)
}

/// The file that continues from `reached` and ends last; of several, the one of the highest level, which is smallest.
fn furthest_from(inventory: &Inventory, reached: u64) -> Option<&FileEntry> {
    let continues = |file: &&FileEntry| file.min.get() <= reached + 1 && file.max.get() > reached;
    inventory.files().iter().filter(continues).max_by_key(|file| (file.max, file.level))
}

#[cfg(test)]
mod tests {
    use lifeboat_ltx::SEAL_SIZE;

    use super::*;
    use crate::head::{Head, Nonce, Owner};

    fn file(level: u8, min: u64, max: u64) -> FileEntry {
        FileEntry {
            level: Level::from_number(level).unwrap(),
            min: Txid::try_new(min).unwrap(),
            max: Txid::try_new(max).unwrap(),
            size: 1000,
            key: format!("{level}/{min}-{max}"),
            etag: String::new(),
        }
    }

    fn seal(txid: u64) -> FileEntry {
        FileEntry { size: SEAL_SIZE, ..file(0, txid, txid) }
    }

    fn keys(files: Vec<FileEntry>, head: Option<Head>) -> Result<Vec<String>, PlanError> {
        plan_latest(&Inventory::new(files, head))
            .map(|plan| plan.files.into_iter().map(|file| file.key).collect())
    }

    fn head_with_floor(level: u8, floor: u64) -> Head {
        let owner = Owner {
            nonce: Nonce::new([0; 16]),
            cluster: String::new(),
            namespace: String::new(),
            name: String::new(),
            pod_uid: String::new(),
        };
        let mut head = Head::create(String::new(), owner);
        head.floors.insert(level, floor);
        head
    }

    #[test]
    fn slots_alone_are_applied_in_order() {
        assert_eq!(
            keys(vec![file(0, 2, 2), file(0, 1, 1), seal(3)], None).unwrap(),
            ["0/1-1", "0/2-2", "0/3-3"]
        );
    }

    #[test]
    fn the_newest_snapshot_and_the_longest_files_win() {
        let files = vec![
            file(9, 1, 4),
            file(9, 1, 8),
            file(1, 9, 12),
            file(0, 9, 9),
            file(0, 12, 12),
            file(0, 13, 13),
        ];
        assert_eq!(keys(files, None).unwrap(), ["9/1-8", "1/9-12", "0/13-13"]);
    }

    #[test]
    fn a_gap_is_an_error_even_when_a_later_file_could_hold_every_page() {
        let error = keys(vec![file(0, 1, 1), file(0, 3, 3)], None).unwrap_err();
        assert_eq!(error, PlanError::Gap { after: Txid::FIRST, next: Txid::try_new(3).unwrap() });
    }

    #[test]
    fn a_chain_without_its_beginning_is_an_error() {
        let error = keys(vec![file(0, 2, 2)], None).unwrap_err();
        assert_eq!(error, PlanError::NoBeginning { oldest: Txid::try_new(2).unwrap() });
    }

    #[test]
    fn no_files_and_seals_alone_restore_to_nothing() {
        assert_eq!(keys(vec![], None), Err(PlanError::EmptyReplica));
        assert_eq!(keys(vec![seal(1), seal(2)], None), Err(PlanError::EmptyReplica));
    }

    #[test]
    fn dead_files_are_ignored_wherever_they_stand() {
        let files = vec![file(9, 1, 8), seal(3), file(0, 8, 8), file(0, 9, 9)];
        assert_eq!(keys(files.clone(), Some(head_with_floor(0, 7))).unwrap(), ["9/1-8", "0/9-9"]);
        // A seal that a late claimant put into a pruned slot would otherwise be a file like any other.
        let dead = vec![file(9, 1, 8), seal(9), file(0, 10, 10)];
        assert_eq!(
            keys(dead, Some(head_with_floor(0, 9))),
            Err(PlanError::Gap { after: Txid::try_new(8).unwrap(), next: Txid::try_new(10).unwrap() })
        );
    }
}
