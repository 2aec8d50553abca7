//! Which states were seen already: a set of 128-bit fingerprints.
//!
//! Two states with one fingerprint would be taken for one. Among a thousand million states that happens with a probability
//! of one in 10^20.

use std::hash::{Hash, Hasher};

/// The fingerprint of a state, the same in every run and on every machine.
#[must_use]
pub fn fingerprint(state: &impl Hash) -> u128 {
    let mut lanes = Lanes { one: SEED_ONE, other: SEED_OTHER };
    state.hash(&mut lanes);
    u128::from(stir(lanes.one)) << 64 | u128::from(stir(lanes.other))
}

/// Two 64-bit hashes with different multipliers, side by side.
struct Lanes {
    one: u64,
    other: u64,
}

impl Lanes {
    fn add(&mut self, word: u64) {
        self.one = (self.one ^ word).wrapping_mul(FACTOR_ONE).rotate_left(29);
        self.other = (self.other.rotate_left(23) ^ word).wrapping_mul(FACTOR_OTHER);
    }
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.add(u64::from_le_bytes(word));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, word: u8) {
        self.add(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.add(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.add(u64::from_ne_bytes((word as i64).to_ne_bytes()));
    }

    fn finish(&self) -> u64 {
        stir(self.one)
    }
}

/// Spreads every bit over all others.
const fn stir(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(FACTOR_OTHER);
    let word = (word ^ (word >> 29)).wrapping_mul(FACTOR_ONE);
    word ^ (word >> 32)
}

/// A set of fingerprints, open addressing: 16 bytes for each place, at most three quarters of them taken.
#[derive(Debug)]
pub struct Visited {
    places: Vec<u128>,
    count: usize,
}

impl Visited {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { places: vec![FREE; PLACES_MIN], count: 0 }
    }

    /// Adds a fingerprint; false if it was there.
    pub fn insert(&mut self, print: u128) -> bool {
        if (self.count + 1) * 4 > self.places.len() * 3 {
            let larger = vec![FREE; self.places.len() * 2];
            for old in std::mem::replace(&mut self.places, larger) {
                if old != FREE {
                    self.put(old);
                }
            }
        }
        let is_new = self.put(print.max(1));
        self.count += usize::from(is_new);
        is_new
    }

    fn put(&mut self, print: u128) -> bool {
        let mask = self.places.len() - 1;
        let mut at = print as usize & mask;
        loop {
            match self.places.get_mut(at) {
                Some(place) if *place == FREE => {
                    *place = print;
                    return true;
                }
                Some(place) if *place == print => return false,
                Some(_) => at = (at + 1) & mask,
                None => at = 0,
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Default for Visited {
    fn default() -> Self {
        Self::new()
    }
}

const FREE: u128 = 0;
const PLACES_MIN: usize = 1 << 12;
const SEED_ONE: u64 = 0x243f_6a88_85a3_08d3;
const SEED_OTHER: u64 = 0x1319_8a2e_0370_7344;
const FACTOR_ONE: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR_OTHER: u64 = 0xd6e8_feb8_6659_fd93;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_there_once_however_much_it_is() {
        let mut visited = Visited::new();
        for round in [true, false] {
            for number in 0..20_000_u64 {
                assert_eq!(visited.insert(fingerprint(&number)), round, "{number}");
            }
        }
        assert_eq!(visited.len(), 20_000);
    }

    #[test]
    fn neighbours_have_different_fingerprints() {
        let all = [
            fingerprint(&(vec![1_u8], vec![2_u8])),
            fingerprint(&(vec![1_u8, 2], Vec::<u8>::new())),
            fingerprint(&("ab", "c")),
            fingerprint(&("a", "bc")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one));
        }
    }
}
