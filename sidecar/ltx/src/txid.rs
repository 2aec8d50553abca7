//! TXID: the number of an LTX file at level 0, from 1.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::error::ParseError;

/// Number of an LTX file at level 0, from 1. Not a count of SQLite's commits: one TXID may hold many.
///
/// Written and parsed as sixteen lower-case hexadecimal digits, as in file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(NonZeroU64);

impl Txid {
    /// The first TXID of a replica.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// A TXID, or `None` for 0, which names no file.
    #[must_use]
    pub const fn try_new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The TXID after this one, or `None` after the last there is.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The TXID before this one, or `None` before the first.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        Self::try_new(self.0.get() - 1)
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Txid {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse_hex16(text).and_then(Self::try_new).ok_or_else(|| ParseError::Txid { text: text.to_owned() })
    }
}

/// Exactly sixteen lower-case hexadecimal digits, the only spelling file names use.
pub(crate) fn parse_hex16(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_txid_survives_its_text() {
        for number in [1, 0xab, u64::MAX] {
            let txid = Txid::try_new(number).unwrap();
            assert_eq!(txid.to_string().parse::<Txid>().unwrap(), txid);
        }
        assert_eq!(Txid::FIRST.to_string(), "0000000000000001");
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "1", "0000000000000000", "00000000000000AB", "+000000000000001", "00000000000000001"]
        {
            assert!(text.parse::<Txid>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_ends_have_no_neighbour() {
        assert_eq!(Txid::FIRST.previous(), None);
        assert_eq!(Txid::try_new(u64::MAX).unwrap().next(), None);
        assert_eq!(Txid::FIRST.next().unwrap().previous(), Some(Txid::FIRST));
    }
}
