//! Retention among snapshots that are damaged, or dated by a clock that is wrong.

use std::path::PathBuf;
use std::sync::Arc;

use lifeboat_replica::head::{Head, HeadState};
use lifeboat_replica::layout::Layout;
use lifeboat_store::Directory;

use super::*;
use crate::made_up::MadeUp;
use crate::pod;

const OLD: i64 = 1_000;
/// Some time in the year 5138.
const FAR_AHEAD: i64 = 100_000_000_000_000;

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// Ten slots, all of them merged, and a snapshot of the first.
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        (1..=10).for_each(|txid| drop(scene.put(0, txid, txid, OLD)));
        for (level, min, max) in [(9, 1, 1), (1, 2, 4), (1, 5, 10)] {
            scene.put(level, min, max, OLD);
        }
        scene
    }

    fn put(&self, level: u8, min: u64, max: u64, timestamp_ms: i64) -> PathBuf {
        MadeUp { level, min, max, timestamp_ms, is_marked: true }.put(self.folder.path())
    }

    /// A round of a process that finds slots given up up to `floor`.
    async fn prune(&self, floor: u64) -> Pruned {
        let bucket = Bucket::new(
            Arc::new(Directory::open(self.folder.path().to_owned()).await.unwrap()),
            Layout::Directory,
        );
        let floors = [(0, floor)].into_iter().filter(|(_, floor)| *floor > 0).collect();
        let head = Head {
            state: HeadState::Open,
            floors,
            ..Head::create("l".to_owned(), pod::new_owner().unwrap())
        };
        let etag = match bucket.head().await.unwrap() {
            Some((_, etag)) => bucket.replace_head(&head, &etag).await.unwrap().1,
            None => bucket.create_head(&head).await.unwrap().1,
        };
        let prune = Prune {
            bucket,
            opened: Opened { head, etag: etag.unwrap() },
            newest: Txid::try_new(10).unwrap(),
            settled: 10,
            window: Duration::from_secs(3600),
            proved: BTreeSet::new(),
            is_first: true,
            stop: CancellationToken::new(),
        };
        prune.run().await
    }
}

fn cut(path: &PathBuf) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..50]).unwrap();
}

#[tokio::test]
async fn a_snapshot_whose_header_cannot_be_decoded_begins_nothing_and_stops_nothing() {
    let scene = Scene::new();
    let (kept, torn) = (scene.put(9, 1, 4, OLD), scene.put(9, 1, 8, OLD));
    cut(&torn);
    let pruned = scene.prune(9).await;
    assert_eq!(pruned.failure, None);
    assert!(pruned.deleted > 0 && kept.exists(), "{pruned:?}");
    assert_eq!(pruned.opened.head.floor(Level::SNAPSHOT), 3, "the newest that can be read begins the window");
}

#[tokio::test]
async fn a_snapshot_that_a_clock_far_ahead_has_dated_does_not_stop_retention() {
    let scene = Scene::new();
    let (dated, kept) = (scene.put(9, 1, 4, FAR_AHEAD), scene.put(9, 1, 10, OLD));
    let pruned = scene.prune(0).await;
    assert_eq!(pruned.failure, None);
    assert!(kept.exists() && !dated.exists(), "{pruned:?}");
    assert_eq!(pruned.oldest_ms, Some(OLD));
}

#[tokio::test]
async fn while_the_only_beginning_is_damaged_nothing_is_deleted_and_it_is_said_why() {
    let scene = Scene::new();
    cut(&scene.folder.path().join("ltx/9/0000000000000001-0000000000000001.ltx"));
    let pruned = scene.prune(0).await;
    let failure = pruned.failure.unwrap();
    assert!(failure.message.contains("ltx/9/0000000000000001-0000000000000001.ltx"), "{failure}");
    std::fs::remove_file(scene.folder.path().join("ltx/0/0000000000000001-0000000000000001.ltx")).unwrap();
    let pruned = scene.prune(0).await;
    let failure = pruned.failure.unwrap();
    assert!(failure.message.contains("nothing is deleted"), "{failure}");
    assert_eq!(pruned.deleted, 0);
}
