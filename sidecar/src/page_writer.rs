//! Puts pages at their places in a database file that is being built, by many threads at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_wal::{PageNo, PageSize};

/// A file that many threads write to. What was written is made durable on the way, so that the end need not wait for all of
/// it.
#[derive(Debug)]
pub struct PageFile {
    /// The file.
    pub file: File,
    /// Bytes written since somebody began to make them durable.
    waiting: AtomicU64,
    syncing: Mutex<()>,
}

impl PageFile {
    /// A file of which nothing was written yet.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, waiting: AtomicU64::new(0), syncing: Mutex::new(()) }
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.wrote(bytes.len() as u64)
    }

    /// So many bytes more were written.
    ///
    /// # Errors
    /// Whatever the file system says when they are made durable.
    pub fn wrote(&self, length: u64) -> io::Result<()> {
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length < SYNC_BYTES {
            return Ok(());
        }
        // One thread waits for the disk, the others go on.
        match self.syncing.try_lock() {
            Ok(_syncing) => {
                self.waiting.store(0, Ordering::Relaxed);
                self.file.sync_data()
            }
            Err(_) => Ok(()),
        }
    }
}

/// A writer of one thread. Pages that follow each other are written together.
#[derive(Debug)]
pub struct PageWriter {
    into: Arc<PageFile>,
    page_size: PageSize,
    /// Where the pages in hand begin, bytes.
    at: u64,
    pages: Vec<u8>,
}

impl PageWriter {
    /// A writer into this file.
    #[must_use]
    pub const fn new(into: Arc<PageFile>, page_size: PageSize) -> Self {
        Self { into, page_size, at: 0, pages: Vec::new() }
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
        self.into.write(&self.pages, self.at)?;
        self.pages.clear();
        Ok(())
    }
}

/// So much is written before it is made durable.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;
const RUN_BYTES_MAX: usize = 256 * 1024;
