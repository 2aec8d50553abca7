//! A machine's volume: the database, our record beside it, and what a power cut takes.

use lifeboat_replica::adoption::{Content, Local, Record};

use crate::content::Commits;

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
        self.durable = commits.0.len();
        self.database = Some(commits);
    }

    /// A commit of the application, which does not sync.
    pub fn commit(&mut self, commit: u8) {
        self.database.get_or_insert_default().0.push(commit);
    }

    /// The power fails: the database keeps at least what is durable, the record perhaps.
    pub fn lose_power(&mut self, keep: usize, is_record_kept: bool) {
        if let Some(commits) = &mut self.database {
            commits.0.truncate(keep);
        }
        self.durable = keep;
        self.boots += 1;
        if !is_record_kept {
            self.record = None;
        }
    }
}

/// Device, inode and birth of the database's file: here it is never replaced.
pub const FILE_ID: &str = "file";
