//! One replica in a real S3 server, the road there, the application, and what must be true after every crash.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use crate::application::{Application, acknowledged, connect};
use crate::support::proxy::{Hold, Proxy, Trap};
use crate::support::s3::S3Server;
use crate::support::{Place, Running, dump, lifeboat, lifeboat_with};

pub(crate) struct Scene {
    pub(crate) place: Place,
    s3: S3Server,
    pub(crate) proxy: Proxy,
    /// What the last restore held: its newest row and TXID. Neither may ever be less.
    rows: i64,
    txid: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (place, s3) = (Place::new(), S3Server::start());
        let proxy = Proxy::start(s3.port());
        connect(&place.path("app.db"));
        Self { place, s3, proxy, rows: 0, txid: String::new() }
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.place.path("ledger")
    }

    pub(crate) fn start_application(&self) -> Application {
        Application::start(&self.place.path("app.db"), &self.ledger())
    }

    /// Starts to replicate, over the road that has traps.
    pub(crate) fn replicate(&self) -> Running {
        let db = self.place.text("app.db");
        let flags =
            ["--log-level", "debug", "replicate", "--sync-interval", "20ms", "--flush-timeout", "60s"];
        let mut command = lifeboat(&[&flags[..], &[&db, URL]].concat());
        command.envs(self.s3.credentials()).args(["--endpoint", &self.proxy.endpoint()]);
        self.place.spawn(&mut command)
    }

    /// The same with intervals of milliseconds between merged files, and hardly anything kept.
    pub(crate) fn replicate_and_merge(&self, levels: &str) -> Running {
        let (db, endpoint) = (self.place.text("app.db"), self.proxy.endpoint());
        let text = format!(
            "sync-interval: 20ms\nflush-timeout: 60s\nlevels: {levels}\n\
             l0-retention: 100ms\nsnapshot: {{interval: 1s}}\nretention: {{window: 3s}}\n\
             dbs: [{{path: '{db}', replica: {{url: '{URL}', endpoint: '{endpoint}'}}}}]\n"
        );
        let config = self.place.path("lifeboat.yml");
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let mut command = lifeboat(&["--log-level", "debug", "replicate", "--config", &config]);
        command.envs(self.s3.credentials());
        self.place.spawn(&mut command)
    }

    /// Replicates until the trap holds something, then pulls the plug. `false` when nothing ever came by there, and the
    /// process is up and has stored something since.
    pub(crate) fn replicate_until(
        &mut self,
        hold: Hold,
        method: &'static str,
        part: &'static str,
        nth: usize,
    ) -> bool {
        self.proxy.set(Trap { hold, method, part, nth });
        let running = self.replicate();
        let mut is_sprung = false;
        while !is_sprung && !running.log().contains("stored txid") {
            is_sprung = self.proxy.is_sprung_within(Duration::from_millis(20));
        }
        self.crash(running);
        is_sprung
    }

    /// How many slots, merged files and snapshots the bucket has.
    pub(crate) fn files(&self) -> usize {
        let levels = ["0000", "0001", "0002", "0003", "0009"];
        let folders = levels.map(|level| self.s3.file(&format!("app/{level}")));
        folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).map(Iterator::count).sum()
    }

    /// Pulls the plug of the sidecar, and holds the bucket against what was said before.
    pub(crate) fn crash(&mut self, running: Running) {
        let said = running.kill_and_read();
        self.proxy.free();
        self.check(&said);
    }

    /// Restores from the bucket as it is now. Everything that was called stored is in it, and nothing that the application
    /// did not write, nor one of its transactions by half.
    fn check(&mut self, said: &str) {
        let stored = said.lines().filter_map(|line| line.split_once("stored txid ")).next_back();
        let stored = stored.map(|(_, rest)| rest[..16].to_owned());
        let Some(txid) = self.restore() else {
            assert!(
                stored.is_none() && self.rows == 0,
                "something was stored, and the bucket holds no database"
            );
            return;
        };
        assert!(stored.is_none_or(|stored| txid >= stored), "stored, and lost: {txid}\n{said}");
        assert!(txid >= self.txid, "the bucket went back from {} to {txid}", self.txid);
        let restored = Connection::open(self.place.path("restored.db")).unwrap();
        let number = |sql: &str| restored.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let (rows, newest) = (number("SELECT count(*) FROM t"), number("SELECT coalesce(max(n), 0) FROM t"));
        assert_eq!(rows, newest, "a row in the middle is missing");
        assert!(rows >= self.rows, "the bucket held {} rows and now holds {rows}", self.rows);
        assert!(newest <= acknowledged(&self.ledger()) + 1, "row {newest} was never written");
        restored.execute("ATTACH ?1 AS source", [self.place.text("app.db")]).unwrap();
        let invented = number("SELECT count(*) FROM (SELECT * FROM main.t EXCEPT SELECT * FROM source.t)");
        assert_eq!(invented, 0, "rows that are not the application's");
        (self.rows, self.txid) = (rows, txid);
    }

    /// Restores the newest state; its TXID, or `None` where nothing is stored.
    fn restore(&self) -> Option<String> {
        let out = self.place.text("restored.db");
        let args = ["restore", "--json", "--force", "--if-replica-exists", "-o", &out, URL];
        let ran = lifeboat_with(&args, Some(&self.s3)).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{stderr}");
        let txid = stdout.split_once("\"txid\":\"").map(|(_, rest)| rest[..16].to_owned());
        assert!(txid.is_some() || stdout.contains("nothingStored"), "{stdout}");
        txid
    }

    /// The end of every story: the sidecar comes up once more, stores the rest, stops in order, and the bucket holds exactly
    /// the application's database, with every row that was ever acknowledged.
    pub(crate) fn ends_well(&mut self) {
        let running = self.replicate();
        running.wait_for(": following ");
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
        self.check(&log);
        assert!(self.rows >= acknowledged(&self.ledger()), "the application's own commits are gone");
        let same = dump(&self.place.path("restored.db")) == dump(&self.place.path("app.db"));
        assert!(same, "the bucket does not hold the application's database");
    }

    /// Rows that the bucket holds.
    pub(crate) const fn rows(&self) -> i64 {
        self.rows
    }
}

const URL: &str = "s3://lifeboat/app";
