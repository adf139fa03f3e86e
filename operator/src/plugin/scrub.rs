//! Takes out of objects what is nobody's business: what Secrets hold, and values of variables that are called like
//! passwords. Pure.

use serde_json::{Map, Value, json};

/// kubectl's copy of a whole object, its data included.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// In names of variables, in lower case.
const SECRETIVE: [&str; 6] = ["secret", "password", "passwd", "token", "credential", "key"];

/// An object as it may be shown to others.
#[must_use]
pub fn scrub(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(COPY);
        }
    }
    if object["kind"] == "Secret" {
        for field in ["data", "stringData"] {
            if let Some(data) = object.get_mut(field).and_then(Value::as_object_mut) {
                hide(data);
            }
        }
    }
    variables(&mut object);
    object
}

fn hide(data: &mut Map<String, Value>) {
    for value in data.values_mut() {
        let length = value.as_str().map_or(0, str::len);
        *value = json!(format!("(left out: {length} characters)"));
    }
}

/// Wherever there is a list of variables.
fn variables(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(list) = map.get_mut("env").and_then(Value::as_array_mut) {
                for one in list {
                    let name = one["name"].as_str().unwrap_or_default().to_lowercase();
                    if SECRETIVE.iter().any(|word| name.contains(word)) && one.get("value").is_some() {
                        one["value"] = json!("(left out)");
                    }
                }
            }
            map.values_mut().for_each(variables);
        }
        Value::Array(list) => list.iter_mut().for_each(variables),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_left_but_its_keys() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "s", "managedFields": [{"manager": "kubectl"}],
                "annotations": {COPY: "{\"data\":{\"password\":\"aHVzaA==\"}}", "other": "stays"},
            },
            "data": {"password": "aHVzaA=="}, "stringData": {"more": "hush"},
        });
        let shown = scrub(secret);
        let text = shown.to_string();
        assert!(!text.contains("aHVzaA") && !text.contains("hush") && !text.contains("managedFields"), "{text}");
        assert_eq!(shown["data"]["password"], "(left out: 8 characters)");
        assert_eq!(shown["metadata"]["annotations"]["other"], "stays");
    }

    #[test]
    fn variables_that_are_called_like_passwords_are_left_out() {
        let pod = json!({"kind": "Pod", "spec": {"containers": [{"env": [
            {"name": "S3_SECRET", "value": "hush"}, {"name": "apiKey", "value": "hush"},
            {"name": "PLACE", "value": "stays"}, {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s"}}},
        ]}]}});
        let text = scrub(pod).to_string();
        assert!(!text.contains("hush") && text.contains("stays") && text.contains("secretKeyRef"), "{text}");
    }
}
