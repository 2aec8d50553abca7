//! The theorem on a model: every commit after the snapshot of a live pin stays readable, whatever the application does.
//!
//! The model knows of SQLite's WAL only what the argument needs: runs through one file, the read marks with their locks, how
//! far frames were copied, and what each kind of checkpoint, a restart and a recovery do with them. What we do is a
//! program of small steps, and the application acts between any two of them. Programs in the wrong order must fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What the application, or a checkpoint of ours, does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Commit,
    Passive,
    Restart,
    Truncate,
    Recovery,
    /// A reader of the application begins, or the oldest one ends.
    Reader,
}

/// One step of ours.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Read every frame up to the present header.
    Read,
    /// Open the next pin.
    Begin,
    /// Close the last pin.
    End,
    /// Take read mark 0 directly, so that nobody copies frames.
    Hold,
    Release,
}

const ROLL: &[Step] = &[Step::Read, Step::Begin, Step::Read, Step::End];
const GIVE_WAY: &[Step] =
    &[Step::Hold, Step::Read, Step::End, Step::Read, Step::Begin, Step::Read, Step::Release];

#[derive(Clone, Debug)]
struct Wal {
    /// What the file holds at each frame: the run it was written in, and its commit.
    file: Vec<(u32, u32)>,
    run: u32,
    last: usize,
    copied: usize,
    /// The frame of each read mark, and how many hold it.
    marks: [(usize, u32); 5],
    commits: u32,
}

impl Wal {
    const fn new() -> Self {
        Self { file: Vec::new(), run: 1, last: 0, copied: 0, marks: [(0, 0); 5], commits: 0 }
    }

    /// Begins to read; returns the read mark that it got.
    fn begin(&mut self) -> usize {
        let mark = if self.copied == self.last { 0 } else { self.mark_of_newest() };
        self.marks[mark].1 += 1;
        mark
    }

    fn mark_of_newest(&mut self) -> usize {
        if let Some(mark) = (1..5).find(|&mark| self.marks[mark].0 == self.last) {
            return mark;
        }
        if let Some(mark) = (1..5).find(|&mark| self.marks[mark].1 == 0) {
            self.marks[mark].0 = self.last;
            return mark;
        }
        (1..5).filter(|&mark| self.marks[mark].0 <= self.last).max_by_key(|&mark| self.marks[mark].0).unwrap()
    }

    fn end(&mut self, mark: usize) {
        self.marks[mark].1 -= 1;
    }

    fn is_in_use(&self) -> bool {
        self.marks[1..].iter().any(|&(_, holders)| holders > 0)
    }

    fn new_run(&mut self) {
        (self.run, self.last, self.copied) = (self.run + 1, 0, 0);
        self.marks.iter_mut().for_each(|mark| mark.0 = 0);
    }

    fn commit(&mut self) {
        if self.copied == self.last && self.last > 0 && !self.is_in_use() {
            self.new_run();
        }
        self.commits += 1;
        let frame = (self.run, self.commits);
        match self.file.get_mut(self.last) {
            Some(place) => *place = frame,
            None => self.file.push(frame),
        }
        self.last += 1;
    }

    fn passive(&mut self) {
        let held = self.marks[1..].iter().filter(|mark| mark.1 > 0).map(|mark| mark.0);
        let safe = held.min().unwrap_or(self.last).min(self.last);
        if self.marks[0].1 == 0 {
            self.copied = self.copied.max(safe);
        }
    }

    fn truncate(&mut self) {
        self.passive();
        if self.copied == self.last && !self.is_in_use() {
            self.new_run();
            self.file.clear();
        }
    }

    /// The WAL-index is built anew from the file.
    fn recover(&mut self) {
        self.run = self.file.first().map_or(self.run + 1, |frame| frame.0);
        self.last = self.file.iter().take_while(|frame| frame.0 == self.run).count();
        self.copied = 0;
        let last = self.last;
        self.marks[1..].iter_mut().filter(|mark| mark.1 == 0).for_each(|mark| mark.0 = last);
    }

    fn act(&mut self, act: Act, readers: &mut Vec<usize>) {
        match act {
            Act::Commit => self.commit(),
            // A restart that is asked for leaves the restarting to the next writer.
            Act::Passive | Act::Restart => self.passive(),
            Act::Truncate => self.truncate(),
            Act::Recovery => self.recover(),
            Act::Reader if readers.len() < 2 => readers.push(self.begin()),
            Act::Reader => {
                let reader = readers.remove(0);
                self.end(reader);
            }
        }
    }
}

/// What we have read, and the pins that we hold.
struct Follower {
    run: u32,
    frame: usize,
    commits: u32,
    pins: Vec<usize>,
}

impl Follower {
    /// Reads up to the header; an error if a frame is not what was committed there, or a commit is missing.
    fn read(&mut self, wal: &Wal) -> Result<(), String> {
        if wal.run != self.run && wal.last > 0 {
            (self.run, self.frame) = (wal.run, 0);
        }
        if wal.run == self.run {
            for frame in wal.file.get(self.frame..wal.last).ok_or("the WAL ends before its last frame")? {
                if *frame != (wal.run, self.commits + 1) {
                    return Err(format!("after commit {} comes {frame:?} in run {}", self.commits, wal.run));
                }
                self.commits += 1;
            }
            self.frame = wal.last;
        }
        if self.commits == wal.commits { Ok(()) } else { Err(format!("{} of {}", self.commits, wal.commits)) }
    }

    fn step(&mut self, step: Step, wal: &mut Wal) -> Result<(), String> {
        match step {
            Step::Read => self.read(wal)?,
            Step::Begin => self.pins.push(wal.begin()),
            Step::End => {
                let pin = self.pins.remove(0);
                wal.end(pin);
            }
            Step::Hold => wal.marks[0].1 += 1,
            Step::Release => wal.end(0),
        }
        Ok(())
    }
}

/// One program, and what the application does before each of its steps.
type Round = (usize, [Vec<Act>; 7]);

fn follow(programs: &[&[Step]], rounds: &[Round]) -> Result<(), String> {
    let (mut wal, mut readers) = (Wal::new(), Vec::new());
    let mut follower = Follower { run: 1, frame: 0, commits: 0, pins: vec![wal.begin()] };
    for (chosen, acts) in rounds {
        for (&step, acts) in programs[chosen % programs.len()].iter().zip(acts) {
            acts.iter().for_each(|&act| wal.act(act, &mut readers));
            follower.step(step, &mut wal)?;
        }
    }
    follower.read(&wal)
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let act = prop_oneof![
        5 => Just(Act::Commit),
        3 => Just(Act::Passive),
        1 => Just(Act::Restart),
        2 => Just(Act::Truncate),
        1 => Just(Act::Recovery),
        1 => Just(Act::Reader),
    ];
    let acts = prop::collection::vec(act, 0..4);
    prop::collection::vec((0..8_usize, prop::array::uniform7(acts)), 1..12)
}

/// What the model says about these programs in many stories, always the same.
fn verdict(programs: &[&[Step]]) -> Result<(), String> {
    let config = Config { cases: 1_500, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let told = TestRunner::new_with_rng(config, random)
        .run(&rounds(), |rounds| follow(programs, &rounds).map_err(TestCaseError::fail));
    told.map_err(|error| error.to_string())
}

#[test]
fn with_overlapping_pins_no_commit_is_ever_unreadable() {
    assert_eq!(verdict(&[ROLL]), Ok(()));
}

#[test]
fn giving_way_protects_as_a_pin_does() {
    assert_eq!(verdict(&[ROLL, GIVE_WAY]), Ok(()));
}

#[test]
fn closing_the_last_pin_before_the_next_one_opens_loses_commits() {
    let planted = [Step::Read, Step::End, Step::Begin, Step::Read];
    assert!(verdict(&[&planted]).is_err());
}

#[test]
fn rolling_twice_without_reading_in_between_loses_commits() {
    let planted = [Step::Read, Step::Begin, Step::End, Step::Begin, Step::End];
    assert!(verdict(&[&planted]).is_err());
}

#[test]
fn giving_way_before_the_hold_is_taken_loses_commits() {
    let planted = [Step::Read, Step::End, Step::Hold, Step::Read, Step::Begin, Step::Read, Step::Release];
    assert!(verdict(&[ROLL, &planted]).is_err());
}
