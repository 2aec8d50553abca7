//! How an object key is spelled. Nothing else in the house may spell one.
//!
//! Keys are relative to the replica's prefix. Litestream uses two spellings, one in S3 and one in a directory, and we
//! keep both, so that it can restore what we store.

mod forks;

use lifeboat_ltx::{FileName, Txid};

pub use self::forks::{FORKS_PREFIX, ForkName, meant};

/// Which of Litestream's two spellings a store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Object storage: `0000/<min>-<max>.ltx`.
    Bucket,
    /// A local directory: `ltx/0/<min>-<max>.ltx`.
    Directory,
}

/// How far merged a file is: 0 as captured, 1 to 3 merged, 9 whole databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Files as captured: the slots.
    pub const CAPTURED: Self = Self(0);
    /// Whole databases.
    pub const SNAPSHOT: Self = Self(9);
    /// Every level a replica may have, upwards: a merged file exists before its sources go, so whoever lists in this
    /// order never misses both.
    pub const ALL: [Self; 5] = [Self(0), Self(1), Self(2), Self(3), Self(9)];
    /// The levels whose files are merged from those below, upwards.
    pub const MERGED: [Self; 3] = [Self(1), Self(2), Self(3)];

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The level with this number, if a replica may have it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.0 == number)
    }
}

impl Layout {
    /// The key of `head.json`, the same in both spellings.
    #[must_use]
    pub const fn head_key(self) -> &'static str {
        "lifeboat/head.json"
    }

    /// A key to try out a store with. `unique` keeps processes apart that do so at once. Nothing stays there.
    #[must_use]
    pub fn scratch_key(self, unique: u128) -> String {
        format!("lifeboat/scratch-{unique:032x}")
    }

    /// The prefix of a level's files, ending in a slash.
    #[must_use]
    pub fn level_prefix(self, level: Level) -> String {
        match self {
            Self::Bucket => format!("{:04x}/", level.0),
            Self::Directory => format!("ltx/{}/", level.0),
        }
    }

    /// The key of a file of `level`.
    #[must_use]
    pub fn file_key(self, level: Level, name: FileName) -> String {
        format!("{}{name}", self.level_prefix(level))
    }

    /// The key of a slot.
    #[must_use]
    pub fn slot_key(self, txid: Txid) -> String {
        self.file_key(Level::CAPTURED, FileName::slot(txid))
    }

    /// The TXID range that a listed key names, or `None` for a key that is not an LTX file of that level: unknown
    /// names inside the prefix belong to others and are ignored, as Litestream does.
    #[must_use]
    pub fn parse_file_key(self, level: Level, key: &str) -> Option<FileName> {
        key.strip_prefix(&self.level_prefix(level))?.parse().ok()
    }
}

/// Whatever a store lists, a name is understood or nobody's, and what is understood is spelled so and not otherwise.
#[doc(hidden)]
pub fn fuzz_object_name(bytes: &[u8]) {
    let Ok(key) = std::str::from_utf8(bytes) else { return };
    if let Some(name) = ForkName::of_note(key) {
        assert_eq!(name.note_key(), key, "BUG: one fork has two names");
    }
    for layout in [Layout::Bucket, Layout::Directory] {
        for level in Level::ALL {
            if let Some(name) = layout.parse_file_key(level, key) {
                assert_eq!(layout.file_key(level, name), key, "BUG: one file has two names");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txid(n: u64) -> Txid {
        Txid::try_new(n).unwrap()
    }

    #[test]
    fn keys_are_spelled_as_litestream_spells_them() {
        assert_eq!(Layout::Bucket.slot_key(txid(0x1a)), "0000/000000000000001a-000000000000001a.ltx");
        assert_eq!(
            Layout::Directory.file_key(Level::SNAPSHOT, FileName::try_new(txid(1), txid(2)).unwrap()),
            "ltx/9/0000000000000001-0000000000000002.ltx"
        );
    }

    #[test]
    fn a_key_that_is_no_file_of_the_level_is_nobodys() {
        let key = Layout::Bucket.slot_key(txid(7));
        assert_eq!(Layout::Bucket.parse_file_key(Level::CAPTURED, &key), Some(FileName::slot(txid(7))));
        assert_eq!(Layout::Bucket.parse_file_key(Level::SNAPSHOT, &key), None);
        assert_eq!(Layout::Bucket.parse_file_key(Level::CAPTURED, "0000/readme.txt"), None);
        assert_eq!(Layout::Directory.parse_file_key(Level::CAPTURED, &key), None);
    }
}
