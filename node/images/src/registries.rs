//! The node's registries file: mirrors, certificates and credentials of registries, in the shape of k3s' `registries.yaml`.
//!
//! ```yaml
//! mirrors:
//!   docker.io:                      # for images of this registry, or "*" for all others
//!     endpoint: ["https://mirror.example.com", "http://10.0.0.5:5000"]   # tried in order, then the registry itself
//! configs:
//!   mirror.example.com:             # host[:port] of an endpoint
//!     auth: {username: me, password: secret}
//!     tls: {ca_file: /etc/ssl/mirror.pem, cert_file: c.pem, key_file: k.pem, insecure_skip_verify: false}
//! ```
//!
//! A registry that has plain HTTP is its own mirror: `endpoint: ["http://registry.lan:5000"]` under `registry.lan:5000`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::reference::is_loopback;

/// The registries file, read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, HostConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mirror {
    endpoint: Vec<String>,
}

/// How one host is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HostConfig {
    auth: Option<Auth>,
    pub tls: Option<Tls>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    username: String,
    password: String,
}

/// Certificates of one host. Files are read when the host is first spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// Authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Trust anything.
    pub insecure_skip_verify: bool,
}

/// A user's name and password for a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credential {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Where a registry's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `http://…` or `https://…`, without `/v2` and without a slash at the end.
    pub base: String,
    /// `host[:port]`.
    pub host: String,
    /// Whether it is the registry itself, so that a pod's credentials are for it.
    pub own: bool,
}

impl Registries {
    /// Reads a file's text. The error is for people.
    pub fn parse(text: &str) -> Result<Registries, String> {
        if text.trim().is_empty() {
            return Ok(Registries::default());
        }
        let all: Registries = yaml_serde::from_str(text).map_err(|e| e.to_string())?;
        for (name, mirror) in &all.mirrors {
            for endpoint in &mirror.endpoint {
                parse_endpoint(endpoint).map_err(|why| format!("mirrors.{name}.endpoint: {endpoint:?}: {why}"))?;
            }
        }
        for (name, config) in &all.configs {
            let tls = config.tls.clone().unwrap_or_default();
            if tls.cert_file.is_some() != tls.key_file.is_some() {
                return Err(format!("configs.{name}.tls: cert_file and key_file go together"));
            }
        }
        Ok(all)
    }

    /// The endpoints to try for a registry, in order: its mirrors, then itself.
    pub(crate) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let itself = own_host(registry);
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mut all: Vec<Endpoint> =
            mirror.into_iter().flat_map(|m| &m.endpoint).filter_map(|e| parse_endpoint(e).ok()).collect();
        for endpoint in &mut all {
            endpoint.own = endpoint.host == itself || endpoint.host == registry;
        }
        if !all.iter().any(|e| e.own) {
            // This machine is asked over plain HTTP unless somebody has set up certificates for it.
            let plain = is_loopback(registry) && self.config(itself).is_none_or(|c| c.tls.is_none());
            let scheme = if plain { "http" } else { "https" };
            all.push(Endpoint { base: format!("{scheme}://{itself}"), host: itself.into(), own: true });
        }
        all
    }

    pub(crate) fn config(&self, host: &str) -> Option<&HostConfig> {
        // Docker Hub is known by its name in images as well.
        self.configs.get(host).or_else(|| (host == HUB).then(|| self.configs.get("docker.io")).flatten())
    }

    /// The node's own credential for a host.
    pub(crate) fn credential(&self, host: &str) -> Option<Credential> {
        let auth = self.config(host)?.auth.as_ref().filter(|a| !a.username.is_empty())?;
        Some(Credential { username: auth.username.clone(), password: auth.password.clone() })
    }
}

/// Where docker.io's API is.
const HUB: &str = "registry-1.docker.io";

fn own_host(registry: &str) -> &str {
    if matches!(registry, "docker.io" | "index.docker.io") { HUB } else { registry }
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let uri: http::Uri = text.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
        return Err("an endpoint is http:// or https:// and a host".into());
    }
    let authority = uri.authority().ok_or("the host is missing")?;
    if authority.as_str().contains('@') {
        return Err("credentials belong under configs".into());
    }
    let base = text.trim_end_matches('/');
    Ok(Endpoint { base: base.strip_suffix("/v2").unwrap_or(base).into(), host: authority.as_str().into(), own: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(r: &Registries, registry: &str) -> Vec<String> {
        r.endpoints(registry).into_iter().map(|e| format!("{}{}", e.base, if e.own { " own" } else { "" })).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let r = Registries::parse(
            "mirrors:\n  docker.io: {endpoint: ['https://m.io/v2', 'http://10.0.0.5:5000/']}\n  lan:5000: {endpoint: ['http://lan:5000']}\nconfigs:\n  localhost:1: {tls: {ca_file: /ca}}\n",
        )
        .unwrap();
        assert_eq!(
            bases(&r, "docker.io"),
            ["https://m.io", "http://10.0.0.5:5000", "https://registry-1.docker.io own"]
        );
        assert_eq!(bases(&r, "lan:5000"), ["http://lan:5000 own"]);
        assert_eq!(bases(&r, "ghcr.io"), ["https://ghcr.io own"]);
        assert_eq!(bases(&r, "localhost:5000"), ["http://localhost:5000 own"]);
        assert_eq!(bases(&r, "localhost:1"), ["https://localhost:1 own"]);
        let all = Registries::parse("mirrors: {'*': {endpoint: ['https://m.io']}}").unwrap();
        assert_eq!(bases(&all, "ghcr.io"), ["https://m.io", "https://ghcr.io own"]);
        assert_eq!(Registries::parse(" \n"), Ok(Registries::default()));
    }

    #[test]
    fn credentials_and_their_hosts() {
        let r =
            Registries::parse("configs:\n  docker.io: {auth: {username: u, password: p}}\n  a: {auth: {}}\n").unwrap();
        assert_eq!(r.credential(HUB).unwrap().username, "u");
        assert!(r.credential("a").is_none() && r.credential("b").is_none());
        assert!(!format!("{:?}", r.credential(HUB)).contains("\"p\""), "passwords do not get into logs");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("mirrors: {a: {endpoints: []}}", "endpoints"),
            ("mirrors: {a: {endpoint: ['ftp://x']}}", "mirrors.a.endpoint"),
            ("mirrors: {a: {endpoint: ['https://u:p@x']}}", "credentials belong under configs"),
            ("configs: {a: {tls: {cert_file: x}}}", "cert_file and key_file go together"),
            ("[1]", ""),
        ] {
            let e = Registries::parse(text).unwrap_err();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
