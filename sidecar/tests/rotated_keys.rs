//! Trap 26: keys that end while we replicate, wherever they come from, and whatever is being asked at that moment.
//!
//! versitygw forgets the old user first, and only later the new keys are put where the process finds them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{
    Place, Ran, dump, eventually, lifeboat,
    s3::{S3Server, Users},
};

const URL: &str = "s3://lifeboat/rotated";

/// Where a process gets its keys.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Files of a folder, as a Secret is projected.
    Folder,
    /// A profile of the AWS tools.
    Profile,
    /// A program that a profile names.
    Program,
}

impl Source {
    /// Puts these keys where the process looks for them.
    fn put(self, place: &Place, id: &str, secret: &str) {
        match self {
            Self::Folder => {
                std::fs::create_dir_all(place.path("keys")).unwrap();
                std::fs::write(place.path("keys/access-key-id"), id).unwrap();
                std::fs::write(place.path("keys/secret-access-key"), secret).unwrap();
            }
            Self::Profile => {
                let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
                std::fs::write(place.path("profile"), text).unwrap();
            }
            Self::Program => {
                let json = format!(r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{secret}"}}"#);
                std::fs::write(place.path("answer"), json).unwrap();
                let text = format!("[default]\ncredential_process = /bin/cat {}\n", place.text("answer"));
                std::fs::write(place.path("profile"), text).unwrap();
            }
        }
    }

    fn lifeboat(self, place: &Place, s3: &S3Server, args: &[&str]) -> Command {
        let mut command = lifeboat(args);
        command.args(["--endpoint", &s3.endpoint()]).env("AWS_REGION", "us-east-1");
        match self {
            Self::Folder => command.env("LIFEBOAT_CREDENTIALS_DIR", place.path("keys")),
            Self::Profile | Self::Program => command
                .env("AWS_CONFIG_FILE", place.path("profile"))
                .env("AWS_SHARED_CREDENTIALS_FILE", place.path("profile")),
        };
        command
    }
}

fn keys_that_end_are_replaced(source: Source) {
    let (users, place) = (Users::new(), Place::new());
    users.only("first", "first-secret");
    let s3 = S3Server::start_for(&users);
    source.put(&place, "first", "first-secret");
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB); INSERT INTO t VALUES (1)").unwrap();
    let (db, slots) = (place.text("app.db"), s3.file("rotated/0000"));
    let count = || std::fs::read_dir(&slots).map_or(0, Iterator::count);
    let args = ["replicate", "--sync-interval", "50ms", "--log-level", "debug", &db, URL];
    let running = place.spawn(&mut source.lifeboat(&place, &s3, &args));
    running.wait_for("following");
    running.wait_for("stored txid");

    // A small slot, and then one in parts, each in the moment in which the old keys end.
    for (round, mib) in [("second", 0), ("third", 24)] {
        let before = count();
        users.only(round, "another-secret");
        app.execute_batch("BEGIN").unwrap();
        app.execute("INSERT INTO t VALUES (2)", []).unwrap();
        for _ in 0..mib {
            app.execute("INSERT INTO t VALUES (randomblob(1048576))", []).unwrap();
        }
        app.execute_batch("COMMIT").unwrap();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(count(), before, "{}", running.log());
        source.put(&place, round, "another-secret");
        let begun = Instant::now();
        eventually("the slot", || (count() > before).then_some(()), || running.log());
        assert!(begun.elapsed() < Duration::from_secs(25), "found out by chance: {}", running.log());
    }
    // A clean end writes the head; a restore lists.
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the replica is closed"), "{log}");
    let out = place.text("out.db");
    Ran::new(&source.lifeboat(&place, &s3, &["restore", "-o", &out, URL]).output().unwrap())
        .says(0, &["restored"]);
    assert!(dump(&place.path("out.db")) == dump(&place.path("app.db")), "the copy differs");
}

#[test]
fn keys_of_a_folder_that_end_are_replaced_without_a_restart() {
    keys_that_end_are_replaced(Source::Folder);
}

#[test]
fn keys_of_a_profile_that_end_are_replaced_without_a_restart() {
    keys_that_end_are_replaced(Source::Profile);
}

#[test]
fn keys_of_a_program_that_end_are_replaced_without_a_restart() {
    keys_that_end_are_replaced(Source::Program);
}
