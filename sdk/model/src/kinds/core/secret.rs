//! Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::config_map::{MAX_SIZE, decoded_len, immutable};
use crate::kinds::fields::{self, Path, check, ensure, entries, fill, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind::new(super::V1, "Secret", ("secrets", "secret"), Secret)
}

struct Secret;

impl Strategy for Secret {
    fn default(&self, object: &mut Value) {
        let Some(o) = object.as_object_mut() else { return };
        fill(o, "type", "Opaque");
        // `stringData` is only ever written: it ends up in `data`.
        if let Some(Value::Object(given)) = o.remove("stringData")
            && !given.is_empty()
            && let Some(data) = ensure(o, "data")
        {
            for (k, v) in given {
                data.insert(k, STANDARD.encode(v.as_str().unwrap_or_default()).into());
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let data = Path::root("data");
        let mut size = 0;
        for (k, v) in entries(object, "data") {
            check(data.key(k), k, names::config_key, errors);
            size += decoded_len(v);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(data, MAX_SIZE));
        }
        let missing = |k: &str| object["data"][k].is_null();
        let mut need = |key: &str| errors.push(FieldError::required(data.key(key), ""));
        match text(object, "type") {
            "kubernetes.io/service-account-token" => {
                let key = "kubernetes.io/service-account.name";
                if text(&object["metadata"]["annotations"], key).is_empty() {
                    let at = Path::root("metadata.annotations");
                    errors.push(FieldError::required(at.key(key), ""));
                }
            }
            "kubernetes.io/dockercfg" => json(object, ".dockercfg", errors),
            "kubernetes.io/dockerconfigjson" => json(object, ".dockerconfigjson", errors),
            "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
                need("username");
                need("password");
            }
            "kubernetes.io/ssh-auth" if text(&object["data"], "ssh-privatekey").is_empty() => need("ssh-privatekey"),
            "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().filter(|k| missing(k)).for_each(need),
            _ => {}
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        fields::immutable(Path::root("type"), &new["type"], &old["type"], errors);
        immutable(&["data"], new, old, errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> Vec<Column> {
        let kind = col("Type", "string", "Used to facilitate programmatic handling of secret data.");
        columns(&[kind, col("Data", "string", "Data contains the secret data.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(o, "type").into(), entries(o, "data").count().into(), age(o, now)]
    }
}

/// What a JSON object has in it.
type Anything = std::collections::BTreeMap<String, serde::de::IgnoredAny>;

fn json(object: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let data = Path::root("data");
    match object["data"][key].as_str() {
        None => errors.push(FieldError::required(data.key(key), "")),
        Some(value) => {
            let parsed = STANDARD
                .decode(value)
                .map_err(|e| e.to_string())
                .and_then(|bytes| serde_json::from_slice::<Option<Anything>>(&bytes).map_err(|e| e.to_string()));
            if let Err(why) = parsed {
                errors.push(FieldError::invalid(data.key(key), "<secret contents redacted>", why));
            }
        }
    }
}
