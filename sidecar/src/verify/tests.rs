//! Lists that are older than the head.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use clap::Parser;
use lifeboat_ltx::SEAL_SIZE;
use lifeboat_replica::layout::Layout;
use lifeboat_store::{Directory, StoreError};

use super::*;
use crate::faulty::{Faults, Faulty, Request};
use crate::made_up::MadeUp;
use crate::pod;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: VerifyArgs,
}

type Event = Box<dyn FnOnce() + Send>;

/// What happens between the lists and the head, look by look.
struct BeforeTheHead(Mutex<VecDeque<Event>>);

impl std::fmt::Debug for BeforeTheHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforeTheHead")
    }
}

#[async_trait]
impl Faults for BeforeTheHead {
    async fn before(&self, _store: &Directory, request: Request<'_>) -> Result<(), StoreError> {
        if matches!(request, Request::Get(key) if key == Layout::Directory.head_key()) {
            let event = self.0.lock().unwrap().pop_front();
            event.into_iter().for_each(|happens| happens());
        }
        Ok(())
    }
}

fn put(folder: &Path, level: u8, min: u64, max: u64) {
    MadeUp { level, min, max, timestamp_ms: 1000, is_marked: true }.put(folder);
}

fn put_seal(folder: &Path, txid: u64) {
    let path = folder.join(format!("ltx/0/{txid:016x}-{txid:016x}.ltx"));
    std::fs::write(path, vec![0; usize::try_from(SEAL_SIZE).unwrap()]).unwrap();
}

fn put_head(folder: &Path, floors: &[(u8, u64)]) {
    let mut head = Head::create("l".to_owned(), pod::new_owner().unwrap());
    head.floors = floors.iter().copied().collect();
    head.revision += floors.len() as u64;
    let path = folder.join(Layout::Directory.head_key());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, head.encode()).unwrap();
}

async fn listed(folder: &Path, events: Vec<Event>) -> Result<(Inventory, Vec<Finding>), Failure> {
    let store = Faulty::new(folder, BeforeTheHead(Mutex::new(events.into()))).await;
    let Line { args } = Line::parse_from(["verify", "--wait", "0s", "file:///x"]);
    let bucket = Bucket::new(store, Layout::Directory);
    Verifying { bucket: &bucket, args: &args, level: VerifyLevel::Deep, record: None }.list().await
}

#[tokio::test]
async fn a_replica_that_is_merged_and_pruned_while_it_is_listed_is_neither_empty_nor_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().to_owned();
    put(&replica, 0, 1, 1);
    put(&replica, 0, 2, 2);
    put_seal(&replica, 3);
    put_head(&replica, &[]);
    // Twice what was listed is merged further before the head is read.
    let [one, two] = [replica.clone(), replica.clone()];
    let first: Event = Box::new(move || {
        put(&one, 1, 1, 2);
        put_head(&one, &[(0, 2)]);
    });
    let second: Event = Box::new(move || {
        put(&two, 2, 1, 2);
        put_head(&two, &[(0, 2), (1, 2)]);
    });
    let (inventory, findings) = listed(&replica, vec![first, second]).await.unwrap();
    assert_eq!(findings, []);
    let keys: Vec<_> = inventory.files().iter().map(|file| (file.level.get(), file.min.get())).collect();
    assert_eq!(keys, [(0, 3), (2, 1)]);
}

#[tokio::test]
async fn a_replica_whose_merged_files_are_gone_for_good_is_said_to_be_damaged_and_not_empty() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 0, 2, 2);
    put_seal(folder.path(), 3);
    put_head(folder.path(), &[(0, 2)]);
    let (_, findings) = listed(folder.path(), Vec::new()).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("was given up meanwhile, or somebody deleted"), "{findings:?}");
}
