//! What a writer saves that lost the replica: its whole database, beside the chain and never in it.
//!
//! A fork is one file with every page, so it needs no other: what it goes on from may be merged away minutes after its writer
//! was fenced. Beside it stands its note, which is written last: what has none is not there.

use lifeboat_ltx::Checksum;
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::head::{Base, Owner, checksum_text};

/// The newest note this release reads and the one it writes.
pub const NOTE_VERSION: u32 = 1;

/// The largest note that is read, in bytes; ours are under 1 KiB.
pub const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Why a database was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// Its writer lost the replica to another one.
    Fenced,
    /// It was no continuation of the replica, and the replica's state took its place.
    Diverged,
}

/// What a fork says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The layout of this note. A newer one is refused.
    pub format_version: u32,
    /// Why it was saved.
    pub why: Why,
    /// When, milliseconds since 1970; only ever shown.
    pub saved_ms: i64,
    /// Who had the database.
    pub owner: Owner,
    /// The lineage that it was of; empty where nothing says.
    pub lineage: String,
    /// The newest state of the replica that is known to be one of this database; `None` where nothing is known.
    pub base: Option<Base>,
    /// How many transactions were committed after it, as far as they were counted.
    pub transactions: Option<u64>,
    /// Size of the database in pages.
    pub page_count: u32,
    /// Size of every page in bytes.
    pub page_size: u32,
    /// Rolling checksum of the database.
    #[serde(default, with = "checksum_text")]
    pub checksum: Option<Checksum>,
    /// Bytes of the file with the pages.
    pub bytes: u64,
}

impl Note {
    /// The note as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads a note.
    ///
    /// # Errors
    /// A line that says why these bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: u32,
        }
        let wrong = |error: serde_json::Error| format!("it is no note of a fork: {error}");
        let version: Version = serde_json::from_slice(bytes).map_err(wrong)?;
        if version.format_version > NOTE_VERSION {
            return Err(format!(
                "it is a note of version {}, and this release reads version {NOTE_VERSION}; use a newer lifeboat",
                version.format_version
            ));
        }
        serde_json::from_slice(bytes).map_err(wrong)
    }
}

/// What a fenced writer leaves beside its database before it does anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FencedMark {
    /// The pod that lost the replica; empty outside Kubernetes.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The epoch that it had; 0 where it lost before it had one.
    pub epoch: Epoch,
    /// One line for people.
    pub message: String,
}

impl FencedMark {
    /// Whether this process must not claim. A pod that lost never does by itself, however often its containers are started
    /// again; a new pod may, and so may a person.
    #[must_use]
    pub fn forbids(&self, pod_uid: &str) -> bool {
        !pod_uid.is_empty() && self.pod_uid == pod_uid
    }
}

/// Whatever the bytes are, decoding does not panic.
#[doc(hidden)]
pub fn fuzz_note(bytes: &[u8]) {
    let _ = Note::decode(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_lost_does_not_claim_again_and_a_new_one_or_a_person_may() {
        let mark =
            |pod: &str| FencedMark { pod_uid: pod.to_owned(), epoch: Epoch::FIRST, message: String::new() };
        assert!(mark("pod-1").forbids("pod-1"));
        assert!(!mark("pod-1").forbids("pod-2"));
        assert!(!mark("").forbids(""));
    }

    #[test]
    fn a_newer_note_is_refused_and_not_misread() {
        let newer = br#"{"formatVersion": 2, "why": "weather"}"#;
        assert!(Note::decode(newer).unwrap_err().contains("use a newer lifeboat"));
        assert!(Note::decode(b"{}").unwrap_err().contains("no note of a fork"));
    }
}
