use std::path::Path;
use std::time::Duration;

use super::*;
use crate::marks::Marks;

/// A database, and the application that has it open.
fn create(path: &Path) -> rusqlite::Connection {
    let application = rusqlite::Connection::open(path).unwrap();
    application
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        .unwrap();
    application
}

fn fleet(config: &Arc<Config>) -> Fleet {
    let watcher = Watcher::start().unwrap();
    Fleet::new(Arc::clone(config), Board::new(watcher.clone()), watcher, CancellationToken::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_while_a_new_config_waits_goes_where_that_says() {
    let folder = tempfile::tempdir().unwrap();
    let (leaving, found) = (folder.path().join("leaving.db"), folder.path().join("tenants/found.db"));
    std::fs::create_dir(folder.path().join("tenants")).unwrap();
    let _applications = [create(&leaving), create(&found)];
    // Whoever waits for a lock takes a while until it has left.
    let _lock = Marks::beside(&leaving).lock(Duration::ZERO).await.unwrap();
    let place = folder.path().display();
    let tenants = |replica: &str| {
        format!("{{dir: '{place}/tenants', pattern: '*.db', replica: {{url: 'file://{place}/{replica}'}}}}")
    };
    let leaving = format!("{{path: '{place}/leaving.db', replica: {{url: 'file://{place}/leaving'}}}}");
    let old = Config::parse(&format!("dbs: [{leaving}, {}]", tenants("old"))).unwrap();
    let new = Config::parse(&format!("dbs: [{}]", tenants("new"))).unwrap();
    let old = Arc::new(old);
    let mut fleet = fleet(&old);
    fleet.arrive(&old.databases).unwrap();
    let (finds, coming) = mpsc::channel(1);
    fleet.coming = coming;
    finds.try_send(old.folders[0].database(&found).unwrap()).unwrap();
    fleet.reload(Ok(new));
    let (board, stop) = (Arc::clone(&fleet.board), fleet.stop.clone());
    let (_, nothing_else) = mpsc::channel(1);
    let following = tokio::spawn(fleet.until_all_end(Stay::ForGood, nothing_else));
    let is_stored = || board.status().databases.iter().any(|status| status.position.is_some());
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_stored() && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    following.await.unwrap().unwrap();
    let is_there = |replica: &str| folder.path().join(replica).join("found.db/ltx").exists();
    assert!(is_there("new") && !is_there("old"), "{:?}", board.status());
}

#[tokio::test]
async fn who_is_late_is_named_also_when_nobody_knows_how_much_waits() {
    let entry = |name: &str| format!("{{path: /{name}, replica: {{url: 'file:///replica/{name}'}}}}");
    let text = format!("dbs: [{}, {}, {}]", entry("unknown.db"), entry("stored.db"), entry("some.db"));
    let fleet = fleet(&Arc::new(Config::parse(&text).unwrap()));
    let posts: Vec<_> = fleet.shared.config.databases.iter().map(|config| fleet.board.add(config)).collect();
    let slot = lifeboat_replica::head::Base { txid: 1, checksum: None };
    posts.iter().for_each(|post| post.stored(crate::board::position(slot, None)));
    posts[0].turned(0, Some(Instant::now()));
    posts[1].turned(0, None);
    posts[2].turned(4096, Some(Instant::now()));
    let said = fleet.late().message;
    assert!(said.starts_with("the last commits of /unknown.db, /some.db (4096 bytes) could not"), "{said}");
}
