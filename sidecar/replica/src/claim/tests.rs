//! The claim against a bucket of its own, step by step, with the answers a bucket can give.

use std::collections::BTreeMap;

use lifeboat_ltx::{Header, Txid};

use super::*;
use crate::head::{Nonce, Owner};
use crate::slot::WriteAnswer;

/// What the next write's answer is worth: the effect happens (or not), and the answer arrives (or not).
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    AnswerLost,
    RequestLost,
}

#[derive(Default)]
struct Bucket {
    head: Option<Head>,
    slots: BTreeMap<Txid, (Header, Vec<u8>)>,
    faults: Vec<Fault>,
    ignores_conditions: bool,
}

impl Bucket {
    fn etag(&self) -> String {
        self.head.as_ref().map_or_else(String::new, |head| head.revision.to_string())
    }

    fn write(&mut self, is_allowed: bool, effect: impl FnOnce(&mut Self)) -> WriteAnswer {
        match self.faults.pop() {
            Some(Fault::RequestLost) => WriteAnswer::Unclear,
            fault => {
                if !is_allowed {
                    return if fault.is_some() { WriteAnswer::Unclear } else { WriteAnswer::Rejected };
                }
                effect(self);
                if fault.is_some() { WriteAnswer::Unclear } else { WriteAnswer::Done }
            }
        }
    }

    fn put_head(&mut self, head: Head, is_allowed: bool) -> Fact {
        let answer = self.write(is_allowed, |bucket| bucket.head = Some(head));
        Fact::HeadWritten(answer, (answer == WriteAnswer::Done).then(|| self.etag()))
    }

    fn perform(&mut self, action: Action) -> Fact {
        match action {
            Action::ReadHead => Fact::Head(self.head.clone().map(|head| (head, self.etag()))),
            Action::CountFiles => Fact::FileCount(self.slots.len()),
            Action::CreateHead(head) => {
                let is_allowed = self.head.is_none();
                self.put_head(head, is_allowed)
            }
            Action::ReplaceHead { head, etag } => {
                let is_allowed = self.head.is_some() && etag == self.etag();
                self.put_head(head, is_allowed)
            }
            Action::ListSlots { after } => {
                Fact::Slots(self.slots.keys().copied().filter(|txid| txid.get() > after).collect())
            }
            Action::ReadSlot(txid) => Fact::Slot(self.slots.get(&txid).map(|(header, bytes)| SlotRead {
                header: header.clone(),
                seal: (bytes.len() == 131).then(|| bytes.clone()),
            })),
            Action::PutSeal { txid, bytes } => {
                let is_allowed = self.ignores_conditions || !self.slots.contains_key(&txid);
                let header = Header::decode(&bytes).unwrap();
                Fact::SealWritten(self.write(is_allowed, |bucket| {
                    bucket.slots.insert(txid, (header, bytes));
                }))
            }
            Action::Pause(_) => Fact::Resumed,
        }
    }

    fn put_seal(&mut self, epoch: u64) -> Txid {
        let last = self.slots.values().next_back().map(|(header, _)| header.clone());
        let (header, bytes) = seal_bytes(Epoch::new(epoch), last.as_ref(), 0).unwrap();
        let txid = header.max_txid;
        self.slots.insert(txid, (header, bytes));
        txid
    }
}

fn owner(nonce: u8, pod: &str) -> Owner {
    Owner {
        nonce: Nonce::new([nonce; 16]),
        cluster: "c".to_owned(),
        namespace: "n".to_owned(),
        name: "shop".to_owned(),
        pod_uid: pod.to_owned(),
    }
}

fn claimant(nonce: u8) -> Claimant {
    let patience = Patience::new(1_000, 10_000);
    Claimant {
        owner: owner(nonce, &format!("pod-{nonce}")),
        new_lineage: "l".to_owned(),
        wall_ms: 7,
        patience,
        is_restarted: false,
        expected: None,
        promise: None,
    }
}

/// Runs a claim to its end; 100 ms pass with every action, more with a pause.
fn claim(bucket: &mut Bucket, claimant: Claimant) -> Result<Sealed, ClaimError> {
    claim_with(bucket, claimant, |_, _| ())
}

fn claim_with(
    bucket: &mut Bucket,
    claimant: Claimant,
    mut before: impl FnMut(&mut Bucket, &Action),
) -> Result<Sealed, ClaimError> {
    let (mut claim, mut action) = Claim::begin(claimant);
    let mut now = 0;
    for _ in 0..1_000 {
        now += if let Action::Pause(ms) = action { ms } else { 10 };
        before(bucket, &action);
        match claim.handle(now, bucket.perform(action))? {
            Step::Do(next) => action = next,
            Step::Sealed(sealed) => return Ok(sealed),
        }
    }
    panic!("the claim does not end");
}

fn open(bucket: &mut Bucket, sealed: &Sealed, owner: Owner) -> Result<Opened, ClaimError> {
    open_with(bucket, sealed, owner, || ())
}

fn open_with(
    bucket: &mut Bucket,
    sealed: &Sealed,
    owner: Owner,
    mut before: impl FnMut(),
) -> Result<Opened, ClaimError> {
    let (mut opening, mut action) = Opening::begin(sealed.head.clone(), owner, sealed.base);
    loop {
        before();
        match opening.handle(bucket.perform(action))? {
            OpeningStep::Do(next) => action = next,
            OpeningStep::Opened(opened) => return Ok(opened),
        }
    }
}

#[test]
fn the_first_claimant_creates_the_replica_and_has_nothing_to_seal() {
    let mut bucket = Bucket::default();
    let sealed = claim(&mut bucket, claimant(1)).unwrap();
    assert_eq!((sealed.head.epoch, sealed.base, bucket.slots.len()), (Epoch::FIRST, Base::NOTHING, 0));
    let opened = open(&mut bucket, &sealed, owner(2, "pod-1")).unwrap();
    assert_eq!((opened.head.state, bucket.head.unwrap().owner.nonce), (HeadState::Open, Nonce::new([2; 16])));
}

#[test]
fn the_second_claimant_seals_behind_the_first() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    let sealed = claim(&mut bucket, claimant(2)).unwrap();
    assert_eq!((sealed.head.epoch.get(), sealed.base.txid), (2, 2));
    assert_eq!(bucket.slots[&Txid::try_new(2).unwrap()].0.node_id, 2);
}

#[test]
fn lost_answers_and_lost_requests_change_nothing() {
    for mask in 0..81_u32 {
        let fault = |n: u32| match mask / 3_u32.pow(n) % 3 {
            0 => None,
            1 => Some(Fault::AnswerLost),
            _ => Some(Fault::RequestLost),
        };
        let mut bucket = Bucket { faults: (0..4).filter_map(fault).collect(), ..Bucket::default() };
        claim(&mut bucket, claimant(1)).unwrap();
        bucket.put_seal(1);
        bucket.faults = (0..4).filter_map(fault).collect();
        let sealed = claim(&mut bucket, claimant(2)).unwrap();
        assert_eq!((sealed.head.epoch.get(), sealed.base.txid, bucket.slots.len()), (2, 2, 2), "mask {mask}");
        open(&mut bucket, &sealed, owner(3, "pod-2")).unwrap();
    }
}

#[test]
fn files_without_a_head_are_nobodys_to_take() {
    let mut bucket = Bucket::default();
    bucket.put_seal(1);
    assert_eq!(claim(&mut bucket, claimant(1)), Err(ClaimError::UnclaimedData { files: 1 }));
}

#[test]
fn a_replica_that_was_created_while_its_absence_was_proved_is_not_another_programs() {
    let mut bucket = Bucket::default();
    let claimed = claim_with(&mut bucket, claimant(2), |bucket, action| {
        if *action == Action::CountFiles {
            claim(bucket, claimant(1)).unwrap();
            bucket.put_seal(1);
        }
    });
    assert_eq!(claimed.map(|sealed| sealed.base.txid), Ok(2));
}

#[test]
fn another_resources_replica_is_refused() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    let mut stranger = claimant(2);
    stranger.owner.name = "blog".to_owned();
    assert!(matches!(claim(&mut bucket, stranger), Err(ClaimError::ForeignOwner { .. })));
}

#[test]
fn a_restarted_process_does_not_take_the_replica_back_from_another_pod() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    let restarted = |nonce, pod| Claimant { owner: owner(nonce, pod), is_restarted: true, ..claimant(nonce) };
    assert!(claim(&mut bucket, restarted(2, "pod-1")).is_ok());
    bucket.put_seal(2);
    claim(&mut bucket, claimant(3)).unwrap();
    assert!(matches!(claim(&mut bucket, restarted(4, "pod-1")), Err(ClaimError::Superseded { .. })));
}

#[test]
fn a_claimant_looks_again_when_a_writer_went_on_meanwhile() {
    let mut bucket = Bucket::default();
    let sealed = claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    let opened = open(&mut bucket, &sealed, owner(1, "pod-1")).unwrap();
    for head in [opened.head.clone(), opened.head.close()] {
        bucket.head = Some(head);
        let late = Claimant { expected: Some(0), ..claimant(2) };
        assert_eq!(claim(&mut bucket, late), Err(ClaimError::Moved { newest: 1 }));
        assert_eq!(bucket.head.as_ref().unwrap().epoch, Epoch::FIRST, "the head was taken");
    }
    assert!(claim(&mut bucket, Claimant { expected: Some(1), ..claimant(2) }).is_ok());
}

#[test]
fn a_store_that_overwrites_is_found_out_by_the_second_seal() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    bucket.ignores_conditions = true;
    assert_eq!(
        claim(&mut bucket, claimant(2)),
        Err(ClaimError::NotConformant { txid: Txid::try_new(2).unwrap() })
    );
}

#[test]
fn a_claim_is_nine_requests_whatever_the_history() {
    for (seals, floor) in [(1, 0), (5_000, 0), (5_000, 4_990)] {
        let mut bucket = Bucket::default();
        let sealed = claim(&mut bucket, claimant(1)).unwrap();
        let opened = open(&mut bucket, &sealed, owner(1, "pod-1")).unwrap();
        for _ in 0..seals {
            bucket.put_seal(1);
        }
        bucket.head = Some(Head { floors: BTreeMap::from([(0, floor)]), ..opened.head.close() });
        let mut requests = 0;
        let sealed = claim_with(&mut bucket, claimant(2), |_, _| requests += 1).unwrap();
        open_with(&mut bucket, &sealed, owner(2, "pod-2"), || requests += 1).unwrap();
        assert_eq!(requests, 9, "{seals} seals");
    }
}

/// A writer that stores a slot every 20 ms until it meets one that is not its own, and a claimant that does not wait for it.
/// Each of the claimant's requests takes `takes` ms, and each twelfth one a second more, if `is_rough`.
fn requests_beside_a_busy_writer(history: u64, takes: Millis, is_rough: bool) -> u32 {
    let mut bucket = Bucket::default();
    let sealed = claim(&mut bucket, claimant(1)).unwrap();
    open(&mut bucket, &sealed, owner(1, "pod-1")).unwrap();
    for _ in 0..history {
        bucket.put_seal(1);
    }
    let (mut requests, mut now, mut stored) = (0, 0, 0);
    let mut passes = |bucket: &mut Bucket, ms: Millis| {
        now += ms;
        while stored + 20 <= now {
            stored += 20;
            let newest = bucket.slots.values().next_back();
            if newest.is_some_and(|(header, _)| header.node_id == 1) {
                bucket.put_seal(1);
            }
        }
    };
    let hasty = Claimant { patience: Patience::new(0, 0), ..claimant(2) };
    let (mut claim, mut action) = Claim::begin(hasty);
    loop {
        requests += 1;
        assert!(requests < 1_000, "the claimant never catches up");
        passes(&mut bucket, takes / 2 + if is_rough && requests % 12 == 0 { 1_000 } else { 0 });
        let fact = bucket.perform(action);
        passes(&mut bucket, takes - takes / 2);
        match claim.handle(0, fact).unwrap() {
            Step::Do(next) => action = next,
            Step::Sealed(sealed) => {
                open_with(&mut bucket, &sealed, owner(2, "pod-2"), || requests += 1).unwrap();
                return requests;
            }
        }
    }
}

#[test]
fn a_writer_that_stores_every_20_ms_costs_its_claimant_a_few_requests_whatever_the_history() {
    for (takes, most) in [(1, 9), (5, 11), (8, 15), (10, 21)] {
        for history in [1, 5_000] {
            let requests = requests_beside_a_busy_writer(history, takes, false);
            assert!(requests <= most, "{history} slots, {takes} ms: {requests} requests");
        }
    }
}

#[test]
fn fifty_slots_that_are_stored_during_one_request_are_skipped() {
    for takes in 1..=10 {
        let requests = requests_beside_a_busy_writer(100, takes, true);
        assert!(requests <= 60, "{takes} ms: {requests} requests");
    }
}

#[test]
fn a_successor_that_opened_while_a_busy_writer_was_chased_is_not_sealed_off() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    let (mut is_listed, mut late) = (0, 8);
    let lost = claim_with(&mut bucket, claimant(2), |bucket, action| {
        is_listed += u32::from(matches!(action, Action::ListSlots { after } if *after > 0));
        if matches!(action, Action::PutSeal { .. } | Action::ReadSlot(_)) && late > 0 {
            late -= 1;
            bucket.put_seal(1);
        }
        if is_listed == 1 && late > 0 {
            late = 0;
            claim(bucket, claimant(3)).unwrap();
        }
    });
    assert_eq!((is_listed, lost), (1, Err(ClaimError::Lost { by: Some(Epoch::new(3)) })));
    assert_eq!(bucket.slots.values().next_back().unwrap().0.node_id, 3);
}

#[test]
fn a_hole_above_the_floor_is_refused_and_old_seals_below_it_are_not_looked_at() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    for _ in 0..5 {
        bucket.put_seal(1);
    }
    bucket.slots.remove(&Txid::try_new(2).unwrap());
    assert!(matches!(claim(&mut bucket, claimant(2)), Err(ClaimError::Hole { .. })));
    if let Some(head) = &mut bucket.head {
        head.floors.insert(0, 3);
    }
    assert_eq!(claim(&mut bucket, claimant(3)).unwrap().base.txid, 6);
}

#[test]
fn slots_that_must_be_there_and_are_not_are_not_a_new_replica() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    if let Some(head) = &mut bucket.head {
        head.floors.insert(0, 3);
    }
    assert_eq!(claim(&mut bucket, claimant(2)), Err(ClaimError::NoSlots { floor: 3 }));
}

#[test]
fn where_something_was_stored_no_replica_is_begun_and_no_head_created() {
    let head = Head::create("l".to_owned(), owner(1, "pod-1"));
    let slot = Base { txid: 5, checksum: None };
    let record = crate::adoption::Record::new(&head, slot, String::new(), String::new());
    let promise = Promise::recorded(Some(&record), "s3://shop/app");
    let promised = || Claimant { promise: promise.clone(), ..claimant(2) };
    let mut bucket = Bucket::default();
    assert!(matches!(claim(&mut bucket, promised()), Err(ClaimError::Emptied(_))));
    assert_eq!(bucket.head, None);
    claim(&mut bucket, claimant(1)).unwrap();
    assert!(claim(&mut bucket, promised()).is_ok(), "whether that one is the right one is looked at later");
}

#[test]
fn a_late_claimant_that_lists_after_its_successor_opened_has_lost() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    let mut overtaken = false;
    let lost = claim_with(&mut bucket, claimant(2), |bucket, action| {
        if matches!(action, Action::ListSlots { .. })
            && bucket.head.as_ref().is_some_and(|h| h.epoch.get() == 2)
            && !overtaken
        {
            overtaken = true;
            claim(bucket, claimant(3)).unwrap();
        }
    });
    assert_eq!(lost, Err(ClaimError::Lost { by: Some(Epoch::new(3)) }));
    assert_eq!(bucket.slots.len(), 2);
}

#[test]
fn a_late_claimant_takes_its_successors_pruning_for_no_damage() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    bucket.put_seal(1);
    let mut overtaken = false;
    let lost = claim_with(&mut bucket, claimant(2), |bucket, action| {
        if matches!(action, Action::ListSlots { .. })
            && bucket.head.as_ref().is_some_and(|h| h.epoch.get() == 2)
            && !overtaken
        {
            overtaken = true;
            claim(bucket, claimant(3)).unwrap();
            bucket.slots.remove(&Txid::FIRST);
        }
    });
    assert_eq!(lost, Err(ClaimError::Lost { by: Some(Epoch::new(3)) }));
}

#[test]
fn the_predecessors_last_slots_are_walked_over_while_they_continue_the_chain() {
    let mut bucket = Bucket::default();
    claim(&mut bucket, claimant(1)).unwrap();
    bucket.put_seal(1);
    let mut late = 2;
    let sealed = claim_with(&mut bucket, claimant(2), |bucket, action| {
        if matches!(action, Action::PutSeal { .. }) && late > 0 {
            late -= 1;
            bucket.put_seal(1);
        }
    });
    assert_eq!(sealed.unwrap().base.txid, 4);
}

#[test]
fn the_claim_waits_for_a_busy_predecessor_of_another_pod_and_not_for_a_closed_one() {
    let waits = |mut bucket: Bucket, second: Claimant| {
        let mut pauses = 0;
        claim_with(&mut bucket, second, |_, action| pauses += u32::from(matches!(action, Action::Pause(_))))
            .unwrap();
        pauses
    };
    let opened = || {
        let mut bucket = Bucket::default();
        let sealed = claim(&mut bucket, claimant(1)).unwrap();
        let opened = open(&mut bucket, &sealed, owner(1, "pod-1")).unwrap();
        (bucket, opened)
    };
    assert!(waits(opened().0, claimant(2)) >= 10);
    let (mut bucket, opened_head) = opened();
    bucket.head = Some(opened_head.head.close());
    assert_eq!(waits(bucket, claimant(2)), 0);
    let same_pod = Claimant { owner: owner(2, "pod-1"), ..claimant(2) };
    assert_eq!(waits(opened().0, same_pod), 0);
}

#[test]
fn a_hand_over_that_was_overtaken_or_used_before_does_not_open() {
    let mut bucket = Bucket::default();
    let sealed = claim(&mut bucket, claimant(1)).unwrap();
    open(&mut bucket, &sealed, owner(2, "pod-1")).unwrap();
    assert_eq!(
        open(&mut bucket, &sealed, owner(3, "pod-1")),
        Err(ClaimError::Lost { by: Some(Epoch::FIRST) })
    );
    bucket.put_seal(1);
    let second = claim(&mut bucket, claimant(4)).unwrap();
    claim(&mut bucket, claimant(5)).unwrap();
    assert_eq!(
        open(&mut bucket, &second, owner(6, "pod-4")),
        Err(ClaimError::Lost { by: Some(Epoch::new(3)) })
    );
}
