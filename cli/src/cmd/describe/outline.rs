//! Any object as an outline: metadata first, then the rest in order, nested by indentation.

use serde_json::Value;

use super::page::{Page, plain};

pub fn describe(page: &mut Page, object: &Value) {
    page.head(object);
    page.some(0, "API Version", &object["apiVersion"]);
    page.some(0, "Kind", &object["kind"]);
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "metadata" | "apiVersion" | "kind" => {}
            // The values of a Secret are nobody's business who looks over the shoulder.
            "data" if object["kind"] == "Secret" => {
                page.line(0, "Data:");
                for (k, v) in value.as_object().into_iter().flatten() {
                    let text = v.as_str().unwrap_or_default();
                    let bytes = text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count();
                    page.field(1, k, format!("{bytes} bytes"));
                }
            }
            _ => tree(page, 0, &title(key), value),
        }
    }
}

/// `creationTimestamp` as `Creation Timestamp`.
fn title(key: &str) -> String {
    let mut out = String::new();
    for (i, c) in key.chars().enumerate() {
        if i == 0 {
            out.extend(c.to_uppercase());
            continue;
        }
        if c.is_uppercase() && !out.ends_with(char::is_uppercase) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

fn tree(page: &mut Page, depth: usize, name: &str, value: &Value) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            page.line(depth, format!("{name}:"));
            // Keys of labels, data and the like are names, not titles.
            let names = ["Labels", "Annotations", "Data", "Match Labels", "Selector", "Node Selector"].contains(&name);
            for (k, v) in map {
                tree(page, depth + 1, &if names { k.clone() } else { title(k) }, v);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            page.line(depth, format!("{name}:"));
            for item in items {
                match item {
                    Value::Object(_) => {
                        let label = ["name", "type", "kind"].iter().find_map(|k| item[*k].as_str()).unwrap_or("-");
                        tree(page, depth + 1, label, item);
                    }
                    other => page.line(depth + 1, plain(other)),
                }
            }
        }
        Value::String(text) if text.contains('\n') => {
            page.line(depth, format!("{name}:"));
            text.lines().for_each(|l| page.line(depth + 1, l.replace('\t', "    ")));
        }
        other => page.field(depth, name, plain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_outline_nests_and_hides_secrets() {
        let mut page = Page::default();
        describe(
            &mut page,
            &json!({
                "kind": "Secret", "metadata": {"name": "s", "uid": "x"}, "data": {"password": "aHVudGVyMg=="}, "type": "Opaque",
            }),
        );
        let text = page.to_string();
        assert!(text.starts_with("Name:") && !text.contains("aHVu") && text.contains("password:  7 bytes"), "{text}");
        assert_eq!(title("creationTimestamp"), "Creation Timestamp");
        assert_eq!(title("podIP"), "Pod IP");
    }
}
