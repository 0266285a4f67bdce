//! Credentials for images from pull secrets, matched as the kubelet does (`pkg/credentialprovider/keyring.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

use crate::effect::Credential;

/// The key under which Docker Hub's credentials are kept.
const HUB: &str = "index.docker.io";

/// Credentials by where they are good for: `host[:port][/path]`, where a host's parts may be patterns.
#[derive(Debug, Default)]
pub(crate) struct Keyring(BTreeMap<String, Vec<Credential>>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
}

impl Keyring {
    /// Adds a secret's credentials: `.dockerconfigjson`, else `.dockercfg`. What cannot be read adds nothing.
    pub fn add(&mut self, secret: &BTreeMap<String, Vec<u8>>) {
        let entries = if let Some(bytes) = secret.get(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(bytes).map(|c| c.auths)
        } else if let Some(bytes) = secret.get(".dockercfg") {
            serde_json::from_slice(bytes)
        } else {
            return;
        };
        for (place, entry) in entries.unwrap_or_default() {
            let (Some(key), Some(credential)) = (key(&place), credential(entry)) else { continue };
            let list = self.0.entry(key).or_default();
            if !list.contains(&credential) {
                list.push(credential);
            }
        }
    }

    /// The credentials for an image, the most particular places first.
    pub fn lookup(&self, image: &str) -> Vec<Credential> {
        let repository = repository(image);
        let mut out: Vec<Credential> = Vec::new();
        for (_, credentials) in self.0.iter().rev().filter(|(place, _)| matches(place, &repository)) {
            out.extend(credentials.iter().filter(|c| !out.contains(c)).cloned().collect::<Vec<_>>());
        }
        if out.is_empty() && (repository.starts_with("docker.io/") || repository.starts_with("index.docker.io/")) {
            out = self.0.get(HUB).cloned().unwrap_or_default();
        }
        out
    }
}

/// `host[:port][/path]` of a key of the config, which may be a URL.
fn key(place: &str) -> Option<String> {
    let rest = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(h, p)| (h, p));
    if host.is_empty() {
        return None;
    }
    // Docker's own keys end in the version of its API.
    let path = path.strip_prefix("v2/").or_else(|| path.strip_prefix("v1/")).unwrap_or(path);
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    Some(if path.is_empty() { host.into() } else { format!("{host}/{path}") })
}

fn credential(entry: Entry) -> Option<Credential> {
    if entry.auth.is_empty() {
        return (!entry.username.is_empty())
            .then_some(Credential { username: entry.username, password: entry.password });
    }
    let padded = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let text = String::from_utf8(padded.decode(entry.auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential { username: username.into(), password: password.trim_end_matches('\0').into() })
}

/// `host/path` of an image, completed as docker does.
fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let path_at = name.rfind('/').map_or(0, |i| i + 1);
    let name = name[path_at..].find(':').map_or(name, |i| &name[..path_at + i]);
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.into(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Whether a place covers a repository: the same port, as many host parts, each matching, and a path that begins alike.
fn matches(place: &str, repository: &str) -> bool {
    let split = |s: &str| -> (Vec<String>, String, String) {
        let (authority, path) = s.split_once('/').map_or((s, String::new()), |(a, p)| (a, format!("/{p}")));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (authority, ""),
        };
        (host.split('.').map(Into::into).collect(), port.into(), path)
    };
    let ((glob, glob_port, glob_path), (host, port, path)) = (split(place), split(repository));
    glob_port == port
        && glob.len() == host.len()
        && path.starts_with(&glob_path)
        && glob.iter().zip(&host).all(|(g, h)| wild(g.as_bytes(), h.as_bytes()))
}

/// `*`, `?` and literals, as in Go's `filepath.Match`.
fn wild(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => wild(rest, text) || (!text.is_empty() && wild(glob, &text[1..])),
        ([b'?', g @ ..], [_, t @ ..]) => wild(g, t),
        ([a, g @ ..], [b, t @ ..]) if a == b => wild(g, t),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn keyring(auths: Value) -> Keyring {
        let mut ring = Keyring::default();
        ring.add(&[(".dockerconfigjson".to_string(), json!({"auths": auths}).to_string().into_bytes())].into());
        ring
    }

    fn found(place: &str, image: &str) -> bool {
        !keyring(json!({place: {"username": "u", "password": "p"}})).lookup(image).is_empty()
    }

    #[test]
    fn places_and_images() {
        for (place, image, want) in [
            ("registry.io", "registry.io/a/b:1", true),
            ("https://registry.io/v2/", "registry.io/a", true),
            ("registry.io", "other.io/a", false),
            ("registry.io:5000", "registry.io/a", false),
            ("registry.io:5000", "registry.io:5000/a@sha256:00", true),
            ("*.registry.io", "eu.registry.io/a", true),
            ("*.registry.io", "registry.io/a", false),
            ("*.registry.io", "a.eu.registry.io/a", false),
            ("e*.registry.*", "eu.registry.io/a", true),
            ("registry.io/team", "registry.io/team/app", true),
            ("registry.io/team", "registry.io/other/app", false),
            ("https://index.docker.io/v1/", "web", true),
            ("https://index.docker.io/v1/", "me/web:2", true),
            ("docker.io", "web", true),
            ("docker.io/me", "web", false),
            ("https://index.docker.io/v1/", "registry.io/web", false),
            ("localhost:5000", "localhost:5000/app", true),
            ("https://", "registry.io/a", false),
        ] {
            assert_eq!(found(place, image), want, "{place} {image}");
        }
    }

    #[test]
    fn the_most_particular_place_comes_first() {
        let ring = keyring(json!({"r.io": {"username": "all"}, "r.io/team": {"username": "team"}}));
        let names: Vec<String> = ring.lookup("r.io/team/app").into_iter().map(|c| c.username).collect();
        assert_eq!(names, ["team", "all"]);
    }

    #[test]
    fn secrets_of_both_kinds() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pa:ss");
        let ring = keyring(json!({"r.io": {"auth": auth}}));
        assert_eq!(ring.lookup("r.io/a"), [Credential { username: "me".into(), password: "pa:ss".into() }]);
        let mut old = Keyring::default();
        old.add(
            &[(".dockercfg".to_string(), json!({"r.io": {"username": "u", "password": "p"}}).to_string().into_bytes())]
                .into(),
        );
        assert_eq!(old.lookup("r.io/a").len(), 1);
        for bad in ["{", "[]", r#"{"auths":{"r.io":{"auth":"!"}}}"#, r#"{"auths":{"r.io":{}}}"#] {
            let mut ring = Keyring::default();
            ring.add(&[(".dockerconfigjson".to_string(), bad.as_bytes().to_vec())].into());
            assert_eq!(ring.lookup("r.io/a"), [], "{bad}");
        }
    }
}
