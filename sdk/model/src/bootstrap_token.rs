//! Kubernetes' bootstrap tokens: `ID.SECRET`, by which somebody without a certificate is a user of the API, mostly to ask for
//! one. Kept as Secrets of `kube-system` that carry the secret itself (upstream's
//! `plugin/pkg/auth/authenticator/token/bootstrap` and `k8s.io/cluster-bootstrap`). The cluster's own joining has tokens of
//! another kind, [`crate::join_token`].

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::join_token::{Expiration, ID, SECRET, of_alphabet, same};
use crate::{Time, UserInfo};

/// The namespace of the Secrets (upstream's `NamespaceSystem`).
pub const NAMESPACE: &str = "kube-system";
/// Their type (upstream's `SecretTypeBootstrapToken`).
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of all who bear one (upstream's `BootstrapDefaultGroup`); with a colon, what the names of further ones begin with.
const GROUP: &str = "system:bootstrappers";
/// How long the rest of such a name may be (upstream's `BootstrapGroupPattern`).
const GROUP_REST: usize = 256;

/// ID and secret of a token, `[a-z0-9]{6}.[a-z0-9]{16}` (upstream's `BootstrapTokenPattern`). None is like a JWT, which has
/// three parts.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    (of_alphabet(id, ID) && of_alphabet(secret, SECRET)).then_some((id, secret))
}

/// The name of the Secret of a token (upstream's `BootstrapTokenSecretPrefix`).
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// Whom the bearer of `id` and `secret` is by the token's Secret, whose values are open (upstream's `AuthenticateToken`); nobody
/// if the Secret is being deleted, has ended, is not for this use or says something else.
pub fn check(object: &Value, id: &str, secret: &str, now: Time) -> Option<UserInfo> {
    let known = object["type"] == SECRET_TYPE
        && object["metadata"]["deletionTimestamp"].is_null()
        && same(entry(object, "token-secret").as_bytes(), secret.as_bytes())
        && entry(object, "token-id") == id;
    if !known || has_ended(object, now) || entry(object, "usage-bootstrap-authentication") != "true" {
        return None;
    }
    let groups = groups(object)?.into_iter().chain(["system:authenticated".to_string()]).collect();
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// When the token of a Secret ends, whose values are open (upstream's `GetExpiration`).
pub fn expiration(object: &Value) -> Expiration {
    match entry(object, "expiration").as_str() {
        "" => Expiration::Never,
        end => Time::parse(end).map_or(Expiration::Unreadable, Expiration::At),
    }
}

/// Whether it ends at some time and that is over.
fn has_ended(object: &Value, now: Time) -> bool {
    match expiration(object) {
        Expiration::Never => false,
        Expiration::At(end) => end <= now,
        Expiration::Unreadable => true,
    }
}

/// The groups, sorted and each once (upstream's `GetGroups`); none at all if one is no bootstrappers' group.
fn groups(object: &Value) -> Option<BTreeSet<String>> {
    let mut groups = BTreeSet::from([GROUP.to_string()]);
    let more = entry(object, "auth-extra-groups");
    if more.is_empty() {
        return Some(groups);
    }
    for group in more.split(',') {
        if !is_group(group) {
            return None;
        }
        groups.insert(group.to_string());
    }
    Some(groups)
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`.
fn is_group(name: &str) -> bool {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let rest = name.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default().as_bytes();
    rest.len() <= GROUP_REST
        && rest.iter().all(|c| letter(*c) || matches!(*c, b':' | b'-'))
        && rest.last().is_some_and(|c| letter(*c))
}

/// A value of the Secret, empty if there is none (upstream's `GetData`). Bytes that are no text become such as nothing takes.
fn entry(object: &Value, name: &str) -> String {
    let Some(text) = object["data"][name].as_str() else { return String::new() };
    STANDARD.decode(text).map_or_else(|_| "\u{fffd}".into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "abcdef";
    const SECRET: &str = "0123456789abcdef";
    /// 2027-01-15T08:00:00Z.
    const NOW: Time = Time::from_secs(1_800_000_000);

    fn secret() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": secret_name(ID), "namespace": NAMESPACE},
            "data": {
                "token-id": STANDARD.encode(ID),
                "token-secret": STANDARD.encode(SECRET),
                "usage-bootstrap-authentication": STANDARD.encode("true"),
            },
        })
    }

    /// The groups of who bears the token when the Secret says so besides; none for nobody.
    fn with(data: &[(&str, &str)]) -> Vec<String> {
        let mut object = secret();
        for (name, value) in data {
            object["data"][*name] = STANDARD.encode(value).into();
        }
        check(&object, ID, SECRET, NOW).map(|user| user.groups).unwrap_or_default()
    }

    #[test]
    fn a_token_has_two_parts_of_small_letters_and_digits() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some((ID, SECRET)));
        for token in [
            "",
            ".",
            "abcdef",
            "abcdef.",
            "abcde.0123456789abcdef",
            "abcdefg.0123456789abcdef",
            "Abcdef.0123456789abcdef",
            "abcde-.0123456789abcdef",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdefg",
            "abcdef.0123456789abcdeF",
            "abcdef.0123456789abcde.",
            "abcdef.0123456789abcdef.",
            "abcdef.0123456789abcdef.00",
            "abcdef.0123456789abcdef\n",
            " abcdef.0123456789abcdef",
            "abcdef:0123456789abcdef",
        ] {
            assert_eq!(parse(token), None, "{token:?}");
        }
    }

    #[test]
    fn who_knows_the_secret_in_its_time_is_the_tokens_user() {
        let user = check(&secret(), ID, SECRET, NOW).unwrap();
        let groups = ["system:bootstrappers", "system:authenticated"].map(String::from).to_vec();
        assert_eq!(user, UserInfo { name: "system:bootstrap:abcdef".into(), groups, ..UserInfo::default() });
        for (what, path, value) in [
            ("another type", "/type", json!("Opaque")),
            ("no type", "/type", json!(null)),
            ("it is being deleted", "/metadata", json!({"deletionTimestamp": "2027-01-15T08:00:30Z"})),
            ("no data", "/data", json!(null)),
        ] {
            let mut object = secret();
            *object.pointer_mut(path).unwrap() = value;
            assert_eq!(check(&object, ID, SECRET, NOW), None, "{what}");
        }
        for missing in ["token-id", "token-secret", "usage-bootstrap-authentication"] {
            let mut object = secret();
            object["data"].as_object_mut().unwrap().remove(missing);
            assert_eq!(check(&object, ID, SECRET, NOW), None, "without {missing}");
        }
        assert_eq!(check(&Value::Null, ID, SECRET, NOW), None, "no Secret");
        assert_eq!(check(&secret(), ID, "0123456789abcdee", NOW), None, "another secret");
        assert_eq!(check(&secret(), ID, "", NOW), None, "no secret");
        assert_eq!(check(&secret(), "abcdeg", SECRET, NOW), None, "another id");
    }

    #[test]
    fn what_its_secret_says_decides_until_when_for_what_and_as_which_groups() {
        let plain = &["system:bootstrappers", "system:authenticated"][..];
        let longest = format!("system:bootstrappers:{}", "a".repeat(256));
        let longer = format!("{longest}a");
        for (name, value, want) in [
            ("expiration", "", plain),
            ("expiration", "2027-01-15T08:00:01Z", plain),
            ("expiration", "2027-01-15T09:00:01+01:00", plain),
            ("expiration", "2027-01-15T08:00:00Z", &[]),
            ("expiration", "2026-01-15T08:00:00Z", &[]),
            ("expiration", "1969-01-15T08:00:00Z", &[]),
            ("expiration", "tomorrow", &[]),
            ("usage-bootstrap-authentication", "True", &[]),
            ("usage-bootstrap-authentication", "false", &[]),
            ("usage-bootstrap-authentication", "", &[]),
            ("usage-bootstrap-signing", "true", plain),
            ("description", "for the rack", plain),
            ("token-id", "abcdeg", &[]),
            ("token-secret", "0123456789abcdef0", &[]),
            ("auth-extra-groups", "", plain),
            ("auth-extra-groups", "system:bootstrappers:", &[]),
            ("auth-extra-groups", "system:bootstrappers", &[]),
            ("auth-extra-groups", "system:masters", &[]),
            ("auth-extra-groups", "system:bootstrappers:a,system:masters", &[]),
            ("auth-extra-groups", "system:bootstrappers:a,", &[]),
            ("auth-extra-groups", "system:bootstrappers:a, system:bootstrappers:b", &[]),
            ("auth-extra-groups", "system:bootstrappers:A", &[]),
            ("auth-extra-groups", "system:bootstrappers:a-", &[]),
            ("auth-extra-groups", "system:bootstrappers:a:", &[]),
            ("auth-extra-groups", "system:bootstrappers:a\n", &[]),
            ("auth-extra-groups", "xsystem:bootstrappers:a", &[]),
            ("auth-extra-groups", longer.as_str(), &[]),
            (
                "auth-extra-groups",
                longest.as_str(),
                &["system:bootstrappers", longest.as_str(), "system:authenticated"],
            ),
            (
                "auth-extra-groups",
                "system:bootstrappers:z,system:bootstrappers:-:a-1,system:bootstrappers:z",
                &[
                    "system:bootstrappers",
                    "system:bootstrappers:-:a-1",
                    "system:bootstrappers:z",
                    "system:authenticated",
                ],
            ),
        ] {
            assert_eq!(with(&[(name, value)]), want, "{name}: {value:?}");
        }
        let mut odd = secret();
        odd["data"]["expiration"] = STANDARD.encode([0xffu8]).into();
        assert_eq!(check(&odd, ID, SECRET, NOW), None, "an end that is no text");
    }
}
