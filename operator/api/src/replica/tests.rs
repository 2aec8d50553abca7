use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn replica(spec: &Value) -> SqliteReplica {
    let replica = json!({
        "apiVersion": "lifeboat.dev/v1alpha1",
        "kind": "SqliteReplica",
        "metadata": { "name": "shop", "namespace": "prod" },
        "spec": spec,
    });
    serde_json::from_value(replica).unwrap()
}

fn least() -> Value {
    json!({
        "workloadRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop" },
        "databases": [{ "name": "main", "path": "/data/app.db" }],
        "store": { "s3": { "bucket": "acme", "auth": { "secretRef": { "name": "s3" } } } },
    })
}

fn hash(change: impl FnOnce(&mut Value)) -> String {
    let mut spec = least();
    change(&mut spec);
    replica(&spec).config_hash()
}

/// Whoever has to change these literals restarts every protected application of every user at the next upgrade.
#[test]
fn the_fingerprint_is_the_same_in_every_release() {
    assert_eq!(hash(|_| {}), "bc52f537d1b6ef8a");
    let full = hash(|spec| {
        spec["databases"][0]["container"] = json!("app");
        let jobs = json!({ "name": "jobs", "path": "/data/jobs.db" });
        spec["databases"].as_array_mut().unwrap().push(jobs);
        spec["store"]["s3"] = json!({
            "bucket": "acme", "prefix": "prod/shop", "region": "eu-central-1", "endpoint": "http://minio:9000",
            "allowInsecureEndpoint": true, "forcePathStyle": false,
            "auth": { "secretRef": {
                "name": "s3", "accessKeyIdKey": "id", "secretAccessKeyKey": "key", "sessionTokenKey": "token",
            } },
        });
        spec["replication"]["syncInterval"] = json!("10s");
    });
    assert_eq!(full, "39fb6ed48913c500");
}

#[test]
fn a_default_that_is_written_out_changes_no_fingerprint() {
    let written = hash(|spec| {
        let s3 = &mut spec["store"]["s3"];
        s3["region"] = json!("us-east-1");
        s3["allowInsecureEndpoint"] = json!(false);
        s3["forcePathStyle"] = json!(false);
        s3["auth"]["secretRef"]["accessKeyIdKey"] = json!("AWS_ACCESS_KEY_ID");
        s3["auth"]["secretRef"]["secretAccessKeyKey"] = json!("AWS_SECRET_ACCESS_KEY");
        spec["replication"] = json!({
            "syncInterval": "1s", "maxLag": "5m", "levels": ["30s", "5m"],
            "snapshot": {"interval": "24h", "maxLogRatio": 1.0},
        });
        spec["retention"] = json!({ "window": "168h" });
    });
    assert_eq!(written, hash(|_| {}));
    assert_eq!(written, hash(|spec| spec["replication"] = json!({ "snapshot": {"maxLogRatio": 1} })));
}

#[test]
fn every_setting_that_is_injected_changes_the_fingerprint() {
    let changes = [
        ("/databases/0/name", json!("other")),
        ("/databases/0/path", json!("/data/other.db")),
        ("/databases/0/container", json!("app")),
        ("/store/s3/bucket", json!("other")),
        ("/store/s3/prefix", json!("other")),
        ("/store/s3/region", json!("eu-central-1")),
        ("/store/s3/endpoint", json!("https://minio:9000")),
        ("/store/s3/allowInsecureEndpoint", json!(true)),
        ("/store/s3/forcePathStyle", json!(true)),
        ("/store/s3/auth/secretRef/name", json!("other")),
        ("/store/s3/auth/secretRef/accessKeyIdKey", json!("other")),
        ("/store/s3/auth/secretRef/secretAccessKeyKey", json!("other")),
        ("/store/s3/auth/secretRef/sessionTokenKey", json!("other")),
        ("/replication/syncInterval", json!("2s")),
        ("/replication/maxRequestsPerDay", json!(1_000)),
        ("/replication/maxLag", json!("10m")),
        ("/replication/levels", json!(["1m"])),
        ("/replication/levels", json!(["30s", "6m"])),
        ("/replication/snapshot", json!({"interval": "12h"})),
        ("/replication/snapshot", json!({"maxLogRatio": 0.5})),
        ("/retention", json!({"window": "24h"})),
    ];
    let mut hashes = vec![hash(|_| {})];
    for (place, value) in changes {
        let (parent, key) = place.rsplit_once('/').unwrap();
        hashes.push(hash(|spec| {
            spec["replication"] = json!({ "syncInterval": "1s" });
            spec.pointer_mut(parent).unwrap()[key] = value;
        }));
    }
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}

#[test]
fn what_pods_do_not_see_changes_no_fingerprint() {
    assert_eq!(hash(|spec| spec["workloadRef"]["name"] = json!("other")), hash(|_| {}));
}

#[test]
fn an_interval_is_read_in_every_unit() {
    let interval =
        |text: &str| Replication { sync_interval: text.to_owned(), ..Replication::default() }.interval();
    assert_eq!(interval("100ms"), Some(Duration::from_millis(100)));
    assert_eq!(interval("10s"), Some(Duration::from_secs(10)));
    assert_eq!(interval("2m"), Some(Duration::from_secs(120)));
    assert_eq!(interval("1h"), Some(Duration::from_secs(3600)));
    for text in ["", "s", "10", "10d", "1.5s", "99999999999999999999s"] {
        assert_eq!(interval(text), None, "{text}");
    }
}

#[test]
fn with_a_budget_a_commit_may_wait_for_the_longest_lag_and_never_for_less_than_the_interval() {
    let wait = |sync_interval: &str, max_requests_per_day, max_lag: Option<&str>| {
        let (sync_interval, max_lag) = (sync_interval.to_owned(), max_lag.map(str::to_owned));
        Replication { sync_interval, max_requests_per_day, max_lag, ..Replication::default() }.longest_wait()
    };
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    assert_eq!(wait("1m", None, Some("1h")), minutes(1));
    assert_eq!(wait("1m", Some(100), None), minutes(5));
    assert_eq!(wait("1m", Some(100), Some("1h")), minutes(60));
    assert_eq!(wait("10m", Some(100), None), minutes(10));
}
