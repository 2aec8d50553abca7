//! Which states the files of a replica lead to.
//!
//! A file brings any state from the one before its first TXID on to the one at its last, because it holds the newest image
//! of every page that changed in between; overlaps do no harm. A state is named by its TXID; 0 is no database.

use crate::inventory::FileEntry;

/// The TXIDs of the states that files lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach(Vec<u64>);

impl Reach {
    /// Where these files lead to, beginning with nothing.
    #[must_use]
    pub fn of<'f>(files: impl IntoIterator<Item = &'f FileEntry>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|file| (file.max, file.min));
        let mut reached = vec![0];
        for file in files {
            let newest = reached.last().copied().unwrap_or(0);
            if newest < file.max.get() && newest + 1 >= file.min.get() {
                reached.push(file.max.get());
            }
        }
        Self(reached)
    }

    /// Whether a state is among them.
    #[must_use]
    pub fn contains(&self, txid: u64) -> bool {
        self.0.binary_search(&txid).is_ok()
    }

    /// The newest of them that is not after `txid`; 0 for none.
    #[must_use]
    pub fn newest_up_to(&self, txid: u64) -> u64 {
        let after = self.0.partition_point(|&reached| reached <= txid);
        after.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::test_file as file;

    #[test]
    fn a_file_goes_on_from_any_state_within_it() {
        let files = [file(0, 1, 1), file(1, 2, 5), file(1, 4, 9), file(0, 11, 11)];
        let reach = Reach::of(&files);
        assert_eq!(reach, Reach(vec![0, 1, 5, 9]));
        assert!(reach.contains(5) && !reach.contains(11) && !reach.contains(4));
        assert_eq!((reach.newest_up_to(4), reach.newest_up_to(5), reach.newest_up_to(100)), (1, 5, 9));
    }

    #[test]
    fn a_snapshot_goes_on_from_nothing_and_a_later_file_does_not() {
        assert_eq!(Reach::of(&[file(1, 3, 4), file(9, 1, 6), file(0, 7, 7)]), Reach(vec![0, 6, 7]));
        assert_eq!(Reach::of(&[file(0, 2, 2)]), Reach(vec![0]));
    }
}
