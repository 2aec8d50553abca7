//! Whether a replica that shows nothing may be taken for one that is to begin.
//!
//! An empty place is where a replica begins. It is also what is left of one that somebody deleted, and what a disk shows that is
//! not mounted. What was stored there before tells them apart: where something was, nothing begins anew unasked.

use std::fmt;

use crate::adoption::{Chain, Record};
use crate::claim::ClaimError;

/// What is known to have been stored in a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    place: String,
    from: Source,
}

/// Who promises.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The record beside the database.
    Record { lineage: String, txid: u64 },
    /// Whoever starts us.
    Caller,
}

impl Promise {
    /// What the record beside a database says of the replica at `place`. `None` where it says nothing: there is none, nothing
    /// was stored yet, or that was elsewhere, because a database may move to another place.
    #[must_use]
    pub fn recorded(record: Option<&Record>, place: &str) -> Option<Self> {
        let record = record.filter(|record| record.slot.txid > 0 && !record.lineage.is_empty())?;
        let is_there = record.place.is_empty() || record.place == place;
        let from = || Source::Record { lineage: record.lineage.clone(), txid: record.slot.txid };
        is_there.then(|| Self { place: place.to_owned(), from: from() })
    }

    /// Whoever starts us knows that the replica at `place` holds a database.
    #[must_use]
    pub fn told(place: &str) -> Self {
        Self { place: place.to_owned(), from: Source::Caller }
    }

    /// Whether a replica that holds this has lost what was promised. One with pages never has: whether they are the right ones
    /// is for [`decide`](crate::adoption::decide).
    ///
    /// # Errors
    /// [`ClaimError::Emptied`].
    pub fn require_kept(&self, chain: &Chain) -> Result<(), ClaimError> {
        let is_all_there = match &self.from {
            // The record of a writer that was killed before its first pages speaks of seals, and they are still there.
            Source::Record { lineage, txid } => *lineage == chain.lineage && *txid <= chain.newest,
            Source::Caller => false,
        };
        if chain.holds_pages || is_all_there { Ok(()) } else { Err(ClaimError::Emptied(self.clone())) }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds no database, but ", self.place)?;
        match &self.from {
            Source::Record { lineage, txid } => {
                write!(
                    f,
                    "the record beside the local one says that slot {txid:016x} of lineage {lineage} was stored there"
                )?;
            }
            Source::Caller => f.write_str("--expect-data says that one is stored there")?,
        }
        f.write_str(
            ". Choose: (1) bring its objects back, from the bucket's versions or a copy, or the disk that is not mounted; \
             (2) begin a new replica at another place; (3) begin a new one there, which gives up what was stored before: ",
        )?;
        f.write_str(match &self.from {
            Source::Record { .. } => "start once with --take local; in a pod delete record.json in the folder .<name>-lifeboat beside the database",
            Source::Caller => "start without --expect-data; in Kubernetes, create the SqliteReplica anew and delete the pod",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epoch;
    use crate::head::Base;

    const HERE: &str = "s3://shop/app";

    fn record(txid: u64) -> Record {
        Record {
            lineage: "l".to_owned(),
            epoch: Some(Epoch::FIRST),
            slot: Base { txid, checksum: None },
            boot_id: String::new(),
            file_id: String::new(),
            place: HERE.to_owned(),
        }
    }

    fn chain(lineage: &str, newest: u64, holds_pages: bool) -> Chain {
        Chain {
            lineage: lineage.to_owned(),
            checksum: None,
            at_record: None,
            newest,
            newest_pages: 0,
            holds_pages,
            since_record: Vec::new(),
        }
    }

    fn is_kept(record: &Record, chain: &Chain) -> bool {
        Promise::recorded(Some(record), HERE).is_none_or(|promise| promise.require_kept(chain).is_ok())
    }

    #[test]
    fn an_empty_place_is_not_where_the_replica_begins_that_was_there() {
        assert!(!is_kept(&record(5), &chain("", 0, false)));
        assert!(!is_kept(&record(5), &chain("l", 4, false)), "its slots are gone");
        assert!(!is_kept(&record(1), &chain("m", 3, false)), "somebody has begun another one there since");
    }

    #[test]
    fn what_holds_pages_is_not_empty_whatever_they_are() {
        assert!(is_kept(&record(5), &chain("m", 1, true)));
        assert!(is_kept(&record(5), &chain("l", 9, true)));
    }

    #[test]
    fn a_writer_that_was_killed_before_its_first_pages_begins_again() {
        assert!(is_kept(&record(0), &chain("l", 0, false)));
        assert!(is_kept(&record(2), &chain("l", 3, false)), "its seals are there");
    }

    #[test]
    fn whoever_is_told_that_there_is_a_database_begins_nowhere() {
        let told = Promise::told(HERE);
        assert!(told.require_kept(&chain("", 0, false)).is_err());
        assert!(told.require_kept(&chain("l", 3, false)).is_err(), "seals are no database");
        assert!(told.require_kept(&chain("l", 3, true)).is_ok());
    }

    #[test]
    fn a_database_may_move_to_another_place() {
        let moved = Record { place: "s3://shop/before".to_owned(), ..record(5) };
        assert!(is_kept(&moved, &chain("", 0, false)));
        let of_an_older_release = Record { place: String::new(), ..record(5) };
        assert!(!is_kept(&of_an_older_release, &chain("", 0, false)));
        assert_eq!(Promise::recorded(None, HERE), None);
    }
}
