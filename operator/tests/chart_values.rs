//! What the schema of the chart's values keeps users from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lifeboat_api::names;
use serde_json::Value;

fn chart(file: &str) -> String {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(checkout.join("charts/lifeboat").join(file)).unwrap()
}

/// The operator's own pod may neither ask for injection (it would wait for itself) nor lose its selector's labels.
#[test]
fn labels_of_the_operators_pod_are_neither_ours_nor_the_selectors() {
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    let forbidden = &schema["properties"]["podLabels"]["propertyNames"]["not"]["anyOf"];
    let prefix = names::LABEL_REPLICA.split_once('/').unwrap().0;
    assert_eq!(forbidden[0]["pattern"], format!("^{}/", prefix.replace('.', r"\.")));
    let helpers = chart("templates/_helpers.tpl");
    let (_, selector) = helpers.split_once(r#"{{- define "lifeboat.selectorLabels" -}}"#).unwrap();
    let (selector, _) = selector.split_once("{{- end }}").unwrap();
    let keys: Vec<_> = selector.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(forbidden[1]["enum"], serde_json::json!(keys));
}
