//! Bad weather on the road to the S3 server: what networks and the machines in between do to requests, by chance.

use std::time::Duration;

use super::dice::Dice;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It arrives late.
    Late(Duration),
    /// The server never hears of it, and the connection ends.
    Lost,
    /// The server has done it, and the connection ends.
    Unanswered,
    /// Something in between answers in the server's place, which hears nothing of it.
    Refused(u16),
    /// The server has done it, and something in between answers in its place.
    DoneAndRefused(u16),
    /// It is sent again after its answer was lost, as HTTP layers do unseen: what was created is there already by then.
    Twice,
    /// The answer ends in the middle.
    Cut,
}

/// The weather on one road.
#[derive(Debug)]
pub struct Weather {
    dice: Dice,
    percent: usize,
    happened: usize,
}

impl Weather {
    /// Something happens to so many requests of a hundred.
    pub const fn new(seed: u64, percent: usize) -> Self {
        Self { dice: Dice::new(seed), percent, happened: 0 }
    }

    /// From now on it happens to so many of a hundred.
    pub fn turn(&mut self, percent: usize) {
        self.percent = percent;
    }

    /// How much happened so far.
    pub const fn happened(&self) -> usize {
        self.happened
    }

    /// What happens to the next request, if anything.
    pub fn next(&mut self) -> Option<Mishap> {
        if !self.dice.percent(self.percent) {
            return None;
        }
        self.happened += 1;
        Some(match self.dice.below(7) {
            0 => Mishap::Late(Duration::from_millis(self.dice.below(400) as u64)),
            1 => Mishap::Lost,
            2 => Mishap::Unanswered,
            3 => Mishap::Refused(self.dice.one_of(&[500, 503, 409, 504])),
            4 => Mishap::DoneAndRefused(self.dice.one_of(&[500, 503, 504])),
            5 => Mishap::Twice,
            _ => Mishap::Cut,
        })
    }
}
