//! Branches that are rare, and that worlds from seeds have to reach all the same: what is never reached is not tested.

macro_rules! marks {
    ($($(#[doc = $what:literal])* $name:ident,)*) => {
        /// A rare branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark { $($(#[doc = $what])* $name,)* }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

marks! {
    /// A writer finds that it is not the writer any more.
    Fenced,
    /// A slot was there already, and is its own: a lost answer.
    OwnSlotFound,
    /// A claimant lost to a later one.
    ClaimLost,
    /// A claimant waited for a writer that makes progress.
    Waited,
    /// A restarted process was superseded and stays away.
    Superseded,
    /// A claim was overtaken before it was opened.
    Overtaken,
    /// A list that was old made no sense to a claimant.
    Misled,
    /// A local database is not what the bucket holds, and nobody touches it.
    Diverged,
    /// A local database was behind, and was restored over.
    Behind,
    /// A local database goes on by its record.
    Continued,
    /// An empty machine was restored.
    Restored,
    /// The WAL does not go on where it was left: every page is compared.
    WalBroken,
    /// A follower went on where the page log says that an earlier one was.
    Resumed,
    /// A slot was due, and nothing had changed.
    NothingChanged,
    /// What predecessors stored was looked up for merging.
    PastLearned,
    /// A merged file was written.
    Merged,
    /// A snapshot was written.
    Snapshot,
    /// The first slot was copied to where snapshots are.
    FirstCopied,
    /// Floors were raised.
    Raised,
    /// Whoever wanted to raise floors found another writer's head.
    RaiseLost,
    /// A process died between raising and deleting.
    DiedDeleting,
    /// A request arrived after its sender had died.
    LateArrival,
    /// A restore planned again.
    PlannedAgain,
    /// A restore beside everything else came to its end.
    RestoreDone,
    /// A slot was stored behind those of a replica near an edge.
    StoredNearEdge,
    /// A machine stood still while others went on.
    StoodStill,
    /// The power failed and commits were lost.
    CommitsLost,
}

/// The marks that were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u64);

impl Marks {
    /// It was reached.
    pub const fn insert(&mut self, mark: Mark) {
        self.0 |= 1 << mark as u64;
    }

    /// Everything that either reached.
    pub const fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Those that were not reached.
    #[must_use]
    pub fn missing(self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.0 & (1 << *mark as u64) == 0).collect()
    }
}

const _: () = assert!(Mark::ALL.len() <= 64, "a mark is a bit");
