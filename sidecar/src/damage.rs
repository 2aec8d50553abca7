//! The mark beside a database that lost a page.
//!
//! A process that comes later knows nothing of what the WAL said, and would take the old page for the newest one and store
//! it. So whoever finds that out leaves a mark, and nobody stores anything of that file as long as it is there. A file that
//! was restored is another one.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_wire::Reason;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::exit::Failure;

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
struct Damage {
    file_id: String,
    message: String,
}

/// Leaves the mark in our folder beside the database, for the file with this identity.
///
/// # Errors
/// Whatever the file system says.
pub fn mark(folder: &Path, file_id: &str, message: &str) -> io::Result<()> {
    let damage = Damage { file_id: file_id.to_owned(), message: message.to_owned() };
    disk::replace(&path(folder), &serde_json::to_vec_pretty(&damage)?)
}

/// Refuses the database file with this identity, if it has the mark.
///
/// # Errors
/// Damaged, also where the mark cannot be read: then it is not absent.
pub fn require_none(folder: &Path, file_id: &str) -> Result<(), Failure> {
    let path = path(folder);
    let damaged = |message| Failure::damaged(Reason::DatabaseDamaged, message);
    let bytes =
        disk::read_if_exists(&path).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
    let Some(bytes) = bytes else { return Ok(()) };
    match serde_json::from_slice::<Damage>(&bytes) {
        Ok(damage) if damage.file_id != file_id => Ok(()),
        Ok(damage) => Err(damaged(format!(
            "{}. To store it as it is all the same, delete {}",
            damage.message,
            path.display()
        ))),
        Err(error) => Err(damaged(format!("{}: {error}", path.display()))),
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("damaged.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_lost_a_page_is_refused_until_somebody_decides() {
        let folder = tempfile::tempdir().unwrap();
        require_none(folder.path(), "1-2-3").unwrap();
        mark(folder.path(), "1-2-3", "page 7 is gone").unwrap();
        let refused = require_none(folder.path(), "1-2-3").unwrap_err();
        assert_eq!(refused.reason, Reason::DatabaseDamaged);
        assert!(refused.message.starts_with("page 7 is gone. To store it as it is all the same, delete "));
        require_none(folder.path(), "4-5-6").unwrap();
    }

    #[test]
    fn a_mark_that_cannot_be_understood_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(path(folder.path()), "{").unwrap();
        assert_eq!(require_none(folder.path(), "1-2-3").unwrap_err().reason, Reason::DatabaseDamaged);
    }
}
