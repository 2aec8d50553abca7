use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

async fn directory() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::create(folder.path().join("a/b")).await.unwrap();
    (folder, directory)
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_store() {
    let (_folder, directory) = directory().await;
    crate::conformance::run(&directory).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(Directory::open(missing.clone()).await, Err(StoreError::BucketAbsent { .. })));
    let directory = Directory::create(missing.clone()).await.unwrap();
    fs::remove_dir(&missing).unwrap();
    assert!(matches!(directory.list("").await, Err(StoreError::BucketAbsent { .. })));
    assert!(matches!(directory.get("x", 1).await, Err(StoreError::BucketAbsent { .. })));
    let put = directory.put_new("x", Bytes::new().into(), None).await;
    assert!(matches!(put, Err(StoreError::BucketAbsent { .. })), "an unmounted volume is not created anew");
}

#[tokio::test]
async fn a_file_where_the_directory_should_be_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    fs::write(&file, "x").unwrap();
    for place in [file.clone(), file.join("below")] {
        for opened in [Directory::create(place.clone()).await, Directory::open(place).await] {
            assert!(opened.is_err_and(|error| error.is_refusal()));
        }
    }
    assert_eq!(fs::read(file).unwrap(), b"x");
}

#[tokio::test]
async fn files_and_folders_are_closed_to_others_and_keep_their_time() {
    let (folder, directory) = directory().await;
    let body = Body::from(b"x".to_vec());
    directory.put_new("ltx/0/name", body, Some(1_700_000_000_123)).await.unwrap();
    let file = fs::metadata(folder.path().join("a/b/ltx/0/name")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_700_000_000, 123_000_000));
    let made = fs::metadata(folder.path().join("a/b/ltx")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o750);
}

#[tokio::test]
async fn nothing_is_left_behind_and_nothing_hidden_is_listed() {
    let (folder, directory) = directory().await;
    let root = folder.path().join("a/b");
    directory.put_new("name", b"1".to_vec().into(), None).await.unwrap();
    assert!(directory.put_new("name", b"2".to_vec().into(), None).await.is_err());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    fs::write(root.join(".new-left-by-a-crash"), "x").unwrap();
    let keys: Vec<_> = directory.list("").await.unwrap().into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, ["name"]);
}

#[tokio::test]
async fn keys_cannot_leave_the_directory() {
    let (_folder, directory) = directory().await;
    for key in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "./x"] {
        let error = directory.get(key, 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Misconfigured { .. }), "{key:?}: {error}");
    }
}

#[tokio::test]
async fn a_link_is_not_followed_out_of_the_directory() {
    let (folder, directory) = directory().await;
    fs::write(folder.path().join("outside"), "secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), folder.path().join("a/b/link")).unwrap();
    assert!(directory.get("link", 100).await.is_err());
}

#[tokio::test]
async fn content_that_returns_to_the_same_length_and_time_is_still_told_apart() {
    let (folder, directory) = directory().await;
    let path = folder.path().join("a/b/head");
    let before = directory.put_new("head", b"one".to_vec().into(), None).await.unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    // The worst case: the same inode, size and time.
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let replaced = directory.put_if_match("head", Bytes::from_static(b"three"), &before).await;
    assert!(matches!(replaced, Err(StoreError::LostRace { .. })));
}

#[tokio::test]
async fn a_lock_that_somebody_keeps_is_reported_and_not_waited_for() {
    let (folder, directory) = directory().await;
    let etag = directory.put_new("head", b"one".to_vec().into(), None).await.unwrap();
    let root = fs::File::open(folder.path().join("a/b")).unwrap();
    rustix::fs::flock(&root, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let replaced = directory.put_if_match("head", Bytes::from_static(b"two"), &etag).await;
    assert!(matches!(replaced, Err(StoreError::Busy { .. })));
}
