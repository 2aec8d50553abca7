//! Chance, from one seed: the same numbers in every run and on every machine.

/// What draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dice(u64);

impl Dice {
    /// Of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Of a seed and a number within it, so that what one thing draws does not depend on what others drew.
    #[must_use]
    pub const fn of(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(STEP));
        Self(dice.next())
    }

    /// 64 bits (splitmix64).
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below this one; 0 where there is none.
    pub const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// A place among so many.
    #[expect(clippy::cast_possible_truncation, reason = "below a number that is a size")]
    pub const fn place(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A small number below this one.
    #[expect(clippy::cast_possible_truncation, reason = "below a number that is a byte")]
    pub const fn small(&mut self, limit: u8) -> u8 {
        self.below(limit as u64) as u8
    }

    /// True once in so many times.
    pub const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
