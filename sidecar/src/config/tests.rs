use lifeboat_store::Keys;

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
        "snapshot: {interval: 1h}\nvalidation-interval: 1h\ndbs:\n- path: /foo.db\n  monitor-interval: 1s\n  replica:\n    type: s3\n    bucket: b\n    path: /p/\n    \
         region: eu\n    endpoint: http://127.0.0.1:9000\n    sync-interval: 250ms\n",
    );
    let Location::S3(s3) = &config.databases[0].location else { panic!("not s3") };
    assert_eq!((s3.path.as_str(), s3.region.as_deref()), ("p", Some("eu")));
    assert_eq!(config.databases[0].sync_interval, Duration::from_millis(250));
    assert_eq!(config.remarks.len(), 2);
}

#[test]
fn a_replica_may_say_how_it_is_kept_and_whom_to_believe() {
    let config = parse(
        "dbs: [{path: /a.db, replica: {url: 's3://b/p?sse=AES256', ca-file: /ca.pem, sse: 'aws:kms', sse-kms-key-id: k, \
         storage-class: STANDARD_IA, part-size: 5MB}}]",
    );
    let Location::S3(s3) = &config.databases[0].location else { panic!("not s3") };
    assert_eq!((s3.sse.as_deref(), s3.sse_kms_key_id.as_deref()), (Some("aws:kms"), Some("k")));
    assert_eq!(s3.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(s3.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(config.remarks.len(), 1, "{:?}", config.remarks);
    let wrong = "dbs: [{path: /a, replica: {url: 's3://b/p', storage-class: DEEP_ARCHIVE}}]";
    assert!(refusal(wrong).contains("DEEP_ARCHIVE"));
    // What would leave the data less protected than their owner thinks is not passed over.
    assert!(
        refusal("dbs: [{path: /a, replica: {url: 's3://b/p', sse-customer-key: x}}]")
            .contains("sse-customer-key")
    );
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
fn that_something_is_stored_already_is_said_of_single_databases() {
    let one = "dbs: [{path: /a.db, expect-data: true, replica: {url: 'file:///x'}}, {path: /b.db, replica: {url: 'file:///y'}}]";
    let expects: Vec<_> = parse(one).databases.iter().map(|database| database.expects_data).collect();
    assert_eq!(expects, [true, false]);
    let pod =
        r#"{"dbs":[{"name":"main","path":"/data/app.db","expect-data":true,"replica":{"url":"s3://b/p"}}]}"#;
    assert!(parse(pod).databases[0].expects_data);
    let many = "dbs: [{dir: /data, pattern: '*.db', expect-data: true, replica: {url: 'file:///x'}}]";
    assert!(refusal(many).contains("'expect-data'"));
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

/// What a broken file is told, problem by problem.
fn problems(text: &str) -> Vec<String> {
    Config::check(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_kind_of_mistake_is_told_with_its_line_its_key_and_what_to_do() {
    let entry = |keys: &str| format!("dbs:\n  - path: /a\n    replica:\n      url: file:///x\n{keys}");
    let mistakes = [
        ("adress: x\n".to_owned(), "line 1: adress: the key 'adress' is unknown here; did you mean 'addr'?"),
        (
            "endpoint: x\n".to_owned(),
            "line 1: endpoint: the key 'endpoint' is unknown here; it belongs below 'replica'",
        ),
        (
            entry("    synk-interval: 1s\n"),
            "line 5: dbs[0].synk-interval: the key 'synk-interval' is unknown here; did you mean 'sync-interval'?",
        ),
        (
            entry("      regoin: eu\n"),
            "line 5: dbs[0].replica.regoin: the key 'regoin' is unknown here; did you mean 'region'?",
        ),
        (
            entry("      color: red\n"),
            "line 5: dbs[0].replica.color: the key 'color' is unknown here; remove it, or see docs/config.md for the keys there are",
        ),
        (
            entry("    sync-interval: fast\n"),
            "line 5: dbs[0].sync-interval: 'fast' is not a duration; write it like 250ms, 1s or 1h30m",
        ),
        (
            entry("    sync-interval: 1ms\n"),
            "line 5: dbs[0].sync-interval: /a: sync-interval is from 10ms to 1h",
        ),
        (
            format!("sync-interval: 2h\n{}", entry("")),
            "line 1: sync-interval: /a: sync-interval is from 10ms to 1h",
        ),
        (
            entry("    max-requests-per-day: many\n"),
            "line 5: dbs[0].max-requests-per-day: 'many' is no whole number from 0 to 4294967295",
        ),
        (entry("    enforce-wal: maybe\n"), "line 5: dbs[0].enforce-wal: 'maybe' is neither true nor false"),
        (
            entry("      force-path-style: 2\n"),
            "line 5: dbs[0].replica.force-path-style: '2' is neither true nor false",
        ),
        (
            "disk-reserve: much\n".to_owned(),
            "line 1: disk-reserve: 'much' is no size; write it like 512MiB or 2GB",
        ),
        ("max-open-databases: 0\n".to_owned(), "line 1: max-open-databases: this is at least 1"),
        ("\ndbs:\n- path: /a\n".to_owned(), "line 3: dbs[0]: /a: the key 'replica' is missing"),
        ("dbs:\n- replica: {url: 'file:///x'}\n".to_owned(), "line 2: dbs[0]: the key 'path' is missing"),
        (
            "dbs:\n- path: /a\n  replica: {type: gs, bucket: b}\n".to_owned(),
            "line 3: dbs[0].replica: /a: the replica type 'gs' is unknown; known are s3 and file",
        ),
        ("dbs: 7\n".to_owned(), "line 1: dbs: "),
        ("dbs:\n- path: [a]\n".to_owned(), "line 2: dbs[0].path: "),
        ("socket: {enabled: true, colour: red}\n".to_owned(), "line 1: socket: "),
        ("dbs: [\n".to_owned(), "line "),
        ("addr: a\naddr: b\n".to_owned(), "line 2: "),
        ("dbs: {}\n".to_owned(), "line 1: dbs: "),
    ];
    for (text, told) in mistakes {
        let problems = problems(&text);
        assert!(problems.len() == 1 && problems[0].starts_with(told), "{text}{problems:#?}\n{told}");
        println!("{}", problems[0]);
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_and_the_first_says_how_many_there_are() {
    let text = "addr: x\nflush-timeout: soon\ndbs:\n- path: /a\n- path: /b\n  replcia: {url: 'file:///b'}\n";
    let told = problems(text);
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(refusal(text).starts_with("line 2: flush-timeout: 'soon'"), "{}", refusal(text));
    assert!(refusal(text).ends_with("3 more: see `lifeboat config check`"), "{}", refusal(text));
}

#[test]
fn a_reserve_is_a_size_with_or_without_a_unit() {
    let reserve = |text: &str| parse(&format!("disk-reserve: {text}")).disk_reserve;
    assert_eq!(parse("# nothing").disk_reserve, Reserve::default());
    for (text, bytes) in [("0", 0), ("4096", 4096), ("2GB", 2_000_000_000), ("512MiB", 512 << 20)] {
        assert_eq!(reserve(text), Reserve::of(bytes), "{text}");
    }
}

#[test]
fn the_socket_of_litestream_and_ours_are_understood() {
    let socket = |text: &str| parse(text).socket;
    assert_eq!(socket("socket: /run/a.sock"), Socket::At("/run/a.sock".into()));
    assert_eq!(
        socket("socket: {enabled: true, path: /run/b.sock, permissions: 0600}"),
        Socket::At("/run/b.sock".into())
    );
    assert_eq!(socket("socket: {enabled: false, path: /run/b.sock}"), Socket::Usual);
}

#[test]
fn a_text_of_comments_is_an_empty_config_and_numbers_may_be_names() {
    assert!(parse("# nothing yet\n").databases.is_empty());
    let config = parse(
        "access-key-id: 0123\nsecret-access-key: 4567\ndbs: [{path: /a, name: 7, replica: {url: 's3://b/p'}}]",
    );
    assert_eq!(config.databases[0].name, "7");
    let Location::S3(s3) = &config.databases[0].location else { panic!("not s3") };
    assert_eq!(s3.keys, Some(Keys { id: "0123".to_owned(), secret: "4567".to_owned() }));
}

#[test]
fn what_an_application_syncs_is_said_as_sqlite_says_it() {
    let said = |text: &str| {
        let text = format!("synchronous: {text}\ndbs: [{{path: /a.db, replica: {{url: 'file:///x'}}}}]");
        Config::parse(&text).map(|config| config.databases[0].synchronous).map_err(|failure| failure.message)
    };
    assert_eq!(said("off"), Ok(Synchronous::Off));
    assert_eq!(said("OFF"), Ok(Synchronous::Off));
    assert_eq!(said("normal"), Ok(Synchronous::Normal));
    assert!(said("sometimes").unwrap_err().contains("'sometimes' is neither normal nor off"));
    let own =
        parse("synchronous: off\ndbs: [{path: /a.db, replica: {url: 'file:///x'}, synchronous: normal}]");
    assert_eq!(own.databases[0].synchronous, Synchronous::Normal);
}

/// As `lifeboat-inject` writes them, see its `golden_pods`.
#[test]
fn how_a_sqlite_replica_says_that_commits_are_stored_is_understood() {
    let text = r#"{
        "sync-interval": "2s", "max-requests-per-day": 1000, "max-lag": "15m",
        "levels": [{"interval": "1m"}, {"interval": "10m"}],
        "snapshot": {"interval": "12h", "max-log-ratio": 0.5}, "retention": {"window": "48h"},
        "dbs": [{"path": "/a.db", "replica": {"url": "file:///x"}}]
    }"#;
    let database = &Config::parse(text).unwrap().databases[0];
    let rhythm = database.rhythm();
    assert_eq!((rhythm.interval, rhythm.max_lag), (2_000, 900_000));
    assert_eq!(rhythm.max_requests_per_day, Some(1_000));
    let rules = database.history.rules;
    assert_eq!(rules.intervals, [60_000, 600_000, 3_600_000]);
    assert_eq!((rules.snapshot_interval, rules.max_log_ratio), (43_200_000, 500));
    assert_eq!(database.history.window, Duration::from_secs(48 * 3_600));
}
