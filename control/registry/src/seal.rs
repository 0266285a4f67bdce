//! Secrets at rest: values are sealed before they are proposed, so that neither log nor disk holds plaintext.
//!
//! The sealed form of a value is the text `sealed:v1:` followed by base64 of nonce (12 bytes), ciphertext and tag (16
//! bytes) of AES-256-GCM over the value's text. A colon is no base64 digit, so a sealed value cannot be mistaken for a
//! plain one. The additional data is the object's key and the entry's name: a value moved elsewhere does not open.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use copepod_machine::Ids;
use copepod_model::{Key, Status};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::Value;

const PREFIX: &str = "sealed:v1:";

/// What is sealed: the values of a map field, by resource.
const SEALED: &[(&str, &str)] = &[("secrets", "data")];

/// Whether objects of `resource` have sealed values.
pub fn is_sealed(resource: &str) -> bool {
    field(resource).is_some()
}

fn field(resource: &str) -> Option<&'static str> {
    SEALED.iter().find(|(r, _)| *r == resource).map(|(_, f)| *f)
}

/// Seals and opens values with one key.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    /// A sealer with a 256-bit key.
    pub fn new(key: &[u8; 32]) -> Sealer {
        // The only error is a wrong length, which the type excludes.
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM keys have 32 bytes");
        Sealer { key: LessSafeKey::new(key) }
    }

    /// Seals the values of `object`, if its resource has any to seal.
    pub fn seal(&self, ids: &mut dyn Ids, key: &Key, object: &mut Value) -> Result<(), Status> {
        let Some(entries) = field(&key.resource).and_then(|f| object.get_mut(f)).and_then(Value::as_object_mut) else {
            return Ok(());
        };
        for (name, value) in entries {
            let Some(plain) = value.as_str() else { continue };
            let mut nonce = [0u8; NONCE_LEN];
            ids.fill(&mut nonce);
            let mut sealed = plain.as_bytes().to_vec();
            self.key
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(key, name)), &mut sealed)
                .map_err(|_| Status::internal("cannot seal a value"))?;
            let mut text = String::with_capacity(PREFIX.len() + (NONCE_LEN + sealed.len()) * 4 / 3 + 4);
            text.push_str(PREFIX);
            STANDARD.encode_string([&nonce[..], &sealed].concat(), &mut text);
            *value = text.into();
        }
        Ok(())
    }

    /// Opens the sealed values of `object`.
    pub fn open(&self, key: &Key, object: &mut Value) -> Result<(), Status> {
        let Some(entries) = field(&key.resource).and_then(|f| object.get_mut(f)).and_then(Value::as_object_mut) else {
            return Ok(());
        };
        for (name, value) in entries {
            let Some(text) = value.as_str().and_then(|t| t.strip_prefix(PREFIX)) else { continue };
            *value = self.open_text(key, name, text).ok_or_else(|| cannot_open(key, name))?.into();
        }
        Ok(())
    }

    fn open_text(&self, key: &Key, name: &str, text: &str) -> Option<String> {
        let mut bytes = STANDARD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(aad(key, name)), sealed).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

fn aad(key: &Key, name: &str) -> Vec<u8> {
    // None of the parts can hold a NUL, so different places have different texts.
    [&*key.resource, &*key.namespace, &*key.name, name].join("\0").into_bytes()
}

fn cannot_open(key: &Key, name: &str) -> Status {
    Status::internal(format_args!("cannot open entry {name:?} of {key}: sealed with another key, or damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_machine::SeededIds;
    use serde_json::json;

    #[test]
    fn sealed_values_open_at_their_place_only() {
        let sealer = Sealer::new(&[7; 32]);
        let key = Key::new("secrets", "d", "a");
        let plain = json!({"data":{"k":"c2VjcmV0","empty":""},"type":"Opaque"});
        let mut object = plain.clone();
        sealer.seal(&mut SeededIds(1), &key, &mut object).unwrap();
        assert!(object["data"]["k"].as_str().unwrap().starts_with(PREFIX));
        assert!(object["data"]["empty"].as_str().unwrap().starts_with(PREFIX));
        assert!(!object.to_string().contains("c2VjcmV0"));
        let sealed = object.clone();
        sealer.open(&key, &mut object).unwrap();
        assert_eq!(object, plain);

        let mut moved = sealed.clone();
        assert_eq!(sealer.open(&Key::new("secrets", "d", "b"), &mut moved).unwrap_err().code, 500);
        let mut swapped = sealed.clone();
        swapped["data"]["empty"] = sealed["data"]["k"].clone();
        assert!(sealer.open(&key, &mut swapped).is_err());
        assert!(Sealer::new(&[8; 32]).open(&key, &mut sealed.clone()).is_err());
        let mut short = json!({"data":{"k":"sealed:v1:AAAA"}});
        assert!(sealer.open(&key, &mut short).is_err());
    }

    #[test]
    fn other_resources_are_left_alone() {
        let mut object = json!({"data":{"k":"v"}});
        Sealer::new(&[7; 32]).seal(&mut SeededIds(1), &Key::new("configmaps", "d", "a"), &mut object).unwrap();
        assert_eq!(object["data"]["k"], "v");
        assert!(!is_sealed("configmaps") && is_sealed("secrets"));
    }
}
