//! What the init step leaves for the sidecar of the same pod: its sealed claim, one file for each database.

use std::path::{Path, PathBuf};

use lifeboat_replica::adoption::Chain;
use lifeboat_replica::claim::Sealed;
use lifeboat_replica::head::{Base, Head};
use lifeboat_wire::Reason;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::exit::Failure;

/// A sealed claim, on its way from the init container to the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The head as the init step wrote it; the sidecar opens exactly this one.
    pub head: Head,
    /// The seal, or nothing for a creator.
    pub base: Base,
    /// What the bucket holds up to the seal, so that nobody has to look again.
    #[serde(default)]
    pub chain: Option<Chain>,
}

impl From<&Sealed> for HandOver {
    fn from(sealed: &Sealed) -> Self {
        Self { head: sealed.head.clone(), base: sealed.base, chain: None }
    }
}

/// Leaves the claim of `database` in `folder`.
///
/// # Errors
/// Refused when the folder cannot be written.
pub fn leave(folder: &Path, database: &str, claim: &HandOver) -> Result<(), Failure> {
    let path = file(folder, database);
    let json = serde_json::to_vec_pretty(claim).map_err(|error| Failure::bug(error.to_string()))?;
    disk::replace(&path, &json).map_err(|error| unusable(&path, &error))
}

/// Takes the claim of `database` out of `folder`, so that it is used once; `None` where there is none.
///
/// # Errors
/// Refused when the folder cannot be read or written.
pub fn take(folder: &Path, database: &str) -> Result<Option<HandOver>, Failure> {
    let path = file(folder, database);
    let Some(bytes) = disk::read_if_exists(&path).map_err(|error| unusable(&path, &error))? else {
        return Ok(None);
    };
    std::fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Failure::bug(format!("{} is not a claim: {error}", path.display())))
}

fn file(folder: &Path, database: &str) -> PathBuf {
    let name = percent_encoding::utf8_percent_encode(database, percent_encoding::NON_ALPHANUMERIC);
    folder.join(format!("{name}.claim.json"))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(Reason::DatabaseUnreadable, format!("{}: {error}; it must be writable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_replica::head::{Nonce, Owner};

    #[test]
    fn a_claim_is_handed_over_once() {
        let owner = Owner {
            nonce: Nonce::new([1; 16]),
            cluster: String::new(),
            namespace: String::new(),
            name: "host".to_owned(),
            pod_uid: String::new(),
        };
        let claim = HandOver { head: Head::create("l".to_owned(), owner), base: Base::NOTHING, chain: None };
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path(), "/data/a.db", &claim).unwrap();
        assert_eq!(take(folder.path(), "/data/a.db").unwrap(), Some(claim));
        assert_eq!(take(folder.path(), "/data/a.db").unwrap(), None);
    }
}
