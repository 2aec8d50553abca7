//! Waits for a database until there is one that can be followed.

use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use lifeboat_replica::adoption::Content;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wire::Verdict;
use tokio::sync::mpsc::Sender;

use crate::capture::{Order, Report, Task};
use crate::database::{Database, DatabaseError};
use crate::disk;
use crate::exit::{Exit, Failure};
use crate::notes::Notes;
use crate::scan::IsWanted;
use crate::watch::Watch;

/// A database that was opened, and looked at once.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub database: Database,
    /// What is known of the pages that the bucket has.
    pub notes: Notes,
    /// What the database holds.
    pub content: Content,
    /// Every page that may differ from what is known.
    pub dirty: DirtyPages,
    /// Tells its file from another under the same name.
    pub file_id: String,
}

/// Opens the database and looks at it, however long its application takes to create it, and whoever is in the way. Nothing
/// is begun anew meanwhile: a claim is a file that stays. Told to finish, it looks once more: `None` when there is still no
/// database.
///
/// A look may read all of a large database. Told to finish, it reads on, because what was committed last is to be stored; who does
/// not wait for that lets go of the reports, and then it ends at the next page.
pub fn open(
    task: &mut Task,
    watch: &Watch,
    orders: &Receiver<Order>,
    reports: &Sender<Report>,
) -> Result<Option<Opened>, Failure> {
    let (mut said, mut is_last) = (String::new(), false);
    loop {
        let is_told = watch.arm();
        let error = match look(task, &|| !reports.is_closed()) {
            Ok(opened) => return Ok(opened),
            Err(error) if error.verdict() == Verdict::Retry => error,
            Err(error) => return Err(error.into()),
        };
        let is_missing = matches!(error, DatabaseError::Absent { .. } | DatabaseError::Empty { .. });
        if is_missing && is_last {
            return Ok(None);
        }
        let is_brief = error.is_brief();
        let failure = Failure { exit: Exit::Unavailable, ..error.into() };
        if is_last && !is_missing && !is_brief {
            return Err(failure);
        }
        if said != failure.message {
            said.clone_from(&failure.message);
            let _ = reports.blocking_send(Report::Waiting(failure));
        }
        let _ = match is_missing {
            _ if is_last => watch.pause(LAST_PAUSE),
            true => watch.wait(if is_told { None } else { Some(OPEN_PAUSE) }),
            // What is in the way of an open database says nothing when it goes.
            false => watch.pause(OPEN_PAUSE),
        };
        match orders.try_recv() {
            Ok(Order::Finish) => is_last = true,
            Err(TryRecvError::Disconnected) | Ok(Order::Halt) => return Ok(None),
            Ok(
                Order::Begin(_)
                | Order::Stored { .. }
                | Order::GivenUp { .. }
                | Order::Large(_)
                | Order::KeepView
                | Order::Derive(_)
                | Order::Hurry
                | Order::Sync(_),
            )
            | Err(TryRecvError::Empty) => {}
        }
    }
}

fn look(task: &mut Task, is_wanted: &IsWanted<'_>) -> Result<Option<Opened>, DatabaseError> {
    let database = Database::open(&task.path, task.enforce)?.with_synchronous(task.synchronous)?;
    look_into(database, task, is_wanted)
}

/// Looks at a database that was just opened; `None` when nobody wants it any more.
pub(crate) fn look_into(
    database: Database,
    task: &mut Task,
    is_wanted: &IsWanted<'_>,
) -> Result<Option<Opened>, DatabaseError> {
    let (mut database, file_id) = with_id(database, &task.path)?;
    let mut notes = Notes::new(&task.folder, &task.boot_id, &file_id, database.page_size());
    let mut dirty = DirtyPages::new();
    let looked = notes.look(&mut database, &mut task.expected, &mut dirty, is_wanted);
    let content = looked.inspect_err(|error| notes.if_damaged(error))?;
    if dirty.is_empty() {
        // What it came across while it read was read with the rest, and does not wait.
        let _ = database.take_gained();
    }
    Ok(content.map(|content| Opened { database, notes, content, dirty, file_id }))
}

/// The database with what tells its file from another under the same name.
fn with_id(database: Database, path: &Path) -> Result<(Database, String), DatabaseError> {
    let gone = || DatabaseError::Replaced { path: path.to_owned() };
    let file_id = disk::file_id(path).ok().flatten().ok_or_else(gone)?;
    if database.is_replaced()? { Err(gone()) } else { Ok((database, file_id)) }
}

/// How long a wait for the application's database lasts when no event comes.
const OPEN_PAUSE: Duration = Duration::from_secs(1);
/// How long the last look waits, once told to finish.
const LAST_PAUSE: Duration = Duration::from_millis(5);
