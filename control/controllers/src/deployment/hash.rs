//! `pod-template-hash`: short, stable, and safe in a name.

use serde_json::Value;

/// FNV-1a (32 bit) over the template in canonical form and the collision count, in decimal, each digit replaced from the
/// alphabet that Kubernetes draws name suffixes from.
pub(super) fn of(template: &Value, collisions: Option<i64>) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = 0x811c_9dc5;
    feed(&mut hash, template);
    if let Some(n) = collisions {
        bytes(&mut hash, &n.to_le_bytes());
    }
    hash.to_string().bytes().map(|c| ALPHABET[usize::from(c) % ALPHABET.len()] as char).collect()
}

fn bytes(hash: &mut u32, data: &[u8]) {
    for b in data {
        *hash = (*hash ^ u32::from(*b)).wrapping_mul(0x0100_0193);
    }
}

/// Keys are sorted here, so that the hash does not depend on the order in which a map keeps them.
fn feed(hash: &mut u32, v: &Value) {
    match v {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            fields.sort_by_key(|(k, _)| *k);
            bytes(hash, b"{");
            for (k, v) in fields {
                bytes(hash, k.as_bytes());
                bytes(hash, b":");
                feed(hash, v);
            }
            bytes(hash, b"}");
        }
        Value::Array(items) => {
            bytes(hash, b"[");
            items.iter().for_each(|v| feed(hash, v));
            bytes(hash, b"]");
        }
        other => {
            bytes(hash, other.to_string().as_bytes());
            bytes(hash, b",");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of;
    use serde_json::json;

    #[test]
    fn stable_and_sensitive() {
        let t = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        assert_eq!(of(&t, None), of(&json!({"spec": {"containers": [{"image": "x", "name": "a"}], "x": null}}), None));
        assert_ne!(of(&t, None), of(&t, Some(1)));
        assert_ne!(of(&t, None), of(&json!({"spec": {"containers": [{"name": "a", "image": "y"}]}}), None));
        assert!(of(&t, None).bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        // Changing it would roll every Deployment of every cluster once more.
        assert_eq!(of(&json!({"a": [1, true, "x"]}), Some(2)), "7b5c956457");
    }
}
