//! Service account tokens: JWTs (RFC 7519) signed with ES256, bound to their account and, if asked, to a pod (KEP-1205).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use copepod_machine::View;
use copepod_model::{Object, Time, UserInfo};
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// The issuer, and the audience of tokens that ask for none.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs and checks tokens.
pub struct Tokens {
    key: EcdsaKeyPair,
    kid: String,
    random: SystemRandom,
    /// Claims of tokens whose signature was found good, by the token's SHA-256: a signature costs more than all the rest of
    /// a small request, and is as good the next time. All else is checked anew each time.
    signed: Mutex<HashMap<[u8; 32], Arc<Value>>>,
}

/// How far apart the clocks of who signs and who checks may be (go-jose's `DefaultLeeway`, which upstream checks these tokens with).
/// Who was deleted, too, counts for so long.
const LEEWAY: Duration = Duration::from_secs(60);

/// How many of them are kept; more than a cluster's pods use at a time.
const SIGNED: usize = 16 << 10;

/// What a token is for.
pub struct Claims<'a> {
    /// Namespace of the account.
    pub namespace: &'a str,
    /// Name of the account.
    pub account: &'a str,
    /// UID of the account.
    pub uid: &'a str,
    /// The pod it dies with: (name, uid).
    pub pod: Option<(&'a str, &'a str)>,
    /// Audiences.
    pub audiences: &'a [String],
    /// Seconds that it lives.
    pub lifetime: u64,
}

impl Tokens {
    /// From a PKCS#8 P-256 key.
    pub fn new(pkcs8: &[u8]) -> Result<Tokens, String> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|e| e.to_string())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Tokens { kid: B64.encode(digest), key, random, signed: Mutex::default() })
    }

    /// A signed token. `id` is its `jti`.
    pub fn sign(&self, claims: &Claims<'_>, id: &str, now: Time) -> Result<String, String> {
        let header = json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"});
        let mut bound = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.uid},
        });
        if let Some((name, uid)) = claims.pod {
            bound["pod"] = json!({"name": name, "uid": uid});
        }
        let payload = json!({
            "aud": claims.audiences, "iss": ISSUER, "jti": id,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
            "iat": now.secs(), "nbf": now.secs(), "exp": now.secs() + claims.lifetime,
            "kubernetes.io": bound,
        });
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload.to_string()));
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|e| e.to_string())?;
        Ok(format!("{text}.{}", B64.encode(signature)))
    }

    /// The user of a token that is well signed, in its time, for one of `audiences` (none: for us), and whose account
    /// (and pod) still exist; and for which of the audiences it is.
    pub fn check(
        &self,
        token: &str,
        audiences: &[&str],
        view: &dyn View,
        now: Time,
    ) -> Option<(UserInfo, Vec<String>)> {
        let claims = self.claims(token)?;
        let wanted = if audiences.is_empty() { &[ISSUER] } else { audiences };
        let valid: Vec<String> =
            wanted.iter().filter(|w| texts(&claims["aud"]).any(|a| a == **w)).map(ToString::to_string).collect();
        if claims["iss"] != ISSUER || valid.is_empty() || !in_time(&claims, now)? {
            return None;
        }
        let bound = &claims["kubernetes.io"];
        let namespace = bound["namespace"].as_str()?;
        let (name, uid) = (bound["serviceaccount"]["name"].as_str()?, bound["serviceaccount"]["uid"].as_str()?);
        // What is being deleted counts until its grace is over.
        let alive = |resource: &str, name: &str, uid: &str| {
            let gone = |o: &Object| o.meta.deletion().is_some_and(|at| at + LEEWAY < now);
            view.get(resource, namespace, name).is_some_and(|o| *o.meta.uid == *uid && !gone(&o))
        };
        if !alive("serviceaccounts", name, uid) {
            return None;
        }
        let mut extra = vec![(
            "authentication.kubernetes.io/credential-id".to_string(),
            vec![format!("JTI={}", claims["jti"].as_str().unwrap_or_default())],
        )];
        if let (Some(pod), Some(pod_uid)) = (bound["pod"]["name"].as_str(), bound["pod"]["uid"].as_str()) {
            if !alive("pods", pod, pod_uid) {
                return None;
            }
            extra.push(("authentication.kubernetes.io/pod-name".into(), vec![pod.into()]));
            extra.push(("authentication.kubernetes.io/pod-uid".into(), vec![pod_uid.into()]));
        }
        let user = UserInfo { uid: uid.into(), extra, ..UserInfo::service_account(namespace, name) };
        Some((user, valid))
    }

    /// What a well signed token says.
    fn claims(&self, token: &str) -> Option<Arc<Value>> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let id: [u8; 32] = digest.as_ref().try_into().ok()?;
        let lock = || self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = lock().get(&id) {
            return Some(claims.clone());
        }
        let (text, sig) = token.rsplit_once('.')?;
        let (header, payload) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&B64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let key = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(text.as_bytes(), &B64.decode(sig).ok()?).ok()?;
        let claims: Arc<Value> = Arc::new(serde_json::from_slice(&B64.decode(payload).ok()?).ok()?);
        let mut signed = lock();
        if signed.len() >= SIGNED {
            signed.clear();
        }
        signed.insert(id, claims.clone());
        Some(claims)
    }
}

/// Whether `nbf`, `exp` and, if it is there, `iat` (NumericDates of RFC 7519, seconds) let a token hold at `now`, give or take
/// [`LEEWAY`]; `None` if it does not say from when or until when.
fn in_time(claims: &Value, now: Time) -> Option<bool> {
    let at = |claim: &str| claims[claim].as_u64();
    let (from, until, leeway) = (at("nbf")?, at("exp")?, LEEWAY.as_secs());
    let latest = now.secs().saturating_add(leeway);
    Some(from <= latest && at("iat").is_none_or(|made| made <= latest) && now.secs() <= until.saturating_add(leeway))
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use copepod_model::{Key, object};
    use copepod_state::Tables;

    use super::*;

    /// 2027-01-15T08:00:00Z.
    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    /// An object: resource, name, uid and when it is to be gone.
    type Row = (&'static str, &'static str, &'static str, Option<&'static str>);
    const ROBOT: Row = ("serviceaccounts", "robot", "u1", None);
    const POD: Row = ("pods", "p", "p1", None);

    fn tokens() -> Tokens {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Tokens::new(key.as_ref()).unwrap()
    }

    fn tables(rows: &[Row]) -> Tables {
        let mut tables = Tables::default();
        for (revision, (resource, name, uid, gone)) in (1..).zip(rows) {
            let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": uid}});
            if let Some(gone) = gone {
                value["metadata"]["deletionTimestamp"] = json!(gone);
            }
            let key = Key::new(*resource, "default", *name);
            tables.put(Arc::new(Object::decode(key, revision, object::encode(&value))));
        }
        tables
    }

    fn signed(tokens: &Tokens, header: &Value, payload: &Value) -> String {
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload.to_string()));
        let signature = tokens.key.sign(&tokens.random, text.as_bytes()).unwrap();
        format!("{text}.{}", B64.encode(signature))
    }

    #[test]
    fn a_token_holds_as_long_as_all_that_it_is_bound_to() {
        let (ours, theirs) = (tokens(), tokens());
        let audiences = [ISSUER.to_string(), "vault".to_string()];
        let sign = |by: &Tokens, pod: Option<(&str, &str)>| {
            let claims = Claims {
                namespace: "default",
                account: "robot",
                uid: "u1",
                pod,
                audiences: &audiences,
                lifetime: HOUR,
            };
            by.sign(&claims, "id", Time::from_secs(NOW)).unwrap()
        };
        let (bound, free) = (sign(&ours, Some(("p", "p1"))), sign(&ours, None));
        let until = |resource: &'static str, name: &'static str, uid: &'static str, gone: &'static str| {
            (resource, name, uid, Some(gone))
        };
        let both = [ROBOT, POD];
        let ok: &[&str] = &[ISSUER];
        for (what, token, rows, audiences, at, want) in [
            ("a good one", &bound, &both[..], &[][..], NOW, ok),
            ("one without a pod", &free, &[ROBOT], &[], NOW, ok),
            ("as late as clocks may differ", &bound, &both, &[], NOW + HOUR + 60, ok),
            ("expired", &bound, &both, &[], NOW + HOUR + 61, &[]),
            ("as early as clocks may differ", &bound, &both, &[], NOW - 60, ok),
            ("not yet valid", &bound, &both, &[], NOW - 61, &[]),
            ("for another", &bound, &both, &["vault"], NOW, &["vault"]),
            ("for several", &bound, &both, &["x", "vault", ISSUER], NOW, &["vault", ISSUER]),
            ("wrong audience", &bound, &both, &["x"], NOW, &[]),
            ("the pod is gone", &bound, &[ROBOT], &[], NOW, &[]),
            ("another pod of the name", &bound, &[ROBOT, ("pods", "p", "p2", None)], &[], NOW, &[]),
            ("the pod ends", &bound, &[ROBOT, until("pods", "p", "p1", "2027-01-15T08:00:30Z")], &[], NOW, ok),
            (
                "the pod should be gone",
                &bound,
                &[ROBOT, until("pods", "p", "p1", "2027-01-15T07:58:59Z")],
                &[],
                NOW,
                &[],
            ),
            ("the account is gone", &bound, &[POD], &[], NOW, &[]),
            ("the account of one without a pod is gone", &free, &[POD], &[], NOW, &[]),
            ("another account of the name", &free, &[("serviceaccounts", "robot", "u2", None)], &[], NOW, &[]),
            (
                "the account ends",
                &free,
                &[until("serviceaccounts", "robot", "u1", "2027-01-15T07:59:00Z")],
                &[],
                NOW,
                ok,
            ),
            (
                "the account ended long ago",
                &free,
                &[until("serviceaccounts", "robot", "u1", "2027-01-15T07:58:59Z")],
                &[],
                NOW,
                &[],
            ),
            ("another's signature", &sign(&theirs, None), &both, &[], NOW, &[]),
        ] {
            let tables = tables(rows);
            // The second time its signature is known.
            for _ in 0..2 {
                let found = ours.check(token, audiences, &tables, Time::from_secs(at));
                let valid = found.as_ref().map_or(&[][..], |(_, valid)| valid.as_slice());
                assert_eq!(valid, want, "{what}");
                assert_eq!(found.is_some(), !want.is_empty(), "{what}");
                if let Some((user, _)) = found {
                    assert_eq!((&*user.name, &*user.uid), ("system:serviceaccount:default:robot", "u1"), "{what}");
                }
            }
        }
    }

    #[test]
    fn only_what_was_signed_as_tokens_are_is_one() {
        let tokens = tokens();
        let tables = tables(&[ROBOT]);
        let holds = |token: &str| tokens.check(token, &[], &tables, Time::from_secs(NOW)).is_some();
        let payload = json!({
            "aud": [ISSUER], "iss": ISSUER, "jti": "id", "nbf": NOW, "exp": NOW + HOUR,
            "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "robot", "uid": "u1"}},
        });
        let good = signed(&tokens, &json!({"alg": "ES256"}), &payload);
        assert!(holds(&good));
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "RS256"}),
            json!({"alg": "es256"}),
            json!({"alg": null}),
            json!({}),
            json!([]),
        ] {
            assert!(!holds(&signed(&tokens, &header, &payload)), "{header}");
        }
        for (field, value) in [
            ("iss", json!("https://example.com")),
            ("iss", json!(null)),
            ("aud", json!([])),
            ("aud", json!(null)),
            ("nbf", json!(null)),
            ("exp", json!(null)),
            ("exp", json!("never")),
            ("iat", json!(NOW + 61)),
            ("kubernetes.io", json!({"namespace": "default"})),
            ("kubernetes.io", json!({"namespace": "other", "serviceaccount": {"name": "robot", "uid": "u1"}})),
        ] {
            let mut changed = payload.clone();
            changed[field] = value;
            assert!(!holds(&signed(&tokens, &json!({"alg": "ES256"}), &changed)), "{changed}");
        }
        let parts: Vec<&str> = good.split('.').collect();
        let [header, body, signature] = parts[..] else { panic!("{good}") };
        let mut later = payload.clone();
        later["exp"] = json!(NOW + 2 * HOUR);
        let later = B64.encode(later.to_string());
        for token in [
            format!("{header}.{later}.{signature}"),
            format!("{header}.{body}."),
            format!("{header}.{body}"),
            format!("{header}.{body}.{signature}.{signature}"),
            format!("{header}.{body}.{}", &signature[1..]),
            format!("{}.{body}.", B64.encode(r#"{"alg":"none"}"#)),
            "..".to_string(),
            String::new(),
        ] {
            assert!(!holds(&token), "{token}");
        }
    }
}
