//! What a container writes to its termination message before it ends.

use serde::{Deserialize, Serialize};

use crate::{Position, Reason, TERMINATION_BYTES_MAX};

/// The last words of `lifeboat restore` or `lifeboat replicate` in a pod.
///
/// `message` comes first, so that `kubectl describe pod` begins with the sentence a human needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// One line for humans.
    pub message: String,
    /// Which of the two containers speaks.
    pub step: Step,
    /// Why it failed; null when it did not.
    pub reason: Option<Reason>,
    /// The exit code that follows.
    pub exit_code: u8,
    /// What became of each database that was reached.
    #[serde(default)]
    pub databases: Vec<DatabaseOutcome>,
}

impl Termination {
    /// Encodes as one line of JSON that is never longer than [`TERMINATION_BYTES_MAX`].
    ///
    /// What does not fit is left out, last database first; then the message is shortened.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut short = self.clone();
        loop {
            let json = serde_json::to_string(&short).unwrap_or_default();
            if json.len() <= TERMINATION_BYTES_MAX {
                return json;
            }
            if short.databases.pop().is_none() {
                let half = short.message.chars().count() / 2;
                short.message = short.message.chars().take(half).collect();
            }
        }
    }

    /// Decodes a termination message; `None` for one that is not ours, such as another container's or a cut one.
    #[must_use]
    pub fn decode(message: &str) -> Option<Self> {
        serde_json::from_str(message).ok()
    }
}

/// Which step of the pod's life a [`Termination`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The init container.
    Restore,
    /// The sidecar.
    Replicate,
    /// A word of a newer release.
    #[serde(other)]
    Unknown,
}

/// What became of one database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseOutcome {
    /// The configuration's name of it.
    pub name: String,
    /// In one word.
    pub outcome: Outcome,
    /// Where it stands in the bucket; null when nothing was ever stored.
    pub position: Option<Position>,
    /// Size of the restored file, or bytes flushed at the end.
    pub bytes: u64,
    /// Time taken, in seconds.
    pub seconds: f64,
}

/// In one word, what became of a database in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Restore: the file was rebuilt from the bucket.
    Restored,
    /// Restore: the local file already is what the bucket holds, or continues it.
    UpToDate,
    /// Restore: the bucket is proved empty; the application starts its first database.
    FirstStart,
    /// Replicate: everything committed is stored and the replica is closed.
    Flushed,
    /// Replicate: the end came with commits not stored.
    TailNotStored,
    /// Another writer took over.
    Fenced,
    /// The step failed before this database was done.
    Failed,
    /// A word of a newer release.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Termination {
        Termination {
            message: "restored 1 database: main at txid 00000000000000a1".to_owned(),
            step: Step::Restore,
            reason: None,
            exit_code: 0,
            databases: vec![DatabaseOutcome {
                name: "main".to_owned(),
                outcome: Outcome::Restored,
                position: None,
                bytes: 8192,
                seconds: 0.25,
            }],
        }
    }

    #[test]
    fn the_termination_is_spelled_as_documented() {
        insta::assert_snapshot!(example().encode());
    }

    #[test]
    fn a_termination_survives_the_kubelet() {
        assert_eq!(Termination::decode(&example().encode()), Some(example()));
    }

    #[test]
    fn a_long_termination_is_cut_to_what_the_kubelet_keeps_and_still_decodes() {
        let mut long = example();
        long.message = "é\"".repeat(5000);
        long.databases = vec![long.databases[0].clone(); 100];
        let encoded = long.encode();
        assert!(encoded.len() <= TERMINATION_BYTES_MAX);
        assert!(Termination::decode(&encoded).is_some());
    }

    #[test]
    fn words_that_are_not_ours_decode_to_nothing() {
        assert_eq!(Termination::decode("panic: out of cheese"), None);
    }
}
