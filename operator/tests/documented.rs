//! Every word that users can meet is explained, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use lifeboat_api::{EventReason, Reason};

fn document() -> String {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(checkout.join("docs/errors.md")).unwrap()
}

fn words() -> BTreeSet<&'static str> {
    // A condition that is as expected needs no advice.
    let ours =
        Reason::ALL.iter().filter(|reason| **reason != Reason::AsExpected).map(|reason| reason.as_str());
    let sidecar = lifeboat_wire::Reason::ALL.iter().map(|reason| reason.as_str());
    ours.chain(sidecar).collect()
}

#[test]
fn every_reason_has_a_symptom_a_cause_and_a_fix() {
    let document = document();
    for word in words() {
        let heading = format!("\n### {word}\n");
        let (_, after) =
            document.split_once(&heading).unwrap_or_else(|| panic!("docs/errors.md lacks {word}"));
        let entry = after.split("\n#").next().unwrap();
        for part in ["- **You see**: ", "- **Because**: ", "- **Do**: "] {
            assert!(entry.contains(part), "{word} lacks {part}");
        }
    }
}

#[test]
fn no_entry_is_about_a_word_that_does_not_exist() {
    let document = document();
    let known = words();
    for word in document.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(known.contains(word), "docs/errors.md explains {word}, which nobody says");
    }
}

#[test]
fn every_event_is_listed() {
    let document = document();
    for event in EventReason::ALL {
        assert!(document.contains(&format!("| `{event}` |")), "docs/errors.md lacks the event {event}");
    }
}
