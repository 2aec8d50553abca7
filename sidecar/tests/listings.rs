//! The commands that list, check and explain, as somebody meets them who knows Litestream.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::Value;
use support::{Place, Ran, s3::S3Server};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn the_databases_of_a_config_are_listed_those_of_its_folders_as_they_are_now() {
    let place = Place::new();
    for name in ["a.db", "tenants/x.db", "tenants/deep/y.db"] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        place.open(name).execute_batch(TABLE).unwrap();
    }
    let config = place.text("c.yml");
    let (a, tenants) = (place.text("a.db"), place.text("tenants"));
    let text = format!(
        "dbs:\n- {{name: main, path: {a}, replica: {{url: 's3://bkt/main'}}}}\n\
         - {{dir: {tenants}, pattern: '*.db', recursive: true, replica: {{url: 's3://bkt/tenants'}}}}\n"
    );
    fs::write(&config, text).unwrap();
    let listed = place.run(&["databases", "-config", &config]);
    listed.says(0, &["NAME", "main", &a, "s3://bkt/tenants/deep/y.db", "s3://bkt/tenants/x.db"]);
    let listed = json(&place.run(&["databases", "-json=true", "-config", &config]));
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (3, &Value::from("main")));
    assert_eq!((&listed[0]["found"], &listed[1]["found"]), (&Value::from(false), &Value::from(true)));
}

#[test]
fn the_files_of_a_replica_are_listed_with_what_they_are() {
    let place = Place::new();
    let app = place.open("app.db");
    app.execute_batch(TABLE).unwrap();
    let (db, url) = (place.text("app.db"), place.url("replica"));
    for _ in 0..2 {
        let running = place.start(&["replicate", &db, &url], "following");
        app.execute("INSERT INTO t (n) SELECT max(n) + 1 FROM t", []).unwrap();
        assert_eq!(running.stop().0, Some(0));
    }
    let table = place.run(&["list", &url]);
    table.says(0, &["LEVEL", "0000000000000001", "data", "seal", "EPOCH"]);
    let files = json(&place.run(&["ltx", "--json", &url]));
    let files = files.as_array().unwrap();
    assert_eq!(files[0]["kind"], "data");
    assert_eq!(files.iter().filter(|file| file["kind"] == "seal").count(), 1, "{files:?}");
    assert_eq!(files.iter().map(|file| file["epoch"].as_u64().unwrap()).max(), Some(2), "{files:?}");
    assert!(files.iter().all(|file| file["time"].as_str().unwrap().starts_with("20")), "{files:?}");
    let names = json(&place.run(&["ltx", "--json", "--names-only", "-level", "0", &url]));
    assert!(names.as_array().unwrap().len() == files.len() && names[0]["time"].is_null(), "{names}");
    place.run(&["ltx", "--level", "9", &url]).says(0, &["holds no such files"]);
    place.run(&["ltx", "--level", "4", &url]).says(2, &["'4' is no level"]);
    place.run(&["ltx", &place.url("elsewhere")]).says(4, &["elsewhere"]);
    // A damaged file is not listed as if nothing were wrong.
    let slot = place.path("replica/ltx/0/0000000000000001-0000000000000001.ltx");
    let mut bytes = fs::read(&slot).unwrap();
    bytes[0] = b'X';
    fs::write(&slot, bytes).unwrap();
    place.run(&["ltx", &url]).says(6, &["0000000000000001-0000000000000001.ltx"]);
}

#[test]
fn the_files_of_a_database_of_the_config_are_listed_from_its_bucket() {
    let (place, s3) = (Place::new(), S3Server::start());
    place.open("app.db").execute_batch(TABLE).unwrap();
    let (db, config) = (place.text("app.db"), place.text("c.yml"));
    let replica = format!("{{url: 's3://lifeboat/app', endpoint: '{}'}}", s3.endpoint());
    fs::write(&config, format!("dbs: [{{path: {db}, replica: {replica}}}]")).unwrap();
    let running = place.start_with(&["replicate", &db, "s3://lifeboat/app"], "stored txid", Some(&s3));
    assert_eq!(running.stop().0, Some(0));
    let credentials = s3.credentials();
    let run = |args: &[&str]| Ran::new(&support::lifeboat(args).envs(credentials).output().unwrap());
    run(&["ltx", "-config", &config, &db]).says(0, &["0000000000000001", "data"]);
    run(&["config", "check", "--connect", "--config", &config]).says(0, &["s3://lifeboat/app", "answers"]);
    let wrong = fs::read_to_string(&config).unwrap().replace("s3://lifeboat/app", "s3://no-such-bucket/app");
    fs::write(&config, wrong).unwrap();
    let refused = run(&["config", "check", "--connect", "--config", &config]);
    refused.says(4, &["no bucket", "no-such-bucket", "1 replica"]);
}

#[test]
fn everything_wrong_with_a_config_is_said_at_once_with_its_line() {
    let place = Place::new();
    let config = place.text("c.yml");
    fs::write(&config, "dbs:\n- path: /a\n  replcia: {url: 's3://b/p'}\nflush-timeout: soon\n").unwrap();
    let wrong = place.run(&["config", "check", "--config", &config]);
    wrong.says(
        2,
        &["line 3: dbs[0].replcia", "did you mean 'replica'?", "line 4: flush-timeout: 'soon'", "3 problems"],
    );
    place.run(&["replicate", "--config", &config]).says(2, &[&config, "line 2: dbs[0]", "2 more"]);
    let wrong = place.run(&["config", "check", "--json", "--config", &config]);
    let value: Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((wrong.code, &value["problems"][1]["line"]), (Some(2), &Value::from(3)), "{value}");
    fs::write(&config, "dbs: [{path: /a, monitor-interval: 1s, replica: {url: 'file:///b'}}]").unwrap();
    place
        .run(&["config", "check", "--config", &config])
        .says(0, &["can be used: 1 database", "monitor-interval"]);
    place.run(&["config", "check", "--config", "/nowhere.yml"]).says(2, &["/nowhere.yml", "--config"]);
}

#[test]
fn the_program_explains_itself() {
    let place = Place::new();
    for args in [&["version"][..], &["--version"], &["-version"]] {
        place.run(args).says(0, &["lifeboat 0."]);
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        place.run(&["completions", shell]).says(0, &["if-replica-exists"]);
    }
    place.run(&["man", &place.text("man")]).says(0, &["lifeboat.1"]);
    let page = fs::read_to_string(place.path("man/lifeboat-replicate.1")).unwrap();
    assert!(page.contains("sync\\-interval") && page.starts_with(".ie"), "{page}");
    fs::write(place.path("file"), "").unwrap();
    place.run(&["man", &place.text("file")]).says(2, &["manual pages in"]);
}
