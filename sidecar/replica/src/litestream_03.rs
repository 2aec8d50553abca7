//! Replicas of Litestream 0.3: which of their objects lead to a state.
//!
//! In:  what lies below `generations/`, as listed, and what is wanted.
//! Out: a snapshot, and the pieces of each WAL to play onto it, in order.
//!
//! A generation is a run of WALs without a gap, numbered from 0; what is written to one WAL between two checkpoints lies in
//! pieces that say at which byte they begin. A snapshot has the number of the WAL that it was taken in, which is played onto
//! it from its beginning. What is missing is said: 0.3 itself cannot miss the last pieces, and neither can we.

use std::collections::BTreeMap;

use thiserror::Error;

/// Below this everything of a replica lies.
pub const PREFIX: &str = "generations/";

/// An object of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Its version; whoever reads it demands this one.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was stored: milliseconds since 1970. 0.3 has no other time.
    pub modified_ms: i64,
    /// The run of WALs that it belongs to: 16 hexadecimal digits.
    pub generation: String,
    /// What it holds.
    pub place: Place,
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The whole database, during the WAL of this number.
    Snapshot(u32),
    /// What was written to a WAL from some byte on.
    Piece(WalPlace),
}

/// A place in a WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPlace {
    /// Number of the WAL.
    pub wal: u32,
    /// Byte.
    pub offset: u64,
}

impl std::fmt::Display for WalPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}_{:08x}", self.wal, self.offset)
    }
}

impl std::str::FromStr for WalPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.split_once('_').and_then(|(wal, offset)| {
            Some(Self { wal: u32::try_from(hex(wal, 8..=8)?).ok()?, offset: hex(offset, 8..=16)? })
        });
        place.ok_or_else(|| format!("'{text}' is no place in a WAL; write it like 0000002a_00001020"))
    }
}

/// Reads a key: its generation and what it holds; `None` for one that is not Litestream's.
#[must_use]
pub fn parse(key: &str) -> Option<(String, Place)> {
    let (generation, rest) = key.strip_prefix(PREFIX)?.split_once('/')?;
    hex(generation, 16..=16)?;
    let place = match rest.split_once('/')? {
        ("snapshots", name) => {
            let number = hex(name.strip_suffix(".snapshot.lz4")?, 8..=8)?;
            Place::Snapshot(u32::try_from(number).ok()?)
        }
        ("wal", name) => Place::Piece(name.strip_suffix(".wal.lz4")?.parse().ok()?),
        _ => return None,
    };
    Some((generation.to_owned(), place))
}

fn hex(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if length.contains(&text.len()) && is_hex { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Which state is wanted; the newest where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this generation.
    pub generation: Option<String>,
    /// From objects that were stored at this time or before: milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Before this place.
    pub stop_before: Option<WalPlace>,
}

/// The objects that lead to a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The database to begin with.
    pub snapshot: Stored,
    /// The pieces of each WAL, in order.
    pub wals: Vec<Vec<Stored>>,
    /// How many generations there are.
    pub generations: usize,
}

impl Plan {
    /// The object that the state ends with.
    #[must_use]
    pub fn last(&self) -> &Stored {
        self.wals.last().and_then(|wal| wal.last()).unwrap_or(&self.snapshot)
    }
}

/// No objects lead to the state that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Nothing of Litestream 0.3 is stored.
    #[error("nothing of Litestream 0.3 is stored there")]
    Nothing,
    /// There is no such generation, or none that is as old.
    #[error("there is no generation {wanted} with a snapshot from then; there are {there}")]
    NoGeneration {
        /// What was asked for.
        wanted: String,
        /// Those that have a snapshot.
        there: String,
    },
    /// A WAL between two others is missing, or its beginning.
    #[error(
        "generation {generation}: {missing} is missing, which comes before {next}; what is before it can be restored with \
         --stop-before {missing}"
    )]
    Missing {
        /// The generation.
        generation: String,
        /// What is missing.
        missing: WalPlace,
        /// What is there after it.
        next: WalPlace,
    },
}

/// Chooses the objects that lead to what is wanted: of the generation that was written to last, the newest snapshot, and
/// everything after it.
///
/// # Errors
/// [`PlanError`] where there are none, or some are missing.
pub fn plan(objects: Vec<Stored>, wanted: &Wanted) -> Result<Plan, PlanError> {
    let mut generations = BTreeMap::<String, Vec<Stored>>::new();
    for object in objects {
        generations.entry(object.generation.clone()).or_default().push(object);
    }
    let count = generations.len();
    if count == 0 {
        return Err(PlanError::Nothing);
    }
    let there = generations.keys().cloned().collect::<Vec<_>>().join(", ");
    let is_named = |name: &String| wanted.generation.as_ref().is_none_or(|wanted| wanted == name);
    let usable = generations.into_iter().filter(|(name, _)| is_named(name));
    let usable = usable.map(|(_, objects)| until(objects, wanted));
    let is_bounded = wanted.until_ms.is_some() || wanted.stop_before.is_some();
    let with_snapshot = usable.filter(|objects| newest_snapshot(objects, is_bounded).is_some());
    let newest_ms = |objects: &Vec<Stored>| objects.iter().map(|object| object.modified_ms).max();
    let Some(objects) = with_snapshot.max_by_key(newest_ms) else {
        let wanted = wanted.generation.clone().unwrap_or_else(|| "at all".to_owned());
        return Err(PlanError::NoGeneration { wanted, there });
    };
    let Some(snapshot) = newest_snapshot(&objects, is_bounded).cloned() else {
        return Err(PlanError::Nothing);
    };
    let wals = wals(&objects, &snapshot)?;
    Ok(Plan { snapshot, wals, generations: count })
}

/// The objects up to a time and a place, in order.
fn until(mut objects: Vec<Stored>, wanted: &Wanted) -> Vec<Stored> {
    objects.sort_by_key(|object| object.place);
    let is_late = |object: &Stored| wanted.until_ms.is_some_and(|until| object.modified_ms > until);
    let is_beyond = |object: &Stored| match (object.place, wanted.stop_before) {
        (Place::Piece(place), Some(stop)) => place >= stop,
        (Place::Snapshot(wal), Some(stop)) => wal > stop.wal,
        (Place::Snapshot(_) | Place::Piece(_), None) => false,
    };
    // One piece that is too late ends the way, whatever the clock says of those after it.
    let mut is_over = false;
    objects.retain(|object| {
        let is_out = is_late(object) || is_beyond(object);
        match object.place {
            Place::Snapshot(_) => !is_out,
            Place::Piece(_) => {
                is_over |= is_out;
                !is_over
            }
        }
    });
    objects
}

/// A snapshot may hold some of its own WAL. Where that is not played to its end, an older one is taken if there is one: pages
/// from beyond the state that is wanted would stay in the database.
fn newest_snapshot(objects: &[Stored], is_bounded: bool) -> Option<&Stored> {
    let last_wal = objects.iter().filter_map(|object| match object.place {
        Place::Piece(place) => Some(place.wal),
        Place::Snapshot(_) => None,
    });
    let last_wal = last_wal.max().unwrap_or(0);
    let snapshots = || objects.iter().filter(|object| matches!(object.place, Place::Snapshot(_)));
    let is_before = |object: &&Stored| object.place < Place::Snapshot(last_wal);
    let before = snapshots().filter(|object| is_bounded && is_before(object));
    before.max_by_key(|object| object.place).or_else(|| snapshots().max_by_key(|object| object.place))
}

/// The WALs from the snapshot's own on, each with its beginning.
fn wals(objects: &[Stored], snapshot: &Stored) -> Result<Vec<Vec<Stored>>, PlanError> {
    let Place::Snapshot(mut expected) = snapshot.place else { return Ok(Vec::new()) };
    let mut wals = Vec::<Vec<Stored>>::new();
    for object in objects {
        let Place::Piece(place) = object.place else { continue };
        let is_open = !wals.is_empty() && place.wal + 1 == expected;
        match wals.last_mut().filter(|_| is_open) {
            Some(wal) => wal.push(object.clone()),
            None if place.wal < expected => {}
            None if place == (WalPlace { wal: expected, offset: 0 }) => {
                wals.push(vec![object.clone()]);
                expected = expected.saturating_add(1);
            }
            None => {
                let missing = WalPlace { wal: expected, offset: 0 };
                return Err(PlanError::Missing {
                    generation: object.generation.clone(),
                    missing,
                    next: place,
                });
            }
        }
    }
    Ok(wals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000000000a1";
    const TWO: &str = "00000000000000b2";

    fn stored(generation: &str, name: &str, modified_ms: i64) -> Stored {
        let key = format!("{PREFIX}{generation}/{name}");
        let (generation, place) = parse(&key).unwrap();
        Stored { key, etag: String::new(), size: 1, modified_ms, generation, place }
    }

    fn objects() -> Vec<Stored> {
        [
            (ONE, "snapshots/00000000.snapshot.lz4", 10),
            (ONE, "wal/00000000_00000000.wal.lz4", 11),
            (TWO, "snapshots/00000000.snapshot.lz4", 20),
            (TWO, "wal/00000000_00000000.wal.lz4", 21),
            (TWO, "wal/00000000_00001020.wal.lz4", 22),
            (TWO, "wal/00000001_00000000.wal.lz4", 23),
            (TWO, "snapshots/00000002.snapshot.lz4", 24),
            (TWO, "wal/00000002_00000000.wal.lz4", 25),
            (TWO, "wal/00000003_00000000.wal.lz4", 26),
        ]
        .map(|(generation, name, ms)| stored(generation, name, ms))
        .to_vec()
    }

    fn names(wanted: &Wanted) -> Result<Vec<String>, PlanError> {
        let plan = plan(objects(), wanted)?;
        let objects = [vec![plan.snapshot]].into_iter().chain(plan.wals).flatten();
        Ok(objects.map(|object| object.key[PREFIX.len() + 14..].to_owned()).collect())
    }

    #[test]
    fn the_generation_written_to_last_is_restored_from_its_newest_snapshot_on() {
        let expected = [
            "b2/snapshots/00000002.snapshot.lz4",
            "b2/wal/00000002_00000000.wal.lz4",
            "b2/wal/00000003_00000000.wal.lz4",
        ];
        assert_eq!(names(&Wanted::default()).unwrap(), expected);
    }

    #[test]
    fn a_time_a_place_and_a_generation_are_kept_to() {
        let at = |ms| names(&Wanted { until_ms: Some(ms), ..Wanted::default() });
        assert_eq!(at(22).unwrap().last().unwrap(), "b2/wal/00000000_00001020.wal.lz4");
        assert_eq!(
            at(15).unwrap(),
            ["a1/snapshots/00000000.snapshot.lz4", "a1/wal/00000000_00000000.wal.lz4"]
        );
        assert!(matches!(at(9), Err(PlanError::NoGeneration { .. })));
        let before =
            |text: &str| names(&Wanted { stop_before: Some(text.parse().unwrap()), ..Wanted::default() });
        // The snapshot of WAL 2 may hold some of it, so the one before begins.
        assert_eq!(before("00000003_00000000").unwrap().len(), 5);
        assert_eq!(at(26).unwrap().len(), 3);
        assert_eq!(
            before("00000000_00001020").unwrap(),
            ["b2/snapshots/00000000.snapshot.lz4", "b2/wal/00000000_00000000.wal.lz4"]
        );
        let of = |name: &str| names(&Wanted { generation: Some(name.to_owned()), ..Wanted::default() });
        assert_eq!(of(ONE).unwrap().len(), 2);
        assert!(matches!(of("00000000000000c3"), Err(PlanError::NoGeneration { .. })));
    }

    #[test]
    fn what_is_missing_in_the_middle_is_named_with_the_state_before_it() {
        let without_begin = |wanted: &Wanted| {
            let mut objects = objects();
            objects.retain(|object| !object.key.ends_with("b2/wal/00000000_00000000.wal.lz4"));
            plan(objects, wanted)
        };
        // The newest snapshot is beyond; so the first one leads there.
        let mut earlier = objects();
        earlier.retain(|object| {
            object.place != Place::Snapshot(2) && !object.key.ends_with("00000001_00000000.wal.lz4")
        });
        let error = plan(earlier, &Wanted::default()).unwrap_err();
        assert!(error.to_string().contains("--stop-before 00000001_00000000"), "{error}");
        assert!(without_begin(&Wanted::default()).is_ok(), "the snapshot of WAL 2 needs nothing before");
        let bounded = Wanted { stop_before: Some("00000002_00000000".parse().unwrap()), ..Wanted::default() };
        let error = without_begin(&bounded).unwrap_err();
        assert!(error.to_string().contains("00000000_00000000 is missing"), "{error}");
        assert_eq!(plan(Vec::new(), &Wanted::default()), Err(PlanError::Nothing));
    }

    #[test]
    fn other_names_are_nobodys() {
        for key in [
            "generations/00000000000000a1/wal/00000000_0000.wal.lz4",
            "generations/00000000000000A1/wal/00000000_00000000.wal.lz4",
            "generations/a1/snapshots/00000000.snapshot.lz4",
            "generations/00000000000000a1/snapshots/00000000.snapshot.lz4.tmp",
            "0000/0000000000000001-0000000000000001.ltx",
        ] {
            assert_eq!(parse(key), None, "{key}");
        }
        let long = "generations/00000000000000a1/wal/00000000_0000000000001020.wal.lz4";
        assert_eq!(parse(long).unwrap().1, Place::Piece(WalPlace { wal: 0, offset: 0x1020 }));
    }
}
