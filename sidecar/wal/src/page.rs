//! Pages of a database: their number, their size, and how many there are.
//!
//! In:  numbers read from files.
//! Out: values that cannot be invalid: page 0 does not exist, and a page size is one SQLite can use.
//!
//! This module never reads a page; it only names them.

use std::fmt;
use std::num::NonZeroU32;

/// Number of a page in its database, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(NonZeroU32);

impl PageNo {
    /// The first page; it holds the database header.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// A page number, or `None` for 0, which names no page.
    #[must_use]
    pub const fn try_new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The page after this one, or `None` after the last number there is.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Size of a page in bytes: a power of two from 512 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest page SQLite makes: 512 bytes.
    pub const MIN: Self = Self(512);
    /// The largest page SQLite makes: 65,536 bytes.
    pub const MAX: Self = Self(65_536);

    /// A page size in bytes, or `None` when SQLite has no such size.
    ///
    /// Takes the size itself; for how headers store it see [`from_stored`](Self::from_stored).
    #[must_use]
    pub const fn try_new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The page size that a database header or a WAL-index stores in two bytes: 65,536 does not fit and is stored as 1.
    #[must_use]
    pub fn from_stored(stored: u16) -> Option<Self> {
        match stored {
            1 => Some(Self::MAX),
            bytes => Self::try_new(u32::from(bytes)),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The page that holds the byte at 0x4000_0000. SQLite locks that byte and never keeps data in its page.
    #[must_use]
    pub const fn lock_page(self) -> PageNo {
        match PageNo::try_new(LOCK_BYTE / self.0 + 1) {
            Some(page) => page,
            None => PageNo::FIRST,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many pages a database has; 0 for an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(u32);

impl PageCount {
    /// A number of pages.
    #[must_use]
    pub const fn new(pages: u32) -> Self {
        Self(pages)
    }

    /// The number of pages.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether a database of this many pages has the page.
    #[must_use]
    pub const fn contains(self, page: PageNo) -> bool {
        page.get() <= self.0
    }

    /// Size of such a database in bytes.
    #[must_use]
    pub fn bytes(self, page_size: PageSize) -> u64 {
        u64::from(self.0) * u64::from(page_size.get())
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where SQLite's locking bytes begin in a database file (`PENDING_BYTE`).
const LOCK_BYTE: u32 = 0x4000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_from_512_to_65536_are_page_sizes() {
        let sizes: Vec<u32> = (0..=200_000).filter(|&bytes| PageSize::try_new(bytes).is_some()).collect();
        assert_eq!(sizes, [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536]);
    }

    #[test]
    fn only_65536_is_stored_as_1() {
        let sizes: Vec<u32> = (0..=u16::MAX).filter_map(PageSize::from_stored).map(PageSize::get).collect();
        assert_eq!(sizes, [65_536, 512, 1024, 2048, 4096, 8192, 16_384, 32_768]);
    }

    #[test]
    fn the_lock_page_holds_the_lock_byte() {
        for bytes in [512, 4096, 65_536] {
            let page = PageSize::try_new(bytes).unwrap().lock_page().get();
            assert_eq!((page - 1) * bytes, 0x4000_0000);
        }
    }

    #[test]
    fn page_0_does_not_exist() {
        assert_eq!(PageNo::try_new(0), None);
        assert!(!PageCount::new(0).contains(PageNo::FIRST));
    }
}
