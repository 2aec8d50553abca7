//! The worlds that are searched: small enough to look at every state, and all attacks are small.

use lifeboat_replica::layout::Level;

use crate::world::{Kind, Plan, World};

/// A pod with a volume of its own, whose application commits so often.
#[must_use]
pub fn pod(number: u8, commits: u8) -> Plan {
    Plan {
        kind: Kind::Pod,
        volume: usize::from(number),
        pod: number,
        is_restarted: false,
        after: None,
        commits,
        derives: Vec::new(),
        prunes: 0,
    }
}

/// The same process on a bare machine.
#[must_use]
pub fn bare(number: u8, commits: u8) -> Plan {
    Plan { kind: Kind::Bare, ..pod(number, commits) }
}

/// Pods that all want the replica, each with so many commits.
#[must_use]
pub fn claimants(commits: &[u8], late: u8, crashes: u8) -> World {
    let processes = (0..).zip(commits).map(|(number, commits)| pod(number, *commits)).collect();
    World { processes, late, crashes, ..World::default() }
}

/// A writer that merges to this level and prunes, and a claimant.
#[must_use]
pub fn pruning(level: Level, late: u8, restores: u8) -> World {
    let writer = Plan { derives: vec![level], prunes: 2, ..pod(0, 2) };
    World { processes: vec![writer, pod(1, 1)], late, restores, ..World::default() }
}

/// A writer and its successor, which both merge and prune.
#[must_use]
pub fn pruning_both(level: Level, late: u8) -> World {
    let writer = |number| Plan { derives: vec![level], prunes: 1, ..pod(number, 1) };
    World { processes: vec![writer(0), writer(1)], late, ..World::default() }
}

/// A writer, a late claimant and a third that overtakes it, merges and prunes.
#[must_use]
pub fn late_claimant(late: u8, restores: u8) -> World {
    let third = Plan { derives: vec![Level::SNAPSHOT], prunes: 1, ..pod(2, 1) };
    World { processes: vec![pod(0, 1), pod(1, 0), third], late, restores, ..World::default() }
}

/// A claimant with an old list, behind a writer that prunes.
#[must_use]
pub fn old_list(level: Level) -> World {
    World { stale: 1, ..pruning(level, 0, 0) }
}

/// A machine whose power fails, and its next process; between them another pod may write.
#[must_use]
pub fn power_cut(kind: Kind, is_another_there: bool) -> World {
    let first = Plan { kind, ..pod(0, 2) };
    let next = Plan { after: Some(0), commits: 1, ..first.clone() };
    let mut processes = vec![first, next];
    if is_another_there {
        processes.push(Plan { kind, ..pod(1, 1) });
    }
    World { processes, power_cuts: 1, late: 1, ..World::default() }
}

/// A process that is killed, and its next one on the same machine.
#[must_use]
pub fn restarted(kind: Kind) -> World {
    let first = Plan { kind, ..pod(0, 2) };
    let next = Plan { after: Some(0), commits: 1, ..first.clone() };
    World { processes: vec![first, next], crashes: 1, late: 1, ..World::default() }
}

/// A container that is restarted after another pod took over.
#[must_use]
pub fn superseded() -> World {
    let again = Plan { kind: Kind::Restarted, is_restarted: true, after: Some(0), commits: 1, ..pod(0, 1) };
    World { processes: vec![pod(0, 1), again, pod(1, 1)], crashes: 1, ..World::default() }
}

/// Two sidecars that open the claim of one init container, each with the volume of its own that V1 would forbid them.
#[must_use]
pub fn handed_over_twice(late: u8) -> World {
    let init = Plan { kind: Kind::Init, ..pod(0, 0) };
    let sidecar = |volume| Plan { kind: Kind::Sidecar, volume, after: Some(0), commits: 1, ..pod(0, 1) };
    World { processes: vec![init, sidecar(1), sidecar(2)], late, ..World::default() }
}

/// A world with a name, and whether it is small enough for every run of the tests.
#[derive(Clone, Debug)]
pub struct Named {
    /// What it is about.
    pub name: &'static str,
    /// The world.
    pub world: World,
    /// Whether it is searched with every run of the tests.
    pub is_in_slice: bool,
}

/// All worlds.
#[must_use]
pub fn all() -> Vec<Named> {
    let (one, nine) = (Level::MERGED[0], Level::SNAPSHOT);
    let slice = |name, world| Named { name, world, is_in_slice: true };
    let long = |name, world| Named { name, world, is_in_slice: false };
    vec![
        slice("two claimants, one late request", claimants(&[2, 1], 1, 0)),
        slice("two claimants, one late request, one crash", claimants(&[1, 1], 1, 1)),
        slice("a claimant after a busy writer", claimants(&[7, 0], 0, 0)),
        slice("a writer that merges, a claimant", pruning(one, 0, 0)),
        slice("a writer that takes a snapshot, a claimant", pruning(nine, 0, 0)),
        slice("a container restarted after another pod", superseded()),
        slice("one hand-over, two sidecars", handed_over_twice(1)),
        slice("a killed process on a bare machine", restarted(Kind::Bare)),
        slice("a killed process in a pod", restarted(Kind::Pod)),
        slice("a power cut on a bare machine", power_cut(Kind::Bare, false)),
        slice("a power cut in a pod", power_cut(Kind::Pod, false)),
        slice("an old list behind merging", old_list(one)),
        slice("an old list behind a snapshot", old_list(nine)),
        long("a claimant after a busy writer, one late request", claimants(&[7, 0], 1, 0)),
        long("two claimants after a busy writer", claimants(&[5, 0, 0], 0, 0)),
        long(
            "a claimant after a busy writer with an old list",
            World { stale: 1, ..claimants(&[7, 0], 0, 0) },
        ),
        long("two claimants, two late requests", claimants(&[2, 2], 2, 0)),
        long("two claimants, two late requests, one crash", claimants(&[1, 1], 2, 1)),
        long("two claimants, three late requests", claimants(&[1, 1], 3, 0)),
        long("three claimants", claimants(&[1, 1, 1], 0, 0)),
        long("three claimants, one late request", claimants(&[1, 0, 1], 1, 0)),
        long("merging, one late request", pruning(one, 1, 0)),
        long("a snapshot, one late request", pruning(nine, 1, 0)),
        long("merging, and a restore", pruning(one, 0, 1)),
        long("a snapshot, and a restore", pruning(nine, 0, 1)),
        long("merging, one late request, and a restore", pruning(one, 1, 1)),
        long("a snapshot, one late request, and a restore", pruning(nine, 1, 1)),
        long("merging by a writer and its successor, one late request", pruning_both(one, 1)),
        long("snapshots of a writer and its successor, one late request", pruning_both(nine, 1)),
        long("a late claimant, and its successor prunes", late_claimant(0, 0)),
        long("a late claimant with a late request, and its successor prunes", late_claimant(1, 0)),
        long("two claimants, three late requests, one crash", claimants(&[1, 1], 3, 1)),
        long("a power cut, and another machine", power_cut(Kind::Bare, true)),
        long("a power cut, and another pod", power_cut(Kind::Pod, true)),
    ]
}
