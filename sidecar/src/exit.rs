//! How the program ends: one failure type at the top, and exit codes that scripts may rely on.

use std::fmt;
use std::process::ExitCode;

use lifeboat_wire::{Reason, Verdict};

use crate::database::DatabaseError;

/// Exit codes. They are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Another writer owns the replica.
    Fenced = 3,
    /// The request cannot be honoured.
    Refused = 4,
    /// The bucket cannot be reached.
    Unavailable = 5,
    /// Data is not what it must be.
    Damaged = 6,
    /// An invariant of our own broke.
    Bug = 70,
}

impl Exit {
    /// The exit of that code; `None` for one that no release has given.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Fenced,
            4 => Self::Refused,
            5 => Self::Unavailable,
            6 => Self::Damaged,
            70 => Self::Bug,
            _ => return None,
        })
    }

    /// Of several ends the gravest counts; that of being fenced more than a refusal.
    const fn gravity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unavailable => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Fenced => 4,
            Self::Damaged => 5,
            Self::Bug => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that failed: what a human reads, what a script tests, what a status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends if nothing handles it.
    pub exit: Exit,
    /// Why, in one word.
    pub reason: Reason,
    /// One line: which thing, what is wrong, what to do.
    pub message: String,
    /// Keys of stored files one of which must be what is damaged. Mostly empty.
    pub suspects: Vec<String>,
}

impl Failure {
    fn new(exit: Exit, reason: Reason, message: impl Into<String>) -> Self {
        Self { exit, reason, message: message.into(), suspects: Vec::new() }
    }

    /// Wrong usage or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Reason::InvalidConfig, message)
    }

    /// A request that cannot be honoured.
    #[must_use]
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, reason, message)
    }

    /// Another writer owns the replica.
    #[must_use]
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(Exit::Fenced, Reason::SealedByNewerEpoch, message)
    }

    /// The bucket could not be reached for as long as we were told to try.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, Reason::StoreUnavailable, message)
    }

    /// The machine has no thread, or no memory for one, at this moment.
    #[must_use]
    pub fn no_thread(error: &std::io::Error) -> Self {
        let why = format!("no thread can be started ({error}); raise the limit of processes, or of memory");
        Self { reason: Reason::DatabaseUnreadable, ..Self::unavailable(why) }
    }

    /// Data is not what it must be.
    #[must_use]
    pub fn damaged(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Exit::Damaged, reason, message)
    }

    /// An invariant of our own broke.
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Exit::Bug, Reason::Bug, message)
    }

    /// The same failure, with what it is about in front.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same failure; one of the files with these keys must be what is damaged.
    #[must_use]
    pub fn suspecting(self, keys: impl IntoIterator<Item = String>) -> Self {
        Self { suspects: keys.into_iter().collect(), ..self }
    }

    /// How all of it ends where several parts may have failed.
    ///
    /// # Errors
    /// The gravest failure, if there is one.
    pub fn gravest(failures: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        failures.into_iter().max_by_key(|failure| failure.exit.gravity()).map_or(Ok(()), Err)
    }

    /// What whoever meets this must do.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self.exit {
            Exit::Done | Exit::Unavailable => Verdict::Retry,
            Exit::Fenced => Verdict::Fence,
            Exit::Usage | Exit::Refused => Verdict::Refuse,
            Exit::Damaged | Exit::Bug => Verdict::Halt,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::from(&error)
    }
}

impl From<&DatabaseError> for Failure {
    fn from(error: &DatabaseError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        match error.verdict() {
            Verdict::Halt if error.reason() == Reason::Bug => Self::bug(message),
            Verdict::Halt => Self::damaged(error.reason(), message),
            Verdict::Retry | Verdict::Rescan => Self { reason: error.reason(), ..Self::unavailable(message) },
            Verdict::Fence | Verdict::Refuse | Verdict::Unknown => Self::refused(error.reason(), message),
        }
    }
}
