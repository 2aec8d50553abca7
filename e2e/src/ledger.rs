//! What the application has committed, by its own word.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::task::JoinHandle;

use crate::wait::SOON;

/// Follows the output of one pod's application until it ends.
#[derive(Debug)]
pub struct Following(JoinHandle<Ledger>);

/// Every commit that one process of the application has reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    commits: Vec<Commit>,
    /// Whether the process has said that it stopped in order.
    pub stopped_in_order: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    at: Timestamp,
    row: i64,
}

impl Ledger {
    /// Begins to follow the output of the container `app`, from its first line on, which has to be there already.
    ///
    /// # Errors
    /// When the output cannot be read, or is empty.
    pub async fn follow(pods: Api<Pod>, pod: &str) -> Result<Following> {
        let wanted = LogParams {
            container: Some("app".to_owned()),
            follow: true,
            timestamps: true,
            ..LogParams::default()
        };
        let stream = pods.log_stream(pod, &wanted).await.context("follow the application's output")?;
        let mut lines = stream.lines();
        let first = lines.try_next().await?.context("the application has said nothing")?;
        Ok(Following(tokio::spawn(async move {
            let mut ledger = Self::default();
            ledger.note(&first);
            // A pod deleted by force may cut the stream; what was read until then counts.
            while let Ok(Some(line)) = lines.try_next().await {
                ledger.note(&line);
            }
            ledger
        })))
    }

    /// The last row that was committed; 0 when there is none.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.commits.last().map_or(0, |commit| commit.row)
    }

    /// The last row that was committed at least `age` before the last one.
    #[must_use]
    pub fn last_older_than(&self, age: Duration) -> i64 {
        let Some(last) = self.commits.last() else { return 0 };
        let older =
            self.commits.iter().rfind(|commit| last.at.duration_since(commit.at).unsigned_abs() >= age);
        older.map_or(0, |commit| commit.row)
    }

    /// Takes in one line: `<time> committed <row>`.
    fn note(&mut self, line: &str) {
        let Some((at, text)) = line.split_once(' ') else { return };
        if let (Ok(at), Some(Ok(row))) = (at.parse(), text.strip_prefix("committed ").map(str::parse)) {
            self.commits.push(Commit { at, row });
        }
        self.stopped_in_order |= text.starts_with("stopped after row");
    }
}

impl Following {
    /// Waits for the end of the output, and returns what was in it.
    ///
    /// # Errors
    /// When it could not be followed, or does not end.
    pub async fn finish(self) -> Result<Ledger> {
        let ledger =
            tokio::time::timeout(SOON, self.0).await.context("the application's output does not end")?;
        ledger.context("follow the application's output")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_knows_which_rows_were_committed_in_time() {
        let mut ledger = Ledger::default();
        ledger.note("2026-11-23T10:00:00.000000001Z opened /data/app.db, last row 3");
        ledger.note("2026-11-23T10:00:01.000000001Z committed 4");
        ledger.note("2026-11-23T10:00:02.000000001Z committed 5");
        ledger.note("2026-11-23T10:00:03.500000001Z cannot commit 6: database is locked");
        ledger.note("2026-11-23T10:00:04.000000001Z committed 6");
        assert_eq!(ledger.last(), 6);
        assert_eq!(ledger.last_older_than(Duration::from_secs(2)), 5);
        assert_eq!(ledger.last_older_than(Duration::from_secs(3)), 4);
        assert!(!ledger.stopped_in_order);
        ledger.note("2026-11-23T10:00:05.000000001Z stopped after row 6");
        assert!(ledger.stopped_in_order);
    }
}
