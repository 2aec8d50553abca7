//! A database file that lies at a restore's target: perhaps an older state, of which most pages need not be fetched.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_ltx::{Checksum, Header, PageChecksum};
use lifeboat_replica::restore::placement::Placement;
use lifeboat_wal::database_header::{DATABASE_HEADER_BYTES, DatabaseHeader};
use lifeboat_wal::{PageNo, PageSize};

use crate::exit::Failure;
use crate::page_writer::PageFile;
use crate::rebuild::unwritable;

/// The file, read once.
#[derive(Clone, Debug)]
pub struct Local {
    file: Arc<File>,
    page_size: PageSize,
    bytes: u64,
    checksum: Checksum,
}

impl Local {
    /// Reads the file at `path`, without its WAL; `None` where there is none that could be a database.
    ///
    /// Not for a database that this process has open: who closes a descriptor of it drops every lock of the process.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        let bytes = metadata.len();
        if !metadata.is_file() || bytes < DATABASE_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut header = [0; DATABASE_HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let Ok(header) = DatabaseHeader::decode(&header) else { return Ok(None) };
        let page_size = header.page_size;
        if !bytes.is_multiple_of(u64::from(page_size.get())) {
            return Ok(None);
        }
        let checksum = rolling_checksum(&file, page_size, |_| ())?;
        Ok(Some(Self { file: Arc::new(file), page_size, bytes, checksum }))
    }

    /// Whether the file is the state that the file with this header ended at.
    #[must_use]
    pub fn is_state_after(&self, header: &Header) -> bool {
        let bytes = u64::from(header.commit.get()) * u64::from(header.page_size.get());
        let is_mark = header.mark.is_some_and(|mark| mark.post_apply == self.checksum);
        is_mark && self.page_size == header.page_size && self.bytes == bytes
    }

    /// Something that copies its pages into another file.
    #[must_use]
    pub fn copier(&self, to: Arc<PageFile>, target: PathBuf) -> Copier {
        Copier { from: Arc::clone(&self.file), page_size: self.page_size, to, target }
    }
}

/// Copies pages of one database file to the same places of another.
#[derive(Debug)]
pub struct Copier {
    from: Arc<File>,
    page_size: PageSize,
    to: Arc<PageFile>,
    target: PathBuf,
}

impl Copier {
    /// Copies every page that no file gave. Where the file system can, the two files share them.
    ///
    /// # Errors
    /// Refused when the disk refuses.
    pub fn copy(&self, placement: &Placement) -> Result<(), Failure> {
        for (first, last) in placement.left() {
            self.copy_run(first, last).map_err(|error| unwritable(&self.target, &error.to_string()))?;
        }
        Ok(())
    }

    fn copy_run(&self, first: PageNo, last: PageNo) -> io::Result<()> {
        let size = u64::from(self.page_size.get());
        let (mut at, end) = (u64::from(first.get() - 1) * size, u64::from(last.get()) * size);
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(COPY_BYTES_MAX);
            let (mut from, mut to) = (at, at);
            let copied = rustix::fs::copy_file_range(
                &self.from,
                Some(&mut from),
                &self.to.file,
                Some(&mut to),
                length,
            );
            let copied = match copied {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(copied) => copied as u64,
                // Not every file system can.
                Err(_) => self.copy_by_hand(at, length)?,
            };
            self.to.wrote(copied)?;
            at += copied;
        }
        Ok(())
    }

    fn copy_by_hand(&self, at: u64, length: usize) -> io::Result<u64> {
        let mut bytes = vec![0; length.min(READ_BUFFER)];
        self.from.read_exact_at(&mut bytes, at)?;
        self.to.file.write_all_at(&bytes, at)?;
        Ok(bytes.len() as u64)
    }
}

/// The rolling checksum of a closed database file without its WAL, and those of its pages, one by one from page 1; that of
/// the lock page is 0.
///
/// # Errors
/// Whatever the file system says.
pub fn rolling_checksum(
    file: &File,
    page_size: PageSize,
    mut each: impl FnMut(PageChecksum),
) -> io::Result<Checksum> {
    let mut reader = BufReader::with_capacity(READ_BUFFER, file.try_clone()?);
    reader.rewind()?;
    let mut image = vec![0; page_size.get() as usize];
    let (mut rolling, mut page) = (Checksum::EMPTY, Some(PageNo::FIRST));
    while let Some(no) = page {
        match reader.read_exact(&mut image) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            done => done?,
        }
        let is_lock_page = no == page_size.lock_page();
        let sum = if is_lock_page { PageChecksum::from_bits(0) } else { PageChecksum::of(no, &image) };
        rolling = rolling.toggle(sum);
        each(sum);
        page = no.next();
    }
    Ok(rolling)
}

const READ_BUFFER: usize = 1024 * 1024;
const COPY_BYTES_MAX: usize = 64 * 1024 * 1024;
