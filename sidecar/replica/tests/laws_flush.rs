//! Laws of the rhythm of slots, for any database and any bucket: how much is spent, how long a commit waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lifeboat_replica::budget::DAY;
use lifeboat_replica::flush::{Decision, Flush, Rhythm};
use proptest::prelude::*;

/// A slot as the simulated loop cut it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: u64,
    /// When the oldest commit in it was made.
    oldest: u64,
    /// When the slot before it was stored.
    free_since: u64,
    /// When it was first demanded, if it was.
    demanded: Option<u64>,
}

/// What happens after a pause in milliseconds.
#[derive(Clone, Copy, Debug)]
enum Event {
    Commit,
    Demand,
}

/// Runs the loop as the capture thread does, with uploads of one length each.
fn run(rhythm: Rhythm, events: &[(u64, Event)], upload: u64) -> Vec<Cut> {
    let (mut flush, mut cuts) = (Flush::new(rhythm), Vec::new());
    let (mut now, mut oldest, mut lands, mut free_since) = (0, None, None, 0);
    let (mut number, mut demanded, mut events) = (0, None, events.iter().copied());
    let mut next = events.next();
    loop {
        if lands.is_some_and(|at| at <= now) {
            (lands, free_since) = (None, now);
            flush.stored();
        }
        while let Some((at, event)) = next.filter(|(at, _)| *at <= now) {
            match event {
                Event::Commit => _ = oldest.get_or_insert(now),
                Event::Demand => {
                    number += 1;
                    flush.demand(number);
                    demanded = demanded.or_else(|| oldest.map(|_| now));
                }
            }
            next = events.next().map(|(pause, event)| (at + pause, event));
        }
        flush.looked(oldest.is_some());
        let decision = flush.decide(now, oldest.is_some());
        let wake = match (decision, oldest) {
            (Decision::Cut, Some(since)) => {
                cuts.push(Cut { at: now, oldest: since, free_since, demanded: demanded.take() });
                oldest = None;
                flush.cut(now);
                lands = Some(now + upload);
                continue;
            }
            (Decision::Wait(due), _) => Some(due),
            (Decision::Cut | Decision::Idle, _) => None,
        };
        let upcoming = [wake, lands, next.map(|(at, _)| at)].into_iter().flatten().min();
        match upcoming {
            Some(then) => now = then,
            None => return cuts,
        }
    }
}

fn events(with_demands: bool) -> impl Strategy<Value = Vec<(u64, Event)>> {
    let pause = prop_oneof![
        6 => 1_u64..3_000,
        2 => 3_000_u64..600_000,
        1 => 600_000_u64..20_000_000,
        1 => 20_000_000_u64..200_000_000,
    ];
    let event = if with_demands {
        prop_oneof![9 => Just(Event::Commit), 1 => Just(Event::Demand)].boxed()
    } else {
        Just(Event::Commit).boxed()
    };
    prop::collection::vec((pause, event), 1..1_500)
}

fn rhythm() -> impl Strategy<Value = Rhythm> {
    let budget = prop_oneof![24_u32..200, 200_u32..5_000, 5_000_u32..200_000];
    (10_u64..5_000, 5_000_u64..DAY, budget).prop_map(|(interval, max_lag, budget)| Rhythm {
        interval,
        max_lag,
        max_requests_per_day: Some(budget),
    })
}

/// The most of these moments that lie within 24 hours.
fn most_in_a_day(moments: &[u64]) -> usize {
    let mut from = 0;
    let counts = moments.iter().enumerate().map(|(to, at)| {
        while moments[from] + DAY <= *at {
            from += 1;
        }
        to + 1 - from
    });
    counts.max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_day_sees_more_requests_than_the_budget_unless_the_lag_forces_them(
        rhythm in rhythm(), events in events(false), upload in 0_u64..5_000,
    ) {
        let cuts = run(rhythm, &events, upload);
        let unforced = cuts.iter().filter(|cut| cut.at < cut.oldest + rhythm.max_lag);
        let unforced: Vec<_> = unforced.map(|cut| cut.at).collect();
        prop_assert!(most_in_a_day(&unforced) <= rhythm.max_requests_per_day.unwrap() as usize);
    }

    #[test]
    fn no_commit_waits_longer_than_the_lag_and_the_upload_before_it(
        rhythm in rhythm(), events in events(true), upload in 0_u64..100_000,
    ) {
        for cut in run(rhythm, &events, upload) {
            prop_assert!(cut.at <= (cut.oldest + rhythm.max_lag).max(cut.free_since), "{cut:?}");
        }
    }

    #[test]
    fn every_commit_gets_a_slot_and_every_demand_is_met(
        rhythm in rhythm(), mut events in events(true), upload in 0_u64..100_000,
    ) {
        events.push((1, Event::Commit));
        let commits = events.iter().scan(0, |at, (pause, _)| { *at += pause; Some(*at) }).last().unwrap();
        prop_assert!(run(rhythm, &events, upload).last().is_some_and(|cut| cut.at >= commits));
    }

    #[test]
    fn a_commit_after_a_quiet_day_goes_at_once_whatever_was_before(
        rhythm in rhythm(), mut events in events(true), upload in 0_u64..5_000,
    ) {
        events.push((3 * DAY, Event::Commit));
        let last = *run(rhythm, &events, upload).last().unwrap();
        prop_assert_eq!(last.at, last.oldest);
    }

    #[test]
    fn what_is_demanded_goes_as_soon_as_the_slot_before_it_is_stored(
        rhythm in rhythm(), events in events(true), upload in 0_u64..5_000,
    ) {
        for cut in run(rhythm, &events, upload) {
            prop_assert!(cut.demanded.is_none_or(|at| cut.at == at.max(cut.free_since)), "{cut:?}");
        }
    }
}

/// A database that is written at all times, for some days.
fn unbroken(days: u64, every: u64) -> Vec<(u64, Event)> {
    (0..days * DAY / every).map(|_| (every, Event::Commit)).collect()
}

#[test]
fn under_unbroken_load_nine_tenths_of_the_budget_are_used_and_never_more_than_all_of_it() {
    let rhythm = Rhythm { interval: 1_000, max_lag: DAY, max_requests_per_day: Some(1_000) };
    let cuts: Vec<_> = run(rhythm, &unbroken(3, 500), 50).iter().map(|cut| cut.at).collect();
    let most = most_in_a_day(&cuts);
    assert!((900..=1_000).contains(&most), "{most}");
    let last_day = cuts.iter().filter(|at| **at > 2 * DAY).count();
    assert!((890..=910).contains(&last_day), "{last_day}");
}

#[test]
fn where_budget_and_lag_conflict_the_lag_wins() {
    let rhythm = Rhythm { interval: 1_000, max_lag: 60_000, max_requests_per_day: Some(100) };
    let cuts = run(rhythm, &unbroken(2, 500), 50);
    let last_day = cuts.iter().filter(|cut| cut.at > DAY).count();
    assert!((1_400..=1_440).contains(&last_day), "{last_day}");
}
