//! Ten planted bugs in worlds from seeds: each is caught within a stated number of them, by the invariant that is there for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the story of a bug is worth reading")]

use lifeboat_sim::invariant::Invariant;
use lifeboat_sim::rules::Rule;
use lifeboat_sim::walk::{story, walk};

/// One of the first `seeds` breaks the invariant without the rule; `seeds.rs` proves that none does with it.
#[track_caller]
fn caught(rule: Rule, breaks: Invariant, seeds: u64) -> u64 {
    let is_caught =
        |seed: &u64| walk(*seed, Some(rule)).violation.is_some_and(|found| found.breaks == breaks);
    let seed = (0..seeds).find(is_caught);
    let seed = seed.unwrap_or_else(|| panic!("without {rule:?} none of {seeds} worlds breaks {breaks}"));
    println!("without {rule:?} seed {seed} breaks: {breaks}");
    seed
}

#[test]
fn acknowledging_what_was_not_answered_is_caught_and_its_story_is_short() {
    let seed = caught(Rule::AcknowledgedWhenStored, Invariant::OneWriter, 50);
    let story = story(seed, Some(Rule::AcknowledgedWhenStored)).unwrap();
    println!("{}", story.join("\n"));
    assert!(story.last().unwrap().starts_with("VIOLATION (one writer): "), "{story:?}");
    assert!(story.len() <= 40, "{} lines", story.len());
}

#[test]
fn taking_a_slot_that_exists_for_stored_is_caught() {
    caught(Rule::ReadBack, Invariant::OneWriter, 50);
}

#[test]
fn writing_without_a_seal_is_caught() {
    caught(Rule::Seal, Invariant::OneWriter, 200);
}

#[test]
fn a_restarted_container_that_claims_again_is_caught() {
    caught(Rule::SupersededStays, Invariant::OneWriter, 300);
}

#[test]
fn a_merged_file_from_a_later_view_is_caught() {
    caught(Rule::DerivedFilesAreTrue, Invariant::Exact, 300);
}

#[test]
fn giving_up_the_newest_slot_is_caught() {
    caught(Rule::NewestSlotStays, Invariant::Durable, 300);
}

#[test]
fn deleting_before_the_head_says_so_is_caught() {
    caught(Rule::RaisedBeforeDeleted, Invariant::Live, 300);
}

#[test]
fn a_failed_list_taken_for_an_empty_one_is_caught() {
    caught(Rule::FailureIsNoAnswer, Invariant::Live, 500);
}

#[test]
fn going_on_behind_a_break_in_the_wal_is_caught() {
    caught(Rule::RescanAfterBreak, Invariant::NothingLost, 300);
}

#[test]
fn a_read_transaction_that_never_ends_is_caught() {
    caught(Rule::PinMoves, Invariant::Bounded, 50);
}
