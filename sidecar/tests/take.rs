//! Two databases that contradict each other: a person chooses, and the other one is not lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::process::Command;

use support::s3::S3Server;
use support::{Place, Ran, Running, dump, lifeboat};

const SCHEMA: &str = "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'both');";

/// A database, and its replica, which another machine has written since.
struct Scene {
    place: Place,
    s3: Option<S3Server>,
    ours: Vec<String>,
    theirs: Vec<String>,
}

impl Scene {
    fn new(s3: Option<S3Server>) -> Self {
        let scene = Self::behind(s3);
        scene.execute("app.db", "INSERT INTO t VALUES (3, 'ours')");
        Self { ours: dump(&scene.place.path("app.db")), ..scene }
    }

    /// The same, of which ours is an older state.
    fn behind(s3: Option<S3Server>) -> Self {
        let place = Place::new();
        place.open("app.db").execute_batch(SCHEMA).unwrap();
        let ours = dump(&place.path("app.db"));
        let mut scene = Self { place, s3, ours, theirs: Vec::new() };
        let (db, copy) = (scene.place.text("app.db"), scene.place.text("copy.db"));
        assert_eq!(scene.start(&["replicate", &db, &scene.url()], "stored txid").stop().0, Some(0));
        scene.run(&["restore", "-o", &copy, &scene.url()]).says(0, &[]);
        let other = scene.start(&["replicate", &copy, &scene.url()], "following");
        scene.execute("copy.db", "INSERT INTO t VALUES (2, 'theirs')");
        assert_eq!(other.stop().0, Some(0));
        scene.theirs = dump(&scene.place.path("copy.db"));
        scene
    }

    fn url(&self) -> String {
        if self.s3.is_some() { "s3://lifeboat/app".to_owned() } else { self.place.url("replica") }
    }

    fn execute(&self, name: &str, sql: &str) {
        self.place.open(name).execute_batch(sql).unwrap();
    }

    fn change_page_size(&self) {
        let sql = "PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=WAL";
        self.execute("app.db", sql);
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.place.run_with(args, self.s3.as_ref())
    }

    fn start(&self, args: &[&str], word: &str) -> Running {
        self.place.start_with(args, word, self.s3.as_ref())
    }

    /// The command that the refusal of this database names for a choice, as a shell takes it.
    fn named(&self, which: &str) -> Command {
        let refused = self.run(&["replicate", &self.place.text("app.db"), &self.url()]);
        refused.says(4, &["not a continuation", "(1)", "(2)", "(3)"]);
        let commands: Vec<_> = refused.stderr.split('`').skip(1).step_by(2).collect();
        let named = commands.iter().find(|command| command.contains(which)).unwrap();
        let mut command = Command::new("sh");
        let ours = named.replacen("lifeboat", env!("CARGO_BIN_EXE_lifeboat"), 1);
        command.args(["-c", &format!("exec {ours}")]).env("LIFEBOAT_SOCKET", "off");
        command.envs(self.s3.iter().flat_map(S3Server::credentials));
        command
    }

    fn take(&self, which: &str) -> Ran {
        let db = self.place.text("app.db");
        self.run(&["replicate", "--once", "--take", which, &db, &self.url()])
    }

    /// What the only fork holds.
    fn fork(&self) -> Vec<String> {
        let listed = self.run(&["forks", "list", "--json", &self.url()]);
        listed.says(0, &["\"why\": \"diverged\""]);
        let out = self.place.text("fork.db");
        self.run(&["forks", "restore", "-o", &out, &self.url()]).says(0, &[]);
        dump(&self.place.path("fork.db"))
    }

    fn restored(&self) -> Vec<String> {
        let out = self.place.text("out.db");
        self.run(&["restore", "--force", "-o", &out, &self.url()]).says(0, &[]);
        dump(&self.place.path("out.db"))
    }

    fn local(&self) -> Vec<String> {
        dump(&self.place.path("app.db"))
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!((self.local(), self.restored()), (self.ours.clone(), self.theirs.clone()));
        self.run(&["forks", "list", &self.url()]).says(0, &["has no forks"]);
        assert!(!self.place.path(".app.db-lifeboat/taken.db").exists(), "something was left behind");
    }

    /// A step of the pod that has this database, for which somebody chose.
    fn in_pod(&self, step: &str, take: &str) -> Command {
        std::fs::create_dir_all(self.place.path("run")).unwrap();
        let config = serde_json::json!({
            "handover-dir": self.place.text("run"),
            "dbs": [{
                "name": "main",
                "path": self.place.text("app.db"),
                "replica": {"url": self.url(), "endpoint": self.s3.as_ref().map(S3Server::endpoint)},
            }],
        });
        let mut command = lifeboat(&[step, "--config-from-env"]);
        command.envs(self.s3.iter().flat_map(S3Server::credentials));
        command.env("LIFEBOAT_CONFIG_INLINE", config.to_string()).env("LIFEBOAT_POD_UID", "uid-1");
        command.env("LIFEBOAT_NAME", rustix::system::uname().nodename().to_str().unwrap());
        command.envs([("LIFEBOAT_NAMESPACE", ""), ("LIFEBOAT_POD_NAME", "shop-0"), ("LIFEBOAT_TAKE", take)]);
        command
    }

    fn restore_in_pod(&self, take: &str) -> Ran {
        Ran::new(&self.in_pod("restore", take).output().unwrap())
    }

    /// The text for the annotation that the refusal of this pod names.
    #[track_caller]
    fn named_in_pod(&self, which: &str) -> String {
        let refused = self.restore_in_pod("");
        refused.says(
            4,
            &["not a continuation", "kubectl annotate pod -n  shop-0 --overwrite lifeboat.dev/take="],
        );
        let mut words = refused.stderr.split([' ', '=', '`', ',']);
        words.find(|word| word.starts_with(&format!("main:{which}@"))).unwrap().to_owned()
    }

    /// The power fails: the record is of another boot, and the file is what it was.
    fn lose_power(&self, was: &[u8]) {
        for log in ["app.db-wal", "app.db-shm"] {
            let _ = std::fs::remove_file(self.place.path(log));
        }
        // In place: it is the same file.
        std::fs::write(self.place.path("app.db"), was).unwrap();
        let record = self.place.path(".app.db-lifeboat/record.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        json["bootId"] = "another".into();
        std::fs::write(&record, json.to_string()).unwrap();
    }

    #[track_caller]
    fn assert_pod_goes_on(&self) {
        let sidecar = self.place.spawn(&mut self.in_pod("replicate", ""));
        sidecar.wait_for("following");
        self.execute("app.db", "INSERT INTO t VALUES (4, 'later')");
        assert_eq!(sidecar.stop().0, Some(0));
        assert_eq!(self.restored(), self.local());
    }
}

#[track_caller]
fn assert_the_buckets_is_taken(scene: &Scene) {
    Ran::new(&scene.named("remote").output().unwrap()).says(0, &["following"]);
    assert_eq!(scene.local(), scene.theirs);
    assert_eq!((scene.restored(), scene.fork()), (scene.theirs.clone(), scene.ours.clone()));
}

#[test]
fn the_buckets_database_is_taken_from_a_folder_and_the_local_one_is_a_fork() {
    assert_the_buckets_is_taken(&Scene::new(None));
}

#[test]
fn the_buckets_database_is_taken_from_a_bucket_and_the_local_one_is_a_fork() {
    assert_the_buckets_is_taken(&Scene::new(Some(S3Server::start())));
}

#[track_caller]
fn assert_the_local_one_is_taken(scene: &Scene) {
    Ran::new(&scene.named("local").output().unwrap()).says(0, &["stored txid"]);
    assert_eq!(scene.local(), scene.ours);
    assert_eq!((scene.restored(), scene.fork()), (scene.ours.clone(), scene.theirs.clone()));
    // It was chosen once: from now on it is an ordinary continuation.
    scene.run(&["replicate", "--once", &scene.place.text("app.db"), &scene.url()]).says(0, &[]);
}

#[test]
fn the_local_database_is_taken_into_a_folder_and_what_was_there_is_a_fork() {
    assert_the_local_one_is_taken(&Scene::new(None));
}

#[test]
fn the_local_database_is_taken_into_a_bucket_and_what_was_there_is_a_fork() {
    assert_the_local_one_is_taken(&Scene::new(Some(S3Server::start())));
}

#[test]
fn whoever_takes_neither_gets_a_copy_to_compare_and_nothing_is_started() {
    let scene = Scene::new(None);
    let head = std::fs::read(scene.place.path("replica/lifeboat/head.json")).unwrap();
    Ran::new(&scene.named("neither").output().unwrap()).says(0, &["app.db.replica", "Nothing was started"]);
    assert_eq!(dump(&scene.place.path("app.db.replica")), scene.theirs);
    assert_eq!(std::fs::read(scene.place.path("replica/lifeboat/head.json")).unwrap(), head);
    scene.assert_untouched();
    scene.take("neither").says(4, &["app.db.replica exists"]);
}

#[test]
fn a_database_that_somebody_has_open_is_not_replaced() {
    let scene = Scene::new(None);
    let application = scene.place.open("app.db");
    scene.take("remote").says(4, &["is open in process", &std::process::id().to_string(), "stop it first"]);
    drop(application);
    scene.assert_untouched();
}

#[test]
fn a_database_that_cannot_be_saved_is_not_replaced() {
    let scene = Scene::new(None);
    let forks = scene.place.path("replica/lifeboat/forks");
    std::fs::write(&forks, "in the way").unwrap();
    for which in ["remote", "local"] {
        let refused = scene.take(which);
        assert!(refused.code != Some(0), "{which}: {}", refused.stderr);
        scene.run(&["replicate", &scene.place.text("app.db"), &scene.url()]).says(4, &["not a continuation"]);
    }
    std::fs::remove_file(&forks).unwrap();
    scene.assert_untouched();
}

#[test]
fn what_is_taken_for_an_older_state_is_saved_all_the_same() {
    let scene = Scene::behind(None);
    scene.take("remote").says(0, &["is fork"]);
    assert_eq!((scene.local(), scene.fork()), (scene.theirs.clone(), scene.ours.clone()));
}

#[test]
fn where_nothing_is_to_be_chosen_a_choice_changes_nothing() {
    let scene = Scene::new(None);
    scene.take("local").says(0, &[]);
    for which in ["local", "remote"] {
        scene.take(which).says(0, &["nothing to choose"]);
    }
    assert_eq!((scene.local(), scene.fork()), (scene.ours.clone(), scene.theirs.clone()));
}

#[test]
fn nobody_chooses_for_databases_that_he_did_not_name() {
    let scene = Scene::new(None);
    let config = format!(
        "dbs: [{{path: {}, replica: {{url: '{}'}}}}, {{path: {}, replica: {{url: '{}'}}}}]",
        scene.place.text("app.db"),
        scene.url(),
        scene.place.text("other.db"),
        scene.place.url("elsewhere")
    );
    std::fs::write(scene.place.path("config.yml"), config).unwrap();
    let refused = scene.run(&["replicate", "--take", "remote", "--config", &scene.place.text("config.yml")]);
    refused.says(2, &["--take is about one database"]);
    scene.assert_untouched();
}

#[test]
fn pages_of_another_size_are_not_put_behind_what_is_stored() {
    let scene = Scene::new(None);
    scene.change_page_size();
    scene.take("local").says(4, &["1024", "4096", "another place"]);
    scene.assert_untouched();
    scene.take("remote").says(0, &["is fork"]);
    assert_eq!((scene.local(), scene.fork()), (scene.theirs.clone(), scene.ours.clone()));
}

#[track_caller]
fn assert_a_pod_takes(scene: &Scene, which: &str) {
    let choice = scene.named_in_pod(which);
    for said in ["was written to", "app.db.replica exists; move it away"] {
        scene
            .restore_in_pod("main:neither")
            .says(4, &["app.db.replica", said, "not a continuation", &choice]);
    }
    assert_eq!(dump(&scene.place.path("app.db.replica")), scene.theirs);
    assert_eq!(scene.local(), scene.ours);
    // Every attempt before stored a seal, and the choice is about what it was about.
    scene.restore_in_pod(&choice).says(0, &["is fork"]);
    let (taken, left) = match which {
        "remote" => (scene.theirs.clone(), scene.ours.clone()),
        _ => (scene.ours.clone(), scene.theirs.clone()),
    };
    assert_eq!((scene.local(), scene.fork()), (taken, left));
    scene.assert_pod_goes_on();
}

#[test]
fn the_restore_step_of_a_pod_takes_the_buckets_database() {
    assert_a_pod_takes(&Scene::new(None), "remote");
}

#[test]
fn the_restore_step_of_a_pod_takes_the_local_database() {
    assert_a_pod_takes(&Scene::new(None), "local");
}

#[test]
fn the_restore_step_of_a_pod_takes_from_a_bucket_and_into_one() {
    for which in ["remote", "local"] {
        assert_a_pod_takes(&Scene::new(Some(S3Server::start())), which);
    }
}

#[test]
fn a_choice_of_a_pod_that_does_not_say_what_it_is_about_is_not_carried_out() {
    let scene = Scene::new(None);
    for choice in ["main:local", "main:remote", "main:local@00000000"] {
        scene.restore_in_pod(choice).says(4, &["not a continuation", "was not carried out", "main:local@"]);
    }
    scene.assert_untouched();
}

#[test]
fn the_annotation_of_a_choice_for_the_local_database_is_not_carried_out_again_after_a_power_cut() {
    let scene = Scene::new(None);
    let choice = scene.named_in_pod("local");
    scene.restore_in_pod(&choice).says(0, &["is fork"]);
    settle(&scene);
    let was = std::fs::read(scene.place.path("app.db")).unwrap();
    scene.assert_pod_goes_on();
    let stored = scene.restored();
    scene.lose_power(&was);
    scene.restore_in_pod(&choice).says(4, &["not a continuation", "was not carried out"]);
    assert_eq!(scene.restored(), stored, "an older state became the newest");
    scene.restore_in_pod(&scene.named_in_pod("remote")).says(0, &["is fork"]);
    assert_eq!(scene.local(), stored);
}

#[test]
fn the_annotation_of_a_choice_for_the_buckets_database_is_not_carried_out_again_after_a_power_cut() {
    let scene = Scene::new(None);
    let choice = scene.named_in_pod("remote");
    scene.restore_in_pod(&choice).says(0, &["is fork"]);
    // The power fails before this is stored.
    scene.execute("app.db", "INSERT INTO t VALUES (5, 'not stored')");
    settle(&scene);
    let was = std::fs::read(scene.place.path("app.db")).unwrap();
    let local = scene.local();
    scene.lose_power(&was);
    scene.restore_in_pod(&choice).says(4, &["not a continuation", "was not carried out"]);
    assert_eq!(scene.local(), local, "what was not stored was replaced");
}

#[test]
fn a_pod_does_not_set_forward_an_older_state_that_somebody_restored() {
    for which in ["local", "remote"] {
        let scene = Scene::behind(None);
        let db = scene.place.text("app.db");
        scene
            .run(&["restore", "--force", "--txid", "0000000000000001", "-o", &db, &scene.url()])
            .says(0, &[]);
        assert_eq!(scene.local(), scene.ours);
        scene.restore_in_pod("").says(4, &["an older state that was restored there"]);
        scene.assert_untouched();
        scene.restore_in_pod(&scene.named_in_pod(which)).says(0, &["is fork"]);
        let (taken, left) =
            if which == "local" { (&scene.ours, &scene.theirs) } else { (&scene.theirs, &scene.ours) };
        assert_eq!((&scene.local(), &scene.fork()), (taken, left));
        scene.assert_pod_goes_on();
    }
}

#[test]
fn a_pod_sets_an_older_state_of_its_own_forward_unless_somebody_chose_it() {
    let scene = Scene::behind(None);
    scene.restore_in_pod("main:local").says(4, &["it is an older state", "main:local@"]);
    scene.assert_untouched();
    scene.restore_in_pod("").says(0, &["restored"]);
    assert_eq!(scene.local(), scene.theirs);
}

#[test]
fn a_pod_takes_the_buckets_database_for_one_whose_pages_are_of_another_size() {
    let mut scene = Scene::behind(None);
    // It is the newest state, of which every page is known.
    scene.restore_in_pod("").says(0, &["restored"]);
    scene.execute("app.db", "INSERT INTO t VALUES (3, 'ours')");
    scene.change_page_size();
    scene.ours = scene.local();
    let (local, remote) = (scene.named_in_pod("local"), scene.named_in_pod("remote"));
    scene.restore_in_pod("").says(4, &["pages of 1024 bytes now and had 4096"]);
    scene.restore_in_pod(&local).says(4, &["1024", "4096", "another place"]);
    scene.assert_untouched();
    scene.restore_in_pod(&remote).says(0, &["is fork"]);
    assert_eq!((scene.local(), scene.fork()), (scene.theirs.clone(), scene.ours.clone()));
    scene.assert_pod_goes_on();
}

/// Copies the WAL into the file.
fn settle(scene: &Scene) {
    scene.execute("app.db", "PRAGMA wal_checkpoint(TRUNCATE)");
}
