//! One machine: a volume with the database, the application on it, `lifeboat`, and a road to the bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::ledger::{Ledger, counted, row};
use crate::support::proxy::Proxy;
use crate::support::{Place, Running, eventually, lifeboat};

/// Where all nodes replicate to, and how one gets there.
pub(crate) struct Road {
    pub(crate) url: String,
    /// `None` to a folder.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
}

pub(crate) struct Node {
    name: usize,
    place: Place,
    road: Road,
    ledger: Arc<Ledger>,
    running: Option<Running>,
    application: Option<Application>,
    /// How often the database was replaced by the bucket's.
    replaced: usize,
    /// Each time that it lost its replica to another node.
    pub(crate) fenced: Vec<Fenced>,
    /// How many rows its application had committed when `lifeboat` was last seen at work.
    committed: i64,
    /// Rows that were written here, are in no replica, and were put aside before the database was replaced.
    pub(crate) put_aside: Vec<PathBuf>,
}

/// A writer lost its replica.
pub(crate) struct Fenced {
    who: String,
    /// So many rows were committed before it did.
    committed: i64,
    /// Where it saved them; `None` where it says that the replica has them.
    pub(crate) fork: Option<String>,
}

impl Fenced {
    /// Every row that was committed before is where it was said to be.
    pub(crate) fn check(&self, rows: &BTreeMap<String, i64>) {
        let found = rows.get(&self.who).copied().unwrap_or(0);
        assert!(found >= self.committed, "{}: {found} of {} rows, {:?}", self.who, self.committed, self.fork);
    }
}

/// The application, a thread that commits and now and then asks that everything be stored.
struct Application {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Node {
    pub(crate) fn new(name: usize, road: Road, ledger: Arc<Ledger>) -> Self {
        let place = Place::new();
        Self {
            name,
            place,
            road,
            ledger,
            running: None,
            application: None,
            replaced: 0,
            fenced: Vec::new(),
            committed: 0,
            put_aside: Vec::new(),
        }
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.road.proxy.as_ref()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        let committed = self.ledger.all().get(&self.who()).map_or(0, |rows| rows.committed);
        self.look();
        if self.running.is_some() {
            self.committed = committed;
        }
        self.running.is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    /// Pulls the plug of `lifeboat`; the application goes on.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Tells it to stop in order. Its code, and what it said.
    pub(crate) fn stop(&mut self) -> Option<(Option<i32>, String)> {
        self.end_application();
        self.look();
        let ended = self.running.take()?.stop();
        self.note(ended.0, &ended.1);
        Some(ended)
    }

    /// Begins to replicate. A database that does not continue the replica is put aside, and the bucket's takes its place.
    pub(crate) fn start(&mut self) {
        if self.is_running() {
            return;
        }
        if !self.place.path("app.db").exists() && !self.restore(&["--if-replica-exists"]) {
            return;
        }
        open(&self.place.path("app.db"));
        for _ in 0..2 {
            match self.replicate() {
                // Who begins to write before it is followed cannot be told from one who wrote elsewhere.
                Started::Following => return self.begin_application(),
                Started::Ended(4) => self.replace(),
                Started::Ended(_) => {}
            }
        }
    }

    fn replicate(&mut self) -> Started {
        let config = self.place.path("lifeboat.yml");
        let endpoint = self.proxy().map(|proxy| format!(", endpoint: '{}'", proxy.endpoint()));
        let text = format!(
            "sync-interval: 500ms\nhandover-timeout: 300ms\nflush-timeout: 60s\nl0-retention: 300ms\n\
             levels: [{{interval: 100ms}}, {{interval: 400ms}}]\nsnapshot: {{interval: 2s}}\n\
             retention: {{window: 6s}}\ndbs: [{{path: '{}', replica: {{url: '{}'{}}}}}]\n",
            self.place.text("app.db"),
            self.road.url,
            endpoint.unwrap_or_default()
        );
        std::fs::write(&config, text).unwrap();
        let args =
            ["replicate", "--config", &config.display().to_string(), "--socket", &self.place.text("a.sock")];
        let mut command = lifeboat(&args);
        command.envs(self.road.environment.clone());
        let running = self.place.spawn(&mut command);
        let is_following = eventually(
            "a node to follow, or to end",
            || {
                if running.log().contains(": following ") {
                    Some(true)
                } else {
                    running.is_over().then_some(false)
                }
            },
            || running.log(),
        );
        self.running = Some(running);
        if is_following {
            return Started::Following;
        }
        Started::Ended(self.look().unwrap())
    }

    /// If `lifeboat` has ended by itself, its code.
    fn look(&mut self) -> Option<i32> {
        if !self.running.as_ref()?.is_over() {
            return None;
        }
        let (status, log) = self.running.take()?.ends();
        self.note(status.code(), &log);
        status.code()
    }

    /// A process may lose its replica, be refused, or give the bucket up; it never takes good data for bad.
    fn note(&mut self, code: Option<i32>, log: &str) {
        assert!(matches!(code, Some(0 | 3 | 4 | 5)), "node {}: {code:?}\n{log}", self.name);
        if code == Some(3) {
            let saved = log.split_once(" but saved as fork ").map(|(_, rest)| rest);
            let fork = saved.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
            assert!(fork.is_some() || log.contains("nothing of ours is missing there"), "{log}");
            let (who, committed) = (self.who(), self.committed);
            self.fenced.push(Fenced { who, committed, fork });
        }
    }

    /// What this node alone has is put aside, and the bucket's database takes the place of its own.
    fn replace(&mut self) {
        self.end_application();
        let aside = self.place.path(&format!("aside-{}.db", self.replaced));
        let own = Connection::open(self.place.path("app.db")).unwrap();
        own.execute("VACUUM INTO ?1", [aside.display().to_string()]).unwrap();
        drop(own);
        if self.restore(&["--force"]) {
            self.put_aside.push(aside);
            (self.replaced, self.committed) = (self.replaced + 1, 0);
        } else {
            std::fs::remove_file(aside).unwrap();
        }
    }

    fn restore(&self, flags: &[&str]) -> bool {
        let (db, endpoint) = (self.place.text("app.db"), self.proxy().map(Proxy::endpoint));
        let mut command = lifeboat(&[&["restore"], flags, &["-o", &db, &self.road.url]].concat());
        command.envs(self.road.environment.clone());
        if let Some(endpoint) = endpoint {
            command.args(["--endpoint", &endpoint]);
        }
        let ran = command.output().unwrap();
        let (code, said) = (ran.status.code(), String::from_utf8_lossy(&ran.stderr));
        assert!(matches!(code, Some(0 | 4 | 5)), "node {} restores: {code:?}\n{said}", self.name);
        code == Some(0)
    }

    fn who(&self) -> String {
        format!("node {} after {}", self.name, self.replaced)
    }

    fn begin_application(&mut self) {
        if self.application.is_some() {
            return;
        }
        let (is_over, ledger, who) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.ledger), self.who());
        let (database, socket) = (self.place.path("app.db"), self.place.text("a.sock"));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let application = open(&database);
            let newest = "SELECT coalesce(max(n), 0) FROM t WHERE who = ?1";
            let first: i64 = application.query_row(newest, [&who], |row| row.get(0)).unwrap();
            for n in first + 1.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                application.execute_batch(&row(&who, n)).unwrap();
                ledger.committed(&who, n);
                if n % 40 == 0 && is_synced(&socket) {
                    ledger.stored(&who, n);
                }
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        self.application = Some(Application { is_over, thread });
    }

    fn end_application(&mut self) {
        if let Some(application) = self.application.take() {
            application.is_over.store(true, Ordering::Relaxed);
            application.thread.join().unwrap();
        }
    }

    /// Every row that was ever committed here is in the database, in one that was put aside, or in the bucket's copy.
    pub(crate) fn check_rows(&self, restored: &BTreeMap<String, i64>) {
        let mut places: Vec<_> = self.put_aside.iter().map(|aside| counted(aside)).collect();
        if self.place.path("app.db").exists() {
            places.push(counted(&self.place.path("app.db")));
        }
        let mine = format!("node {} ", self.name);
        for (who, rows) in self.ledger.all().iter().filter(|(who, _)| who.starts_with(&mine)) {
            let of = |place: &BTreeMap<String, i64>| place.get(who).copied().unwrap_or(0);
            let most = places.iter().map(of).max().unwrap_or(0).max(of(restored));
            assert!(most >= rows.committed, "{who}: {most} of {} rows are anywhere", rows.committed);
        }
    }
}

enum Started {
    Following,
    Ended(i32),
}

/// Opens the database as the application does.
fn open(database: &std::path::Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";
    let table = "CREATE TABLE IF NOT EXISTS t(who TEXT, n INTEGER, x, PRIMARY KEY (who, n));";
    connection.execute_batch(&format!("{settings} {table}")).unwrap();
    connection
}

/// Whether everything committed until now is stored, as the running process says.
fn is_synced(socket: &str) -> bool {
    let mut command: Command = lifeboat(&["sync", "--socket", socket, "--timeout", "2s"]);
    command.output().unwrap().status.success()
}
