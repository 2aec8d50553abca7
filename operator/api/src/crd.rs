//! The CustomResourceDefinition as a document.

use kube_core::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::SqliteReplica;

/// The definition of `SqliteReplica`, ready to be written as YAML or JSON.
///
/// It differs in one point from what the derive gives: no field is `nullable`. The API server then drops a `null` before
/// it applies defaults and rules, so `prefix: null` means the same as no prefix, to us and to the rules.
///
/// # Errors
///
/// None in practice: the definition is made of plain values.
pub fn definition() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(SqliteReplica::crd())?;
    strip_nullable(&mut definition);
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

fn strip_nullable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            map.values_mut().for_each(strip_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nullable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
