//! Plays a snapshot and WALs of Litestream 0.3 into a database file, frame by frame, and believes nothing.
//!
//! Each object is one LZ4 frame. Every frame of a WAL must carry the right checksum, continue the one before it, and belong to
//! a transaction that is complete. 0.3 itself lets SQLite stop at the first frame that is not so, and calls that restored.

use std::io::{self, Read};

use lifeboat_ltx::{Header, Txid, WholeFrame};
use lifeboat_replica::litestream_03::{Place, Stored, WalPlace};
use lifeboat_wal::database_header::{DATABASE_HEADER_BYTES, DatabaseHeader};
use lifeboat_wal::frame::frame_bytes;
use lifeboat_wal::header::{WAL_HEADER_BYTES, WalHeader};
use lifeboat_wal::scan::{ScanStop, Scanner};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use lifeboat_wire::Reason;

use crate::exit::Failure;
use crate::rebuild::{Finish, Rebuild, Rebuilt, TargetWriter};

/// A database that is being played.
#[derive(Debug)]
pub(super) struct Replay {
    rebuild: Rebuild,
    writer: TargetWriter,
    page_size: PageSize,
    commit: PageCount,
    /// The WAL in hand: where it is, and what goes on from there.
    wal: Option<(WalPlace, Scanner)>,
    /// Whether the last frame ended a transaction.
    is_whole: bool,
}

impl Replay {
    /// Begins beside `target` with the snapshot that `reader` holds.
    ///
    /// # Errors
    /// Damaged when it is none, refused when the disk refuses.
    pub(super) fn begin(
        target: &std::path::Path,
        snapshot: &Stored,
        reader: impl Read,
    ) -> Result<Self, Failure> {
        let mut reader = WholeFrame::new(reader);
        let mut first = [0; DATABASE_HEADER_BYTES];
        reader.read_exact(&mut first).map_err(|error| failed(snapshot, error))?;
        let header = DatabaseHeader::decode(&first).map_err(|error| damaged(snapshot, error))?;
        let page_size = header.page_size;
        let rebuild = Rebuild::begin(target, &described(page_size, PageCount::new(0)))?;
        let mut writer = rebuild.writer();
        let mut reader = first.as_slice().chain(reader);
        let (mut image, mut page) = (vec![0; page_size.get() as usize], Some(PageNo::FIRST));
        let mut pages = 0;
        while let Some(no) = page {
            match fill(&mut reader, &mut image).map_err(|error| failed(snapshot, error))? {
                0 => break,
                read if read < image.len() => {
                    return Err(damaged(snapshot, format!("page {no} is cut short")));
                }
                _ => writer.put(no, &image)?,
            }
            (pages, page) = (no.get(), no.next());
        }
        writer.flush()?;
        Ok(Self { rebuild, writer, page_size, commit: PageCount::new(pages), wal: None, is_whole: true })
    }

    /// Plays the next piece of a WAL.
    ///
    /// # Errors
    /// Damaged when it does not continue what was played, or is not what was written.
    pub(super) fn play(&mut self, piece: &Stored, reader: impl Read) -> Result<(), Failure> {
        let Place::Piece(place) = piece.place else {
            return Err(Failure::bug(format!("{} is no piece of a WAL", piece.key)));
        };
        let mut reader = WholeFrame::new(reader);
        let mut scanner = match self.wal.take() {
            Some((reached, scanner)) if reached == place => scanner,
            Some((reached, _)) if reached.wal == place.wal => {
                return Err(damaged(piece, format!("the piece {reached} that comes before it is missing")));
            }
            Some(_) | None => {
                self.end_of_wal()?;
                self.begin_wal(piece, &mut reader)?
            }
        };
        let mut at = if place.offset == 0 { WAL_HEADER_BYTES as u64 } else { place.offset };
        let mut frame = vec![0; frame_bytes(self.page_size)];
        loop {
            let read = fill(&mut reader, &mut frame).map_err(|error| failed(piece, error))?;
            let Some(mut bytes) = frame.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            let found = scanner.next_frame(&mut bytes).map_err(|stop| damaged(piece, why(stop, at)))?;
            self.writer.put(found.page, found.image)?;
            if let Some(commit) = found.commit_size {
                self.commit = commit;
            }
            self.is_whole = found.commit_size.is_some();
            at += read as u64;
        }
        if !self.is_whole {
            return Err(damaged(piece, "it ends in the middle of a transaction"));
        }
        self.wal = Some((WalPlace { wal: place.wal, offset: at }, scanner));
        Ok(())
    }

    /// Puts the database in its place.
    ///
    /// # Errors
    /// As [`Rebuild::finish`].
    pub(super) fn finish(mut self, how: &Finish) -> Result<Rebuilt, Failure> {
        self.end_of_wal()?;
        self.rebuild.finish(&described(self.page_size, self.commit), how, Vec::new())
    }

    /// A checkpoint of a whole WAL gives the database the size of its last transaction.
    fn end_of_wal(&mut self) -> Result<(), Failure> {
        self.writer.flush()?;
        self.rebuild.resize(self.commit)
    }

    fn begin_wal(&self, piece: &Stored, reader: &mut impl Read) -> Result<Scanner, Failure> {
        let mut header = [0; WAL_HEADER_BYTES];
        reader.read_exact(&mut header).map_err(|error| failed(piece, error))?;
        let header = WalHeader::decode(&header).map_err(|error| damaged(piece, error))?;
        if header.page_size != self.page_size {
            return Err(damaged(piece, "its pages are of another size than the snapshot's"));
        }
        Ok(Scanner::begin(&header))
    }
}

/// Reads until the buffer is full or nothing more comes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn why(stop: ScanStop, at: u64) -> String {
    let what = match stop {
        ScanStop::EndOfFile | ScanStop::PartialFrame => "is cut short",
        ScanStop::SaltChange => "belongs to another WAL",
        ScanStop::ChecksumMismatch => "is not what its checksum says",
        ScanStop::PageZero => "has no page",
    };
    format!("the frame at byte {at} of its WAL {what}")
}

/// A database of which nothing is known but its size.
fn described(page_size: PageSize, commit: PageCount) -> Header {
    Header {
        page_size,
        commit,
        min_txid: Txid::FIRST,
        max_txid: Txid::FIRST,
        timestamp_ms: 0,
        wal_offset: 0,
        wal_size: 0,
        salts: (0, 0),
        node_id: 0,
        mark: None,
    }
}

/// An object that is not what was written. The failure of the source comes through the reader as it is.
fn failed(object: &Stored, error: io::Error) -> Failure {
    error.downcast::<Failure>().unwrap_or_else(|error| damaged(object, error))
}

fn damaged(object: &Stored, what: impl std::fmt::Display) -> Failure {
    let rest = match object.place {
        Place::Piece(place) => format!("; what is before it can be restored with --stop-before {place}"),
        Place::Snapshot(_) => {
            "; choose an earlier state with --timestamp, or another --generation".to_owned()
        }
    };
    Failure::damaged(Reason::IntegrityFailed, format!("{}: {what}{rest}", object.key))
}
