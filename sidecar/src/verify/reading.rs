//! Reads a replica's files one after the other, in the order in which the database went through their ends.

use std::io;

use bytes::Bytes;
use futures::{StreamExt, stream};
use lifeboat_ltx::{Checksum, Decoder, Header, PageChecksum};
use lifeboat_replica::adoption::Record;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::verify::walk::{After, Copying, Step, TRACKS, Walk, Walked};
use lifeboat_wire::Reason;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::sums::Sums;
use crate::blocking::blocking;
use crate::exit::{Exit, Failure};
use crate::restore::{Source, WHOLE_BYTES_MAX, damaged, failed};

/// How much of each file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its header.
    Headers,
    /// All of it.
    Everything,
}

/// Files that went away while they were read, and the keys of those that are damaged.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) gone: Vec<FileEntry>,
    pub(super) damaged: Vec<FileEntry>,
}

/// The walk, and the states that it speaks of.
#[derive(Debug)]
pub(super) struct Reading {
    walk: Walk,
    tracks: Vec<Sums>,
    lost: Lost,
}

/// What came of a file before its turn.
enum Fetched {
    Header(Header),
    Whole(Bytes),
    /// Too large to be fetched ahead.
    Large,
}

impl Reading {
    /// Begins.
    ///
    /// # Errors
    /// Refused where the machine has no room for temporary files.
    pub(super) fn begin(walk: Walk, depth: Depth) -> Result<Self, Failure> {
        let tracks = match depth {
            Depth::Headers => Vec::new(),
            Depth::Everything => (0..TRACKS)
                .map(|_| Sums::new())
                .collect::<io::Result<_>>()
                .map_err(|error| no_room(&error))?,
        };
        Ok(Self { walk, tracks, lost: Lost::default() })
    }

    /// Reads these files, which are in order; `parallelism` requests are under way at once.
    ///
    /// # Errors
    /// When the store does not answer, or the machine has no room.
    pub(super) async fn read(
        mut self,
        source: &Source,
        files: &[FileEntry],
        depth: Depth,
        parallelism: usize,
    ) -> Result<Self, Failure> {
        let ahead = stream::iter(files).map(|file| async move { (file, fetch(source, file, depth).await) });
        let mut ahead = std::pin::pin!(ahead.buffered(parallelism));
        while let Some((file, fetched)) = ahead.next().await {
            let file = file.clone();
            self = match fetched {
                Err(failure) => self.failed(&file, None, failure)?,
                Ok(Fetched::Header(header)) => self.pass(&file, &header),
                Ok(Fetched::Whole(bytes)) => blocking(move || self.take(&file, &*bytes)).await?,
                Ok(Fetched::Large) => {
                    let pieces = StreamReader::new(Box::pin(source.pieces(&file)));
                    let reader = SyncIoBridge::new(pieces);
                    blocking(move || self.take(&file, reader)).await?
                }
            };
        }
        Ok(self)
    }

    /// Everything that was found.
    pub(super) fn finish(self, record: Option<&Record>) -> (Walked, Lost) {
        (self.walk.finish(record), self.lost)
    }

    /// A file of which only the header is looked at.
    fn pass(mut self, file: &FileEntry, header: &Header) -> Self {
        if let Some(step) = self.walk.enter(file, header) {
            self.walk.leave(file, header, &step, None);
        }
        self
    }

    /// Reads one file to its end. What is wrong with it is noted.
    fn take(mut self, file: &FileEntry, reader: impl io::Read) -> Result<Self, Failure> {
        let decoder = match Decoder::begin(reader) {
            Ok(decoder) => decoder,
            Err(error) => return self.failed(file, None, failed(file, error)),
        };
        let Some(step) = self.walk.enter(file, decoder.header()) else { return Ok(self) };
        match self.put(file, decoder, &step) {
            Ok((header, found)) => {
                for copying in self.walk.leave(file, &header, &step, found) {
                    self.copy(copying).map_err(|error| no_room(&error))?;
                }
                Ok(self)
            }
            Err(failure) => self.failed(file, Some(&step), failure),
        }
    }

    /// Puts the pages of a file onto the states that it goes on from.
    fn put(
        &mut self,
        file: &FileEntry,
        mut decoder: Decoder<impl io::Read>,
        step: &Step,
    ) -> Result<(Header, Option<Checksum>), Failure> {
        let prepared = self.prepare(step);
        prepared.map_err(|error| no_room(&error))?;
        let mut alone = Checksum::EMPTY;
        while let Some(page) = decoder.next_page().map_err(|error| failed(file, error))? {
            let sum = PageChecksum::of(page.no, page.image);
            alone = alone.toggle(sum);
            self.each(step, |sums| sums.put(page.no, sum)).map_err(|error| no_room(&error))?;
        }
        let header = decoder.finish().map_err(|error| failed(file, error))?.header;
        if !file.is_seal() {
            let resized = self.each(step, |sums| sums.resize(header.commit, header.page_size));
            resized.map_err(|error| no_room(&error))?;
        }
        let found = match step.after {
            After::ItsPages => Some(alone),
            After::Track(track) => self.tracks.get(track).map(Sums::checksum),
            After::Unknown => None,
        };
        Ok((header, found))
    }

    fn prepare(&mut self, step: &Step) -> io::Result<()> {
        step.copy.map_or(Ok(()), |copying| self.copy(copying))?;
        let emptied = step.onto.iter().filter(|onto| onto.is_emptied);
        emptied.map(|onto| onto.track).try_for_each(|track| match self.tracks.get_mut(track) {
            Some(sums) => sums.clear(),
            None => Ok(()),
        })
    }

    fn each(&mut self, step: &Step, mut what: impl FnMut(&mut Sums) -> io::Result<()>) -> io::Result<()> {
        for onto in &step.onto {
            if let Some(sums) = self.tracks.get_mut(onto.track) {
                what(sums)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, Copying { from, to }: Copying) -> io::Result<()> {
        match self.tracks.get_disjoint_mut([from, to]) {
            Ok([from, to]) => to.copy_from(from),
            Err(_) => Ok(()),
        }
    }

    /// A file that is not what it must be is a finding; a store that does not answer is none.
    fn failed(mut self, file: &FileEntry, step: Option<&Step>, failure: Failure) -> Result<Self, Failure> {
        if failure.exit != Exit::Damaged {
            return Err(failure);
        }
        if failure.reason == Reason::ChainGap {
            self.walk.gone(step);
            self.lost.gone.push(file.clone());
        } else {
            self.walk.damaged(file, step, failure.message);
            self.lost.damaged.push(file.clone());
        }
        Ok(self)
    }
}

async fn fetch(source: &Source, file: &FileEntry, depth: Depth) -> Result<Fetched, Failure> {
    match depth {
        Depth::Headers | Depth::Everything if file.size == 0 => Err(damaged(file, "it is empty")),
        Depth::Headers => source.header(file).await.map(Fetched::Header),
        Depth::Everything if file.size <= WHOLE_BYTES_MAX => {
            source.fetch(file, 0..file.size).await.map(Fetched::Whole)
        }
        Depth::Everything => Ok(Fetched::Large),
    }
}

fn no_room(error: &io::Error) -> Failure {
    let what = format!(
        "{}: {error}; eight bytes for each page and level are noted there, TMPDIR names another folder",
        std::env::temp_dir().display()
    );
    Failure::refused(Reason::DatabaseUnreadable, what)
}
