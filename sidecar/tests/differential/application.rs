//! The application: random SQL over several connections, from a seed.
//!
//! Statements may fail where an application's may: the database is busy, a key is taken, a table is gone. Anything else
//! that SQLite complains about, above all damage, fails the test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ToSql, params};

use crate::dice::Dice;

/// The application of one world.
pub(crate) struct Application {
    path: PathBuf,
    settings: Settings,
    writers: Vec<Connection>,
    readers: Vec<Connection>,
    /// What was said so far, for the one who has to find out why a world failed.
    told: Vec<String>,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    page_size: usize,
    auto_vacuum: u8,
    autocheckpoint: u32,
    cache_size: i32,
    writers: usize,
    pages_max: usize,
}

impl Application {
    pub(crate) fn new(path: &Path, seed: u64, dice: &mut Dice) -> Self {
        let page_size = dice.one_of(&[512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]);
        let settings = Settings {
            page_size,
            auto_vacuum: dice.one_of(&[0, 1, 2]),
            autocheckpoint: dice.one_of(&[0, 1, 10, 1000]),
            cache_size: dice.one_of(&[10, 10, -2000]),
            writers: 1 + dice.below(3),
            pages_max: (400_000 / page_size).max(16),
        };
        let (path, writers, readers) = (path.to_owned(), Vec::new(), Vec::new());
        let mut application = Self { path, settings, writers, readers, told: Vec::new(), seed };
        application.create();
        application.open_all();
        application
    }

    /// What has been said last.
    fn story(&self) -> String {
        let from = self.told.len().saturating_sub(40);
        format!("{:?}\n{}", self.settings, self.told[from..].join("\n"))
    }

    pub(crate) fn note(&mut self, what: &str) {
        self.told.push(format!("-- {what}"));
    }

    fn create(&self) {
        let Settings { page_size, auto_vacuum, .. } = self.settings;
        let settings = format!(
            "PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum}; PRAGMA journal_mode=WAL;"
        );
        Connection::open(&self.path)
            .unwrap()
            .execute_batch(&format!("{settings} {}", create_table(0, false)))
            .unwrap();
    }

    fn open_all(&mut self) {
        for _ in 0..self.settings.writers {
            let connection = self.connect();
            self.writers.push(connection);
        }
    }

    fn connect(&self) -> Connection {
        let Settings { autocheckpoint, cache_size, .. } = self.settings;
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        let settings = format!(
            "PRAGMA wal_autocheckpoint={autocheckpoint}; PRAGMA cache_size={cache_size}; PRAGMA synchronous=OFF;"
        );
        connection.execute_batch(&settings).unwrap();
        connection
    }

    /// Closes every connection; the last one to close checkpoints and deletes the WAL, unless somebody else has it open.
    pub(crate) fn close_all(&mut self) {
        self.note("the application closes");
        self.readers.clear();
        self.writers.clear();
    }

    /// Does one thing that an application may do.
    pub(crate) fn act(&mut self, dice: &mut Dice) {
        if self.writers.is_empty() {
            self.open_all();
        }
        let writer = self.choose_writer(dice);
        if !self.writers[writer].is_autocommit() && dice.percent(30) {
            return self.end_transaction(writer, dice);
        }
        if self.pages() > self.settings.pages_max {
            return self.make_room(writer, dice);
        }
        match dice.below(100) {
            0..30 => self.insert(writer, dice),
            30..38 => self.insert_many(writer, dice),
            38..50 => self.update(writer, dice),
            50..60 => self.delete(writer, dice),
            60..72 => self.change_schema(writer, dice),
            72..77 => self.vacuum(writer, dice),
            77..84 => self.checkpoint(writer, dice),
            84..94 => self.begin(writer, dice),
            94..97 => self.read_or_stop(dice),
            97..99 => self.reopen(writer),
            _ => self.close_all(),
        }
    }

    /// What it does while nobody follows: above all what leads through the WAL again and again, and deletes it.
    pub(crate) fn live_alone(&mut self, dice: &mut Dice) {
        for _ in 0..dice.one_of(&[0, 1, 2, 4, 12]) {
            match dice.below(10) {
                0 => self.close_all(),
                1 | 2 if !self.writers.is_empty() => self.checkpoint(0, dice),
                _ => self.act(dice),
            }
        }
    }

    /// Mostly one that has a transaction open, because the others only hear that the database is busy.
    fn choose_writer(&self, dice: &mut Dice) -> usize {
        let open = self.writers.iter().position(|writer| !writer.is_autocommit());
        match open {
            Some(writer) if dice.percent(70) => writer,
            Some(_) | None => dice.below(self.writers.len()),
        }
    }

    fn pages(&self) -> usize {
        let pages = self.writers[0].query_row("PRAGMA page_count", [], |row| row.get(0));
        usize::try_from(pages.unwrap_or(0_i64)).unwrap()
    }

    fn say(&mut self, writer: usize, sql: &str, values: &[&dyn ToSql]) {
        let done = say(&self.writers[writer], sql, values);
        let outcome = done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
        self.told.push(format!("{writer}: {sql}; -- {outcome}"));
        if let Err(error) = done {
            // Busy, a key that is taken, a table that is gone, a column that was never there.
            let is_wrong_sql = matches!(error, rusqlite::Error::SqlInputError { .. });
            let is_harmless =
                is_wrong_sql || error.sqlite_error_code().is_some_and(|code| HARMLESS.contains(&code));
            assert!(is_harmless, "{sql}: {error}");
        }
    }

    fn insert(&mut self, writer: usize, dice: &mut Dice) {
        let blob = self.blob(dice);
        let sql = format!("INSERT OR REPLACE INTO t{}(k, x) VALUES (?1, ?2)", table(dice));
        self.say(writer, &sql, params![key(dice), blob]);
    }

    /// A few bytes, about a page, or many pages.
    fn blob(&self, dice: &mut Dice) -> Vec<u8> {
        let page = self.settings.page_size;
        let max = match dice.below(10) {
            0..6 => 60,
            6..9 => page * 3 / 2,
            _ => (page * 30).min(200_000),
        };
        let len = dice.below(max);
        dice.bytes(len)
    }

    /// Larger than the cache, so that pages go to the WAL before the transaction ends.
    fn insert_many(&mut self, writer: usize, dice: &mut Dice) {
        let rows = 1 + dice.below(60);
        let bytes = (self.settings.page_size / 3).min(120_000 / rows);
        let sql = format!(
            "INSERT OR REPLACE INTO t{}(k, x) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
             SELECT ?1 + i, substr(?2, i % 9) FROM n",
            table(dice)
        );
        self.say(writer, &sql, params![key(dice), dice.bytes(bytes)]);
    }

    fn update(&mut self, writer: usize, dice: &mut Dice) {
        let (table, modulus) = (table(dice), 1 + dice.below(20));
        let remainder = dice.below(modulus);
        let which = format!("WHERE k % {modulus} = {remainder}");
        match dice.below(4) {
            // Pages are written again and are as they were.
            0 => self.say(writer, &format!("UPDATE t{table} SET x = x {which}"), params![]),
            1 => self.say(writer, &format!("PRAGMA user_version = {}", dice.below(9)), params![]),
            _ => {
                let len = dice.below(100);
                let blob = dice.bytes(len);
                self.say(writer, &format!("UPDATE t{table} SET x = ?1 {which}"), params![blob]);
            }
        }
    }

    fn delete(&mut self, writer: usize, dice: &mut Dice) {
        let (table, from) = (table(dice), key(dice));
        let sql = match dice.below(6) {
            0 => format!("DELETE FROM t{table}"),
            _ => format!("DELETE FROM t{table} WHERE k BETWEEN {from} AND {from} + {}", dice.below(200)),
        };
        self.say(writer, &sql, params![]);
    }

    fn change_schema(&mut self, writer: usize, dice: &mut Dice) {
        let (table, other, column) = (table(dice), table(dice), dice.below(3));
        let sql = match dice.below(10) {
            0..3 => create_table(table, dice.percent(30)),
            3 => format!("DROP TABLE IF EXISTS t{table}"),
            4 => format!("CREATE INDEX IF NOT EXISTS i{table} ON t{table}(x)"),
            5 => format!("DROP INDEX IF EXISTS i{table}"),
            6 => format!("ALTER TABLE t{table} ADD COLUMN c{column} DEFAULT 'd'"),
            7 => format!("ALTER TABLE t{table} DROP COLUMN c{column}"),
            8 => format!("ALTER TABLE t{table} RENAME TO t{other}"),
            _ => dice.one_of(&["REINDEX", "ANALYZE"]).to_owned(),
        };
        self.say(writer, &sql, params![]);
    }

    fn vacuum(&mut self, writer: usize, dice: &mut Dice) {
        let sql = match dice.below(4) {
            0 => "VACUUM".to_owned(),
            1 => format!("PRAGMA auto_vacuum = {}", dice.below(3)),
            _ => format!("PRAGMA incremental_vacuum({})", 1 + dice.below(20)),
        };
        self.say(writer, &sql, params![]);
    }

    fn checkpoint(&mut self, writer: usize, dice: &mut Dice) {
        let mode = dice.one_of(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
        self.say(writer, &format!("PRAGMA wal_checkpoint({mode})"), params![]);
    }

    fn begin(&mut self, writer: usize, dice: &mut Dice) {
        let sql = if self.writers[writer].is_autocommit() {
            dice.one_of(&["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT s"])
        } else {
            dice.one_of(&["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"])
        };
        self.say(writer, sql, params![]);
    }

    fn end_transaction(&mut self, writer: usize, dice: &mut Dice) {
        let sql = if dice.percent(70) { "COMMIT" } else { "ROLLBACK" };
        self.say(writer, sql, params![]);
    }

    /// A reader that stays for a while holds back checkpoints, the application's and ours.
    fn read_or_stop(&mut self, dice: &mut Dice) {
        if self.readers.pop().is_some() {
            self.note("a reader ends");
            return;
        }
        let reader = self.connect();
        for sql in ["BEGIN", "SELECT count(*) FROM sqlite_schema"] {
            say(&reader, sql, &[]).unwrap();
        }
        self.note("a reader begins");
        self.readers.push(reader);
        if dice.percent(20) {
            self.checkpoint(0, dice);
        }
    }

    fn reopen(&mut self, writer: usize) {
        self.note(&format!("writer {writer} closes and opens again"));
        drop(self.writers.remove(writer));
        let connection = self.connect();
        self.writers.push(connection);
    }

    /// Keeps worlds small: the file shrinks in the ways that files shrink.
    fn make_room(&mut self, writer: usize, dice: &mut Dice) {
        if !self.writers[writer].is_autocommit() {
            return self.end_transaction(writer, dice);
        }
        for number in 0..TABLES {
            let sql = if dice.percent(50) { "DROP TABLE IF EXISTS" } else { "DELETE FROM" };
            self.say(writer, &format!("{sql} t{number}"), params![]);
        }
        self.say(writer, dice.one_of(&["VACUUM", "PRAGMA incremental_vacuum"]), params![]);
    }

    /// Ends everything and brings everything into the database file. Only when nobody else has it open.
    pub(crate) fn end(&mut self) {
        self.close_all();
        let last = Connection::open(&self.path).unwrap();
        let busy: i64 = last.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0);
        let check: String = last.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.seed;
            println!("{}\nAgain with: DIFFERENTIAL_SEED={seed} DIFFERENTIAL_BOUNDARIES=1", self.story());
        }
    }
}

fn say(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(values)?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn create_table(number: usize, is_without_rowid: bool) -> String {
    let option = if is_without_rowid { " WITHOUT ROWID" } else { "" };
    format!("CREATE TABLE IF NOT EXISTS t{number}(k INTEGER PRIMARY KEY, x){option}")
}

fn table(dice: &mut Dice) -> usize {
    dice.below(TABLES)
}

fn key(dice: &mut Dice) -> i64 {
    i64::try_from(dice.below(300)).unwrap()
}

const TABLES: usize = 3;
const HARMLESS: [ErrorCode; 5] = [
    ErrorCode::DatabaseBusy,
    ErrorCode::DatabaseLocked,
    ErrorCode::ConstraintViolation,
    ErrorCode::SchemaChanged,
    ErrorCode::Unknown,
];
