//! Who we are to a registry: challenges (RFC 9110 §11.6.1), Basic, and tokens as docker's registries give them
//! (distribution's `auth/token`), kept for as long as they live, each for the credential that it was given for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;

use crate::registries::Credential;

/// How long a token lives that does not say.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest that a token is kept, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);
/// How many are kept.
const KEPT: usize = 4096;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; a Bearer challenge is preferred.
    pub(crate) fn parse(header: &str) -> Option<Challenge> {
        let lower = header.to_ascii_lowercase();
        let at = |scheme: &str| {
            lower.match_indices(scheme).map(|(i, _)| i).find(|i| {
                let before = lower[..*i].trim_end();
                let after = lower[i + scheme.len()..].chars().next();
                (before.is_empty() || before.ends_with(',')) && after.is_none_or(|c| c == ' ' || c == ',')
            })
        };
        if let Some(i) = at("bearer") {
            let parameters = parameters(&header[i + "bearer".len()..]);
            let get = |name: &str| parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
            if let Some(realm) = get("realm") {
                return Some(Challenge::Bearer { realm, service: get("service") });
            }
        }
        at("basic").map(|_| Challenge::Basic)
    }
}

/// `name="value"` pairs, as far as they go.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((i, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = i + 1;
                            break;
                        }
                        '\\' => value.extend(chars.next().map(|(_, c)| c)),
                        c => value.push(c),
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_string(), &after[end..])
            }
        };
        out.push((name, value));
        rest = next;
    }
    out
}

/// `Authorization` of a credential.
pub(crate) fn basic(credential: &Credential) -> String {
    let text = format!("{}:{}", credential.username, credential.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// The answer of a token server.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// `Authorization`, and how long it is good for.
    pub(crate) fn header(self) -> Option<(String, Duration)> {
        let token = self.token.or(self.access_token).filter(|t| !t.is_empty())?;
        let life = self.expires_in.map_or(TOKEN_LIFE, Duration::from_secs).min(LONGEST);
        Some((format!("Bearer {token}"), life.saturating_sub(MARGIN)))
    }
}

/// For what a header was given: the host, the repository, and by whom.
pub(crate) type Scope = (String, String, Option<Credential>);

/// Headers that worked.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<Scope, (String, Instant)>>);

impl Known {
    pub(crate) fn get(&self, scope: &Scope, now: Instant) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).filter(|(_, until)| now < *until).map(|(header, _)| header.clone())
    }

    pub(crate) fn set(&self, scope: Scope, header: String, until: Instant, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, (_, until)| now < *until);
            if known.len() >= KEPT {
                known.clear();
            }
        }
        known.insert(scope, (header, until));
    }

    pub(crate) fn forget(&self, scope: &Scope) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_all_kinds() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (header, want) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"a:b:pull\"",
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            ("bearer realm=http://x/t, error=\"a, b\"", bearer("http://x/t", None)),
            ("Basic realm=\"a\", Bearer realm=\"https://b\"", bearer("https://b", None)),
            ("Bearer realm=\"q\\\"q\"", bearer("q\"q", None)),
            ("Bearer", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), want, "{header}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_credential_and_time() {
        let (known, now) = (Known::default(), Instant::now());
        let me = Credential { username: "me".into(), password: "p".into() };
        let scope = |c: Option<&Credential>| ("h".to_string(), "r".to_string(), c.cloned());
        let (header, life) =
            serde_json::from_str::<TokenAnswer>(r#"{"access_token":"t","expires_in":65}"#).unwrap().header().unwrap();
        assert_eq!((header.as_str(), life), ("Bearer t", Duration::from_secs(60)));
        known.set(scope(Some(&me)), header, now + life, now);
        assert!(known.get(&scope(Some(&me)), now).is_some());
        assert!(known.get(&scope(None), now).is_none());
        assert!(known.get(&scope(Some(&me)), now + life).is_none());
        known.forget(&scope(Some(&me)));
        assert!(known.get(&scope(Some(&me)), now).is_none());
        assert!(serde_json::from_str::<TokenAnswer>("{}").unwrap().header().is_none());
        assert_eq!(basic(&me), "Basic bWU6cA==");
    }
}
