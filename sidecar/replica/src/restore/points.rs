//! The targets there are: every TXID at which a chain of files ends.

use lifeboat_ltx::Txid;

use crate::inventory::{FileEntry, Inventory};

/// A TXID that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point<'a> {
    /// The TXID.
    pub txid: Txid,
    /// A file that ends there and continues something: of several, that of the lowest level, whose time is the most exact.
    pub file: &'a FileEntry,
}

/// Every target there is, ascending. States without a page are none.
#[must_use]
pub fn points(inventory: &Inventory) -> Vec<Point<'_>> {
    let mut files: Vec<_> = inventory.files().iter().collect();
    files.sort_by_key(|file| (file.max, file.level));
    let (mut points, mut has_pages) = (Vec::<Point<'_>>::new(), false);
    // The end of the files looked at that lies last before the one in hand; 0, where nothing is needed before.
    let (mut reached, mut before) = (0, 0);
    for file in files {
        if file.max.get() > reached {
            before = reached;
        }
        if file.min.get() > before.saturating_add(1) {
            continue;
        }
        has_pages |= !file.is_seal();
        let is_new = points.last().is_none_or(|last| last.txid != file.max);
        if is_new && has_pages {
            points.push(Point { txid: file.max, file });
        }
        reached = file.max.get();
    }
    points
}

/// The last target before a TXID and the first one after it.
#[must_use]
pub fn next_to(points: &[Point<'_>], txid: Txid) -> (Option<Txid>, Option<Txid>) {
    let after = points.partition_point(|point| point.txid <= txid);
    let before = points.partition_point(|point| point.txid < txid);
    let before = before.checked_sub(1).and_then(|before| points.get(before));
    (before.map(|point| point.txid), points.get(after).map(|point| point.txid))
}
