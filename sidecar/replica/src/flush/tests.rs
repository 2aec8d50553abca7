use super::*;

fn flush() -> Flush {
    Flush::new(Rhythm { interval: 1_000, max_lag: 300_000, max_requests_per_day: None })
}

fn thrifty() -> Flush {
    Flush::new(Rhythm { interval: 1_000, max_lag: 300_000, max_requests_per_day: Some(24) })
}

#[test]
fn an_isolated_commit_goes_at_once() {
    assert_eq!(flush().decide(5, true), Decision::Cut);
    assert_eq!(thrifty().decide(5, true), Decision::Cut);
}

#[test]
fn under_load_one_slot_begins_every_interval() {
    let mut flush = flush();
    flush.cut(100);
    flush.stored();
    assert_eq!(flush.decide(101, true), Decision::Wait(1_100));
    assert_eq!(flush.decide(1_100, true), Decision::Cut);
}

#[test]
fn nothing_is_cut_while_a_slot_is_on_its_way_however_long_that_takes() {
    let mut flush = flush();
    flush.cut(0);
    flush.hurry();
    flush.demand(1);
    flush.looked(true);
    assert_eq!(flush.decide(1_000_000, true), Decision::Idle);
}

#[test]
fn at_the_end_nothing_waits_for_the_interval() {
    let mut flush = flush();
    flush.cut(0);
    flush.stored();
    flush.hurry();
    assert_eq!(flush.decide(1, true), Decision::Cut);
    assert_eq!(flush.decide(1, false), Decision::Idle);
}

#[test]
fn a_slot_in_parts_is_paid_for_part_by_part() {
    for (requests, due) in [(1, Decision::Cut), (9, Decision::Wait(301_000))] {
        let mut flush = thrifty();
        flush.cut(0);
        flush.took(10, requests);
        flush.stored();
        assert_eq!(flush.decide(1_000, true), due, "{requests}");
    }
}

#[test]
fn a_demand_waits_for_neither_interval_nor_budget() {
    let mut flush = thrifty();
    for now in 0..3 {
        flush.cut(now);
        flush.stored();
    }
    assert_eq!(flush.decide(4, true), Decision::Wait(300_004));
    flush.demand(1);
    flush.looked(true);
    assert_eq!(flush.decide(5, true), Decision::Cut);
    flush.cut(5);
    flush.stored();
    assert_eq!(flush.met(), 1);
    assert!(matches!(flush.decide(6, true), Decision::Wait(_)), "one demand is one slot");
}

#[test]
fn a_demand_is_met_only_after_a_look_that_began_later() {
    let mut flush = flush();
    flush.looked(false);
    flush.demand(1);
    assert_eq!(flush.met(), 0);
    flush.looked(false);
    assert_eq!(flush.met(), 1);
}

#[test]
fn a_slot_that_was_on_its_way_before_the_demand_does_not_meet_it() {
    let mut flush = flush();
    flush.looked(true);
    flush.cut(0);
    flush.demand(1);
    flush.looked(true);
    flush.stored();
    assert_eq!((flush.met(), flush.decide(1, true)), (0, Decision::Cut));
}

#[test]
fn a_slot_on_its_way_that_holds_everything_meets_a_later_demand() {
    let mut flush = flush();
    flush.cut(0);
    flush.demand(1);
    flush.looked(false);
    assert_eq!(flush.met(), 0);
    flush.stored();
    assert_eq!(flush.met(), 1);
}

#[test]
fn demands_that_come_together_share_one_slot() {
    let mut flush = flush();
    flush.demand(1);
    flush.demand(20);
    flush.looked(true);
    flush.cut(0);
    flush.stored();
    assert_eq!(flush.met(), 20);
}

#[test]
fn a_slot_that_is_given_up_meets_nothing_and_is_cut_anew() {
    let mut flush = flush();
    flush.demand(1);
    flush.looked(true);
    flush.cut(0);
    flush.given_up();
    assert_eq!((flush.met(), flush.decide(1, true)), (0, Decision::Cut));
}

#[test]
fn what_changed_to_and_fro_meets_a_demand_without_a_slot() {
    let mut flush = flush();
    flush.demand(1);
    flush.looked(true);
    flush.nothing_to_cut();
    assert_eq!(flush.met(), 1);
}

#[test]
fn what_the_lag_costs_is_said_while_it_costs_more_than_the_budget() {
    let mut flush = thrifty();
    for now in [0, 1_000, 301_000] {
        assert_eq!(flush.requests_per_day(), None);
        flush.cut(now);
        flush.stored();
    }
    assert_eq!(flush.requests_per_day(), Some(288));
    flush.cut(10 * DAY);
    assert_eq!(flush.requests_per_day(), None);
}

#[test]
fn points_in_time_are_lost_when_commits_waited_longer_than_planned() {
    let rhythm = |budget| Rhythm { interval: 1_000, max_lag: 60_000, max_requests_per_day: budget };
    assert!(!rhythm(None).is_broken_by(2_000) && rhythm(None).is_broken_by(2_001));
    assert!(!rhythm(Some(9)).is_broken_by(120_000) && rhythm(Some(9)).is_broken_by(120_001));
}
