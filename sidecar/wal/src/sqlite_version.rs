//! Which SQLite wrote to a database, as its header tells.

use std::fmt;

/// A version of SQLite, such as 3.51.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqliteVersion(u32);

impl SqliteVersion {
    /// The version that a database header names; `None` where it names none.
    #[must_use]
    pub const fn from_stored(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Whether a checkpoint of this version can, in a rare race with a WAL restart, take frames for copied that were not,
    /// so that commits are lost. From the first version with a WAL to 3.51.2, but for two later releases of older lines.
    #[must_use]
    pub const fn has_wal_reset_race(self) -> bool {
        match self.0 {
            ..=3_006_999 | 3_051_003.. => false,
            fixed => !matches!(fixed, 3_044_006..=3_044_999 | 3_050_007..=3_050_999),
        }
    }
}

impl fmt::Display for SqliteVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1_000 % 1_000, self.0 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> SqliteVersion {
        SqliteVersion::from_stored(number).unwrap()
    }

    #[test]
    fn versions_are_spelled_as_sqlite_does() {
        assert_eq!(version(3_051_002).to_string(), "3.51.2");
        assert_eq!(SqliteVersion::from_stored(0), None);
    }

    #[test]
    fn the_race_is_in_every_version_with_a_wal_until_it_was_mended() {
        for number in [3_007_000, 3_040_001, 3_044_005, 3_045_000, 3_050_006, 3_051_000, 3_051_002] {
            assert!(version(number).has_wal_reset_race(), "{}", version(number));
        }
        for number in [3_006_023, 3_044_006, 3_050_007, 3_051_003, 3_053_000] {
            assert!(!version(number).has_wal_reset_race(), "{}", version(number));
        }
    }
}
