//! What is counted of a database while it is followed.

use std::time::{Duration, Instant};

/// Counts and times of one database, or of many together.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Slots that were stored.
    pub slots: u64,
    /// Their bytes.
    pub slot_bytes: u64,
    /// When the last of them was proved to be stored.
    pub stored_at: Option<Instant>,
    /// How long writers were kept out, each time.
    pub kept_writers_out: Times,
}

/// How often something took how long.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// All of them together, seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// How many took at most as long as the bound at the same place in [`BOUNDS`], and longer than the one before.
    buckets: [u64; BOUNDS.len()],
}

impl Measures {
    /// A slot of so many bytes was stored just now.
    pub fn stored(&mut self, bytes: u64) {
        self.slots += 1;
        self.slot_bytes += bytes;
        self.stored_at = Some(Instant::now());
    }

    /// Adds what was counted of another database.
    pub fn add(&mut self, other: &Self) {
        self.slots += other.slots;
        self.slot_bytes += other.slot_bytes;
        self.stored_at = self.stored_at.max(other.stored_at);
        self.kept_writers_out.merge(&other.kept_writers_out);
    }
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.sum += time.as_secs_f64();
        self.count += 1;
        let place = BOUNDS.iter().position(|bound| time.as_secs_f64() <= *bound);
        if let Some(bucket) = place.and_then(|place| self.buckets.get_mut(place)) {
            *bucket += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// Each bound in seconds, with how many took longer than the one before and at most as long.
    #[must_use]
    pub fn buckets(&self) -> [(f64, u64); BOUNDS.len()] {
        std::array::from_fn(|place| (BOUNDS[place], self.buckets[place]))
    }
}

/// Seconds. The promise is 5 ms at a thousand commits a second, and 150 ms at the disk's limit.
const BOUNDS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.15, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_once_in_its_bucket_and_one_beyond_all_bounds_in_none() {
        let mut times = Times::default();
        for millis in [1, 1, 2, 5_000] {
            times.add(Duration::from_millis(millis));
        }
        let filled: Vec<_> = times.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!((filled, times.count), (vec![(0.001, 2), (0.002, 1)], 4));
        let mut both = Measures { kept_writers_out: times.clone(), slots: 1, ..Measures::default() };
        both.add(&Measures { kept_writers_out: times, slots: 2, ..Measures::default() });
        assert_eq!((both.slots, both.kept_writers_out.count), (3, 8));
    }
}
