//! An application that writes all the time, and whoever follows it by a config file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Place, Running};

/// The table that it writes to.
pub const TABLE: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x)";

/// Follows `app.db` by a config file with these keys, to the replica `replica`.
pub fn follow(place: &Place, keys: &str) -> Running {
    let config = place.path("lifeboat.yml");
    let (db, url) = (place.text("app.db"), place.url("replica"));
    std::fs::write(&config, format!("{keys}dbs: [{{path: '{db}', replica: {{url: '{url}'}}}}]\n")).unwrap();
    place
        .start(&["--log-level", "debug", "replicate", "--config", &config.display().to_string()], "following")
}

/// Writes until told to stop: rows that stay, rows that change, and a shrinking database now and then.
pub fn write(place: &Place, is_over: &AtomicBool) {
    let app = place.open("app.db");
    for n in 0_i64.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        app.execute("INSERT INTO t (n, x) VALUES (NULL, randomblob(?1))", [200 + n % 5 * 300]).unwrap();
        app.execute("UPDATE t SET x = randomblob(300) WHERE n = ?1 % 17", [n]).unwrap();
        if n % 300 == 299 {
            app.execute_batch("DELETE FROM t WHERE n % 3 = 0; VACUUM;").unwrap();
        }
        std::thread::sleep(Duration::from_millis(7));
    }
}
