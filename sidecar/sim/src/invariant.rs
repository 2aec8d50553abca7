//! What must hold in every world, by name, and how it is said that it does not.

use std::fmt;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// What was acknowledged is restored from then on, as far back as it was promised.
    Durable,
    /// A restore to a point gives the database as it was there, byte for byte, and says so.
    Exact,
    /// Slots have no hole, and each goes on from the one before it.
    Contiguous,
    /// A slot holds everything that was committed before it was cut, whatever became of the WAL meanwhile.
    NothingLost,
    /// One slot, one content; whoever lost the replica acknowledges nothing and does not take it back.
    OneWriter,
    /// Nothing is deleted that a promised point needs.
    SafePruning,
    /// When nothing goes wrong any more, everything is stored soon; and nobody reports damage where there is none.
    Live,
    /// Nobody keeps the application's WAL from being emptied.
    Bounded,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Durable,
        Self::Exact,
        Self::Contiguous,
        Self::NothingLost,
        Self::OneWriter,
        Self::SafePruning,
        Self::Live,
        Self::Bounded,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Exact => "exact",
            Self::Contiguous => "contiguous",
            Self::NothingLost => "nothing lost",
            Self::OneWriter => "one writer",
            Self::SafePruning => "safe pruning",
            Self::Live => "live",
            Self::Bounded => "bounded",
        })
    }
}

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub breaks: Invariant,
    /// What happened.
    pub what: String,
}

impl Violation {
    /// In these words.
    #[must_use]
    pub fn new(breaks: Invariant, what: impl Into<String>) -> Self {
        Self { breaks, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VIOLATION ({}): {}", self.breaks, self.what)
    }
}
