//! Names of LTX files: `<min TXID>-<max TXID>.ltx`.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;
use crate::txid::Txid;

/// The name of an LTX file: its first and last TXID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    min: Txid,
    max: Txid,
}

impl FileName {
    /// The name of the file with these TXIDs, or `None` when they are out of order.
    #[must_use]
    pub fn try_new(min: Txid, max: Txid) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    /// The name of a file of one TXID.
    #[must_use]
    pub const fn slot(txid: Txid) -> Self {
        Self { min: txid, max: txid }
    }

    /// The first TXID.
    #[must_use]
    pub const fn min(self) -> Txid {
        self.min
    }

    /// The last TXID.
    #[must_use]
    pub const fn max(self) -> Txid {
        self.max
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.ltx", self.min, self.max)
    }
}

impl FromStr for FileName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).ok_or_else(|| ParseError::FileName { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<FileName> {
    let (min, max) = text.strip_suffix(".ltx")?.split_once('-')?;
    FileName::try_new(min.parse().ok()?, max.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_text() {
        let text = "0000000000000001-00000000000000ff.ltx";
        let name: FileName = text.parse().unwrap();
        assert_eq!((name.min().get(), name.max().get()), (1, 255));
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn other_names_are_refused() {
        let names = [
            "",
            ".ltx",
            "0000000000000001-00000000000000ff",
            "0000000000000001-00000000000000ff.ltx.tmp",
            "0000000000000000-00000000000000ff.ltx",
            "0000000000000002-0000000000000001.ltx",
            "0000000000000001-00000000000000FF.ltx",
            "1-2.ltx",
            "0000000000000001-0000000000000001-0000000000000001.ltx",
        ];
        for name in names {
            assert!(name.parse::<FileName>().is_err(), "{name:?}");
        }
    }
}
