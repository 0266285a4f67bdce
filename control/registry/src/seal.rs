//! Secrets at rest: values are sealed before they are proposed, so that neither log nor disk holds plaintext.
//!
//! The sealed form of a value is the text `sealed:v1:` followed by base64 of nonce (12 bytes), ciphertext and tag (16
//! bytes) of AES-256-GCM over the value's text; that is of the first key, which is a file at each server. What a later key
//! has sealed begins with `sealed:v2:ID:`, with the key's id in decimal. A colon is no base64 digit, so a sealed value
//! cannot be mistaken for a plain one. The additional data is the object's key and the entry's name: a value moved
//! elsewhere does not open.
//!
//! The later keys are stored as an internal object, the keyring, each sealed with the first: whoever has an object that a
//! key has sealed has the key, too, as both are in the same log. Whoever seals requires the keyring to be as it was read: once
//! it has another key, nothing is stored that an older one has sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use copepod_machine::{Ids, View};
use copepod_model::object::encode;
use copepod_model::{Key, Object, Status};
use copepod_state::{Op, Require, Txn};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};

use crate::value::list;

/// In front of what the first key has sealed.
const FIRST_PREFIX: &str = "sealed:v1:";
/// In front of the id of the key that has sealed what follows behind another colon.
const PREFIX: &str = "sealed:v2:";
/// The id of the first key, which is not in the keyring. Nothing has the id 0.
const FIRST: u64 = 1;
/// Where the keyring is: resource and name. Like all such it is not served.
const RING: (&str, &str) = ("_sealing", "keyring");

/// What is sealed: the values of a map field, by resource.
const SEALED: &[(&str, &str)] = &[("secrets", "data")];

/// Whether objects of `resource` have sealed values.
pub fn is_sealed(resource: &str) -> bool {
    field(resource).is_some()
}

fn field(resource: &str) -> Option<&'static str> {
    SEALED.iter().find(|(r, _)| *r == resource).map(|(_, f)| *f)
}

/// Every object that may have sealed values.
pub(crate) fn objects(view: &dyn View) -> impl Iterator<Item = Arc<Object>> + '_ {
    SEALED.iter().flat_map(move |(resource, _)| view.list(resource, None))
}

/// Seals and opens values.
pub struct Sealer {
    first: LessSafeKey,
    known: RwLock<Known>,
}

/// What was read of the keyring. What is dropped from it later stays known: watches may have to show the past.
struct Known {
    /// Of the keyring; 0 when none was read.
    revision: u64,
    /// The id of its newest key.
    newest: u64,
    /// Its keys by id, without the first.
    keys: BTreeMap<u64, Arc<LessSafeKey>>,
}

impl Sealer {
    /// A sealer whose first key has these 256 bits.
    pub fn new(key: &[u8; 32]) -> Sealer {
        let known = Known { revision: 0, newest: FIRST, keys: BTreeMap::new() };
        Sealer { first: cipher(key), known: RwLock::new(known) }
    }

    /// Seals the values of `object`, if its resource has any to seal, with the newest key of `view`. It may be stored where
    /// what is answered holds; if nothing was sealed there is nothing to require. The only error is 500: a keyring that
    /// cannot be read.
    pub fn seal(
        &self,
        view: &dyn View,
        ids: &mut dyn Ids,
        key: &Key,
        object: &mut Value,
    ) -> Result<Option<Require>, Status> {
        let Some(entries) = field(&key.resource).and_then(|f| object.get_mut(f)).and_then(Value::as_object_mut) else {
            return Ok(None);
        };
        let (revision, newest) = self.learn(view)?;
        let cipher = self.cipher(newest);
        let prefix = if newest == FIRST { FIRST_PREFIX.to_string() } else { format!("{PREFIX}{newest}:") };
        for (name, value) in entries {
            let Some(plain) = value.as_str() else { continue };
            let sealed = match &cipher {
                Some(later) => seal_bytes(later, ids, aad(key, name), plain.as_bytes())?,
                None => seal_bytes(&self.first, ids, aad(key, name), plain.as_bytes())?,
            };
            *value = format!("{prefix}{sealed}").into();
        }
        Ok(Some(unchanged(revision)))
    }

    /// Opens the sealed values of `object`. 500 where one was sealed with a key that neither is in the keyring of `view` nor
    /// was before, or is damaged.
    pub fn open(&self, view: &dyn View, key: &Key, object: &mut Value) -> Result<(), Status> {
        let Some(entries) = field(&key.resource).and_then(|f| object.get_mut(f)).and_then(Value::as_object_mut) else {
            return Ok(());
        };
        self.learn(view)?;
        for (name, value) in entries {
            let Some((id, text)) = value.as_str().and_then(split) else { continue };
            let bytes = match (id, self.cipher(id)) {
                (FIRST, _) => open_bytes(&self.first, aad(key, name), text),
                (_, Some(later)) => open_bytes(&later, aad(key, name), text),
                (_, None) => return Err(unknown(key, name, id)),
            };
            let plain = bytes.and_then(|b| String::from_utf8(b).ok());
            *value = plain.ok_or_else(|| cannot_open(key, name, id))?.into();
        }
        Ok(())
    }

    /// The transaction that makes a new key the newest, and the key's id. Keys that have sealed nothing that is stored are
    /// dropped, but for the one that was the newest so far.
    pub(crate) fn add_key(&self, view: &dyn View, ids: &mut dyn Ids) -> Result<(u64, Txn), Status> {
        let (revision, newest) = self.learn(view)?;
        let used: BTreeSet<u64> = objects(view).flat_map(|object| sealers(&object.key, &object.value())).collect();
        let ring = ring();
        let stored = view.get(RING.0, "", RING.1).map_or(Value::Null, |o| o.value());
        let mut keys: BTreeMap<u64, String> = wrapped(&stored).map(|(id, text)| (id, text.to_string())).collect();
        keys.retain(|id, _| *id == newest || used.contains(id));
        let id = newest + 1;
        let mut bytes = [0u8; 32];
        ids.fill(&mut bytes);
        keys.insert(id, seal_bytes(&self.first, ids, aad(&ring, &id.to_string()), &bytes)?);
        let rows: Vec<Value> = keys.iter().map(|(id, text)| json!({"id": id, "key": text})).collect();
        let body = encode(&json!({"metadata": {"name": RING.1}, "keys": rows}));
        let op = Op::Put { key: ring, body, revised: true };
        Ok((id, Txn { fence: None, require: vec![unchanged(revision)], ops: vec![op] }))
    }

    /// The transaction that stores an object sealed with the newest key; none if it is already.
    pub(crate) fn reseal(&self, view: &dyn View, ids: &mut dyn Ids, object: &Object) -> Result<Option<Txn>, Status> {
        let (_, newest) = self.learn(view)?;
        let mut value = object.value();
        if sealers(&object.key, &value).iter().all(|id| *id == newest) {
            return Ok(None);
        }
        self.open(view, &object.key, &mut value)?;
        let mut require = vec![Require::At(object.key.clone(), object.revision)];
        require.extend(self.seal(view, ids, &object.key, &mut value)?);
        let op = Op::Put { key: object.key.clone(), body: encode(&value), revised: true };
        Ok(Some(Txn { fence: None, require, ops: vec![op] }))
    }

    /// Reads the keyring of `view`, if it is another than before: its revision, 0 if there is none, and the id of its newest
    /// key.
    fn learn(&self, view: &dyn View) -> Result<(u64, u64), Status> {
        let Some(ring) = view.get(RING.0, "", RING.1) else { return Ok((0, FIRST)) };
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.revision == ring.revision {
                return Ok((known.revision, known.newest));
            }
        }
        let mut found = BTreeMap::new();
        for (id, text) in wrapped(&ring.value()) {
            let bytes = open_bytes(&self.first, aad(&ring.key, &id.to_string()), text);
            let key: Option<[u8; 32]> = bytes.and_then(|b| b.try_into().ok());
            let why = || {
                Status::internal(format_args!(
                    "cannot open key {id} of the keyring: sealed with another key, or damaged"
                ))
            };
            found.insert(id, Arc::new(cipher(&key.ok_or_else(why)?)));
        }
        let newest = found.keys().next_back().copied().unwrap_or(FIRST);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.keys.extend(found);
        (known.revision, known.newest) = (ring.revision, newest);
        Ok((ring.revision, newest))
    }

    /// A key that is or was in the keyring.
    fn cipher(&self, id: u64) -> Option<Arc<LessSafeKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys.get(&id).cloned()
    }
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    // The only error is a wrong length, which the type excludes.
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM keys have 32 bytes"))
}

fn ring() -> Key {
    Key::new(RING.0, "", RING.1)
}

/// That the keyring is still the one of this revision.
fn unchanged(revision: u64) -> Require {
    if revision == 0 { Require::Absent(ring()) } else { Require::At(ring(), revision) }
}

/// The keys of a keyring as they are stored, by id.
fn wrapped(ring: &Value) -> impl Iterator<Item = (u64, &str)> {
    list(ring, "keys").iter().filter_map(|row| Some((row["id"].as_u64()?, row["key"].as_str()?)))
}

/// The id of the key that has sealed a value, 0 if it makes no sense, and what it has sealed; none if the value is not sealed.
fn split(text: &str) -> Option<(u64, &str)> {
    if let Some(sealed) = text.strip_prefix(FIRST_PREFIX) {
        return Some((FIRST, sealed));
    }
    let (id, sealed) = text.strip_prefix(PREFIX)?.split_once(':').unwrap_or_default();
    Some((id.parse().unwrap_or(0), sealed))
}

/// The ids of the keys that have sealed the values of an object; 0 for what is not sealed.
fn sealers(key: &Key, object: &Value) -> Vec<u64> {
    let entries = field(&key.resource).and_then(|f| object[f].as_object());
    let texts = entries.into_iter().flat_map(|e| e.values()).filter_map(Value::as_str);
    texts.map(|text| split(text).map_or(0, |(id, _)| id)).collect()
}

/// Base64 of nonce, ciphertext and tag.
fn seal_bytes(cipher: &LessSafeKey, ids: &mut dyn Ids, aad: Vec<u8>, plain: &[u8]) -> Result<String, Status> {
    let mut nonce = [0u8; NONCE_LEN];
    ids.fill(&mut nonce);
    let mut sealed = plain.to_vec();
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
        .map_err(|_| Status::internal("cannot seal a value"))?;
    Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
}

fn open_bytes(cipher: &LessSafeKey, aad: Vec<u8>, text: &str) -> Option<Vec<u8>> {
    let mut bytes = STANDARD.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = cipher.open_in_place(nonce, Aad::from(aad), sealed).ok()?;
    Some(plain.to_vec())
}

fn aad(key: &Key, name: &str) -> Vec<u8> {
    // None of the parts can hold a NUL, so different places have different texts.
    [&*key.resource, &*key.namespace, &*key.name, name].join("\0").into_bytes()
}

fn unknown(key: &Key, name: &str, id: u64) -> Status {
    Status::internal(format_args!(
        "cannot open entry {name:?} of {key}: it is sealed with key {id}, which nobody knows"
    ))
}

fn cannot_open(key: &Key, name: &str, id: u64) -> Status {
    Status::internal(format_args!(
        "cannot open entry {name:?} of {key}: sealed with another key than what is key {id} here, or damaged"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_machine::SeededIds;
    use copepod_state::{Outcome, Tables, apply};

    #[test]
    fn sealed_values_open_at_their_place_only() {
        let sealer = Sealer::new(&[7; 32]);
        let key = Key::new("secrets", "d", "a");
        let plain = json!({"data":{"k":"c2VjcmV0","empty":""},"type":"Opaque"});
        let mut object = plain.clone();
        let view = Tables::default();
        let require = sealer.seal(&view, &mut SeededIds(1), &key, &mut object).unwrap();
        assert_eq!(require, Some(Require::Absent(ring())));
        assert!(object["data"]["k"].as_str().unwrap().starts_with(FIRST_PREFIX));
        assert!(object["data"]["empty"].as_str().unwrap().starts_with(FIRST_PREFIX));
        assert!(!object.to_string().contains("c2VjcmV0"));
        let sealed = object.clone();
        sealer.open(&view, &key, &mut object).unwrap();
        assert_eq!(object, plain);

        let mut moved = sealed.clone();
        assert_eq!(sealer.open(&view, &Key::new("secrets", "d", "b"), &mut moved).unwrap_err().code, 500);
        let mut swapped = sealed.clone();
        swapped["data"]["empty"] = sealed["data"]["k"].clone();
        assert!(sealer.open(&view, &key, &mut swapped).is_err());
        assert!(Sealer::new(&[8; 32]).open(&view, &key, &mut sealed.clone()).is_err());
        let mut short = json!({"data":{"k":"sealed:v1:AAAA"}});
        assert!(sealer.open(&view, &key, &mut short).is_err());
    }

    #[test]
    fn other_resources_are_left_alone() {
        let mut object = json!({"data":{"k":"v"}});
        let (sealer, key) = (Sealer::new(&[7; 32]), Key::new("configmaps", "d", "a"));
        assert_eq!(sealer.seal(&Tables::default(), &mut SeededIds(1), &key, &mut object).unwrap(), None);
        assert_eq!(object["data"]["k"], "v");
        assert!(!is_sealed("configmaps") && is_sealed("secrets"));
    }

    /// Secrets in a cluster with one sealer.
    struct Cluster {
        tables: Tables,
        sealer: Sealer,
        ids: SeededIds,
    }

    impl Cluster {
        fn new() -> Cluster {
            Cluster { tables: Tables::default(), sealer: Sealer::new(&[7; 32]), ids: SeededIds(1) }
        }

        fn apply(&mut self, txn: &Txn) -> bool {
            matches!(apply(&mut self.tables, 1, txn).0, Outcome::Applied(_))
        }

        /// The transaction that stores a Secret with one value.
        fn put(&mut self, name: &str, plain: &str) -> Txn {
            let key = Key::new("secrets", "d", name);
            let mut object = json!({"metadata": {"name": name}, "data": {"k": plain}});
            let require = self.sealer.seal(&self.tables, &mut self.ids, &key, &mut object).unwrap();
            let ops = vec![Op::Put { key, body: encode(&object), revised: true }];
            Txn { fence: None, require: require.into_iter().collect(), ops }
        }

        fn rotate(&mut self) -> u64 {
            let (id, txn) = self.sealer.add_key(&self.tables, &mut self.ids).unwrap();
            assert!(self.apply(&txn));
            id
        }

        /// Seals all anew; how many.
        fn reseal(&mut self) -> usize {
            let all: Vec<_> = objects(&self.tables).collect();
            let txns: Vec<Txn> =
                all.iter().filter_map(|o| self.sealer.reseal(&self.tables, &mut self.ids, o).unwrap()).collect();
            txns.iter().filter(|txn| self.apply(txn)).count()
        }

        fn stored(&self, name: &str) -> String {
            let object = self.tables.get("secrets", "d", name).unwrap();
            object.value()["data"]["k"].as_str().unwrap().to_string()
        }

        /// What a server reads that has just started.
        fn read(&self, name: &str) -> Result<String, Status> {
            let object = self.tables.get("secrets", "d", name).unwrap();
            let mut value = object.value();
            Sealer::new(&[7; 32]).open(&self.tables, &object.key, &mut value)?;
            Ok(value["data"]["k"].as_str().unwrap().to_string())
        }

        /// The ids in the keyring.
        fn ring(&self) -> Vec<u64> {
            let ring = self.tables.get(RING.0, "", RING.1).unwrap();
            wrapped(&ring.value()).map(|(id, _)| id).collect()
        }
    }

    #[test]
    fn a_rotation_seals_what_comes_and_what_is_there_with_the_new_key() {
        let mut c = Cluster::new();
        let txn = c.put("old", "b25l");
        assert!(c.apply(&txn));
        assert!(c.stored("old").starts_with(FIRST_PREFIX));
        assert_eq!(c.rotate(), 2);
        assert_eq!(c.read("old").unwrap(), "b25l", "sealed with the first key as before");
        let txn = c.put("new", "dHdv");
        assert!(c.apply(&txn));
        assert!(c.stored("new").starts_with("sealed:v2:2:"), "{}", c.stored("new"));
        // A rotation that is cut off here is made up for by the next.
        assert_eq!(c.rotate(), 3);
        assert_eq!((c.reseal(), c.reseal()), (2, 0));
        for (name, plain) in [("old", "b25l"), ("new", "dHdv")] {
            assert!(c.stored(name).starts_with("sealed:v2:3:"), "{name}");
            assert_eq!(c.read(name).unwrap(), plain);
        }
        // The key before stays until the next rotation finds that it seals nothing.
        assert_eq!(c.ring(), [2, 3]);
        assert_eq!(c.rotate(), 4);
        assert_eq!(c.ring(), [3, 4]);
    }

    #[test]
    fn nothing_is_stored_that_was_sealed_before_a_rotation() {
        let mut c = Cluster::new();
        for _ in 0..2 {
            let late = c.put("a", "b25l");
            c.rotate();
            assert!(!c.apply(&late));
        }
        let (_, late) = c.sealer.add_key(&c.tables, &mut c.ids).unwrap();
        c.rotate();
        assert!(!c.apply(&late), "of two rotations at the same time one wins");
        let txn = c.put("a", "b25l");
        assert!(c.apply(&txn));
        // What is written while all is sealed anew stays as it was written.
        c.rotate();
        let object = c.tables.get("secrets", "d", "a").unwrap();
        let again = c.sealer.reseal(&c.tables, &mut c.ids, &object).unwrap().unwrap();
        let newer = c.put("a", "dHdv");
        assert!(c.apply(&newer) && !c.apply(&again));
        assert_eq!(c.read("a").unwrap(), "dHdv");
    }

    #[test]
    fn a_key_that_is_not_there_is_named() {
        let mut c = Cluster::new();
        let key = Key::new("secrets", "d", "a");
        for (text, why) in [("sealed:v2:7:AAAA", "key 7,"), ("sealed:v2:x:AAAA", "key 0,"), ("sealed:v2:", "key 0,")] {
            let mut object = json!({"data": {"k": text}});
            let error = c.sealer.open(&c.tables, &key, &mut object).unwrap_err();
            assert!(error.code == 500 && error.message.contains(why), "{}", error.message);
        }
        c.rotate();
        let mut object = json!({"data": {"k": "c2VjcmV0"}});
        c.sealer.seal(&c.tables, &mut c.ids, &key, &mut object).unwrap();
        let error = Sealer::new(&[8; 32]).open(&c.tables, &key, &mut object).unwrap_err();
        assert!(error.message.contains("key 2 of the keyring"), "{}", error.message);
        let error = Sealer::new(&[7; 32]).open(&Tables::default(), &key, &mut object).unwrap_err();
        assert!(error.message.contains("key 2,"), "{}", error.message);
    }
}
