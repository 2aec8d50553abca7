//! The application: another process that writes to its database and knows nothing of us.
//!
//! It is this test binary, started again to run one "test" that does what a [`Workload`] says.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write, stdin};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lifeboat_wal_index::Lock;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// What the application does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) page_size: u32,
    pub(crate) synchronous: &'static str,
    /// How many processes the application has.
    pub(crate) processes: usize,
    /// How many writers each of them has.
    pub(crate) writers: usize,
    /// How many readers, which each stay at one snapshot for a while.
    pub(crate) readers: usize,
    pub(crate) work: Work,
    pub(crate) auto_vacuum: &'static str,
    /// Whether writers never wait for anybody, and count how often they would have had to.
    pub(crate) is_impatient: bool,
    /// Whether writers are killed, or so it seems, while they change the header of the WAL-index.
    pub(crate) tears: bool,
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
    /// Transactions of 100 MB.
    Huge,
    /// Grows by many pages and shrinks again.
    Shrink,
    /// One row a transaction, on a file system that does not promise to leave neighbouring bytes alone.
    Padded,
}

impl Workload {
    pub(crate) const PLAIN: Self = Self {
        page_size: 4096,
        synchronous: "NORMAL",
        processes: 1,
        writers: 1,
        readers: 0,
        work: Work::Insert,
        auto_vacuum: "NONE",
        is_impatient: false,
        tears: false,
        checkpoints: "",
        // Waiting for readers longer than this would leave no time for the writers.
        patience: Duration::from_millis(20),
        autocheckpoint: 1000,
        rest: Duration::ZERO,
        duration: Duration::from_secs(1),
    };

    fn encode(&self) -> String {
        let Self { page_size, synchronous, writers, work, checkpoints, autocheckpoint, .. } = self;
        let Self { readers, auto_vacuum, is_impatient, tears, .. } = self;
        let [patience, rest, duration] =
            [self.patience, self.rest, self.duration()].map(|time| time.as_micros());
        let what = format!("{page_size},{synchronous},{writers},{work:?},{checkpoints},{autocheckpoint}");
        format!("{what},{patience},{rest},{duration},{readers},{auto_vacuum},{is_impatient},{tears}")
    }

    fn decode(text: &str) -> Self {
        let fields: Vec<&'static str> = String::leak(text.to_owned()).split(',').collect();
        Self {
            page_size: fields[0].parse().unwrap(),
            synchronous: fields[1],
            writers: fields[2].parse().unwrap(),
            work: Work::ALL.into_iter().find(|work| format!("{work:?}") == fields[3]).unwrap(),
            checkpoints: fields[4],
            autocheckpoint: fields[5].parse().unwrap(),
            patience: Duration::from_micros(fields[6].parse().unwrap()),
            rest: Duration::from_micros(fields[7].parse().unwrap()),
            duration: Duration::from_micros(fields[8].parse().unwrap()),
            readers: fields[9].parse().unwrap(),
            auto_vacuum: fields[10],
            is_impatient: fields[11].parse().unwrap(),
            tears: fields[12].parse().unwrap(),
            processes: 1,
        }
    }

    /// How long it works; `FOLLOW_SECONDS` in the environment makes all of them longer.
    fn duration(&self) -> Duration {
        let seconds = std::env::var("FOLLOW_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        seconds.map_or(self.duration, Duration::from_secs)
    }
}

impl Work {
    const ALL: [Self; 7] =
        [Self::Insert, Self::Hot, Self::Mixed, Self::OpenAndClose, Self::Huge, Self::Shrink, Self::Padded];
}

/// What the application did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: u64,
    /// The longest that one piece of work took.
    pub(crate) commit_max: Duration,
    /// The longest that one of its explicit checkpoints took.
    pub(crate) checkpoint_max: Duration,
    /// How often an impatient writer was told that the database is busy.
    pub(crate) busy: u64,
}

impl Done {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            commit_max: self.commit_max.max(other.commit_max),
            checkpoint_max: self.checkpoint_max.max(other.checkpoint_max),
            busy: self.busy + other.busy,
        }
    }
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

    /// Ends it at once, wherever it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it did since [`go`](Self::go). Waits until it has ended.
    pub(crate) fn done(mut self) -> Done {
        let line = self.wait_for("DONE");
        assert!(self.child.wait().unwrap().success());
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let milliseconds = |at: usize| Duration::from_millis(numbers[at]);
        Done {
            commits: numbers[0],
            commit_max: milliseconds(1),
            checkpoint_max: milliseconds(2),
            busy: numbers[3],
        }
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

/// All processes of an application.
pub(crate) struct Applications {
    processes: Vec<Application>,
}

impl Applications {
    pub(crate) fn start(database: &Path, workload: &Workload) -> Self {
        Self { processes: (0..workload.processes).map(|_| Application::start(database, workload)).collect() }
    }

    pub(crate) fn go(&mut self) {
        self.processes.iter_mut().for_each(Application::go);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.processes.iter_mut().any(Application::is_running)
    }

    /// Ends all of them at once, wherever they are.
    pub(crate) fn kill(self) {
        self.processes.into_iter().for_each(Application::kill);
    }

    /// What all of them did. Waits until they have ended.
    pub(crate) fn done(self) -> Done {
        self.processes.into_iter().fold(Done::default(), |done, process| done.and(process.done()))
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
        scope.spawn(|| tear(database, &workload, until));
        for _ in 0..workload.readers {
            scope.spawn(|| read(database, &workload, until));
        }
        let writers: Vec<_> = (0..workload.writers)
            .map(|seed| scope.spawn(move || write(database, &workload, until, seed)))
            .collect();
        let done = Done { checkpoint_max: checkpointer.join().unwrap(), ..Done::default() };
        writers.into_iter().fold(done, |done, writer| done.and(writer.join().unwrap()))
    });
    let Done { commits, commit_max, checkpoint_max, busy } = done;
    println!("DONE {commits} {} {} {busy}", commit_max.as_millis(), checkpoint_max.as_millis());
}

fn create(database: &Path, workload: &Workload) {
    let connection = connect(database, workload);
    connection.busy_timeout(LONG).unwrap();
    let (page_size, auto_vacuum) = (workload.page_size, workload.auto_vacuum);
    let sizes = format!("PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum};");
    let tables = "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x);
        CREATE INDEX IF NOT EXISTS i ON t(x)";
    connection.execute_batch(&format!("{sizes} {tables}")).unwrap();
    connection.execute_batch("INSERT INTO t(x) VALUES (randomblob(300))").unwrap();
}

fn connect(database: &Path, workload: &Workload) -> Connection {
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI;
    let psow = u8::from(workload.work != Work::Padded);
    let uri = format!("file:{}?psow={psow}", database.display());
    let connection = Connection::open_with_flags(uri, flags).unwrap();
    connection.busy_timeout(if workload.is_impatient { Duration::ZERO } else { LONG }).unwrap();
    let (synchronous, autocheckpoint) = (workload.synchronous, workload.autocheckpoint);
    let settings = format!("PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint={autocheckpoint};");
    connection.execute_batch(&format!("{settings} PRAGMA cache_size=10;")).unwrap();
    connection
}

/// Leaves the header of the WAL-index torn now and then, as a writer does that is killed between its two copies: while it
/// has the write lock.
fn tear(database: &Path, workload: &Workload, until: Instant) {
    if !workload.tears {
        return;
    }
    let writer = connect(database, workload);
    writer.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
    // Closing it would drop the locks of every connection in this process, so it stays open to the end.
    let shared = OpenOptions::new().write(true).open(database.with_file_name("app.db-shm")).unwrap();
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        while !lifeboat_wal_index::try_lock(&writer, Lock::Write).unwrap() {
            thread::yield_now();
        }
        shared.write_all_at(&[0xaa; 4], 16).unwrap();
        lifeboat_wal_index::unlock(&writer, Lock::Write).unwrap();
    }
    std::mem::forget(shared);
}

/// Stays at one snapshot for a while, again and again.
fn read(database: &Path, workload: &Workload, until: Instant) {
    let connection = connect(database, workload);
    while Instant::now() < until {
        connection.execute_batch("BEGIN").unwrap();
        let count =
            || connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        let before = count();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(count(), before, "a reader's snapshot moved");
        connection.execute_batch("COMMIT").unwrap();
    }
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

/// Writes until the time is over.
fn write(database: &Path, workload: &Workload, until: Instant, seed: usize) -> Done {
    let mut connection = connect(database, workload);
    let mut done = Done::default();
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
            Work::Huge => HUGE[round % HUGE.len()],
            Work::Shrink => SHRINK[round % SHRINK.len()],
        };
        let start = Instant::now();
        let is_busy = match connection.execute_batch(sql) {
            Ok(()) => false,
            Err(error) if workload.is_impatient => {
                assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{error}");
                true
            }
            Err(error) => panic!("{error}"),
        };
        let (commits, busy) = (u64::from(!is_busy), u64::from(is_busy));
        done = done.and(Done { commits, commit_max: start.elapsed(), checkpoint_max: Duration::ZERO, busy });
        thread::sleep(workload.rest);
    }
    done
}

/// For whoever waits as long as it takes.
const LONG: Duration = Duration::from_secs(30);
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
/// A transaction that no cache holds, 50 MB in the table and as much in its index, and one that is taken back.
const HUGE: [&str; 3] = [
    "BEGIN; INSERT INTO t(x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50)
        SELECT zeroblob(1000000 + i) FROM n; COMMIT",
    "BEGIN; UPDATE t SET x = randomblob(1000) WHERE length(x) > 1000; ROLLBACK",
    "DELETE FROM t WHERE length(x) > 1000",
];
/// With `auto_vacuum=INCREMENTAL` the pragma gives pages back, with `FULL` each commit does.
const SHRINK: [&str; 4] = [
    "INSERT INTO t(x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500)
        SELECT randomblob(2000) FROM n",
    "DELETE FROM t WHERE id % 3 > 0",
    "PRAGMA incremental_vacuum(50)",
    "DELETE FROM t WHERE id % 5 > 0; PRAGMA incremental_vacuum",
];
