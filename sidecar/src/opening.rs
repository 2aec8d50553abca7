//! Waits for a database until there is one that can be followed.

use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use lifeboat_wire::Verdict;
use tokio::sync::mpsc::Sender;

use crate::capture::{Order, Report, Task};
use crate::database::{Database, DatabaseError};
use crate::disk;
use crate::exit::Failure;
use crate::watch::Watch;

/// Opens the database, however long its application takes to create it. Told to finish, it looks once more: `None` when
/// there is still no database.
pub fn open(
    task: &Task,
    watch: &Watch,
    orders: &Receiver<Order>,
    reports: &Sender<Report>,
) -> Result<Option<(Database, String)>, Failure> {
    let (mut said, mut is_last) = (String::new(), false);
    loop {
        let is_told = watch.arm();
        let error = match Database::open(&task.path, task.enforce)
            .and_then(|database| database.with_synchronous(task.synchronous))
            .and_then(|database| with_id(database, &task.path))
        {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if error.verdict() == Verdict::Retry => error,
            Err(error) => return Err(error.into()),
        };
        let is_missing = matches!(error, DatabaseError::Absent { .. } | DatabaseError::Empty { .. });
        if is_missing && is_last {
            return Ok(None);
        }
        let failure = Failure::from(error);
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
            Err(TryRecvError::Disconnected) => return Ok(None),
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
