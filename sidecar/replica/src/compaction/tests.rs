use lifeboat_wal::{PageCount, PageNo, PageSize};

use super::*;

const RULES: Rules =
    Rules { intervals: [30_000, 300_000, 3_600_000], snapshot_interval: 86_400_000, max_log_ratio: 1_000 };
const MIB: u64 = 1 << 20;

fn pages(numbers: &[u32]) -> DirtyPages {
    let mut pages = DirtyPages::new();
    numbers.iter().for_each(|number| pages.insert(PageNo::try_new(*number).unwrap()));
    pages
}

fn listed(pages: &DirtyPages) -> Vec<u32> {
    pages.iter(PageCount::new(1_000), PageSize::MIN).map(PageNo::get).collect()
}

/// Slots of a creator, one a second, each with the page of its number; the first has every page and 10 MiB.
struct Story {
    compaction: Compaction,
    now: Millis,
    slot: u64,
    bytes: u64,
}

impl Story {
    fn begin() -> Self {
        let compaction = Compaction::new(RULES, Base::NOTHING, 0, 0);
        let mut story = Self { compaction, now: 0, slot: 0, bytes: 1_000 };
        let all = all_pages();
        story.store(10 * MIB, &all);
        story
    }

    fn store(&mut self, bytes: u64, changed: &DirtyPages) {
        self.slot += 1;
        let (txid, checksum) = (Txid::try_new(self.slot).unwrap(), Checksum::EMPTY);
        self.compaction.stored(&StoredSlot { txid, bytes, checksum, changed }, self.now);
    }

    /// A second later. Whether the slot kept its view.
    fn go(&mut self) -> bool {
        self.now += 1_000;
        let is_kept = self.compaction.wants_view(self.now);
        let page = u32::try_from(self.slot + 1).unwrap();
        self.store(self.bytes, &pages(&[page]));
        is_kept
    }

    fn next_job(&mut self) -> Job {
        while !self.go() {}
        self.compaction.begin(self.now).unwrap()
    }
}

fn named(job: &Job) -> (u8, u64, u64) {
    (job.level.get(), job.name.min().get(), job.name.max().get())
}

#[test]
fn a_level_is_due_after_its_interval_and_covers_everything_since() {
    let mut story = Story::begin();
    let job = story.next_job();
    assert_eq!(named(&job), (1, 2, 31));
    assert_eq!(listed(&job.pages), (2..=31).collect::<Vec<_>>());
    story.go();
    story.compaction.written(5_000);
    let job = story.next_job();
    assert_eq!(named(&job), (1, 32, 61));
    assert_eq!(listed(&job.pages), (32..=61).collect::<Vec<_>>());
}

#[test]
fn of_several_levels_that_are_due_the_highest_is_written_and_stands_for_those_below() {
    let mut story = Story::begin();
    let mut names = Vec::new();
    for _ in 0..12 {
        let job = story.next_job();
        names.push(named(&job));
        story.compaction.written(5_000);
    }
    assert_eq!(names[8..11], [(1, 242, 271), (2, 2, 301), (1, 302, 331)]);
}

#[test]
fn nothing_is_due_without_slots_and_a_few_are_not_worth_it() {
    let mut story = Story::begin();
    story.now += 3_600_000 * 10;
    assert!(!story.compaction.wants_view(story.now), "nothing was stored");
    for _ in 0..6 {
        assert!(!story.go());
    }
    story.go();
    assert!(story.go());
}

#[test]
fn what_was_given_up_is_in_the_next_file_and_the_next_attempt_waits_longer_each_time() {
    let mut story = Story::begin();
    let mut waited = Vec::new();
    for _ in 0..4 {
        let begun = story.now;
        let job = story.next_job();
        waited.push((story.now - begun) / 1_000);
        assert_eq!(named(&job), (1, 2, story.slot));
        assert_eq!(listed(&job.pages).len() as u64, story.slot - 1);
        story.go();
        story.compaction.given_up(story.now);
    }
    assert_eq!(waited, [30, 5, 10, 20]);
    let job = story.next_job();
    story.compaction.written(1);
    assert_eq!(story.compaction.failures(), 0);
    assert_eq!(named(&story.next_job()).1, job.name.max().get() + 1);
}

#[test]
fn a_snapshot_is_due_when_a_restore_would_fetch_more_than_it_beyond_it() {
    let mut story = Story::begin();
    story.bytes = MIB;
    let mut names = Vec::new();
    for _ in 0..2 {
        let job = story.next_job();
        names.push(named(&job));
        assert!(job.pages.is_all());
        story.compaction.written(20 * MIB);
    }
    // Ten times 1 MiB is not more than 10 MiB; afterwards the snapshot has 20. The level that comes in between merges 1.
    assert_eq!(names[0], (9, 1, 13));
    let job_of_level_1 = names[1];
    assert_eq!(job_of_level_1, (9, 1, 35));
}

#[test]
fn a_snapshot_is_due_a_day_after_the_last_if_anything_changed() {
    let mut story = Story::begin();
    story.now += 86_400_000;
    assert_eq!(named(&story.next_job()), (9, 1, 2));
}

#[test]
fn merged_files_count_in_place_of_what_they_merge() {
    let mut story = Story::begin();
    story.bytes = MIB / 4;
    for _ in 0..20 {
        let job = story.next_job();
        assert_eq!(job.level, Level::MERGED[0].max(job.level));
        assert_ne!(job.level, Level::SNAPSHOT, "hot pages cost a restore next to nothing");
        story.compaction.written(1_000);
    }
}

#[test]
fn without_a_beginning_the_first_chance_is_taken_for_one() {
    let base = Base { txid: 1, checksum: Some(Checksum::EMPTY) };
    let mut compaction = Compaction::new(RULES, base, 0, 0);
    assert!(!compaction.wants_view(0), "of the past nothing is known yet");
    compaction.learned(nothing_but_a_seal(), 0);
    assert!(compaction.wants_view(0));
}

fn nothing_but_a_seal() -> Past {
    let covered = || Covered { to: 1, checksum: None, age: 0, pages: all_pages(), bytes: 0 };
    Past { levels: [covered(), covered(), covered()], snapshot: None }
}
