//! Databases in odd journal modes and in damaged surroundings, through the real program: what is wrong is said in its
//! status, nothing wrong is stored, and it goes on by itself when the trouble is over.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod damage;
mod modes;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rusqlite::Connection;
use support::{Place, Running, dump, eventually};

/// A database, its replica, and the program that is to replicate one to the other.
struct Scene {
    place: Place,
}

impl Scene {
    /// A database in this journal mode, with a few rows.
    fn new(mode: &str) -> (Self, Connection) {
        let scene = Self { place: Place::new() };
        let application = scene.application(mode);
        application.execute_batch("CREATE TABLE t(x)").unwrap();
        insert(&application, 20);
        (scene, application)
    }

    fn application(&self, mode: &str) -> Connection {
        let application = self.place.open("app.db");
        application.execute_batch(&format!("PRAGMA cache_size=5; PRAGMA journal_mode={mode}")).unwrap();
        application
    }

    /// Starts to replicate without switching to WAL mode.
    fn start(&self) -> Running {
        let running = self.spawn();
        running.wait_for("following");
        self.wait_for(|status| status["position"].is_object(), "something stored");
        running
    }

    /// The same, however long it takes until it can.
    fn spawn(&self) -> Running {
        self.place.spawn(&mut support::lifeboat(&self.args().each_ref().map(String::as_str)))
    }

    fn args(&self) -> [String; 9] {
        let (db, url, socket) =
            (self.place.text("app.db"), self.place.url("replica"), self.place.text("socket"));
        let flags = ["--enforce-wal", "false", "--sync-interval", "100ms", "--socket"];
        let [enforce, no, interval, short, flag] = flags.map(ToOwned::to_owned);
        ["replicate".to_owned(), db, url, enforce, no, interval, short, flag, socket]
    }

    fn status(&self) -> serde_json::Value {
        let Ok(mut socket) = UnixStream::connect(self.place.path("socket")) else {
            return serde_json::Value::Null;
        };
        socket.write_all(b"GET /v1/status HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        status["databases"][0].clone()
    }

    #[track_caller]
    fn wait_for(&self, is_so: impl Fn(&serde_json::Value) -> bool, what: &str) -> serde_json::Value {
        eventually(
            &format!("the status to show {what}"),
            || Some(self.status()).filter(|status| is_so(status)),
            || self.status().to_string(),
        )
    }

    /// Waits until the status gives this reason and says that it is tried again.
    #[track_caller]
    fn wait_for_trouble(&self, reason: &str) -> serde_json::Value {
        let status = self.wait_for(|status| status["reason"] == reason, reason);
        assert_eq!(status["verdict"], "retry", "{status}");
        status
    }

    /// Waits until all is well, nothing waits, and nothing comes any more.
    #[track_caller]
    fn wait_until_stored(&self) {
        let is_well = |status: &serde_json::Value| {
            status["verdict"].is_null() && status["unreplicatedBytes"] == 0 && status["position"].is_object()
        };
        let stays = || {
            let first = self.status();
            std::thread::sleep(std::time::Duration::from_millis(500));
            let second = self.status();
            (is_well(&second) && first["position"] == second["position"]).then_some(())
        };
        eventually("all to be stored", stays, || self.status().to_string());
    }

    /// Restores and compares with the database, row by row.
    #[track_caller]
    fn compare(&self, rows: usize) {
        let (copy, url) = (self.place.text("copy.db"), self.place.url("replica"));
        self.place.run(&["restore", "--force", "-o", &copy, &url]).says(0, &["restored"]);
        let (original, copy) = (dump(&self.place.path("app.db")), dump(Path::new(&copy)));
        assert!(original == copy, "{} rows, {} in the copy", original.len(), copy.len());
        assert_eq!(copy.len(), rows);
    }

    /// How many files of pages the replica has.
    fn stored_files(&self) -> usize {
        std::fs::read_dir(self.place.path("replica/ltx/0")).unwrap().count()
    }

    #[track_caller]
    fn stop(&self, running: Running) {
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
    }
}

fn insert(application: &Connection, rows: usize) {
    for _ in 0..rows {
        application.execute_batch("INSERT INTO t VALUES (randomblob(2000))").unwrap();
    }
}
