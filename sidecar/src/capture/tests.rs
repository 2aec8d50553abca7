use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::board::Board;
use crate::config::Config;
use crate::places::Places;
use crate::watch::Watcher;

/// The longest pause with the guard.
const SHORT: Duration = Duration::from_millis(10);

fn is_kept_from_checkpointing(application: &Connection) -> bool {
    application.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0)).unwrap() == 1
}

/// A follower whose application floods it.
fn flooded(path: &Path, application: &Connection) -> Database {
    application
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; CREATE TABLE t(x)",
        )
        .unwrap();
    let mut database = Database::open(path, EnforceWal::No).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while database.pause_max().is_none() && Instant::now() < until {
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO t SELECT randomblob(4000) FROM n";
        application.execute_batch(many).unwrap();
        database.follow(&mut DirtyPages::new()).unwrap();
    }
    database
}

#[test]
fn no_order_is_carried_out_on_guard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    let database = flooded(&path, &application);
    let watcher = Watcher::start().unwrap();
    let config = Config::parse("dbs: [{path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
    let post = Board::new(watcher.clone()).add(&config.databases[0]);
    let watch = Arc::new(watcher.watch(&path));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = Task {
        path: path.clone(),
        enforce: EnforceWal::No,
        synchronous: Synchronous::Normal,
        rhythm: config.databases[0].rhythm(),
        expected: Expected::Nothing,
        place: runtime.block_on(Places::new(1).take()),
        boot_id: String::new(),
        folder: folder.path().to_owned(),
    };
    let notes = Notes::new(folder.path(), "", "", database.page_size());
    let mut capture = Capture::new(database, task, notes, &post, &watch);
    let (give, orders) = std::sync::mpsc::channel();
    let (reports, _reports) = tokio::sync::mpsc::channel(1);
    capture.database.stand_by(SHORT);
    capture.take_orders(&orders, &reports).unwrap();
    assert!(is_kept_from_checkpointing(&application), "without an order the guard stays where it is");
    give.send(Order::Hurry).unwrap();
    capture.take_orders(&orders, &reports).unwrap();
    assert!(!is_kept_from_checkpointing(&application));
}
