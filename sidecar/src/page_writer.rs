//! Puts pages at their places in a database file that is being built, by many threads at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use lifeboat_wal::{PageNo, PageSize};

/// A writer of one thread. Pages that follow each other are written together.
#[derive(Debug)]
pub struct PageWriter {
    file: Arc<File>,
    page_size: PageSize,
    /// Where the pages in hand begin, bytes.
    at: u64,
    pages: Vec<u8>,
}

impl PageWriter {
    /// A writer into this file.
    #[must_use]
    pub const fn new(file: Arc<File>, page_size: PageSize) -> Self {
        Self { file, page_size, at: 0, pages: Vec::new() }
    }

    /// Writes one page, or keeps it until the next that does not follow it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn put(&mut self, page: PageNo, image: &[u8]) -> io::Result<()> {
        let place = u64::from(page.get() - 1) * u64::from(self.page_size.get());
        let follows = place == self.at + self.pages.len() as u64 && self.pages.len() < RUN_BYTES_MAX;
        if !follows {
            self.flush()?;
            self.at = place;
        }
        self.pages.extend_from_slice(image);
        Ok(())
    }

    /// Writes what was kept.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.pages, self.at)?;
        self.pages.clear();
        Ok(())
    }
}

const RUN_BYTES_MAX: usize = 256 * 1024;
