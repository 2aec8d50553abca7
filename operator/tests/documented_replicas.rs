//! Every `SqliteReplica` that a page or an example shows is one, to its last field.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::path::Path;

use lifeboat_api::SqliteReplica;
use serde_json::Value;

const SHOWN_IN: [&str; 2] = ["README.md", "docs/examples/shop/3-sqlitereplica.yaml"];

#[test]
fn every_replica_that_is_shown_is_one() {
    for path in SHOWN_IN {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
        let shown = replicas(&text);
        assert!(!shown.is_empty(), "{path} shows no SqliteReplica");
        for replica in shown {
            assert_eq!(unknown_fields(&replica), [""; 0], "{path}");
        }
    }
}

/// The documents of this kind: a whole YAML file, or the blocks of a page.
fn replicas(text: &str) -> Vec<String> {
    let blocks: Vec<&str> = match text.split_once("```yaml\n") {
        Some(_) => text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect(),
        None => text.split("\n---\n").collect(),
    };
    let ours = blocks.into_iter().filter(|block| block.lines().any(|line| line == "kind: SqliteReplica"));
    ours.map(str::to_owned).collect()
}

/// What the API server would prune or refuse: fields that are lost on the way through our types.
fn unknown_fields(yaml: &str) -> Vec<String> {
    let written: Value = serde_saphyr::from_str(yaml).unwrap();
    let understood: SqliteReplica = match serde_json::from_value(written.clone()) {
        Ok(replica) => replica,
        Err(error) => return vec![error.to_string()],
    };
    let mut lost = Vec::new();
    compare("", &written, &serde_json::to_value(understood).unwrap(), &mut lost);
    lost
}

fn compare(path: &str, written: &Value, understood: &Value, lost: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                compare(&path, value, understood.get(key).unwrap_or(&Value::Null), lost);
            }
        }
        (Value::Array(written), Value::Array(understood)) if written.len() == understood.len() => {
            for (number, (written, understood)) in written.iter().zip(understood).enumerate() {
                compare(&format!("{path}[{number}]"), written, understood, lost);
            }
        }
        (written, understood) if written == understood => {}
        (_, _) => lost.push(path.to_owned()),
    }
}

mod teeth {
    use super::*;

    #[test]
    fn a_field_with_a_typing_error_is_found() {
        let page =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
        let wrong = replicas(&page)[0].replace("region:", "regoin:");
        assert_eq!(unknown_fields(&wrong), [".spec.store.s3.regoin"]);
    }
}
