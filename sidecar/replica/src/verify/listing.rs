//! What a list of names and the head say, before any file is read.

use lifeboat_ltx::Txid;

use super::{Finding, Kind};
use crate::error::PlanError;
use crate::head::{Head, HeadState};
use crate::inventory::Inventory;
use crate::layout::Level;
use crate::restore::plan_latest;

/// Everything that is wrong with the list. A replica without a head is another program's, which deletes slots as it likes
/// once they are merged: of it only the way to the newest state must be there.
#[must_use]
pub fn look(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = inventory.head().map_or_else(Vec::new, |head| slots(inventory, head));
    if findings.is_empty()
        && let Err(error @ (PlanError::Gap { .. } | PlanError::NoBeginning { .. } | PlanError::Outdated)) =
            plan_latest(inventory)
    {
        findings.push(Finding::about(Kind::Missing, error.to_string()));
    }
    findings
}

/// Above the floor every slot is there, up to the newest; and the one with which the present writer began.
fn slots(inventory: &Inventory, head: &Head) -> Vec<Finding> {
    let floor = head.floor(Level::CAPTURED);
    let (mut findings, mut reached) = (Vec::new(), floor);
    for slot in inventory.slots() {
        if slot.min.get() > reached.saturating_add(1) {
            findings.push(missing(reached + 1, slot.min.get() - 1));
        }
        reached = reached.max(slot.max.get());
    }
    let has_begun = match head.state {
        HeadState::Claiming => false,
        HeadState::Open | HeadState::Closed => true,
    };
    if has_begun && reached < head.base.txid {
        findings.push(missing(reached + 1, head.base.txid));
    } else if reached == floor && floor > 0 {
        findings.push(Finding::about(
            Kind::Missing,
            format!("every slot up to {} is given up, and there is none after it", text(floor)),
        ));
    }
    findings
}

fn missing(first: u64, last: u64) -> Finding {
    let which = if first == last {
        format!("slot {} is missing", text(first))
    } else {
        format!("slots {} to {} are missing", text(first), text(last))
    };
    Finding::about(Kind::Missing, format!("{which}: deleted or lost, and not given up"))
}

fn text(txid: u64) -> String {
    Txid::try_new(txid).map_or_else(|| "0".to_owned(), |txid| txid.to_string())
}
