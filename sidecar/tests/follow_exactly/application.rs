//! The application: another process that writes to its database and knows nothing of us.
//!
//! It is this test binary, started again to run one "test" that does what a [`Workload`] says.

use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

/// What the application does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) page_size: u32,
    pub(crate) synchronous: &'static str,
    pub(crate) writers: usize,
    pub(crate) work: Work,
    /// A loop of explicit checkpoints of this mode beside the writers.
    pub(crate) checkpoints: &'static str,
    /// How long each of these waits for readers and writers.
    pub(crate) patience: Duration,
    pub(crate) autocheckpoint: u32,
    /// How long a writer rests after each piece of work.
    pub(crate) rest: Duration,
    pub(crate) duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One row a transaction.
    Insert,
    /// The same row again and again.
    Hot,
    /// Inserts, updates, deletes, transactions that spill and roll back, and VACUUM.
    Mixed,
    /// One row a transaction, with a connection of its own for each.
    OpenAndClose,
    /// One row a transaction, on a file system that does not promise to leave neighbouring bytes alone.
    Padded,
}

impl Workload {
    pub(crate) const PLAIN: Self = Self {
        page_size: 4096,
        synchronous: "NORMAL",
        writers: 1,
        work: Work::Insert,
        checkpoints: "",
        // Waiting for readers longer than this would leave no time for the writers.
        patience: Duration::from_millis(20),
        autocheckpoint: 1000,
        rest: Duration::ZERO,
        duration: Duration::from_secs(1),
    };

    fn encode(&self) -> String {
        let Self { page_size, synchronous, writers, work, checkpoints, autocheckpoint, .. } = self;
        let [patience, rest, duration] =
            [self.patience, self.rest, self.duration].map(|time| time.as_micros());
        let what = format!("{page_size},{synchronous},{writers},{work:?},{checkpoints},{autocheckpoint}");
        format!("{what},{patience},{rest},{duration}")
    }

    fn decode(text: &str) -> Self {
        let fields: Vec<&'static str> = String::leak(text.to_owned()).split(',').collect();
        let all = [Work::Insert, Work::Hot, Work::Mixed, Work::OpenAndClose, Work::Padded];
        Self {
            page_size: fields[0].parse().unwrap(),
            synchronous: fields[1],
            writers: fields[2].parse().unwrap(),
            work: all.into_iter().find(|work| format!("{work:?}") == fields[3]).unwrap(),
            checkpoints: fields[4],
            autocheckpoint: fields[5].parse().unwrap(),
            patience: Duration::from_micros(fields[6].parse().unwrap()),
            rest: Duration::from_micros(fields[7].parse().unwrap()),
            duration: Duration::from_micros(fields[8].parse().unwrap()),
        }
    }
}

/// What the application did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: u64,
    /// The longest that one piece of work took.
    pub(crate) commit_max: Duration,
    /// The longest that one of its explicit checkpoints took.
    pub(crate) checkpoint_max: Duration,
}

/// The running application. It has created its database, and writes when told to.
pub(crate) struct Application {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Application {
    pub(crate) fn start(database: &Path, workload: &Workload) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "application::the_application", "--ignored", "--nocapture"])
            .env("FOLLOW_DATABASE", database)
            .env("FOLLOW_WORKLOAD", workload.encode())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut application = Self { child, output };
        application.wait_for("READY");
        application
    }

    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it did since [`go`](Self::go). Waits until it has ended.
    pub(crate) fn done(mut self) -> Done {
        let line = self.wait_for("DONE");
        assert!(self.child.wait().unwrap().success());
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let milliseconds = |at: usize| Duration::from_millis(numbers[at]);
        Done { commits: numbers[0], commit_max: milliseconds(1), checkpoint_max: milliseconds(2) }
    }

    /// Reads its output up to a line with this word, and returns the rest of that line.
    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("the application ended without saying {word}");
    }
}

#[test]
#[ignore = "run by the other tests as a process of its own"]
fn the_application() {
    let Some(database) = std::env::var_os("FOLLOW_DATABASE") else { return };
    let database = Path::new(&database);
    let workload = Workload::decode(&std::env::var("FOLLOW_WORKLOAD").unwrap());
    create(database, &workload);
    println!("READY");
    stdin().read_line(&mut String::new()).unwrap();
    let until = Instant::now() + workload.duration;
    let done = thread::scope(|scope| {
        let checkpointer = scope.spawn(|| checkpoint(database, &workload, until));
        let writers: Vec<_> = (0..workload.writers)
            .map(|seed| scope.spawn(move || write(database, &workload, until, seed)))
            .collect();
        let mut done = Done { checkpoint_max: checkpointer.join().unwrap(), ..Done::default() };
        for (commits, longest) in writers.into_iter().map(|writer| writer.join().unwrap()) {
            done.commits += commits;
            done.commit_max = done.commit_max.max(longest);
        }
        done
    });
    println!("DONE {} {} {}", done.commits, done.commit_max.as_millis(), done.checkpoint_max.as_millis());
}

fn create(database: &Path, workload: &Workload) {
    let connection = connect(database, workload);
    let table = "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE INDEX i ON t(x)";
    connection.execute_batch(&format!("PRAGMA page_size={}; {table}", workload.page_size)).unwrap();
    connection.execute_batch("INSERT INTO t(x) VALUES (randomblob(300))").unwrap();
}

fn connect(database: &Path, workload: &Workload) -> Connection {
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI;
    let psow = u8::from(workload.work != Work::Padded);
    let uri = format!("file:{}?psow={psow}", database.display());
    let connection = Connection::open_with_flags(uri, flags).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    let (synchronous, autocheckpoint) = (workload.synchronous, workload.autocheckpoint);
    let settings = format!("PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint={autocheckpoint};");
    connection.execute_batch(&format!("{settings} PRAGMA cache_size=10;")).unwrap();
    connection
}

/// Checkpoints until the time is over; returns the longest time one took.
fn checkpoint(database: &Path, workload: &Workload, until: Instant) -> Duration {
    let connection = connect(database, workload);
    connection.busy_timeout(workload.patience).unwrap();
    let mut longest = Duration::ZERO;
    while !workload.checkpoints.is_empty() && Instant::now() < until {
        let start = Instant::now();
        let pragma = format!("PRAGMA wal_checkpoint({})", workload.checkpoints);
        connection.query_row(&pragma, [], |_| Ok(())).unwrap();
        longest = longest.max(start.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    longest
}

/// Writes until the time is over; returns the number of its commits, and the longest time one took.
fn write(database: &Path, workload: &Workload, until: Instant, seed: usize) -> (u64, Duration) {
    let mut connection = connect(database, workload);
    let (mut commits, mut longest) = (0, Duration::ZERO);
    for round in seed.. {
        if Instant::now() >= until {
            break;
        }
        if workload.work == Work::OpenAndClose {
            connection = connect(database, workload);
        }
        let sql = match workload.work {
            Work::Insert | Work::OpenAndClose | Work::Padded => INSERT,
            Work::Hot => "UPDATE t SET x = randomblob(300) WHERE id = 1",
            Work::Mixed => MIXED[round % MIXED.len()],
        };
        let start = Instant::now();
        connection.execute_batch(sql).unwrap();
        longest = longest.max(start.elapsed());
        commits += 1;
        thread::sleep(workload.rest);
    }
    (commits, longest)
}

const INSERT: &str = "INSERT INTO t(x) VALUES (randomblob(100))";
/// Each writer is at another place of this list. Ids wrap, so that the database does not only grow.
const MIXED: [&str; 9] = [
    INSERT,
    "BEGIN; UPDATE t SET x = randomblob(200) WHERE id % 3 = 0; INSERT INTO t(x) VALUES (randomblob(9000)); COMMIT",
    "INSERT INTO t(x) SELECT randomblob(400) FROM (SELECT 1 UNION SELECT 2), (SELECT 1 UNION SELECT 2)",
    "BEGIN; INSERT INTO t(x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300)
        SELECT randomblob(500) FROM n; ROLLBACK",
    "BEGIN; DELETE FROM t WHERE id % 7 = 2; INSERT INTO t(x) VALUES (randomblob(20)); COMMIT",
    "BEGIN; INSERT INTO t(x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)
        SELECT randomblob(500) FROM n; COMMIT",
    "BEGIN; UPDATE t SET x = randomblob(50) WHERE id % 2 = 1; ROLLBACK",
    "DELETE FROM t WHERE id NOT IN (SELECT id FROM t ORDER BY id DESC LIMIT 200)",
    "VACUUM",
];
