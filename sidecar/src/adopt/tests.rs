//! Adoptions whose answers get lost, one after the other: the next start always goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lifeboat_replica::adoption::{Adoption, Content, Local, decide};
use lifeboat_replica::layout::Layout;
use lifeboat_store::{Directory, StoreError};

use super::*;
use crate::faulty::{Faults, Faulty, Request, no_answer};
use crate::first_view::Expected;
use crate::made_up::MadeUp;

/// One answer gets lost.
#[derive(Debug)]
struct Forgetful {
    /// How many answers come before that.
    before: AtomicUsize,
}

impl Forgetful {
    /// Whether an answer was lost.
    fn has_forgotten(&self) -> bool {
        self.before.load(Ordering::SeqCst) > NEVER
    }
}

#[async_trait]
impl Faults for Forgetful {
    async fn after(&self, _store: &Directory, _request: Request<'_>) -> Result<(), StoreError> {
        let is_lost = self.before.fetch_sub(1, Ordering::SeqCst) == 0;
        if is_lost { Err(no_answer("")) } else { Ok(()) }
    }
}

/// What the bucket holds before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Slots of Litestream's.
    Slots,
    /// Its slots are merged, and some of them are gone.
    Merged,
    /// It has gone on behind a replica of ours that was closed, and pruned as it does.
    BehindOurs,
}

/// A replica, and a database that Litestream followed and that was written to since.
struct Scene {
    place: tempfile::TempDir,
}

impl Scene {
    fn new(before: Before) -> Self {
        let scene = Self { place: tempfile::tempdir().unwrap() };
        std::fs::write(scene.database(), b"not looked into").unwrap();
        std::fs::create_dir(scene.marks().folder()).unwrap();
        match before {
            Before::Slots => scene.store(0, &[(1, 1), (2, 2), (3, 3)], false),
            Before::Merged => {
                scene.store(9, &[(1, 2)], false);
                scene.store(1, &[(3, 5)], false);
            }
            Before::BehindOurs => {
                scene.store(0, &[(1, 1)], true);
                scene.store(9, &[(1, 4)], false);
                scene.store(0, &[(6, 6)], false);
                scene.store(1, &[(5, 6)], false);
                let head = Head::create("l".to_owned(), pod::new_owner().unwrap()).close();
                let path = scene.place.path().join("replica/lifeboat/head.json");
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, head.encode()).unwrap();
            }
        }
        scene
    }

    fn database(&self) -> std::path::PathBuf {
        self.place.path().join("app.db")
    }

    fn marks(&self) -> Marks {
        Marks::beside(&self.database())
    }

    fn store(&self, level: u8, ranges: &[(u64, u64)], is_marked: bool) {
        for &(min, max) in ranges {
            let file = MadeUp { level, min, max, timestamp_ms: 1000, is_marked };
            file.put(&self.place.path().join("replica"));
        }
    }

    async fn open(&self, before: usize) -> (Bucket, Arc<Faulty<Forgetful>>) {
        let faults = Forgetful { before: AtomicUsize::new(before) };
        let store = Faulty::new(&self.place.path().join("replica"), faults).await;
        (Bucket::new(Arc::<Faulty<_>>::clone(&store), Layout::Directory), store)
    }

    async fn adopt(&self, bucket: &Bucket, patience: Duration) -> Result<(), Failure> {
        run(bucket, &self.database(), &self.marks(), &mut Trying::lasting(patience)).await
    }

    /// A start as it comes after the adoption: it may write, and stores nothing but what differs.
    async fn goes_on(&self, bucket: &Bucket, case: &str) {
        let (marks, trying) = (self.marks(), &mut Trying::lasting(Duration::ZERO));
        let record = marks.record().unwrap();
        let chain = claim::chain(bucket, (&marks, false), trying, |_| ()).await.unwrap();
        let local = Local::Present {
            content: Content::Read("8000000000000001".parse().unwrap()),
            file_id: pod_restore::file_id(&self.database()).unwrap(),
            record,
        };
        let adoption = decide(&local, &chain, &marks::boot_id().unwrap());
        assert_eq!(adoption, Adoption::Continues, "{case}: {chain:?}");
        assert!(
            matches!(marks.expected(&chain), Expected::State(_)),
            "{case}: every page would be sent again"
        );
        let (now, promise) = (Duration::ZERO, marks.promise(bucket, false).unwrap());
        let claimant = claim::claimant(now, now, false, Some(chain.newest), promise).unwrap();
        let sealed = claim::seal(bucket, claimant, trying).await.unwrap();
        assert_eq!(sealed.base.checksum, chain.checksum, "{case}");
    }
}

/// More answers than any adoption wants.
const NEVER: usize = 1_000_000;

async fn every_answer_gets_lost(before: Before, patience: Duration) {
    let mut answers = 0;
    loop {
        let (case, scene) = (format!("{before:?}, answer {answers}"), Scene::new(before));
        let (bucket, store) = scene.open(answers).await;
        let first = scene.adopt(&bucket, patience).await;
        if !store.faults.has_forgotten() {
            first.unwrap();
            assert!(answers > 10, "{answers} requests");
            return;
        }
        let (bucket, _) = scene.open(NEVER).await;
        scene.adopt(&bucket, Duration::ZERO).await.unwrap_or_else(|failure| panic!("{case}: {failure}"));
        scene.goes_on(&bucket, &case).await;
        answers += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_after_any_request_of_an_adoption_is_followed_by_one_who_goes_on() {
    for before in [Before::Slots, Before::Merged, Before::BehindOurs] {
        every_answer_gets_lost(before, Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_hears_no_answer_looks_what_came_of_it_and_goes_on() {
    for before in [Before::Slots, Before::Merged, Before::BehindOurs] {
        every_answer_gets_lost(before, Duration::from_secs(60)).await;
    }
    // Writes whose answer got lost are asked about, not given up: what only reads is begun anew by the follower.
    let scene = Scene::new(Before::Slots);
    let (bucket, store) = scene.open(NEVER).await;
    scene.adopt(&bucket, Duration::ZERO).await.unwrap();
    let requests = NEVER - store.faults.before.load(Ordering::SeqCst);
    let scene = Scene::new(Before::Slots);
    let (bucket, store) = scene.open(requests - 1).await;
    scene.adopt(&bucket, Duration::from_secs(60)).await.unwrap();
    assert!(store.faults.has_forgotten(), "the last answer is that of the head");
    scene.goes_on(&bucket, "the head's answer").await;
}
