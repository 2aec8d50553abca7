//! Each rule of the protocol is needed: without it the search finds what it is there for. These are the lines of the attack
//! table in `docs/fencing.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the story of each loss is worth reading")]

use lifeboat_replica::layout::Level;
use lifeboat_sim::rules::Rule;
use lifeboat_sim::search::search;
use lifeboat_sim::world::{Kind, World};
use lifeboat_sim::worlds::{claimants, handed_over_twice, power_cut, pruning, superseded};

/// Searches a world without a rule; what is found says this. With the rule nothing is found, which `worlds.rs` proves for
/// most worlds, and this for the others.
#[track_caller]
fn bites(world: World, rule: Rule, says: &str) {
    let found = search(&World { without: Some(rule), ..world }, STATES_MAX);
    let story =
        found.story.unwrap_or_else(|| panic!("without {rule:?} nothing is found in {} states", found.states));
    println!("without {rule:?}, after {} states:\n{}", found.states, story.join("\n"));
    assert!(story.last().unwrap().contains(says), "{}", story.last().unwrap());
}

#[test]
fn without_the_seal_a_predecessor_goes_on_beside_its_successor() {
    bites(claimants(&[1, 1], 1, 0), Rule::Seal, "meets a slot of the older epoch");
}

#[test]
fn without_compare_and_swap_of_the_head_an_old_owner_undoes_a_new_ones_floors() {
    bites(pruning(Level::SNAPSHOT, 0, 0), Rule::HeadByCompareAndSwap, "is missing below slot");
}

#[test]
fn a_slot_that_can_be_overwritten_takes_acknowledged_commits_away() {
    bites(claimants(&[1, 1], 1, 0), Rule::CreatedNeverOverwritten, "");
}

#[test]
fn a_late_claimant_that_does_not_look_at_the_epoch_of_the_end_seals_its_successor_off() {
    bites(claimants(&[2, 1], 1, 0), Rule::EndOfALowerEpoch, "meets a slot of the older epoch");
}

#[test]
fn a_claim_that_is_opened_whatever_the_head_says_takes_the_replica_back() {
    bites(superseded(), Rule::OpenedByRevision, "takes the replica back");
}

#[test]
fn two_slots_in_flight_arrive_in_any_order() {
    bites(claimants(&[2], 1, 0), Rule::OneInFlight, "slot 2 is stored and slot 1 is not");
}

#[test]
fn a_slot_that_exists_is_not_taken_for_stored_unread() {
    bites(claimants(&[1, 1], 0, 0), Rule::ReadBack, "does not hold them");
}

#[test]
fn what_was_not_answered_is_not_acknowledged() {
    bites(claimants(&[1], 1, 0), Rule::AcknowledgedWhenStored, "does not hold them");
}

#[test]
fn a_snapshot_of_more_than_its_slot_shows_a_state_that_never_was() {
    bites(pruning(Level::SNAPSHOT, 0, 0), Rule::DerivedFilesAreTrue, "there was never that state");
}

#[test]
fn a_merged_file_of_more_than_its_slots_shows_a_state_that_never_was() {
    bites(pruning(Level::MERGED[0], 0, 0), Rule::DerivedFilesAreTrue, "there was never that state");
}

#[test]
fn floors_that_sink_bring_slots_back_that_are_gone() {
    bites(pruning(Level::MERGED[0], 1, 0), Rule::FloorsNeverSink, "is missing below slot");
}

#[test]
fn what_is_deleted_before_the_head_says_so_is_missed() {
    bites(pruning(Level::SNAPSHOT, 0, 0), Rule::RaisedBeforeDeleted, "is missing below slot");
}

#[test]
fn a_newest_slot_that_goes_is_missed() {
    bites(pruning(Level::SNAPSHOT, 0, 0), Rule::NewestSlotStays, "deleted the newest ones");
}

#[test]
fn where_a_seal_was_deleted_a_late_slot_is_stored_and_acknowledged() {
    bites(pruning(Level::SNAPSHOT, 0, 0), Rule::SealsStay, "acknowledges commits");
}

#[test]
fn a_dead_file_that_counts_says_that_nothing_changed_where_something_did() {
    bites(pruning(Level::SNAPSHOT, 1, 0), Rule::DeadFilesIgnored, "a restore mixes two lineages");
}

#[test]
fn a_restore_that_goes_on_without_a_file_of_its_plan_loses_commits() {
    bites(pruning(Level::SNAPSHOT, 0, 1), Rule::ListedVersions, "are lost");
}

#[test]
fn a_record_of_another_boot_undoes_what_the_bucket_acknowledged() {
    bites(power_cut(Kind::Bare, false), Rule::SameBoot, "two lineages");
    bites(power_cut(Kind::Pod, false), Rule::SameBoot, "two lineages");
}

#[test]
fn a_restarted_container_that_claims_again_takes_the_replica_back() {
    bites(superseded(), Rule::SupersededStays, "takes the replica back");
}

/// Two processes of one claim are told apart by what stands in the slots. The nonce is what keeps it from coming to that.
#[test]
fn with_one_nonce_for_a_pod_nothing_is_lost_because_slots_are_compared_by_content() {
    for world in [handed_over_twice(2), superseded(), claimants(&[1, 1], 1, 1)] {
        let found = search(&World { without: Some(Rule::Nonce), ..world }, STATES_MAX);
        assert!(found.story.is_none() && found.is_complete, "{found:?}");
    }
}

const STATES_MAX: usize = 400_000;
