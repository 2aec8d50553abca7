//! Writes the operations that lead from a raw pod to the desired one.

use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation,
    jsonptr::PointerBuf,
};
use serde_json::{Value, json};

use crate::is_ours;

/// Everything of ours in a protected pod.
pub(crate) struct Desired {
    pub(crate) init_containers: [Value; 2],
    /// Index of our first container among the init containers that are not ours.
    pub(crate) position: usize,
    pub(crate) volumes: Vec<Value>,
    pub(crate) annotations: Vec<(&'static str, String)>,
    pub(crate) grace_seconds: i64,
}

/// The operations that make `pod` carry everything in `desired`; none if it already does.
///
/// Every operation that relies on an index is preceded by a `test` of what is there, so that a patch meant for another
/// pod fails instead of hitting the wrong container.
pub(crate) fn diff(pod: &Value, desired: &Desired) -> Patch {
    let mut operations = Vec::new();
    annotate(pod, &desired.annotations, &mut operations);
    extend_grace(pod, desired.grace_seconds, &mut operations);
    add_volumes(pod, &desired.volumes, &mut operations);
    place_containers(pod, desired, &mut operations);
    Patch(operations)
}

fn annotate(pod: &Value, annotations: &[(&str, String)], operations: &mut Vec<PatchOperation>) {
    let present = &pod["metadata"]["annotations"];
    if pod["metadata"].is_null() {
        operations.push(add(&["metadata"], json!({})));
    }
    if present.is_null() {
        operations.push(add(&["metadata", "annotations"], json!({})));
    }
    for (key, value) in annotations {
        if present[*key] != json!(value) {
            operations.push(add(&["metadata", "annotations", key], json!(value)));
        }
    }
}

fn extend_grace(pod: &Value, seconds: i64, operations: &mut Vec<PatchOperation>) {
    if pod["spec"]["terminationGracePeriodSeconds"] != json!(seconds) {
        operations.push(add(&["spec", "terminationGracePeriodSeconds"], json!(seconds)));
    }
}

fn add_volumes(pod: &Value, volumes: &[Value], operations: &mut Vec<PatchOperation>) {
    let present = items(pod, "volumes");
    if pod["spec"]["volumes"].is_null() {
        operations.push(add(&["spec", "volumes"], json!([])));
    }
    for volume in volumes {
        let index = present.iter().position(|other| other["name"] == volume["name"]);
        match index.map(|index| (index, present.get(index).is_some_and(|other| covers(other, volume)))) {
            Some((_, true)) => {}
            Some((index, false)) => {
                let index = index.to_string();
                operations.push(test(&["spec", "volumes", &index, "name"], volume["name"].clone()));
                operations.push(replace(&["spec", "volumes", &index], volume.clone()));
            }
            None => operations.push(add(&["spec", "volumes", "-"], volume.clone())),
        }
    }
}

fn place_containers(pod: &Value, desired: &Desired, operations: &mut Vec<PatchOperation>) {
    let present = items(pod, "initContainers");
    if is_placed(present, desired) {
        return;
    }
    if pod["spec"]["initContainers"].is_null() {
        operations.push(add(&["spec", "initContainers"], json!([])));
    }
    let ours = present.iter().enumerate().filter(|(_, container)| is_ours(name(container)));
    for (index, container) in ours.rev() {
        let index = index.to_string();
        operations.push(test(&["spec", "initContainers", &index, "name"], container["name"].clone()));
        operations.push(remove(&["spec", "initContainers", &index]));
    }
    let others: Vec<_> = present.iter().filter(|container| !is_ours(name(container))).collect();
    if let Some(before) = desired.position.checked_sub(1)
        && let Some(container) = others.get(before)
    {
        let path = ["spec", "initContainers", &before.to_string(), "name"];
        operations.push(test(&path, container["name"].clone()));
    }
    for (offset, container) in desired.init_containers.iter().enumerate() {
        let index = (desired.position + offset).to_string();
        operations.push(add(&["spec", "initContainers", &index], container.clone()));
    }
}

/// Whether our containers are where they belong, as we would make them, and only there.
fn is_placed(present: &[Value], desired: &Desired) -> bool {
    let count = present.iter().filter(|container| is_ours(name(container))).count();
    let here = present.iter().skip(desired.position).zip(&desired.init_containers);
    let as_made = here.filter(|(container, ours)| covers(container, ours) && restarts_alike(container, ours));
    count == desired.init_containers.len() && as_made.count() == desired.init_containers.len()
}

/// A restore step that restarts for ever would never let the application start, so here absence counts too.
fn restarts_alike(container: &Value, ours: &Value) -> bool {
    container.get("restartPolicy") == ours.get("restartPolicy")
}

/// Whether `actual` has everything that `desired` has. It may have more: defaults of the API server, or what another
/// webhook added to our containers, which we must not fight over.
fn covers(actual: &Value, desired: &Value) -> bool {
    match (actual, desired) {
        (Value::Object(actual), Value::Object(desired)) => {
            desired.iter().all(|(key, value)| actual.get(key).is_some_and(|present| covers(present, value)))
        }
        (Value::Array(actual), Value::Array(desired)) => {
            let same_place =
                |index: usize, value: &Value| actual.get(index).is_some_and(|other| covers(other, value));
            let somewhere =
                |value: &Value| value.is_object() && actual.iter().any(|other| covers(other, value));
            let is_list_of_objects = desired.iter().all(Value::is_object);
            let length_fits = is_list_of_objects || actual.len() == desired.len();
            length_fits
                && desired
                    .iter()
                    .enumerate()
                    .all(|(index, value)| same_place(index, value) || somewhere(value))
        }
        (actual, desired) => actual == desired,
    }
}

fn items<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map_or(&[], Vec::as_slice)
}

fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

fn pointer(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}

fn add(tokens: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: pointer(tokens), value })
}

fn replace(tokens: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: pointer(tokens), value })
}

fn remove(tokens: &[&str]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: pointer(tokens) })
}

fn test(tokens: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: pointer(tokens), value })
}
