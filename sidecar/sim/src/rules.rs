//! The rules of the protocol, one by one: a world can be searched without one of them.
//!
//! Nothing is changed in the machines that run in production. What performs their requests here, and what tells them the
//! answers, does it wrongly, as if the rule did not exist.

/// A rule that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A new owner puts a seal behind the chain before it writes.
    Seal,
    /// The head is changed by compare-and-swap.
    HeadByCompareAndSwap,
    /// A slot is created and never overwritten, also by a multipart upload that is completed late (F5).
    CreatedNeverOverwritten,
    /// The chain's end must be of a lower epoch than the claimant's (step 4).
    EndOfALowerEpoch,
    /// The hand-over is opened by its revision (step 6).
    OpenedByRevision,
    /// 128 random bits for each claim.
    Nonce,
    /// One slot in flight (F1).
    OneInFlight,
    /// What stands in the slot is read and compared (F3).
    ReadBack,
    /// A commit is acknowledged when its slot is stored (F4).
    AcknowledgedWhenStored,
    /// A derived file holds exactly the state of a slot that its writer proved (D1).
    DerivedFilesAreTrue,
    /// Floors never sink (P1).
    FloorsNeverSink,
    /// The floors are raised before anything is deleted (P2).
    RaisedBeforeDeleted,
    /// The floor of level 0 stays below the newest slot (P3).
    NewestSlotStays,
    /// Seals are never deleted (P4).
    SealsStay,
    /// A restore reads the head after every list (R1).
    HeadReadLast,
    /// A restore ignores dead files (R2).
    DeadFilesIgnored,
    /// A restore demands the versions that were listed, and plans anew without them (R3).
    ListedVersions,
    /// A local database continues the chain by its record only within one boot (V2).
    SameBoot,
    /// Who was superseded does not claim again by itself (V3).
    SupersededStays,
    /// Where the WAL does not go on, every page is compared. Only in worlds from a seed, as those below.
    RescanAfterBreak,
    /// A follower's read transaction ends when the next one begins.
    PinMoves,
    /// A list that fails is no list.
    FailureIsNoAnswer,
}
