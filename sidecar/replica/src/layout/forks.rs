//! How the keys of forks are spelled, in a bucket and in a folder alike.

use std::fmt;

use lifeboat_ltx::Checksum;

use crate::epoch::Epoch;

/// Names a fork: whose it is, and what it holds. The same database saved twice by one epoch is one fork.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForkName {
    epoch: Epoch,
    id: String,
}

impl ForkName {
    /// The fork of this epoch with this rolling checksum. Two databases may have the same one; then `again` counts from 1.
    #[must_use]
    pub fn new(epoch: Epoch, checksum: Checksum, again: u8) -> Self {
        let id = if again == 0 { checksum.to_string() } else { format!("{checksum}-{again}") };
        Self { epoch, id }
    }

    /// The writer whose database it is; 0 where nothing says.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where its pages are, below the replica's prefix.
    #[must_use]
    pub fn pages_key(&self) -> String {
        format!("{FORKS_PREFIX}{:016x}/{}{PAGES}", self.epoch.get(), self.id)
    }

    /// Where its note is, below the replica's prefix.
    #[must_use]
    pub fn note_key(&self) -> String {
        format!("{FORKS_PREFIX}{:016x}/{}{NOTE}", self.epoch.get(), self.id)
    }

    /// The fork whose note has this key; `None` for every other key.
    #[must_use]
    pub fn of_note(key: &str) -> Option<Self> {
        let (epoch, id) = key.strip_prefix(FORKS_PREFIX)?.strip_suffix(NOTE)?.split_once('/')?;
        let is_hex = |text: &str| {
            text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let (checksum, again) =
            id.split_once('-').map_or((id, None), |(checksum, again)| (checksum, Some(again)));
        let is_count =
            |text: &str| text.parse::<u8>().is_ok_and(|count| count > 0 && count.to_string() == text);
        if !is_hex(epoch) || !is_hex(checksum) || !again.is_none_or(is_count) {
            return None;
        }
        Some(Self { epoch: Epoch::new(u64::from_str_radix(epoch, 16).ok()?), id: id.to_owned() })
    }

    /// Whether a person who writes this means it: an epoch, or an epoch and the beginning of what follows the slash.
    #[must_use]
    pub fn is_meant_by(&self, text: &str) -> bool {
        let (epoch, id) = text.split_once('/').unwrap_or((text, ""));
        epoch.parse() == Ok(self.epoch.get()) && self.id.starts_with(id)
    }
}

impl fmt::Display for ForkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.id)
    }
}

/// The one fork that a person means.
///
/// # Errors
/// A line that names the forks there are, where it is none or several.
pub fn meant<'n>(names: &'n [ForkName], text: &str) -> Result<&'n ForkName, String> {
    let found: Vec<_> = names.iter().filter(|name| name.is_meant_by(text)).collect();
    let listed = |names: &[&ForkName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [one] => Ok(one),
        [] if names.is_empty() => Err("there are no forks".to_owned()),
        [] => {
            Err(format!("there is no fork '{text}'; there are {}", listed(&names.iter().collect::<Vec<_>>())))
        }
        several => Err(format!("'{text}' may be any of {}; write more of the name", listed(several))),
    }
}

/// Below this lies every fork of a replica, in a bucket and in a folder alike. No list of files looks here.
pub const FORKS_PREFIX: &str = "lifeboat/forks/";
const PAGES: &str = ".ltx";
const NOTE: &str = ".json";

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bits: u64) -> Checksum {
        format!("{:016x}", bits | 1 << 63).parse().unwrap()
    }

    fn names() -> Vec<ForkName> {
        [(3, 1, 0), (3, 1, 1), (12, 2, 0)]
            .map(|(epoch, bits, again)| ForkName::new(Epoch::new(epoch), sum(bits), again))
            .into()
    }

    #[test]
    fn a_name_is_found_again_by_its_notes_key_and_by_no_other() {
        for name in names() {
            assert_eq!(ForkName::of_note(&name.note_key()), Some(name.clone()));
            assert_eq!(ForkName::of_note(&name.pages_key()), None);
        }
        assert_eq!(names()[1].pages_key(), "lifeboat/forks/0000000000000003/8000000000000001-1.ltx");
        for other in [
            "3/8000000000000001",
            "0000000000000003/8000000000000001-0",
            "0000000000000003/8000000000000001-01",
        ] {
            assert_eq!(ForkName::of_note(&format!("{FORKS_PREFIX}{other}.json")), None, "{other}");
        }
    }

    #[test]
    fn a_fork_is_meant_by_its_epoch_where_that_is_enough() {
        let names = names();
        assert_eq!(meant(&names, "12"), Ok(&names[2]));
        assert_eq!(meant(&names, "12/80"), Ok(&names[2]));
        assert_eq!(meant(&names, "3/8000000000000001-1"), Ok(&names[1]));
        assert!(meant(&names, "3").unwrap_err().contains("3/8000000000000001, 3/8000000000000001-1"));
        assert!(meant(&names, "1").unwrap_err().contains("there is no fork '1'; there are 3/"));
        assert_eq!(meant(&[], "1"), Err("there are no forks".to_owned()));
    }
}
