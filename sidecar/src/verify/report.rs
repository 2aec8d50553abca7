//! What a verification found, for people and for scripts.

use std::fmt::Write as _;

use lifeboat_replica::verify::{Finding, Kind};
use lifeboat_wire::Reason;
use serde::Serialize;

use super::drill::Drilled;
use crate::args::VerifyLevel;
use crate::exit::Failure;
use crate::table::{bytes, counted};

/// What a verification found, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which replica.
    pub replica: String,
    /// How thoroughly.
    pub level: VerifyLevel,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The newest state that is known, 16 hexadecimal digits.
    pub txid: Option<String>,
    /// The rolling checksum of the database there, where it is known.
    pub checksum: Option<String>,
    /// The epoch of the present writer; `None` for another program's replica.
    pub epoch: Option<u64>,
    /// How many files were looked at.
    pub files: usize,
    /// Of them, how many could be held against their own checksum only; `None` where no pages were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproved: Option<u64>,
    /// Bytes that were read.
    pub bytes: u64,
    /// How many states can be restored without the files that something is wrong with.
    pub states: usize,
    /// The newest of them.
    pub newest_sound: Option<String>,
    /// What came of the restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<Restored>,
    /// Time taken.
    pub seconds: f64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// A restore that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The TXID that was restored.
    pub txid: Option<String>,
    /// When that state was stored, by the clock of its writer.
    pub time: Option<String>,
    /// Size of the database, bytes.
    pub bytes: u64,
    /// Time that the restore alone took.
    pub seconds: f64,
    /// How many queries were true.
    pub queries: usize,
}

impl Report {
    /// Takes what came of the restore.
    pub(super) fn drilled(&mut self, drilled: Drilled) {
        self.drill = drilled.restored;
        self.findings.extend(drilled.findings);
        self.ok = self.findings.is_empty();
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.replica);
        let txid = self.txid.as_deref().unwrap_or("none");
        let checksum = self.checksum.as_deref().unwrap_or("not known");
        let (files, read) = (counted(self.files, "file"), bytes(self.bytes));
        let _ = writeln!(text, "  newest state  txid {txid}, checksum {checksum}");
        let _ = writeln!(text, "  looked at     {files}, {read} read, in {:.2} s", self.seconds);
        let _ = writeln!(text, "  restorable    {}", counted(self.states, "state"));
        if let Some(unproved) = self.unproved.filter(|unproved| *unproved > 0) {
            let _ = writeln!(
                text,
                "  on their own  {unproved} of the files: no sound file leads to where they begin, so only their own checksums \
                 were checked"
            );
        }
        if let Some(drill) = &self.drill {
            let _ = writeln!(
                text,
                "  restored      txid {} of {}, {} in {:.2} s; SQLite finds it sound; {} true",
                drill.txid.as_deref().unwrap_or("?"),
                drill.time.as_deref().unwrap_or("?"),
                bytes(drill.bytes),
                drill.seconds,
                counted(drill.queries, "query").replace("querys", "queries")
            );
        }
        for finding in &self.findings {
            let _ = writeln!(text, "  WRONG         {}", finding.message);
        }
        text.push_str(&self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let what = match self.level {
            VerifyLevel::Chain => {
                "The list and every header are as they must be; what is in the files was not read"
            }
            VerifyLevel::Deep => "Every file is what was written, and all of them agree",
            VerifyLevel::Drill => "Every file is what was written, and the database comes back",
        };
        match (&self.newest_sound, self.ok) {
            (_, true) => format!("{what}.\n"),
            (Some(txid), false) => {
                format!("Without the files named above, states up to txid {txid} can be restored.\n")
            }
            (None, false) => "Without the files named above, nothing can be restored.\n".to_owned(),
        }
    }

    /// How the command ends.
    ///
    /// # Errors
    /// Damaged when anything is wrong.
    pub fn outcome(&self) -> Result<(), Failure> {
        let Some(first) = self.findings.first() else { return Ok(()) };
        let reason = match first.kind {
            Kind::Missing => Reason::ChainGap,
            Kind::Local => Reason::Diverged,
            Kind::Damaged
            | Kind::Misplaced
            | Kind::Foreign
            | Kind::Disagreement
            | Kind::Head
            | Kind::Restore
            | Kind::Sql => Reason::IntegrityFailed,
        };
        let (count, replica) = (self.findings.len(), &self.replica);
        let what =
            if count == 1 { "1 thing is wrong".to_owned() } else { format!("{count} things are wrong") };
        Err(Failure::damaged(reason, format!("{replica}: {what}, first: {}", first.message)))
    }
}
