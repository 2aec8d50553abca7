//! Who loses the replica to another writer stops its application from writing, and saves what it has.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::process::Command;

use rusqlite::ErrorCode;
use rustix::process::Signal;
use support::s3::S3Server;
use support::{Place, Running, dump, eventually, lifeboat_with};

const TABLE: &str = "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'both');";

/// A database with its replica, and what another machine had of it when it took over: both are written afterwards.
struct Scene {
    place: Place,
    url: String,
    s3: Option<S3Server>,
}

impl Scene {
    fn new(s3: Option<S3Server>) -> Self {
        let place = Place::new();
        place.open("app.db").execute_batch(&format!("PRAGMA journal_mode=WAL; {TABLE}")).unwrap();
        let url = if s3.is_some() { "s3://lifeboat/app".to_owned() } else { place.url("replica") };
        Self { place, url, s3 }
    }

    fn start(&self, args: &[&str], word: &str, pod: Option<&str>) -> Running {
        let running = self.place.spawn(&mut self.command(args, pod));
        running.wait_for(word);
        running
    }

    fn command(&self, args: &[&str], pod: Option<&str>) -> Command {
        let mut command = lifeboat_with(args, self.s3.as_ref());
        if let Some(pod) = pod {
            command.env("LIFEBOAT_POD_UID", pod);
            command.envs([
                ("LIFEBOAT_NAME", "shop"),
                ("LIFEBOAT_NAMESPACE", "shop"),
                ("LIFEBOAT_CLUSTER", "c"),
            ]);
        }
        command
    }

    fn run(&self, args: &[&str]) -> support::Ran {
        self.place.run_with(args, self.s3.as_ref())
    }

    fn execute(&self, database: &str, sql: &str) {
        self.place.open(database).execute_batch(sql).unwrap();
    }

    /// Another machine takes over with a copy, and stores something of its own.
    fn take_over(&self) -> Running {
        let copy = self.place.text("copy.db");
        self.run(&["restore", "-o", &copy, &self.url]).says(0, &[]);
        let args = ["replicate", "--enforce-wal", "false", &copy, &self.url];
        self.writes(self.start(&args, "following", None))
    }

    /// Another pod takes over: its init step, then its sidecar.
    fn take_over_as_a_pod(&self, pod: &str) -> Running {
        std::fs::create_dir_all(self.place.path("run")).unwrap();
        let config = serde_json::json!({
            "handover-dir": self.place.text("run"),
            "dbs": [{"name": "main", "path": self.place.text("copy.db"), "replica": {"url": self.url}}],
        });
        let command = |args: &[&str]| {
            let mut command = self.command(args, Some(pod));
            command.env("LIFEBOAT_CONFIG_INLINE", config.to_string());
            command
        };
        let prepared = support::Ran::new(&command(&["restore", "--config-from-env"]).output().unwrap());
        prepared.says(0, &["main: restored"]);
        let other = self.place.spawn(&mut command(&["replicate", "--config-from-env"]));
        other.wait_for("following");
        self.writes(other)
    }

    fn writes(&self, other: Running) -> Running {
        self.execute("copy.db", "INSERT INTO t VALUES (2, 'theirs')");
        let seen = self.place.text("seen.db");
        let is_stored = || {
            self.run(&["restore", "--force", "-o", &seen, &self.url]).says(0, &[]);
            (dump(&self.place.path("seen.db")) == dump(&self.place.path("copy.db"))).then_some(())
        };
        eventually("the other's row to be stored", is_stored, || other.log());
        other
    }

    /// The only fork, as the program lists it.
    fn fork(&self) -> serde_json::Value {
        let listed = self.run(&["forks", "list", "--json", &self.url]);
        listed.says(0, &[]);
        let forks: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
        assert_eq!(forks.len(), 1, "{}", listed.stdout);
        forks[0].clone()
    }

    fn show(&self, args: &[&str]) -> serde_json::Value {
        let shown = self.run(&[&["forks", "show", "--json", &self.url], args].concat());
        shown.says(0, &[]);
        serde_json::from_str(&shown.stdout).unwrap()
    }
}

/// Whoever was overtaken saves its tail, and a person finds every row of it.
#[track_caller]
fn assert_the_tail_is_saved(scene: &Scene) {
    let db = scene.place.text("app.db");
    let first = scene.start(&["replicate", &db, &scene.url], "stored txid", None);
    let second = scene.take_over();
    // As a machine that stood still: both transactions are there before it hears that it lost.
    first.signal(Signal::STOP);
    scene
        .execute("app.db", "INSERT INTO t VALUES (2, 'ours'), (3, 'ours'); INSERT INTO t VALUES (4, 'ours')");
    first.signal(Signal::CONT);
    let ours = dump(&scene.place.path("app.db"));
    let (status, log) = first.ends();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("another writer") && log.contains("2 transactions are not in the replica"), "{log}");
    let fork = scene.fork();
    assert_eq!(
        (&fork["epoch"], &fork["why"], &fork["transactions"]),
        (&1.into(), &"fenced".into(), &2.into())
    );
    assert_eq!(fork["baseTxid"], "0000000000000001");
    let name = fork["fork"].as_str().unwrap();
    assert!(log.contains(&format!("saved as fork {name} of {}", scene.url)), "{log}");

    let out = scene.place.text("fork.db");
    scene.run(&["forks", "restore", "-o", &out, &scene.url, "1"]).says(0, &["restored"]);
    assert_eq!(dump(&scene.place.path("fork.db")), ours);
    scene.run(&["forks", "restore", "-o", &out, &scene.url]).says(4, &["exists"]);

    let table = |added: u8, removed: u8, changed: u8| serde_json::json!([{"name": "t", "added": added, "removed": removed, "changed": changed, "remark": null}]);
    let shown = scene.show(&[]);
    assert_eq!((&shown["tables"], &shown["against"]), (&table(2, 0, 1), &"newest".into()));
    let shown = scene.show(&["--against", "base", name]);
    assert_eq!((&shown["tables"], &shown["againstTxid"]), (&table(3, 0, 0), &"0000000000000001".into()));
    scene
        .run(&["forks", "show", &scene.url])
        .says(0, &["2 transactions after txid 0000000000000001", "CHANGED"]);
    scene.run(&["forks", "show", &scene.url, "7"]).says(4, &["there is no fork '7'", name]);

    // Nothing of it is in the replica.
    assert_eq!(second.stop().0, Some(0));
    let out = scene.place.text("replica.db");
    scene.run(&["restore", "-o", &out, &scene.url]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("replica.db")), dump(&scene.place.path("copy.db")));
    scene.run(&["verify", &scene.url]).says(0, &[]);
}

#[test]
fn the_tail_of_a_fenced_writer_is_saved_and_comes_back_row_by_row() {
    assert_the_tail_is_saved(&Scene::new(None));
}

#[test]
fn the_same_through_a_real_s3_server() {
    assert_the_tail_is_saved(&Scene::new(Some(S3Server::start())));
}

#[test]
fn without_a_wal_a_fenced_writer_saves_its_tail_too() {
    let scene = Scene::new(None);
    scene.execute("app.db", "PRAGMA journal_mode=DELETE");
    let db = scene.place.text("app.db");
    let first = scene.start(&["replicate", "--enforce-wal", "false", &db, &scene.url], "stored txid", None);
    let second = scene.take_over();
    scene.execute("app.db", "INSERT INTO t VALUES (3, 'ours')");
    assert_eq!(first.ends().0.code(), Some(3));
    let out = scene.place.text("fork.db");
    scene.run(&["forks", "restore", "-o", &out, &scene.url]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("fork.db")), dump(&scene.place.path("app.db")));
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn in_a_pod_the_loser_lives_on_and_its_application_reads_and_cannot_write() {
    let scene = Scene::new(None);
    let db = scene.place.text("app.db");
    let first = scene.start(&["replicate", &db, &scene.url], "stored txid", Some("pod-1"));
    let second = scene.take_over_as_a_pod("pod-2");
    let application = scene.place.open("app.db");
    application.busy_timeout(std::time::Duration::ZERO).unwrap();
    application.execute("INSERT INTO t VALUES (3, 'ours')", []).unwrap();
    first.wait_for("lifeboat forks show");
    let refused = application.execute("INSERT INTO t VALUES (4, 'ours')", []).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{refused}");
    assert_eq!(application.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    let mark = std::fs::read_to_string(scene.place.path(".app.db-lifeboat/fenced.json")).unwrap();
    assert!(mark.contains("\"podUID\": \"pod-1\""), "{mark}");

    // Its container is killed and started again, and finds the same.
    first.kill();
    application.execute("INSERT INTO t VALUES (4, 'between two containers')", []).unwrap();
    let again = scene.start(&["replicate", &db, &scene.url], "lifeboat forks show", Some("pod-1"));
    assert!(application.execute("INSERT INTO t VALUES (5, 'ours')", []).is_err(), "{}", again.log());
    let listed = scene.run(&["forks", "list", "--json", &scene.url]);
    let forks: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(forks.len(), 2, "what came between is in a fork of its own: {}", listed.stdout);
    // Nothing new came, so nothing is saved twice.
    again.kill();
    let third = scene.start(&["replicate", &db, &scene.url], "lifeboat forks show", Some("pod-1"));
    assert_eq!(third.stop().0, Some(3));
    assert_eq!(scene.run(&["forks", "list", "--json", &scene.url]).stdout, listed.stdout);

    // The pod that took over never noticed.
    scene.execute("copy.db", "INSERT INTO t VALUES (9, 'theirs')");
    assert_eq!(second.stop().0, Some(0));
    scene.run(&["restore", "-o", &scene.place.text("replica.db"), &scene.url]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("replica.db")), dump(&scene.place.path("copy.db")));
}

#[test]
fn a_pod_that_lost_does_not_take_the_replica_back_when_its_successor_is_gone() {
    let scene = Scene::new(None);
    let db = scene.place.text("app.db");
    let first = scene.start(&["replicate", &db, &scene.url], "stored txid", Some("pod-1"));
    let second = scene.take_over_as_a_pod("pod-2");
    scene.execute("app.db", "INSERT INTO t VALUES (3, 'ours')");
    first.wait_for("lifeboat forks show");
    first.kill();
    assert_eq!(second.stop().0, Some(0));
    // The head says now that nobody writes. The mark remembers.
    let head = std::fs::read(scene.place.path("replica/lifeboat/head.json")).unwrap();
    let again =
        scene.start(&["replicate", &db, &scene.url], "this pod lost the replica before", Some("pod-1"));
    again.wait_for("lifeboat forks show");
    assert_eq!(again.stop().0, Some(3));
    assert_eq!(std::fs::read(scene.place.path("replica/lifeboat/head.json")).unwrap(), head);
}

#[test]
fn of_several_databases_the_others_go_on_and_the_code_is_3_at_the_end() {
    let scene = Scene::new(None);
    scene.execute("other.db", &format!("PRAGMA journal_mode=WAL; {TABLE}"));
    let config = scene.place.path("lifeboat.yml");
    let text = format!(
        "dbs: [{{path: {}, replica: {{url: '{}'}}}}, {{path: {}, replica: {{url: '{}'}}}}]",
        scene.place.text("app.db"),
        scene.url,
        scene.place.text("other.db"),
        scene.place.url("other")
    );
    std::fs::write(&config, text).unwrap();
    let both = scene.start(&["replicate", "--config", config.to_str().unwrap()], "following", None);
    eventually(
        "both to be stored",
        || (both.log().matches("stored txid").count() >= 2).then_some(()),
        || both.log(),
    );
    let second = scene.take_over();
    scene.execute("app.db", "INSERT INTO t VALUES (3, 'ours')");
    both.wait_for("the other databases go on");
    let application = scene.place.open("app.db");
    application.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(application.execute("INSERT INTO t VALUES (4, 'ours')", []).is_err(), "{}", both.log());
    scene.execute("other.db", "INSERT INTO t VALUES (2, 'goes on')");
    let (code, log) = both.stop();
    assert_eq!(code, Some(3), "{log}");
    application.execute("INSERT INTO t VALUES (4, 'ours')", []).unwrap();
    scene.run(&["restore", "-o", &scene.place.text("out.db"), &scene.place.url("other")]).says(0, &[]);
    assert_eq!(dump(&scene.place.path("out.db")), dump(&scene.place.path("other.db")));
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn a_replica_without_forks_says_so() {
    let scene = Scene::new(None);
    let db = scene.place.text("app.db");
    assert_eq!(scene.start(&["replicate", &db, &scene.url], "stored txid", None).stop().0, Some(0));
    scene.run(&["forks", "list", &scene.url]).says(0, &["has no forks"]);
    scene.run(&["forks", "show", &scene.url]).says(4, &["there are no forks"]);
    scene
        .run(&["forks", "restore", "-o", &scene.place.text("out.db"), &scene.url, "1"])
        .says(4, &["there are no forks"]);
}
