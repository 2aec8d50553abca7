//! The committed definitions are the ones that the types give.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn the_committed_definitions_are_fresh() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (path, text) in lifeboat_operator::crds::files().unwrap() {
        let committed = std::fs::read_to_string(checkout.join(&path)).unwrap_or_default();
        assert!(committed == text, "{} is stale; run `make crds`", path.display());
    }
}

/// A page that shows every change of the API in review.
#[test]
fn the_definition_is_known() {
    insta::assert_json_snapshot!(lifeboat_api::crd::definition().unwrap());
}
