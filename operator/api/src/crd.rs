//! The CustomResourceDefinition as a document.

use kube_core::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::SqliteReplica;

/// The definition of `SqliteReplica`, ready to be written as YAML or JSON.
///
/// It differs in two points from what the derive gives. No field is `nullable`: the API server then drops a `null` before
/// it applies defaults and rules, so `prefix: null` means the same as no prefix, to us and to the rules. And descriptions
/// are not broken into lines, because `kubectl explain` does that to the width of the terminal.
///
/// # Errors
///
/// None in practice: the definition is made of plain values.
pub fn definition() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(SqliteReplica::crd())?;
    tidy(&mut definition);
    Ok(definition)
}

/// The same for the chart of CRDs: with the annotation that keeps `helm uninstall` from deleting every `SqliteReplica`.
///
/// # Errors
///
/// As [`definition`].
pub fn chart_definition() -> Result<Value, serde_json::Error> {
    let mut definition = definition()?;
    if let Some(metadata) = definition.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({ "helm.sh/resource-policy": "keep" }));
    }
    Ok(definition)
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            if let Some(Value::String(description)) = map.get_mut("description") {
                let paragraphs: Vec<_> =
                    description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
                *description = paragraphs.join("\n\n");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
