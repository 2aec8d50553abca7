//! A machine's volume: the database, our record beside it, and what a power cut takes.

use std::rc::Rc;

use lifeboat_replica::adoption::{Content, Local, Record};

use crate::content::Commits;
use crate::image::{Change, Image, Unseen};
use crate::sqlite::Sqlite;
use crate::world::{Shape, World};

/// One volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Volume {
    /// The database; `None` before there is one.
    pub database: Option<Commits>,
    /// How many of its commits are on the disk for good.
    pub durable: usize,
    /// Our record beside it.
    pub record: Option<Record>,
    /// How often the machine was started.
    pub boots: u8,
    /// The application's SQLite, in worlds from a seed.
    pub sqlite: Unseen<Option<Sqlite>>,
    /// The page log beside the database, in worlds from a seed.
    pub log: Unseen<Vec<u8>>,
    /// The pages after so many commits, as far back as a power cut may go.
    history: Unseen<Vec<(usize, Rc<Image>)>>,
    /// How many commits were ever made here.
    made: u16,
}

impl Volume {
    /// The name of the present boot.
    #[must_use]
    pub fn boot_id(&self) -> String {
        format!("boot {}", self.boots)
    }

    /// The database, every page of it read.
    #[must_use]
    pub fn look(&self) -> Local {
        match &self.database {
            None => Local::Absent,
            Some(commits) => Local::Present {
                content: Content::Read(commits.checksum()),
                file_id: FILE_ID.to_owned(),
                record: self.record.clone(),
            },
        }
    }

    /// A restored database, made durable while it is written.
    pub fn restored(&mut self, commits: Commits) {
        self.durable = commits.numbers.len();
        if let Some(image) = &commits.image.0 {
            self.history = Unseen(vec![(self.durable, Rc::clone(image))]);
            self.sqlite = Unseen(Some(Sqlite::open(image, self.boots.into())));
        }
        self.database = Some(commits);
    }

    /// A commit of the application, which does not sync.
    pub fn commit(&mut self, commit: u16) {
        self.database.get_or_insert_default().numbers.push(commit);
    }

    /// A commit of the application that changes pages; its number.
    pub fn write(&mut self, shape: &Shape, at: usize) -> u16 {
        self.made += 1;
        let number = u16::try_from(at).unwrap_or(0) * COMMITS_MAX + self.made;
        let database = self.database.get_or_insert_default();
        let empty = || Rc::new(Image::new(shape.page_size, Vec::new()));
        let before = database.image.0.clone().unwrap_or_else(empty);
        let change = Change::draw(shape.seed, number, &before);
        let after = Rc::new(before.after(&change));
        database.numbers.push(number);
        database.image = Unseen(Some(Rc::clone(&after)));
        self.history.0.push((database.numbers.len(), after));
        let seed = shape.seed.wrapping_add(number.into());
        self.sqlite.0.get_or_insert_with(|| Sqlite::open(&before, seed)).commit(&change, shape.page_size);
        number
    }

    /// The newest committed state, as SQLite shows it.
    #[must_use]
    pub fn view(&self, world: &World) -> Option<Image> {
        let page_size = world.pages.as_ref()?.page_size;
        self.sqlite.0.as_ref().map(|sqlite| sqlite.view(page_size))
    }

    /// A checkpoint: what is in the file is there for good.
    pub fn checkpoint(&mut self, is_closed: bool) {
        let Some(sqlite) = &mut self.sqlite.0 else { return };
        if !is_closed || !sqlite.close() {
            sqlite.checkpoint();
        }
        if sqlite.is_backfilled() {
            self.durable = self.database.as_ref().map_or(0, |commits| commits.numbers.len());
        }
    }

    /// The power fails: the database keeps at least what is durable, the record perhaps.
    pub fn lose_power(&mut self, keep: usize, is_record_kept: bool) {
        if let Some(commits) = &mut self.database {
            commits.numbers.truncate(keep);
            if self.sqlite.0.is_some() {
                self.history.0.retain(|(length, _)| *length <= keep);
                let image = self.history.0.last().map(|(_, image)| Rc::clone(image));
                self.sqlite.0 = image.as_deref().map(|image| Sqlite::open(image, self.boots.into()));
                commits.image = Unseen(image);
            }
        }
        if self.made > 0 && keep == 0 {
            // Not even the file's first page was written.
            self.database = None;
        }
        self.durable = keep;
        self.boots += 1;
        if !is_record_kept {
            self.record = None;
            // The page log is torn, and a bit of it is wrong.
            self.log.0.truncate(self.log.0.len() / 2);
            self.log.0.iter_mut().skip(40).take(1).for_each(|byte| *byte ^= 4);
        }
    }
}

/// Device, inode and birth of the database's file: here it is never replaced.
pub const FILE_ID: &str = "file";
/// More than any application commits here.
const COMMITS_MAX: u16 = 1_000;
