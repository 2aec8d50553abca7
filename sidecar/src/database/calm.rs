//! When a quiet moment is worth the housekeeping: a decision, without doing anything.
//!
//! Settling costs us two syncs, and the application one more in its next commit, because a WAL restart syncs the WAL's
//! header. So an application that commits every few milliseconds is not settled after each commit. But it must not take
//! long either: an application may checkpoint for itself soon after its commit, and it waits until our pin is out of the
//! way.

use std::time::Duration;

use lifeboat_wal::wal_index::WalIndex;

/// What to do in a quiet moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calm {
    /// Nothing yet: the next commit may come soon.
    Wait,
    /// Somebody is checkpointing and may be waiting for our pin: move it out of the way.
    Accompany,
    /// Settle the WAL.
    Settle,
}

/// Decides when no commit came for `quiet`; `is_long` when the WAL is so long that settling pays.
pub(super) fn decide(quiet: Duration, index: &WalIndex, is_long: bool, sees_checkpoint: bool) -> Calm {
    if sees_checkpoint {
        Calm::Accompany
    // When everything is copied already, nothing is left to sync.
    } else if is_long || quiet >= CALM_AFTER || index.is_backfilled() {
        Calm::Settle
    } else {
        Calm::Wait
    }
}

const CALM_AFTER: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageCount;
    use lifeboat_wal::checksum::{ByteOrder, Checksum};
    use lifeboat_wal::frame::FrameNo;
    use lifeboat_wal::header::Salts;
    use lifeboat_wal::wal_index::IndexHeader;

    use super::*;

    fn index(backfilled: u32) -> WalIndex {
        let header = IndexHeader {
            change_counter: 0,
            order: ByteOrder::Little,
            page_size: None,
            last_frame: FrameNo::new(5),
            page_count: PageCount::new(1),
            frame_checksum: Checksum::default(),
            salts: Salts::default(),
        };
        WalIndex { header, backfilled: FrameNo::new(backfilled), attempted: FrameNo::new(5) }
    }

    const SHORT: Duration = Duration::from_millis(29);

    #[test]
    fn a_short_pause_between_commits_is_no_calm() {
        assert_eq!(decide(SHORT, &index(4), false, false), Calm::Wait);
        assert_eq!(decide(CALM_AFTER, &index(4), false, false), Calm::Settle);
    }

    #[test]
    fn a_long_wal_and_one_that_is_copied_already_are_settled_at_once() {
        assert_eq!(decide(SHORT, &index(4), true, false), Calm::Settle);
        assert_eq!(decide(SHORT, &index(5), false, false), Calm::Settle);
    }

    #[test]
    fn a_checkpoint_of_the_application_is_let_pass_first() {
        assert_eq!(decide(CALM_AFTER, &index(5), true, true), Calm::Accompany);
    }
}
