use super::*;

fn parse(text: &str) -> Config {
    Config::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    Config::parse(text).unwrap_err().message
}

#[test]
fn a_config_of_litestream_0_3_works_unchanged() {
    let config = parse(
        "access-key-id: AKID\nsecret-access-key: hush\ndbs:\n  - path: /var/lib/foo.db\n    replicas:\n      - url: s3://mybkt/foo.db\n",
    );
    let Location::S3(s3) = &config.databases[0].location else { panic!("not s3") };
    assert_eq!((s3.bucket.as_str(), s3.path.as_str()), ("mybkt", "foo.db"));
    assert_eq!(s3.keys, Some(Keys { id: "AKID".to_owned(), secret: "hush".to_owned() }));
    assert_eq!(config.databases[0].name, "/var/lib/foo.db");
}

#[test]
fn a_config_of_litestream_0_5_works_unchanged_and_its_other_keys_are_mentioned() {
    let config = parse(
        "snapshot: {interval: 1h}\ndbs:\n- path: /foo.db\n  monitor-interval: 1s\n  replica:\n    type: s3\n    bucket: b\n    path: /p/\n    \
         region: eu\n    endpoint: http://127.0.0.1:9000\n    sync-interval: 250ms\n",
    );
    let Location::S3(s3) = &config.databases[0].location else { panic!("not s3") };
    assert_eq!((s3.path.as_str(), s3.region.as_deref()), ("p", Some("eu")));
    assert_eq!(config.databases[0].sync_interval, Duration::from_millis(250));
    assert_eq!(config.remarks.len(), 2);
}

#[test]
fn the_json_of_a_pod_is_a_config() {
    let config = parse(
        r#"{"addr":":9898","socket":"/run/lifeboat/lifeboat.sock","handover-dir":"/run/lifeboat","handover-timeout":"40s",
            "flush-timeout":"25s","sync-interval":"1s","dbs":[{"name":"main","path":"/data/app.db","replica":{"type":"s3",
            "bucket":"b","path":"ns/shop/main","endpoint":"http://s3.lab.local:7070","force-path-style":true}}]}"#,
    );
    assert_eq!(config.databases[0].name, "main");
    assert_eq!(config.handover_dir.as_deref(), Some(Path::new("/run/lifeboat")));
}

#[test]
fn typing_errors_are_named() {
    assert!(refusal("dbss: []").contains("'dbss'"));
    assert!(refusal("dbs: [{path: /a, replica: {url: 's3://b/p', regoin: eu}}]").contains("'regoin'"));
    assert!(refusal("dbs: [{path: /a}]").contains("'replica' is missing"));
    assert!(refusal("dbs: [{replica: {url: 'file:///x'}}]").contains("'path' is missing"));
    assert!(
        refusal("dbs: [{path: /a, replicas: [{url: 'file:///x'}, {url: 'file:///y'}]}]")
            .contains("one replica")
    );
    assert!(
        refusal("dbs: [{path: /a, replica: {url: 'file:///x', sync-interval: fast}}]").contains("'fast'")
    );
    assert!(refusal("dbs: [{path: /a, replica: {url: 'file:///x', sync-interval: 1ms}}]").contains("10ms"));
    assert!(
        refusal("dbs: [{path: /a, replica: {url: 'file:///x'}}, {path: /a, replica: {url: 'file:///y'}}]")
            .contains("twice")
    );
    assert!(
        refusal("access-key-id: A\ndbs: [{path: /a, replica: {url: 's3://b/p'}}]").contains("go together")
    );
}

#[test]
fn an_environment_variable_that_is_not_set_is_an_error_and_not_an_empty_bucket() {
    assert!(
        expand("dbs: ${LIFEBOAT_TEST_SURELY_UNSET}")
            .unwrap_err()
            .message
            .contains("LIFEBOAT_TEST_SURELY_UNSET")
    );
    assert_eq!(expand("home: $HOME").unwrap(), format!("home: {}", std::env::var("HOME").unwrap()));
}

#[test]
fn a_database_that_is_not_in_the_config_is_refused_with_the_ones_that_are() {
    let config = parse("dbs: [{path: /foo.db, replica: {url: 'file:///x'}}]");
    let failure = config.find(Path::new("/bar.db")).unwrap_err();
    assert_eq!(failure.exit, crate::exit::Exit::Refused);
    assert!(failure.message.contains("/bar.db") && failure.message.contains("/foo.db"), "{failure}");
}

#[test]
fn a_broken_config_is_refused_without_showing_its_secrets() {
    for text in
        ["secret-access-key: hush\ndbs: 7", "secret-access-key: [hush", "secret-access-key: {hush: hush}"]
    {
        let message = refusal(text);
        assert!(!message.contains("hush"), "{message}");
    }
}
