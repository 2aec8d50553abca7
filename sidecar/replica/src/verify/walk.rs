//! The walk through all files in the order in which the database went through their ends.
//!
//! In:  each file's header, then the checksum of the database after its pages were put onto the state before it.
//! Out: onto which states pages are put, and everything that is wrong.
//!
//! Four states are kept up to date, as the writer does it: the one after the newest slot, and for each merged level the one
//! after the newest file of that or a higher level. A file of a level goes on from its level's state, and brings that and
//! all below it to its own end. Whoever walks keeps the checksum of every page of each state; here are their TXIDs only.

use std::collections::BTreeMap;

use lifeboat_ltx::{Checksum, Header};
use lifeboat_wal::{PageCount, PageSize};

use super::{Covered, Finding, Kind};
use crate::adoption::Record;
use crate::epoch::Epoch;
use crate::head::Head;
use crate::inventory::FileEntry;
use crate::layout::Level;

/// How many states are kept up to date.
pub const TRACKS: usize = 1 + Level::MERGED.len();

/// The files in the order of the walk: by where they end; of several with one end, the lowest level first.
pub fn sort(files: &mut [FileEntry]) {
    files.sort_by_key(|file| (file.max, file.level, file.min));
}

/// A replica that is walked through.
#[derive(Debug)]
pub struct Walk {
    head: Option<Head>,
    /// Where each state stands; 0 before everything, `None` where it is not known any more.
    tracks: [Option<u64>; TRACKS],
    states: BTreeMap<u64, State>,
    page_size: Option<PageSize>,
    /// The newest writer of a slot so far.
    epoch: Epoch,
    /// Something before was damaged or is gone: that later files cannot be followed is no news.
    is_broken: bool,
    is_headless: bool,
    is_taken_over: bool,
    unproved: u64,
    findings: Vec<Finding>,
}

/// A state of the database that some file ended at.
#[derive(Clone, Copy, Debug)]
struct State {
    checksum: Checksum,
    commit: PageCount,
    /// The first file that said so.
    by: Covered,
}

/// What to do with the pages of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Before: this state becomes a copy of that one.
    pub copy: Option<Copying>,
    /// The states that the pages are put onto.
    pub onto: Vec<Onto>,
    /// Where the checksum of the database after the file comes from.
    pub after: After,
    is_trusted: bool,
}

/// One state becomes a copy of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copying {
    /// The one that is known.
    pub from: usize,
    /// The one that is not.
    pub to: usize,
}

/// A state that pages are put onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onto {
    /// Which.
    pub track: usize,
    /// Whether it is emptied first, because nothing is known of it.
    pub is_emptied: bool,
}

/// Where the checksum of the database after a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// From its pages alone: it holds all of them.
    ItsPages,
    /// From this state.
    Track(usize),
    /// From nowhere: the state before the file is not known.
    Unknown,
}

impl Walk {
    /// Begins before the first file; `head` is that of the list.
    #[must_use]
    pub fn begin(head: Option<Head>) -> Self {
        Self {
            head,
            tracks: [Some(0); TRACKS],
            states: BTreeMap::new(),
            page_size: None,
            epoch: Epoch::new(0),
            is_broken: false,
            is_headless: false,
            is_taken_over: false,
            unproved: 0,
            findings: Vec::new(),
        }
    }

    /// The list already says that files are missing.
    pub fn knows_of(&mut self, findings: Vec<Finding>) {
        self.is_broken |= !findings.is_empty();
        self.findings.extend(findings);
    }

    /// Takes the header of the next file; `None` where the file is another one than its name says.
    pub fn enter(&mut self, file: &FileEntry, header: &Header) -> Option<Step> {
        if (header.min_txid, header.max_txid) != (file.min, file.max) {
            let (min, max) = (header.min_txid, header.max_txid);
            self.wrong(file, Kind::Misplaced, format!("it is the file {min}-{max} by its header"));
            self.is_broken = true;
            return None;
        }
        self.check_writer(file, header);
        let is_trusted = self.check_page_size(file, header) && self.check_links(file, header);
        self.is_broken |= !is_trusted;
        let (copy, onto, after) =
            if is_trusted { self.place(file, header) } else { (None, Vec::new(), After::Unknown) };
        Some(Step { copy, onto, after, is_trusted })
    }

    /// Takes the checksum of the database after the file, where it is known, and says which states become copies of others.
    pub fn leave(
        &mut self,
        file: &FileEntry,
        header: &Header,
        step: &Step,
        found: Option<Checksum>,
    ) -> Vec<Copying> {
        if !step.is_trusted {
            return Vec::new();
        }
        let said = header.mark.map(|mark| mark.post_apply);
        if let (Some(found), Some(said)) = (found, said)
            && found != said
        {
            let what = format!("with its pages the database has the checksum {found}, and it says {said}");
            self.wrong(file, Kind::Damaged, what);
            self.lose(step);
            return Vec::new();
        }
        if found.is_none() {
            self.unproved += 1;
        }
        if let Some(checksum) = found.or(said)
            && !self.settle(file, State { checksum, commit: header.commit, by: covered(file) })
        {
            self.lose(step);
            return Vec::new();
        }
        self.advance(file, step)
    }

    /// The file is damaged, and what was put onto states of it is worth nothing.
    pub fn damaged(&mut self, file: &FileEntry, step: Option<&Step>, what: impl Into<String>) {
        let key = Some(file.key.clone());
        self.findings.push(Finding { kind: Kind::Damaged, key, message: what.into(), other: None });
        self.gone(step);
    }

    /// The file went away while it was read.
    pub fn gone(&mut self, step: Option<&Step>) {
        self.is_broken = true;
        if let Some(step) = step {
            self.lose(step);
        }
    }

    /// Ends the walk: everything that was found.
    #[must_use]
    pub fn finish(mut self, record: Option<&Record>) -> Walked {
        self.check_base();
        if let Some(record) = record {
            self.check_record(record);
        }
        let newest = self.states.last_key_value().map(|(txid, state)| (*txid, state.checksum));
        Walked { findings: self.findings, unproved: self.unproved, newest }
    }

    fn wrong(&mut self, file: &FileEntry, kind: Kind, what: impl std::fmt::Display) {
        self.findings.push(Finding::of(kind, file, what));
    }

    fn contradicts(&mut self, file: &FileEntry, state: State, kind: Kind, what: String) {
        self.findings.push(Finding { other: Some(state.by), ..Finding::of(kind, file, what) });
    }

    /// Nobody but the writers that the head knows, one after the other, has written here.
    fn check_writer(&mut self, file: &FileEntry, header: &Header) {
        let epoch = Epoch::new(header.node_id);
        let Some(head) = &self.head else {
            if header.mark.is_some() && !std::mem::replace(&mut self.is_headless, true) {
                let what = "lifeboat/head.json is missing, and files are there that only its writers store";
                self.findings.push(Finding::about(Kind::Head, what));
            }
            return;
        };
        let (known, base) = (head.epoch, head.base.txid);
        if header.mark.is_none() {
            if file.max.get() > base && !std::mem::replace(&mut self.is_taken_over, true) {
                let what =
                    format!("another program has written it after {base:016x}, where our writer began");
                self.wrong(file, Kind::Foreign, what);
            }
        } else if epoch > known {
            let what = format!("its writer has epoch {epoch}, and head.json knows none after {known}");
            self.wrong(file, Kind::Head, what);
        } else if file.level == Level::CAPTURED {
            if epoch < self.epoch {
                let what = format!(
                    "its writer has epoch {epoch}, and epoch {} has written a slot before it",
                    self.epoch
                );
                self.wrong(file, Kind::Foreign, what);
            }
            self.epoch = self.epoch.max(epoch);
        }
    }

    fn check_page_size(&mut self, file: &FileEntry, header: &Header) -> bool {
        // That of an empty replica says what it must, and not what comes.
        if file.is_seal() {
            return true;
        }
        let expected = *self.page_size.get_or_insert(header.page_size);
        if expected == header.page_size {
            return true;
        }
        let what = format!(
            "its pages have {} bytes, and those of the files before it {}",
            header.page_size.get(),
            expected.get()
        );
        self.wrong(file, Kind::Foreign, what);
        false
    }

    /// The file says of the states before and after it what other files say.
    fn check_links(&mut self, file: &FileEntry, header: &Header) -> bool {
        let Some(mark) = header.mark else { return true };
        let before = file.min.get().checked_sub(1).filter(|before| *before > 0);
        if let Some(before) = before
            && let Some(state) = self.states.get(&before).copied()
            && state.checksum != mark.pre_apply
        {
            let what = format!(
                "it does not continue {}: that ends with the database checksum {}, this begins with {}",
                state.by, state.checksum, mark.pre_apply
            );
            self.contradicts(file, state, Kind::Foreign, what);
            return false;
        }
        true
    }

    /// A file that ends where others end leads to the same database; the first one is believed.
    fn settle(&mut self, file: &FileEntry, state: State) -> bool {
        let end = file.max.get();
        let first = *self.states.entry(end).or_insert(state);
        if (first.checksum, first.commit) == (state.checksum, state.commit) {
            return true;
        }
        let what = format!(
            "it ends with {} pages and the database checksum {}, and {} with {} and {}",
            state.commit.get(),
            state.checksum,
            first.by,
            first.commit.get(),
            first.checksum
        );
        self.contradicts(file, first, Kind::Disagreement, what);
        false
    }

    /// Onto which states the pages of a file are put.
    fn place(&mut self, file: &FileEntry, header: &Header) -> (Option<Copying>, Vec<Onto>, After) {
        let (min, max) = (file.min.get(), file.max.get());
        let is_behind = |track: &Option<u64>| track.is_none_or(|at| at < max);
        if header.holds_every_page() && !file.is_seal() {
            let behind = self.tracks.iter().enumerate().filter(|(_, track)| is_behind(track));
            let onto = behind.map(|(track, at)| Onto { track, is_emptied: at.is_none() });
            return (None, onto.collect(), After::ItsPages);
        }
        let fits = |track: &Option<u64>| track.is_some_and(|at| at < max && at + 1 >= min);
        let own = track_of(file.level);
        let copy = match (self.tracks.get(own).is_some_and(fits), self.tracks.iter().position(fits)) {
            (false, Some(from)) => Some(Copying { from, to: own }),
            (true, _) => None,
            (false, None) => {
                self.nothing_leads_to(file, header);
                return (None, Vec::new(), After::Unknown);
            }
        };
        let upto = if file.is_seal() { TRACKS } else { own + 1 };
        let tracks = self.tracks.iter().enumerate().take(upto);
        let onto = tracks.filter(|(track, at)| *track == own || fits(at));
        let onto = onto.map(|(track, _)| Onto { track, is_emptied: false });
        (copy, onto.collect(), After::Track(own))
    }

    /// Another program may leave files that nothing leads to; ours never do.
    fn nothing_leads_to(&mut self, file: &FileEntry, header: &Header) {
        let is_known = self.states.contains_key(&file.max.get());
        let is_news = self.head.is_some() && header.mark.is_some() && !self.is_broken && !is_known;
        if is_news {
            let before = file.min.get() - 1;
            let what = format!(
                "no file leads to txid {before:016x}, where it begins: a snapshot or merged file is missing"
            );
            self.wrong(file, Kind::Missing, what);
            self.is_broken = true;
        }
    }

    fn advance(&mut self, file: &FileEntry, step: &Step) -> Vec<Copying> {
        let end = file.max.get();
        for onto in &step.onto {
            if let Some(track) = self.tracks.get_mut(onto.track) {
                *track = Some(end);
            }
        }
        let After::Track(own) = step.after else { return Vec::new() };
        let mut copies = Vec::new();
        for (to, track) in self.tracks.iter_mut().enumerate().take(own) {
            if track.is_none_or(|at| at < end) {
                *track = Some(end);
                copies.push(Copying { from: own, to });
            }
        }
        copies
    }

    fn lose(&mut self, step: &Step) {
        self.is_broken = true;
        let lost = step.onto.iter().map(|onto| onto.track).chain(step.copy.map(|copy| copy.to));
        for lost in lost {
            if let Some(track) = self.tracks.get_mut(lost) {
                *track = None;
            }
        }
    }

    fn check_base(&mut self) {
        let Some(base) = self.head.as_ref().map(|head| head.base) else { return };
        if let (Some(said), Some(state)) = (base.checksum, self.states.get(&base.txid))
            && state.checksum != said
        {
            let what = format!(
                "head.json says that the database had the checksum {said} at txid {:016x}, and the files lead to {}",
                base.txid, state.checksum
            );
            self.findings.push(Finding::about(Kind::Head, what));
        }
    }

    /// What this machine noted of the slot that it stored last.
    fn check_record(&mut self, record: &Record) {
        let Some(head) = &self.head else { return };
        let slot = record.slot;
        let newest = self.states.last_key_value().map_or(0, |(txid, _)| *txid);
        let what = if record.lineage != head.lineage {
            format!(
                "the database beside us was stored to the lineage {}, and this replica is {}",
                record.lineage, head.lineage
            )
        } else if slot.txid > newest && !self.is_broken {
            format!(
                "this machine stored the database up to txid {:016x}, and the newest here is {newest:016x}",
                slot.txid
            )
        } else if let (Some(stored), Some(state)) = (slot.checksum, self.states.get(&slot.txid))
            && stored != state.checksum
        {
            format!(
                "this machine stored a database with the checksum {stored} at txid {:016x}, and the files lead to {}",
                slot.txid, state.checksum
            )
        } else {
            return;
        };
        self.findings.push(Finding::about(Kind::Local, what));
    }
}

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// How many files could only be held against themselves, because nothing sound leads to where they begin.
    pub unproved: u64,
    /// The newest state that is known: its TXID and checksum.
    pub newest: Option<(u64, Checksum)>,
}

/// The state of a level; a snapshot's is that of the highest merged one.
fn track_of(level: Level) -> usize {
    let merged = Level::MERGED.iter().position(|merged| *merged >= level);
    if level == Level::CAPTURED { 0 } else { merged.map_or(TRACKS - 1, |merged| merged + 1) }
}

const fn covered(file: &FileEntry) -> Covered {
    Covered { level: file.level, min: file.min, max: file.max }
}
