//! Join tokens: `ID.SECRET.HASH`, by which a new server or agent trusts the cluster and the cluster trusts it.
//!
//! `ID.SECRET` has the shape of kubeadm's bootstrap tokens (`[a-z0-9]{6}.[a-z0-9]{16}`), HASH is what kubeadm calls
//! `--discovery-token-ca-cert-hash`: the SHA-256 in hex of the CA certificate's SubjectPublicKeyInfo. The cluster keeps a
//! Secret for each, with the SHA-256 of the secret in place of the secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Time;

/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
/// Their type.
pub const SECRET_TYPE: &str = "copepod.dev/join-token";
/// The annotation that says when a token ends, RFC 3339; none for one that never does. It is no secret, and values of
/// Secrets are sealed to everything but the API.
pub const EXPIRATION: &str = "copepod.dev/expiration";

/// The annotation of a Node that joined: the SHA-256, in hex, of its agent's public key, by which the agent is known again.
/// Such a Node's part of the pod network is chosen by the cluster (`spec.podCIDR`).
pub const AGENT_KEY: &str = "copepod.dev/agent-key";

/// How long the ID is.
pub(crate) const ID: usize = 6;
/// How long the secret is.
pub(crate) const SECRET: usize = 16;
const HASH: usize = 64;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A whole token, as an administrator hands it on.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Which token: no secret.
    pub id: String,
    /// What proves that its bearer may join.
    pub secret: String,
    /// SHA-256 of the CA's SubjectPublicKeyInfo, lower-case hex.
    pub ca_hash: String,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts.
    #[error("a join token has the form ID.SECRET.HASH")]
    Shape,
    /// The first part.
    #[error("the ID of a join token is six lower-case letters or digits")]
    Id,
    /// The second part.
    #[error("the secret of a join token is sixteen lower-case letters or digits")]
    Secret,
    /// The third part.
    #[error("the hash of a join token is 64 hexadecimal digits")]
    Hash,
}

impl JoinToken {
    /// A new token. `fill` gives random bytes.
    pub fn draw(mut fill: impl FnMut(&mut [u8]), ca_hash: &str) -> JoinToken {
        let mut text = |length: usize| {
            let mut out = String::with_capacity(length);
            while out.len() < length {
                let mut byte = [0];
                fill(&mut byte);
                // Bytes beyond the greatest multiple of 36 would favour some letters.
                if byte[0] < 252 {
                    out.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
                }
            }
            out
        };
        JoinToken { id: text(ID), secret: text(SECRET), ca_hash: ca_hash.to_string() }
    }

    /// `ID.SECRET`: what is sent to the cluster.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The name of its Secret.
    pub fn secret_name(&self) -> String {
        secret_name(&self.id)
    }

    /// Its Secret.
    pub fn to_secret(&self, usage: Usage, expiration: Option<Time>, description: &str) -> Value {
        let mut data = json!({
            "token-id": STANDARD.encode(&self.id),
            "token-hash": STANDARD.encode(hash(&self.secret)),
            "usage": STANDARD.encode(usage.as_str()),
        });
        if !description.is_empty() {
            data["description"] = STANDARD.encode(description).into();
        }
        let mut object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": self.secret_name(), "namespace": NAMESPACE},
            "data": data,
        });
        if let Some(at) = expiration {
            object["metadata"]["annotations"] = json!({EXPIRATION: at.rfc3339()});
        }
        object
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.ca_hash)
    }
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.….{}", self.id, self.ca_hash)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let mut parts = text.trim().split('.');
        let (Some(id), Some(secret), Some(ca_hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Shape);
        };
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if !of_alphabet(id, ID) {
            return Err(TokenError::Id);
        }
        if !of_alphabet(secret, SECRET) {
            return Err(TokenError::Secret);
        }
        if ca_hash.len() != HASH || !ca_hash.bytes().all(hex) {
            return Err(TokenError::Hash);
        }
        Ok(JoinToken { id: id.into(), secret: secret.into(), ca_hash: ca_hash.into() })
    }
}

/// Whether it is so many small letters and digits.
pub(crate) fn of_alphabet(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The name of the Secret of a token.
pub fn secret_name(id: &str) -> String {
    format!("join-token-{id}")
}

/// ID and secret of what a request bears: `ID.SECRET`, with or without the hash behind it.
pub fn parse_bearer(text: &str) -> Option<(&str, &str)> {
    let (id, rest) = text.split_once('.')?;
    let secret = rest.split_once('.').map_or(rest, |(secret, _)| secret);
    (of_alphabet(id, ID) && of_alphabet(secret, SECRET)).then_some((id, secret))
}

/// SHA-256 in lower-case hex.
pub fn hash(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// As what one joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node.
    Agent,
    /// A server, which gets all of the cluster's secrets.
    Server,
}

/// For what a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nodes.
    Agent,
    /// Servers.
    Server,
    /// Either.
    Both,
}

impl Usage {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Usage::Agent => "agent",
            Usage::Server => "server",
            Usage::Both => "both",
        }
    }

    /// The usage that is written so.
    pub fn parse(text: &str) -> Option<Usage> {
        [Usage::Agent, Usage::Server, Usage::Both].into_iter().find(|u| u.as_str() == text)
    }

    fn allows(self, role: Role) -> bool {
        matches!((self, role), (Usage::Both, _) | (Usage::Agent, Role::Agent) | (Usage::Server, Role::Server))
    }
}

/// Why a token does not let its bearer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of that ID, or its secret is another.
    Unknown,
    /// It was one.
    Expired,
    /// It is one for something else.
    Usage(Usage),
}

/// Whether the bearer of `secret` may join as `role` by the token's Secret, whose values are open. That a token has
/// expired, or is meant for something else, learns only who knows its secret.
pub fn check(object: &Value, secret: &str, role: Role, now: Time) -> Result<(), Refusal> {
    let known = entry(object, "token-hash").unwrap_or_default();
    if object["type"] != SECRET_TYPE || !same(known.as_bytes(), hash(secret).as_bytes()) {
        return Err(Refusal::Unknown);
    }
    match expiration(object["metadata"]["annotations"][EXPIRATION].as_str()) {
        Expiration::Never => {}
        Expiration::At(at) if now < at => {}
        Expiration::At(_) | Expiration::Unreadable => return Err(Refusal::Expired),
    }
    match entry(object, "usage").as_deref().and_then(Usage::parse) {
        Some(usage) if usage.allows(role) => Ok(()),
        Some(usage) => Err(Refusal::Usage(usage)),
        None => Err(Refusal::Unknown),
    }
}

/// A value of a Secret that is open.
pub fn entry(object: &Value, name: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(object["data"][name].as_str()?).ok()?).ok()
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// It does not.
    Never,
    /// Then.
    At(Time),
    /// It says something that is no time: it counts as over.
    Unreadable,
}

/// What the annotation [`EXPIRATION`] says.
pub fn expiration(annotation: Option<&str>) -> Expiration {
    match annotation {
        None => Expiration::Never,
        Some(text) => Time::parse(text).map_or(Expiration::Unreadable, Expiration::At),
    }
}

/// Compares in a time that does not depend on where two texts of the same length differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (x, y)| std::hint::black_box(differ | (x ^ y)));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let mut next = 0u8;
        let fill = |bytes: &mut [u8]| {
            for b in bytes {
                next = next.wrapping_add(97);
                *b = next;
            }
        };
        JoinToken::draw(fill, &"0a".repeat(32))
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let token = token();
        assert_eq!(token.to_string().parse::<JoinToken>().as_ref(), Ok(&token));
        assert_eq!(format!(" {token}\n").parse::<JoinToken>().as_ref(), Ok(&token), "as it comes out of a file");
        assert_eq!(parse_bearer(&token.bearer()), Some((token.id.as_str(), token.secret.as_str())));
        assert_eq!(parse_bearer(&token.to_string()), Some((token.id.as_str(), token.secret.as_str())));
        assert!(!format!("{token:?}").contains(&token.secret));
        let hash = "0".repeat(64);
        for (text, want) in [
            (String::new(), TokenError::Shape),
            (token.bearer(), TokenError::Shape),
            (format!("{token}.x"), TokenError::Shape),
            (format!("abcde.0123456789abcdef.{hash}"), TokenError::Id),
            (format!("Abcdef.0123456789abcdef.{hash}"), TokenError::Id),
            (format!("abcdef.0123456789abcde.{hash}"), TokenError::Secret),
            (format!("abcdef.0123456789abcdef.{}", "0".repeat(63)), TokenError::Hash),
            (format!("abcdef.0123456789abcdef.{}", "G".repeat(64)), TokenError::Hash),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(want), "{text}");
        }
        assert_eq!(parse_bearer("abcdef"), None);
        assert_eq!(parse_bearer("abcdef.short"), None);
    }

    #[test]
    fn a_secret_lets_in_who_knows_the_token_in_its_time_and_for_its_use() {
        let (token, at) = (token(), Time::from_secs(1000));
        let early = Time::from_secs(999);
        let agents = token.to_secret(Usage::Agent, Some(at), "for the rack");
        assert!(!agents.to_string().contains(&token.secret));
        // Nor behind the base64.
        let data = agents["data"].as_object().unwrap();
        let mut open: Vec<(&str, String)> = data.keys().map(|k| (k.as_str(), entry(&agents, k).unwrap())).collect();
        open.sort_unstable();
        let hashed: String = Sha256::digest(token.secret.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        let meant = [
            ("description", "for the rack".to_string()),
            ("token-hash", hashed),
            ("token-id", token.id.clone()),
            ("usage", "agent".to_string()),
        ];
        assert!(meant.iter().all(|(_, value)| !value.contains(&token.secret)));
        assert_eq!(open, meant);
        assert_eq!(check(&agents, &token.secret, Role::Agent, early), Ok(()));
        assert_eq!(check(&agents, &token.secret, Role::Server, early), Err(Refusal::Usage(Usage::Agent)));
        assert_eq!(check(&agents, &token.secret, Role::Agent, at), Err(Refusal::Expired));
        assert_eq!(check(&agents, "0123456789abcdef", Role::Agent, at), Err(Refusal::Unknown));
        assert_eq!(check(&Value::Null, &token.secret, Role::Agent, early), Err(Refusal::Unknown));
        let ever = token.to_secret(Usage::Both, None, "");
        for role in [Role::Agent, Role::Server] {
            assert_eq!(check(&ever, &token.secret, role, Time(u64::MAX)), Ok(()));
        }
        let mut other = ever.clone();
        other["type"] = "Opaque".into();
        assert_eq!(check(&other, &token.secret, Role::Agent, at), Err(Refusal::Unknown));
        let mut odd = ever;
        odd["metadata"]["annotations"] = json!({EXPIRATION: "tomorrow"});
        assert_eq!(check(&odd, &token.secret, Role::Agent, early), Err(Refusal::Expired));
    }
}
