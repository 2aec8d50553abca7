//! An empty place where a replica was is not taken for one where a replica begins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::path::PathBuf;

use support::s3::S3Server;
use support::{Place, Ran, Running, dump, lifeboat};

/// A database whose replica is gone.
struct Scene {
    place: Place,
    s3: Option<S3Server>,
    before: Vec<String>,
}

impl Scene {
    fn new(s3: Option<S3Server>) -> Self {
        let scene = Self { place: Place::new(), s3, before: Vec::new() };
        scene
            .place
            .open("app.db")
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1);")
            .unwrap();
        assert_eq!(scene.replicate("app", "stored txid").stop().0, Some(0));
        std::fs::rename(scene.objects("app"), scene.objects("kept")).unwrap();
        Self { before: dump(&scene.place.path("app.db")), ..scene }
    }

    /// Where the objects of a prefix really lie.
    fn objects(&self, prefix: &str) -> PathBuf {
        self.s3.as_ref().map_or_else(|| self.place.path(prefix), |s3| s3.file(prefix))
    }

    fn url(&self, prefix: &str) -> String {
        if self.s3.is_some() { format!("s3://lifeboat/{prefix}") } else { self.place.url(prefix) }
    }

    fn replicate(&self, prefix: &str, word: &str) -> Running {
        let args = ["replicate", &self.place.text("app.db"), &self.url(prefix)];
        self.place.start_with(&args, word, self.s3.as_ref())
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.place.run_with(args, self.s3.as_ref())
    }

    /// A step of a pod whose application's volume is this place.
    fn in_pod(&self, step: &str) -> Ran {
        self.in_pod_that(step, false)
    }

    fn in_pod_that(&self, step: &str, expects_data: bool) -> Ran {
        self.in_pod_for_which(step, expects_data, "")
    }

    fn in_pod_for_which(&self, step: &str, expects_data: bool, choice: &str) -> Ran {
        std::fs::create_dir_all(self.place.path("run")).unwrap();
        let config = serde_json::json!({
            "handover-dir": self.place.text("run"),
            "dbs": [{
                "name": "main",
                "path": self.place.text("app.db"),
                "expect-data": expects_data,
                "replica": {"url": self.url("app"), "endpoint": self.s3.as_ref().map(S3Server::endpoint)},
            }],
        });
        let mut command = lifeboat(&[step, "--config-from-env"]);
        command.envs(self.s3.iter().flat_map(S3Server::credentials));
        command.env("LIFEBOAT_CONFIG_INLINE", config.to_string()).env("LIFEBOAT_POD_UID", "uid-1");
        command.env("LIFEBOAT_TAKE", choice);
        Ran::new(&command.output().unwrap())
    }

    #[track_caller]
    fn assert_refused(&self, refused: &Ran) {
        let words = ["app", "holds no database", "record.json", "slot 0000000000000001", "(1)", "(2)", "(3)"];
        refused.says(4, &words);
        assert!(!self.objects("app").join("lifeboat/head.json").exists(), "a replica was begun");
    }

    fn remove_database(&self) {
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            let _ = std::fs::remove_file(self.place.path(name));
        }
    }
}

#[track_caller]
fn assert_nothing_begins_anew_unasked(scene: &Scene) {
    let db = scene.place.text("app.db");
    scene.assert_refused(&scene.run(&["replicate", "--once", &db, &scene.url("app")]));
    scene.assert_refused(&scene.run(&["replicate", &db, &scene.url("app")]));
    // What came back is gone on with.
    let _ = std::fs::remove_dir_all(scene.objects("app"));
    std::fs::rename(scene.objects("kept"), scene.objects("app")).unwrap();
    scene.place.open("app.db").execute("INSERT INTO t VALUES (2)", []).unwrap();
    assert_eq!(scene.replicate("app", "following").stop().0, Some(0));
    let out = scene.place.text("out.db");
    scene.run(&["restore", "-o", &out, &scene.url("app")]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("out.db")), dump(&scene.place.path("app.db")));
}

#[test]
fn an_emptied_folder_is_refused_and_what_comes_back_is_gone_on_with() {
    assert_nothing_begins_anew_unasked(&Scene::new(None));
}

#[test]
fn an_emptied_bucket_is_refused_and_what_comes_back_is_gone_on_with() {
    assert_nothing_begins_anew_unasked(&Scene::new(Some(S3Server::start())));
}

#[test]
fn every_way_out_that_is_named_is_one() {
    let scene = Scene::new(None);
    assert_eq!(scene.replicate("elsewhere", "stored txid").stop().0, Some(0));
    let scene = Scene::new(None);
    std::fs::remove_file(scene.place.path(".app.db-lifeboat/record.json")).unwrap();
    assert_eq!(scene.replicate("app", "stored txid").stop().0, Some(0));
    let scene = Scene::new(None);
    let db = scene.place.text("app.db");
    for which in ["remote", "neither"] {
        let refused = scene.run(&["replicate", "--once", "--take", which, &db, &scene.url("app")]);
        assert_eq!(refused.code, Some(4), "{which}: {}", refused.stderr);
    }
    scene
        .run(&["replicate", "--once", "--take", "local", &db, &scene.url("app")])
        .says(0, &["a new replica"]);
    let out = scene.place.text("out.db");
    scene.run(&["restore", "-o", &out, &scene.url("app")]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("out.db")), scene.before);
}

#[track_caller]
fn assert_no_pod_begins_anew(scene: &Scene) {
    scene.assert_refused(&scene.in_pod("restore"));
    scene.assert_refused(&scene.in_pod("replicate"));
    assert_eq!(dump(&scene.place.path("app.db")), scene.before);
    // Nor does its application, where the database is gone too and the folder beside it is not.
    scene.remove_database();
    scene.assert_refused(&scene.in_pod("restore"));
    assert!(!scene.place.path("app.db").exists());
}

#[test]
fn a_pod_whose_folder_was_emptied_waits_and_creates_no_head() {
    assert_no_pod_begins_anew(&Scene::new(None));
}

#[test]
fn a_pod_whose_bucket_was_emptied_waits_and_creates_no_head() {
    assert_no_pod_begins_anew(&Scene::new(Some(S3Server::start())));
}

#[test]
fn a_pod_begins_anew_where_its_replica_is_gone_if_somebody_chose_that_and_once() {
    for s3 in [None, Some(S3Server::start())] {
        let scene = Scene::new(s3);
        let refused = scene.in_pod("restore");
        refused
            .says(4, &["record.json", "kubectl annotate pod", "--overwrite lifeboat.dev/take=main:local@"]);
        let choice = refused.stderr.split(['=', '`']).find(|word| word.starts_with("main:local@")).unwrap();
        for other in ["main:local", "main:local@00000000", &choice.replace("local", "remote")] {
            scene.assert_refused(&scene.in_pod_for_which("restore", false, other));
        }
        let told = scene.in_pod_for_which("restore", true, choice);
        told.says(4, &["--expect-data", "SqliteReplica anew and delete the pod"]);
        scene.in_pod_for_which("restore", false, choice).says(0, &["a new replica"]);
        assert_eq!(scene.replicate("app", "stored txid").stop().0, Some(0));
        let out = scene.place.text("out.db");
        scene.run(&["restore", "-o", &out, &scene.url("app")]).says(0, &[]);
        assert_eq!(dump(&scene.place.path("out.db")), scene.before);
        // It is gone once more, and the annotation is still there.
        std::fs::remove_dir_all(scene.objects("app")).unwrap();
        let again = scene.in_pod_for_which("restore", false, choice);
        again.says(4, &["holds no database", "slot 0000000000000002", "main:local@"]);
        assert!(!scene.objects("app").join("lifeboat/head.json").exists(), "a replica was begun");
    }
}

#[test]
fn a_pod_that_finds_another_replica_begun_in_the_place_of_its_own_waits() {
    let scene = Scene::new(None);
    scene.remove_database();
    let record = scene.place.path(".app.db-lifeboat/record.json");
    let (kept, away) = (std::fs::read(&record).unwrap(), scene.place.path("away"));
    std::fs::rename(scene.place.path(".app.db-lifeboat"), &away).unwrap();
    // A pod with a volume of its own began there, and its application has written nothing yet.
    scene.in_pod("restore").says(0, &["first start"]);
    std::fs::write(&record, kept).unwrap();
    scene.in_pod("restore").says(4, &["holds no database", "record.json"]);
}

#[test]
fn on_a_fresh_machine_an_empty_place_is_refused_where_data_is_expected() {
    let scene = Scene::new(None);
    std::fs::remove_dir_all(scene.place.path(".app.db-lifeboat")).unwrap();
    let (db, url) = (scene.place.text("app.db"), scene.url("app"));
    let refused = scene.run(&["replicate", "--once", "--expect-data", &db, &url]);
    refused.says(4, &["holds no database", "--expect-data", "(3)"]);
    assert!(!scene.objects("app").join("lifeboat/head.json").exists(), "a replica was begun");
    // Data that is there is expected too.
    scene.place.start(&["replicate", "--expect-data", &db, &scene.url("kept")], "following").stop();
    std::fs::remove_dir_all(scene.place.path(".app.db-lifeboat")).unwrap();
    assert_eq!(scene.replicate("app", "stored txid").stop().0, Some(0));
}

#[test]
fn a_fresh_pod_waits_where_its_data_should_be_and_its_application_never_begins_with_nothing() {
    for s3 in [None, Some(S3Server::start())] {
        let scene = Scene::new(s3);
        scene.remove_database();
        std::fs::remove_dir_all(scene.place.path(".app.db-lifeboat")).unwrap();
        for step in ["restore", "replicate"] {
            let refused = scene.in_pod_that(step, true);
            refused.says(4, &["main", "holds no database", "--expect-data", "SqliteReplica anew"]);
        }
        assert!(!scene.objects("app").join("lifeboat/head.json").exists(), "a replica was begun");
        scene.in_pod("restore").says(0, &["first start"]);
        // A head alone is no data.
        scene.in_pod_that("restore", true).says(4, &["holds no database"]);
    }
}

#[test]
fn a_restore_that_may_find_nothing_is_refused_where_something_was() {
    let scene = Scene::new(None);
    scene.remove_database();
    std::fs::create_dir(scene.objects("app")).unwrap();
    let db = scene.place.text("app.db");
    let args = ["restore", "--if-replica-exists", "-o", &db, &scene.url("app")];
    scene.assert_refused(&scene.run(&args));
    std::fs::remove_dir_all(scene.place.path(".app.db-lifeboat")).unwrap();
    scene.run(&args).says(0, &["nothing was done"]);
}
