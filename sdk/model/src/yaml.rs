//! YAML as kubectl and the API server read it (sigs.k8s.io/yaml): with YAML 1.1's plain scalars, so that `defaultMode: 0400` is
//! an octal number and `on` is a boolean.

use serde_json::Value;
use serde_saphyr::{Budget, Options};

/// So many more values may come of aliases than are in the text.
const ALIASED_VALUES: usize = 10_000;
/// And so many more bytes of text.
const ALIASED_BYTES: usize = 1 << 20;

/// For a text of so many bytes.
fn options(length: usize) -> Options {
    let mut budget = Budget::default();
    budget.max_total_scalar_bytes = length + ALIASED_BYTES;
    let mut options = Options::default();
    options.alias_limits.max_total_replayed_events = ALIASED_VALUES;
    options.budget = Some(budget);
    options.legacy_octal_numbers = true;
    options.strict_booleans = false;
    options
}

/// The value of one document. The error is one line that names the place.
pub fn from_slice(bytes: &[u8]) -> Result<Value, String> {
    serde_saphyr::from_slice_with_options(bytes, options(bytes.len())).map_err(|e| line(&e))
}

/// The values of all documents that are not empty.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple_with_options(text, options(text.len())).map_err(|e| line(&e))
}

/// The text without the picture of the place.
fn line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_are_those_of_yaml_1_1() {
        let text = "{octal: 0400, quoted: '0400', on: yes, off: no, hex: 0x1F, n: 1_000, at: 1:30, day: 2020-01-01, nothing: , 1: ~}";
        let wanted = json!({"octal": 256, "quoted": "0400", "true": true, "false": false, "hex": 31, "n": 1000, "at": "1:30",
            "day": "2020-01-01", "nothing": null, "1": null});
        let read = from_slice(text.as_bytes()).unwrap();
        // Keys are text whatever they look like.
        let fields = |v: &Value| ["octal", "quoted", "hex", "n", "at", "day", "nothing", "1"].map(|k| v[k].clone());
        assert_eq!(fields(&read), fields(&wanted));
        assert_eq!((&read["on"], &read["off"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn aliases_do_not_multiply() {
        let times = |alias: &str| vec![alias; 20].join(", ");
        let small = format!("a: &a [{}]\nb: [{}]\n", times("x"), times("*a"));
        assert_eq!(from_slice(small.as_bytes()).unwrap()["b"][19][19], "x");
        let mut laughs = small.replace("b: ", "b: &b ");
        for (name, before) in [("c", "b"), ("d", "c"), ("e", "d")] {
            laughs.push_str(&format!("{name}: &{name} [{}]\n", times(&format!("*{before}"))));
        }
        let said = from_slice(laughs.as_bytes()).unwrap_err();
        assert!(said.contains("alias"), "{said}");
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), times("*a"));
        let said = from_slice(text.as_bytes()).unwrap_err();
        assert!(said.contains("ScalarBytes"), "{said}");
    }

    #[test]
    fn documents_and_errors() {
        assert_eq!(
            documents("a: 1\n---\n# nothing\n---\nb: {c: [1]}\n").unwrap(),
            [json!({"a": 1}), json!({"b": {"c": [1]}})]
        );
        assert_eq!(from_slice(b"kind: [").unwrap_err(), "line 1 column 7: unclosed bracket '['");
        assert!(from_slice(b"a: 1\na: 2\n").unwrap_err().starts_with("line 2 column 1: duplicate mapping key: a"));
        assert!(from_slice(b"a: \xff").is_err());
    }
}
