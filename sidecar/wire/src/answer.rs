//! The answers to `POST /v1/databases/<name>/sync`.

use serde::{Deserialize, Serialize};

use crate::{Position, Reason};

/// Everything committed before the request is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synced {
    /// The configuration's name of the database, else its path.
    pub name: String,
    /// The newest state proved to be in the bucket: that one or a later one; null for unknown.
    pub position: Option<Position>,
}

/// It is not, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotSynced {
    /// The name that was asked for.
    pub name: String,
    /// The exit code with which `lifeboat sync` ends for it.
    pub exit_code: u8,
    /// Why, in one word.
    pub reason: Reason,
    /// One line for humans: what is missing, and what to do.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_spelled_as_documented() {
        let position = Position { txid: "00000000000000a1".to_owned(), checksum: None, time: None };
        let synced = Synced { name: "main".to_owned(), position: Some(position) };
        assert_eq!(
            serde_json::to_string(&synced).unwrap(),
            r#"{"name":"main","position":{"txid":"00000000000000a1","checksum":null,"time":null}}"#
        );
        let not = NotSynced {
            name: "main".to_owned(),
            exit_code: 3,
            reason: Reason::SealedByNewerEpoch,
            message: "stopped".to_owned(),
        };
        assert_eq!(
            serde_json::to_string(&not).unwrap(),
            r#"{"name":"main","exitCode":3,"reason":"SealedByNewerEpoch","message":"stopped"}"#
        );
    }
}
