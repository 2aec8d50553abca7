use super::*;

/// Calls `visit` with the path and the schema of every property below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            visit(&path, property);
            walk(&path, property, visit);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, visit);
    }
}

fn schema() -> Value {
    definition().unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_field_is_described() {
    walk("", &schema(), &mut |path, property| {
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(description.len() >= 10, "{path} has no description");
    });
}

#[test]
fn every_string_and_list_of_the_spec_has_a_limit() {
    walk("", &schema()["properties"]["spec"], &mut |path, property| match property
        .get("type")
        .and_then(Value::as_str)
    {
        Some("string") => {
            let closed = property.get("enum").is_some() || property.get("maxLength").is_some();
            assert!(closed, "{path} has no maxLength");
        }
        Some("array") => assert!(property.get("maxItems").is_some(), "{path} has no maxItems"),
        other => assert!(other.is_some(), "{path} has no type"),
    });
}

#[test]
fn every_list_of_objects_is_a_map_by_its_key() {
    walk("", &schema(), &mut |path, property| {
        if property["items"]["type"] == "object" {
            assert_eq!(property["x-kubernetes-list-type"], "map", "{path}");
        }
    });
}

#[test]
fn no_field_is_nullable() {
    walk("", &schema(), &mut |path, property| assert!(property.get("nullable").is_none(), "{path}"));
}

#[test]
fn the_definition_of_the_chart_survives_an_uninstall() {
    let definition = chart_definition().unwrap();
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

#[test]
fn descriptions_leave_the_line_breaks_to_kubectl() {
    walk("", &schema(), &mut |path, property| {
        assert!(!property["description"].as_str().unwrap().replace("\n\n", "").contains('\n'), "{path}");
    });
}
