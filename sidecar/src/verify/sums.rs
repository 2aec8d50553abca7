//! The checksum of every page of one state of a database, in a file without a name: memory does not grow with the database.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use lifeboat_ltx::{Checksum, PageChecksum};
use lifeboat_wal::{PageCount, PageNo, PageSize};

/// One state of a database, page by page. A page that it does not have counts as nothing.
#[derive(Debug)]
pub(super) struct Sums {
    file: File,
    commit: u32,
    checksum: Checksum,
    /// Which window is in hand, and its sums; pages of a file ascend, so it moves on.
    at: u64,
    window: Vec<u8>,
    is_changed: bool,
}

impl Sums {
    /// A database without pages.
    ///
    /// # Errors
    /// Where the machine has no room for temporary files.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            commit: 0,
            checksum: Checksum::EMPTY,
            at: 0,
            window: vec![0; WINDOW_BYTES],
            is_changed: false,
        })
    }

    /// The checksum of the database.
    pub(super) const fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Puts a page in place of the one that was there.
    pub(super) fn put(&mut self, page: PageNo, sum: PageChecksum) -> io::Result<()> {
        let before = self.swap(page.get(), sum.get())?;
        self.checksum = self.checksum.toggle(PageChecksum::from_bits(before)).toggle(sum);
        Ok(())
    }

    /// Gives the database its size: what is beyond it goes, and a page that it gained and that nobody gave is empty, as a
    /// restore leaves it.
    pub(super) fn resize(&mut self, commit: PageCount, page_size: PageSize) -> io::Result<()> {
        for beyond in commit.get().saturating_add(1)..=self.commit {
            let gone = self.swap(beyond, 0)?;
            self.checksum = self.checksum.toggle(PageChecksum::from_bits(gone));
        }
        let empty = vec![0; page_size.get() as usize];
        let gained = (self.commit.saturating_add(1)..=commit.get()).filter_map(PageNo::try_new);
        for page in gained.filter(|page| *page != page_size.lock_page()) {
            if self.get(page.get())? == 0 {
                self.put(page, PageChecksum::of(page, &empty))?;
            }
        }
        self.commit = commit.get();
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.window.fill(0);
        (self.commit, self.checksum, self.at, self.is_changed) = (0, Checksum::EMPTY, 0, false);
        Ok(())
    }

    /// Becomes what another one is.
    pub(super) fn copy_from(&mut self, other: &mut Self) -> io::Result<()> {
        other.store()?;
        self.clear()?;
        let mut piece = vec![0; WINDOW_BYTES];
        let mut at = 0;
        loop {
            let read = other.file.read_at(&mut piece, at)?;
            let (read, _) = piece.split_at(read);
            if read.is_empty() {
                break;
            }
            self.file.write_all_at(read, at)?;
            at += read.len() as u64;
        }
        (self.commit, self.checksum) = (other.commit, other.checksum);
        self.load(0)
    }

    fn get(&mut self, page: u32) -> io::Result<u64> {
        let place = self.place(page)?;
        Ok(self.window.get(place..place + SUM_BYTES).map_or(0, number))
    }

    fn swap(&mut self, page: u32, sum: u64) -> io::Result<u64> {
        let before = self.get(page)?;
        let place = self.place(page)?;
        if let Some(place) = self.window.get_mut(place..place + SUM_BYTES) {
            place.copy_from_slice(&sum.to_le_bytes());
            self.is_changed = true;
        }
        Ok(before)
    }

    /// Where the page is in the window, which is moved there.
    fn place(&mut self, page: u32) -> io::Result<usize> {
        let at = u64::from(page) * SUM_BYTES as u64;
        let window = at - at % WINDOW_BYTES as u64;
        if window != self.at {
            self.store()?;
            self.load(window)?;
        }
        Ok(usize::try_from(at - window).unwrap_or(0))
    }

    fn store(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_changed) {
            self.file.write_all_at(&self.window, self.at)?;
        }
        Ok(())
    }

    fn load(&mut self, at: u64) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = self.window.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + filled as u64)? {
                0 => {
                    rest.fill(0);
                    break;
                }
                read => filled += read,
            }
        }
        self.at = at;
        Ok(())
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

const SUM_BYTES: usize = size_of::<u64>();
/// Where files are small and many, a larger one would be read and written for nothing.
const WINDOW_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(seed: u8) -> Vec<u8> {
        vec![seed; 512]
    }

    /// What the database of these pages has for a checksum.
    fn whole(pages: &[u8]) -> Checksum {
        let pages = pages.iter().zip(1..).map(|(seed, no)| (PageNo::try_new(no).unwrap(), image(*seed)));
        pages.fold(Checksum::EMPTY, |sum, (no, image)| sum.toggle(PageChecksum::of(no, &image)))
    }

    proptest! {
        #[test]
        fn the_checksum_is_that_of_the_database_however_it_came_about(
            steps in prop::collection::vec((1_u32..3000, prop::collection::vec((1_u32..3000, any::<u8>()), 0..20)), 1..12)
        ) {
            let (mut sums, mut copy, mut model) = (Sums::new().unwrap(), Sums::new().unwrap(), Vec::new());
            for (commit, mut pages) in steps {
                pages.retain(|(page, _)| *page <= commit);
                pages.sort_unstable();
                for (page, seed) in &pages {
                    let no = PageNo::try_new(*page).unwrap();
                    sums.put(no, PageChecksum::of(no, &image(*seed))).unwrap();
                }
                sums.resize(PageCount::new(commit), PageSize::MIN).unwrap();
                model.resize(commit as usize, 0);
                pages.iter().for_each(|(page, seed)| model[*page as usize - 1] = *seed);
                prop_assert_eq!(sums.checksum(), whole(&model));
                copy.copy_from(&mut sums).unwrap();
                std::mem::swap(&mut sums, &mut copy);
            }
        }
    }
}
