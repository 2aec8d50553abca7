//! What is measured.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sidecar::Variant;

/// One thing that is measured, with every sidecar that can do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A large database is stored for the first time.
    First,
    /// 1,000 commits a second.
    Paced,
    /// The same by an application that never waits for a lock.
    PacedNowait,
    /// As many commits as there can be, `synchronous=NORMAL`.
    FullNormal,
    /// The same with `synchronous=OFF`.
    FullOff,
    /// The same, but ours is not told so.
    FullOffUnsaid,
    /// The same with `synchronous=FULL`.
    FullFull,
    /// As many commits as there can be with `journal_mode=MEMORY`, `synchronous=OFF`.
    JournalMemory,
    /// One database that nobody touches.
    Idle1,
    /// A hundred.
    Idle100,
    /// Ten thousand.
    Idle10000,
    /// The sidecar ends in order and starts again on the large database.
    Restart,
    /// It is killed, the application writes on, and it starts again.
    RestartKilled,
    /// The large database is restored.
    Restore,
    /// Everything that is stored of the large database is verified.
    Verify,
    /// Commits while merged files and snapshots are made all the time.
    Merging,
    /// Restores after few and after many files were written.
    History,
}

/// What the application does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// Nothing, to so many databases.
    None {
        /// How many.
        databases: usize,
    },
    /// Nothing, to a large database that is not stored yet.
    First,
    /// Nothing, or some rows while the sidecar is away.
    Restart {
        /// Whether the sidecar is killed, and rows are written.
        is_killed: bool,
    },
    /// Nothing: the large database is stored, and restored.
    Restore,
    /// Nothing: the large database is stored, and what is stored is verified.
    Verify,
    /// Commits until so many files were written, and restores in between.
    History,
    /// Commits.
    Commits(Commits),
}

/// How the application commits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Commits {
    /// In a second; `None` for as many as there can be.
    pub(crate) rate: Option<u32>,
    /// PRAGMA synchronous.
    pub(crate) synchronous: &'static str,
    /// PRAGMA journal_mode.
    pub(crate) journal_mode: &'static str,
    /// How long it waits for a lock, milliseconds.
    pub(crate) busy_timeout: u64,
    /// What every config says.
    pub(crate) keys: &'static [&'static str],
    /// What our config says of it.
    pub(crate) our_keys: &'static [&'static str],
}

impl Scenario {
    /// All of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::First,
        Self::Paced,
        Self::PacedNowait,
        Self::FullNormal,
        Self::FullOff,
        Self::FullOffUnsaid,
        Self::FullFull,
        Self::JournalMemory,
        Self::Idle1,
        Self::Idle100,
        Self::Idle10000,
        Self::Restart,
        Self::RestartKilled,
        Self::Restore,
        Self::Verify,
        Self::Merging,
        Self::History,
    ];

    /// Its name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Paced => "paced",
            Self::PacedNowait => "paced-nowait",
            Self::FullNormal => "full-normal",
            Self::FullOff => "full-off",
            Self::FullOffUnsaid => "full-off-unsaid",
            Self::FullFull => "full-full",
            Self::JournalMemory => "journal-memory",
            Self::Idle1 => "idle-1",
            Self::Idle100 => "idle-100",
            Self::Idle10000 => "idle-10000",
            Self::Restart => "restart",
            Self::RestartKilled => "restart-killed",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Merging => "merging",
            Self::History => "history",
        }
    }

    /// What it is, in a sentence.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::First => "a large database is stored for the first time",
            Self::Paced => "1,000 commits a second, synchronous=NORMAL",
            Self::PacedNowait => "1,000 commits a second with busy_timeout=0",
            Self::FullNormal => "one writer at full speed, synchronous=NORMAL",
            Self::FullOff => "one writer at full speed, synchronous=OFF, which our config says",
            Self::FullOffUnsaid => "one writer at full speed, synchronous=OFF, which our config does not say",
            Self::FullFull => "one writer at full speed, synchronous=FULL",
            Self::JournalMemory => {
                "one writer at full speed, journal_mode=MEMORY, synchronous=OFF, not switched to WAL"
            }
            Self::Idle1 => "one database that nobody touches",
            Self::Idle100 => "100 databases that nobody touches",
            Self::Idle10000 => "10,000 databases that nobody touches",
            Self::Restart => "the sidecar ends in order and starts again, the large database unchanged",
            Self::RestartKilled => "the sidecar is killed, 1,000 rows are committed, it starts again",
            Self::Restore => "the large database is restored, and by ours brought forward",
            Self::Verify => "every byte that is stored of the large database is verified",
            Self::Merging => "100 commits a second while files are merged and snapshots made all the time",
            Self::History => "restores of the same database after few and after many files were written",
        }
    }

    /// Whom it is measured with.
    pub(crate) const fn variants(self) -> &'static [Variant] {
        match self {
            Self::Paced | Self::PacedNowait | Self::FullNormal | Self::FullOff | Self::FullFull => {
                &[Variant::None, Variant::Lifeboat, Variant::Litestream]
            }
            Self::First
            | Self::Idle1
            | Self::Idle100
            | Self::Restart
            | Self::RestartKilled
            | Self::Restore
            | Self::Merging => &[Variant::Lifeboat, Variant::Litestream],
            // Litestream is told nothing in `full-off` either, and switches every database to WAL.
            Self::FullOffUnsaid | Self::JournalMemory => &[Variant::None, Variant::Lifeboat],
            // It has no such command.
            Self::Verify => &[Variant::Lifeboat],
            // What is promised is held against ourselves.
            Self::History => &[Variant::Lifeboat],
            // One config entry and several threads of its own for each database: it is not made for that.
            Self::Idle10000 => &[Variant::Lifeboat],
        }
    }

    /// What the application does.
    pub(crate) const fn load(self) -> Load {
        match self {
            Self::First => Load::First,
            Self::Idle1 => Load::None { databases: 1 },
            Self::Idle100 => Load::None { databases: 100 },
            Self::Idle10000 => Load::None { databases: 10_000 },
            Self::Restart => Load::Restart { is_killed: false },
            Self::RestartKilled => Load::Restart { is_killed: true },
            Self::Restore => Load::Restore,
            Self::Verify => Load::Verify,
            Self::History => Load::History,
            Self::Merging => Load::Commits(Commits { rate: Some(100), keys: MERGED_OFTEN, ..FULL_SPEED }),
            Self::Paced => Load::Commits(Commits { rate: Some(PACE), ..FULL_SPEED }),
            Self::PacedNowait => Load::Commits(Commits { rate: Some(PACE), busy_timeout: 0, ..FULL_SPEED }),
            Self::FullNormal => Load::Commits(FULL_SPEED),
            Self::FullOff => {
                Load::Commits(Commits { synchronous: "OFF", our_keys: &["synchronous: off"], ..FULL_SPEED })
            }
            Self::FullOffUnsaid => Load::Commits(Commits { synchronous: "OFF", ..FULL_SPEED }),
            Self::FullFull => Load::Commits(Commits { synchronous: "FULL", ..FULL_SPEED }),
            Self::JournalMemory => Load::Commits(Commits {
                journal_mode: "MEMORY",
                synchronous: "OFF",
                our_keys: &["enforce-wal: false"],
                ..FULL_SPEED
            }),
        }
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl std::str::FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == text)
            .ok_or_else(|| format!("there is no scenario {text}; there are {}", names()))
    }
}

const PACE: u32 = 1000;
const FULL_SPEED: Commits = Commits {
    rate: None,
    synchronous: "NORMAL",
    journal_mode: "WAL",
    busy_timeout: 5000,
    keys: &[],
    our_keys: &[],
};
/// What happens in an hour, in half a minute.
pub(crate) const MERGED_OFTEN: &[&str] =
    &["levels: [{interval: 1s}, {interval: 5s}, {interval: 15s}]", "snapshot: {interval: 20s}"];
