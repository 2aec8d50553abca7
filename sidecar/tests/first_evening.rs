//! The story of somebody's first evening with replication, as a test that reads like it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use support::{Place, dump};

const CARS: &str = "CREATE TABLE cars (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO cars (name) VALUES ('Audi A4'), ('BMW 320i');";
const MORE_CARS: [&str; 3] = ["Citroen DS", "Fiat 500", "Mazda MX-5"];

#[test]
fn a_first_evening() {
    let place = Place::new();

    // A database, as the application made it.
    let app = place.open("foo.db");
    app.execute_batch(CARS).unwrap();

    // Replicate it from the command line, and go on writing.
    let (foo, bucket) = (place.text("foo.db"), place.url("replica"));
    let replicating = place.start(&["replicate", &foo, &bucket], "stored txid 0000000000000001");
    assert!(replicating.log().contains("switched to WAL mode"), "{}", replicating.log());
    for car in MORE_CARS {
        app.execute("INSERT INTO cars (name) VALUES (?1)", [car]).unwrap();
    }
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");

    // Restore it elsewhere: every row is there.
    let elsewhere = place.text("elsewhere.db");
    place.run(&["restore", "-o", &elsewhere, &bucket]).says(0, &["restored"]);
    assert_eq!(dump(Path::new(&elsewhere)), dump(Path::new(&foo)));
    assert_eq!(dump(Path::new(&elsewhere)).len(), 5);

    // Run it from a config file, in the shape that Litestream's has. A list without databases says so.
    let config = place.text("litestream.yml");
    std::fs::write(&config, "dbs:\n").unwrap();
    place.run(&["replicate", "--config", &config]).says(2, &["no databases", "dbs"]);
    std::fs::write(&config, format!("dbs:\n  - path: {foo}\n    replicas:\n      - url: {bucket}\n"))
        .unwrap();
    let replicating = place.start(&["replicate", "--config", &config], "the bucket already has it");

    // The last row, and the disaster.
    app.execute("INSERT INTO cars (name) VALUES ('Nissan Skyline')", []).unwrap();
    let (code, log) = replicating.stop();
    assert_eq!(code, Some(0), "{log}");
    drop(app);
    for file in [&foo, &format!("{foo}-wal"), &format!("{foo}-shm")] {
        let _ = std::fs::remove_file(file);
    }

    // A database that is not in the config is named, and so are those that are.
    let bar = place.text("bar.db");
    place.run(&["restore", "--config", &config, &bar]).says(4, &[&bar, "not in the config", &foo]);

    // And back it comes, the last row included.
    place.run(&["restore", "--config", &config, &foo]).says(0, &["restored"]);
    let rows = dump(Path::new(&foo));
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert!(rows[5].contains("Nissan Skyline"), "{rows:?}");
}
