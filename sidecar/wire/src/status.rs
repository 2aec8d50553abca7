//! The body of `GET /v1/status`.

use serde::{Deserialize, Serialize};

use crate::{Reason, Verdict};

/// Everything the sidecar knows about the databases it follows, at the moment of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Release of the sidecar, such as `0.1.0`.
    pub version: String,
    /// What is wrong with the newest config file, in place of which the one before it is in use; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_error: Option<String>,
    /// One entry for each configured database, in the order of the configuration.
    pub databases: Vec<DatabaseStatus>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The configuration's name of it, else its path.
    pub name: String,
    /// Absolute path of the database file.
    pub path: String,
    /// The epoch this process writes in; null before it has claimed one.
    pub epoch: Option<u64>,
    /// The newest state proved to be in the bucket; null for unknown.
    pub position: Option<Position>,
    /// Age of the oldest commit not yet stored, in seconds; 0 when nothing waits, null for unknown.
    pub lag_seconds: Option<f64>,
    /// Bytes captured or seen but not yet stored; null for unknown.
    pub unreplicated_bytes: Option<u64>,
    /// Slots stored a day at the present pace, where `max-lag` makes that more than `max-requests-per-day`; null where that
    /// budget is kept, or there is none.
    #[serde(default)]
    pub requests_per_day: Option<u64>,
    /// Since when the store takes nothing, RFC 3339 in UTC; null when it does.
    #[serde(default)]
    pub away_since: Option<String>,
    /// The last spans of time of which only the end can be restored, oldest first: what was committed in one of them had
    /// to wait, and was stored at once.
    #[serde(default)]
    pub lost: Vec<LostSpan>,
    /// When the oldest state that can be restored was captured, RFC 3339 in UTC; null for unknown. The newest is `position`.
    #[serde(default)]
    pub oldest_restorable: Option<String>,
    /// When the state of the newest snapshot of this process was captured, RFC 3339 in UTC; null before there is one.
    #[serde(default)]
    pub last_snapshot: Option<String>,
    /// How many attempts in a row to merge slots came to nothing. While they do, a restore takes longer and longer.
    #[serde(default)]
    pub merge_failures: u32,
    /// Why files that nothing needs any more stay in the bucket; null where they do not.
    #[serde(default)]
    pub prune_failures: Option<PruneFailures>,
    /// The SQLite that last wrote to the database's header, such as `3.51.3`; null for unknown.
    #[serde(default)]
    pub sqlite_version: Option<String>,
    /// Whether that SQLite can lose commits in a rare race of its own checkpoints.
    #[serde(default)]
    pub has_wal_reset_race: bool,
    /// What a writer that lost the replica could not store; absent for one that did not lose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_stake: Option<AtStake>,
    /// What must be done; null when the database is well.
    pub verdict: Option<Verdict>,
    /// Why; null when the database is well.
    pub reason: Option<Reason>,
    /// One line for humans; empty when the database is well.
    #[serde(default)]
    pub message: String,
}

impl DatabaseStatus {
    /// Whether it is known that everything committed is stored. What is unknown is not stored.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.position.is_some()
            && self.unreplicated_bytes == Some(0)
            && self.lag_seconds.is_some_and(|lag| lag <= 0.0)
    }
}

/// What was committed beside the replica: it is in the local database, and in a fork once that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtStake {
    /// How many transactions; null for unknown.
    pub transactions: Option<u64>,
    /// The fork that they are saved in, as `lifeboat forks show` takes it; null before that.
    pub fork: Option<String>,
}

/// Attempts in a row to delete what nothing needs that came to nothing. Nothing is lost by it; the bucket grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneFailures {
    /// How many.
    pub count: u32,
    /// When the first of them was, RFC 3339 in UTC.
    pub since: String,
    /// What the last of them met: one line for humans.
    pub message: String,
}

/// A span of time of which only the end can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostSpan {
    /// When the oldest commit was found that had to wait, RFC 3339 in UTC.
    pub from: String,
    /// When all of them were put into one slot, RFC 3339 in UTC.
    pub to: String,
}

/// A state that the bucket holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The TXID as in file names: 16 hexadecimal digits.
    pub txid: String,
    /// The rolling checksum of the whole database there, 16 hexadecimal digits; null for unknown.
    pub checksum: Option<String>,
    /// When that state was captured, RFC 3339 in UTC; null for unknown.
    pub time: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            config_error: None,
            databases: vec![
                DatabaseStatus {
                    name: "main".to_owned(),
                    path: "/data/app.db".to_owned(),
                    epoch: Some(12),
                    position: Some(Position {
                        txid: "00000000000000a1".to_owned(),
                        checksum: Some("9fffffffffffffff".to_owned()),
                        time: Some("2026-11-23T06:59:41Z".to_owned()),
                    }),
                    lag_seconds: Some(0.0),
                    unreplicated_bytes: Some(0),
                    requests_per_day: Some(288),
                    away_since: None,
                    lost: Vec::new(),
                    oldest_restorable: Some("2026-11-16T00:00:00Z".to_owned()),
                    last_snapshot: Some("2026-11-23T00:00:00Z".to_owned()),
                    merge_failures: 0,
                    prune_failures: Some(PruneFailures {
                        count: 2,
                        since: "2026-11-23T04:00:00Z".to_owned(),
                        message: "bucket shop: not allowed to delete".to_owned(),
                    }),
                    sqlite_version: Some("3.45.1".to_owned()),
                    has_wal_reset_race: true,
                    at_stake: None,
                    verdict: None,
                    reason: None,
                    message: String::new(),
                },
                DatabaseStatus {
                    name: "sessions".to_owned(),
                    path: "/data/sessions.db".to_owned(),
                    epoch: None,
                    position: None,
                    lag_seconds: None,
                    unreplicated_bytes: None,
                    requests_per_day: None,
                    away_since: Some("2026-11-23T06:12:00Z".to_owned()),
                    lost: vec![LostSpan {
                        from: "2026-11-23T05:00:07Z".to_owned(),
                        to: "2026-11-23T05:41:30Z".to_owned(),
                    }],
                    oldest_restorable: None,
                    last_snapshot: None,
                    merge_failures: 0,
                    prune_failures: None,
                    sqlite_version: None,
                    has_wal_reset_race: false,
                    at_stake: None,
                    verdict: Some(Verdict::Retry),
                    reason: Some(Reason::StoreUnavailable),
                    message: "bucket shop at http://s3.lab.local:7070: connection refused".to_owned(),
                },
            ],
        }
    }

    #[test]
    fn the_status_is_spelled_as_documented() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&example()).unwrap());
    }

    #[test]
    fn what_is_at_stake_is_spelled_as_documented() {
        let at_stake = AtStake { transactions: Some(3), fork: Some("2/9fffffffffffffff".to_owned()) };
        let json = r#"{"transactions":3,"fork":"2/9fffffffffffffff"}"#;
        assert_eq!(serde_json::to_string(&at_stake).unwrap(), json);
    }

    #[test]
    fn a_status_survives_the_wire() {
        let json = serde_json::to_vec(&example()).unwrap();
        assert_eq!(serde_json::from_slice::<Status>(&json).unwrap(), example());
    }

    #[test]
    fn fields_of_a_newer_release_are_ignored() {
        let json = r#"{"version":"9.0.0","moon":1,"databases":[{"name":"a","path":"/a","epoch":null,"position":null,
            "lagSeconds":null,"unreplicatedBytes":null,"verdict":"wobble","reason":null,"tide":2}]}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        assert_eq!(status.databases[0].verdict, Some(Verdict::Unknown));
    }
}
