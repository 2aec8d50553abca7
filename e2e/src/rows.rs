//! What the example application says about its rows: the body of `GET /rows`.

use serde::{Deserialize, Serialize};

/// The table of numbered rows, as one process sees it.
///
/// The numbers have no holes as long as nothing is lost in the middle, so a test can tell from two of these bodies exactly
/// which rows a restart has cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rows {
    /// How many rows there are.
    pub count: i64,
    /// The lowest number; 0 when there are no rows.
    pub first: i64,
    /// The highest number; 0 when there are no rows.
    pub last: i64,
    /// How many numbers between the lowest and the highest are missing.
    pub gaps: i64,
    /// What SQLite's `integrity_check` says: `ok`, or what is wrong.
    pub integrity: String,
    /// The pod that answers; empty outside Kubernetes.
    pub pod: String,
    /// The highest number that this process found when it opened the database; 0 when it found no rows.
    pub last_at_start: i64,
}
