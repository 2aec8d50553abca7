//! The S3 store against a real server, and against servers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_store::check::{self, Ability, RACERS, can_fence};
use lifeboat_store::{
    Body, ETag, Listed, S3, S3Config, Store, StoreError, completes_exclusively, conformance,
};
use server::{BUCKET, SECRET, Server, slow_road, store_that_hears, write_credentials};
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_keeps_the_promises_of_a_store() {
    let server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap();
    conformance::run(&store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_every_promise_of_a_store_but_that_about_stale_copies() {
    let server = Server::start_moto().await;
    let store = S3::open(server.config()).await.unwrap();
    // It copies without a look at `x-amz-copy-source-if-match`. What we copy is never replaced.
    let broken = conformance::run(&store).await.unwrap_err();
    assert_eq!(broken.promise, conformance::STALE_COPY, "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_pass_the_check_of_users_and_nothing_is_left_of_it() {
    for server in [Server::start().await, Server::start_moto().await] {
        let store = S3::open(server.config()).await.unwrap();
        let mut racers: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..RACERS {
            racers.push(Arc::new(S3::open(server.config()).await.unwrap()));
        }
        let findings = check::run(&store, &racers, "lifeboat/scratch-").await.unwrap();
        assert!(can_fence(&findings) && findings.len() == Ability::ALL.len(), "{findings:?}");
        assert!(findings.iter().all(|one| one.instead.is_none()), "{findings:?}");
        assert_eq!(store.list("").await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_store_that_lets_nobody_in_or_does_not_answer_is_no_finding() {
    let server = Server::start().await;
    let config = server.config();
    write_credentials(config.credentials_dir.as_ref().unwrap(), "wrong");
    let denied = S3::open(config.clone()).await.unwrap();
    assert!(matches!(check::run(&denied, &[], "s-").await, Err(StoreError::Denied { .. })));
    let missing = S3::open(S3Config { bucket: "mistyped".into(), ..server.config() }).await.unwrap();
    assert!(matches!(check::run(&missing, &[], "s-").await, Err(StoreError::BucketAbsent { .. })));
    let (_credentials, silent) = store_that_hears("").await;
    assert!(check::run(&silent, &[], "s-").await.unwrap_err().is_retry());
}

#[tokio::test]
async fn versitygw_completes_exclusively_and_nothing_is_left_of_asking() {
    let server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap();
    assert!(completes_exclusively(&store, "lifeboat/probe").await.unwrap());
    assert_eq!(store.list("").await.unwrap(), []);
    let uploads = server.client().list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert!(uploads.uploads().is_empty());
}

#[tokio::test]
async fn a_server_that_knows_no_parts_is_a_no_and_no_answer_is_none() {
    let (_credentials, store) = store_that_hears(concat!(
        "HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 63\r\n\r\n",
        "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"
    ))
    .await;
    assert!(!completes_exclusively(&store, "probe").await.unwrap());
    let (_credentials, store) = store_that_hears("").await;
    assert!(completes_exclusively(&store, "probe").await.unwrap_err().is_retry());
}

#[tokio::test]
async fn a_missing_bucket_is_never_an_empty_one() {
    let server = Server::start().await;
    let store = S3::open(S3Config { bucket: "mistyped".into(), ..server.config() }).await.unwrap();
    let errors = [
        store.list("").await.unwrap_err(),
        store.get("k", 1).await.unwrap_err(),
        store.put_new("k", Body::from(vec![1]), None).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::BucketAbsent { .. }), "{error:?}");
        assert!(error.to_string().contains("s3://mistyped/some/path at http://"), "{error}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_denied_without_naming_them() {
    let server = Server::start().await;
    let config = server.config();
    write_credentials(config.credentials_dir.as_ref().unwrap(), "wrong-but-private");
    let error = S3::open(config).await.unwrap().get("k", 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wrong-but-private"));
}

#[tokio::test]
async fn rotated_credentials_work_at_once() {
    let server = Server::start().await;
    let config = server.config();
    let folder = config.credentials_dir.clone().unwrap();
    write_credentials(&folder, "old");
    let store = S3::open(config).await.unwrap();
    assert!(matches!(store.list("").await, Err(StoreError::Denied { .. })));
    write_credentials(&folder, SECRET);
    assert_eq!(store.list("").await.unwrap(), []);
}

#[tokio::test]
async fn missing_credentials_are_said_to_be_missing() {
    let server = Server::start().await;
    let config = server.config();
    std::fs::remove_file(config.credentials_dir.as_ref().unwrap().join("access-key-id")).unwrap();
    let error = S3::open(config).await.unwrap().get("k", 1).await.unwrap_err();
    assert!(matches!(error, StoreError::NoCredentials { .. }), "{error:?}");
    assert!(error.to_string().contains("access-key-id is missing or empty"), "{error}");
}

#[tokio::test]
async fn a_wrong_region_is_named() {
    let server = Server::start().await;
    let store = S3::open(S3Config { region: Some("us-west-9".into()), ..server.config() }).await.unwrap();
    let error = store.list("").await.unwrap_err();
    assert!(matches!(error, StoreError::WrongRegion { .. }), "{error:?}");
    assert!(error.to_string().contains("set the region"), "{error}");
}

#[tokio::test]
async fn the_time_of_a_file_is_kept_where_litestream_looks_for_it() {
    let server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap();
    let etag = store.put_new("0000/x", Body::from(vec![1]), Some(1_700_000_000_123)).await.unwrap();
    let head = server.client().head_object().bucket(BUCKET).key("some/path/0000/x").send().await.unwrap();
    assert_eq!(head.metadata().unwrap()["litestream-timestamp"], "2023-11-14T22:13:20.123Z");
    assert_eq!(head.e_tag().unwrap(), etag.as_str());
}

#[tokio::test]
async fn a_copy_of_many_parts_is_whole_and_keeps_the_time_of_its_source() {
    let server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap().copying_at_most(5 << 20);
    let content: Vec<u8> = (0..12_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let etag = store.put_new("a +&ü/source", Body::from(content.clone()), Some(1_700_000_000_123)).await;
    let source = Listed {
        key: "a +&ü/source".into(),
        size: content.len() as u64,
        etag: etag.unwrap(),
        modified_ms: None,
    };
    for (store, name) in [(store.clone(), "in-parts"), (S3::open(server.config()).await.unwrap(), "whole")] {
        let etag = store.copy_new(&source, name).await.unwrap();
        let copied = store.get(name, u64::MAX).await.unwrap();
        assert!(copied.bytes == content && copied.etag == etag, "{name}");
        let key = format!("some/path/{name}");
        let head = server.client().head_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(head.metadata().unwrap()["litestream-timestamp"], "2023-11-14T22:13:20.123Z", "{name}");
    }
    let stale = Listed { etag: ETag::new("\"0\""), ..source };
    let error = store.copy_new(&stale, "stale").await.unwrap_err();
    assert!(matches!(error, StoreError::LostRace { .. }), "{error:?}");
    assert_eq!(store.list("stale").await.unwrap(), []);
}

#[tokio::test]
async fn a_list_does_not_show_a_neighbour_whose_path_begins_alike() {
    let server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap();
    let neighbour = S3::open(S3Config { path: "some/path2".into(), ..server.config() }).await.unwrap();
    neighbour.put_new("0000/x", Body::from(vec![1]), None).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable() {
    let mut server = Server::start().await;
    let store = S3::open(server.config()).await.unwrap();
    server.stop();
    let error = store.put_new("k", Body::from(vec![1]), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (_credentials, store) = store_that_hears("").await;
    let begin = Instant::now();
    let error = store.put_new("k", Body::from(vec![]), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(20), "one attempt of half a second");
    let error = store.get("k", 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(40), "two attempts of half a second, and a pause");
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_says_how_long() {
    let (_credentials, store) = store_that_hears(
        "HTTP/1.1 503 Slow Down\r\nretry-after: 7\r\ncontent-length: 44\r\n\r\n<Error><Code>SlowDown</Code></Error>        ",
    )
    .await;
    let etag = ETag::new("\"e\"");
    let error = store.put_if_match("k", Bytes::new(), &etag).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_not_believed() {
    let (_credentials, store) =
        store_that_hears("HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 4\r\n\r\n0123").await;
    let error = store.get_range("k", 1..3, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Mangled { .. }), "{error:?}");
    assert!(store.get_range("k", 3..3, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cut_list_without_a_continuation_is_not_a_list() {
    let (_credentials, store) = store_that_hears(concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 76\r\n\r\n",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>        "
    ))
    .await;
    let error = store.list("").await.unwrap_err();
    assert!(matches!(error, StoreError::Mangled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_list_that_goes_on_where_it_began_is_not_a_list() {
    let (_credentials, store) = store_that_hears(concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 126\r\n\r\n",
        "<ListBucketResult><IsTruncated>true</IsTruncated>",
        "<NextContinuationToken>a</NextContinuationToken></ListBucketResult>          "
    ))
    .await;
    let error = store.list("").await.unwrap_err();
    assert!(matches!(error, StoreError::Mangled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error() {
    let (_credentials, store) = store_that_hears(
        "HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 9\r\nconnection: close\r\n\r\n0123",
    )
    .await;
    let mut opened = store.open("k", None).await.unwrap();
    assert_eq!(opened.size, 9);
    let mut bytes = Vec::new();
    assert!(opened.reader.read_to_end(&mut bytes).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_takes_any_time_while_it_moves() {
    let server = Server::start().await;
    let address = slow_road(server.address, 240 << 10);
    let config = S3Config {
        attempt_timeout: Duration::from_millis(200),
        endpoint: Some(format!("http://{address}")),
        ..server.config()
    };
    let store = S3::open(config).await.unwrap();
    let body = Bytes::from(vec![7; 12 << 20]);
    let begin = Instant::now();
    // 51 seconds, longer than any silence may be; the network takes something in all but the last.
    let upload = store.begin_parts("parts", body.len() as u64, None).await.unwrap();
    let part = store.put_part(&upload, 1, body.clone()).await.unwrap();
    assert!(begin.elapsed() > Duration::from_secs(45), "{:?}: the road is not slow", begin.elapsed());
    store.complete_new(&upload, &[part]).await.unwrap();
    assert_eq!(store.get("parts", 1 << 30).await.unwrap().bytes, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_link_that_is_slower_than_was_believed_an_upload_arrives_in_the_end() {
    let server = Server::start().await;
    let address = slow_road(server.address, 100 << 10);
    let config = S3Config {
        attempt_timeout: Duration::from_millis(200),
        endpoint: Some(format!("http://{address}")),
        ..server.config()
    };
    let store = S3::open(config).await.unwrap();
    // All of it is in the kernel at once: from here it is silent all the time.
    let body = Bytes::from(vec![7; 1 << 20]);
    let upload = store.begin_parts("silent", 5 << 20, None).await.unwrap();
    let mut silences = 0;
    while let Err(error) = store.put_part(&upload, 1, body.clone()).await {
        assert!(error.to_string().contains("nothing moved for"), "{error}");
        silences += 1;
        assert!(silences < 4, "{error}");
    }
    assert!(silences > 0, "it needs more patience than the first attempt has");
}

#[tokio::test]
async fn a_large_upload_gets_more_time_than_a_small_one() {
    let slow_answer = "HTTP/1.1 200 OK\r\netag: \"e\"\r\nx-slow: 1\r\ncontent-length: 0\r\n\r\n";
    let (_credentials, store) = store_that_hears(slow_answer).await;
    let small = store.put_new("k", Body::from(vec![7; 10]), None).await;
    assert!(matches!(small, Err(StoreError::Unreachable { .. })), "half a second is all it gets");
    let large = store.put_new("k", Body::from(vec![7; 3 << 20]), None).await;
    assert_eq!(large.unwrap(), ETag::new("\"e\""));
}
