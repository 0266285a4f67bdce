//! Image names.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use oci_client::Reference;

use crate::PullError;

/// Where an image comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file of the node.
    File(PathBuf),
    /// A registry.
    Registry(Reference),
}

impl Source {
    /// The name under which the index knows it.
    pub(crate) fn key(&self) -> String {
        match self {
            Source::File(path) => format!("file://{}", path.display()),
            Source::Registry(r) => r.whole(),
        }
    }
}

/// The full name of an image: `web` is `docker.io/library/web:latest`. `None` if it is no image name.
pub fn normalise(image: &str) -> Option<String> {
    parse(image, true).ok().map(|s| s.key())
}

/// `host/path` of a reference, without tag and digest.
pub(crate) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

pub(crate) fn parse(image: &str, allow_file: bool) -> Result<Source, PullError> {
    if let Some(path) = image.strip_prefix("file://") {
        let path = Path::new(path);
        // A relative path is relative to where the node was started.
        let plain =
            path.components().all(|c| !matches!(c, std::path::Component::ParentDir)) && path.file_name().is_some();
        return match (plain, allow_file) {
            (false, _) => Err(PullError::invalid(image, "a file:// image needs a path without \"..\"")),
            (true, false) => Err(PullError::invalid(
                image,
                "this node does not run files; it was not started to allow file:// images",
            )),
            (true, true) => Ok(Source::File(path.into())),
        };
    }
    reference(image).map(Source::Registry).map_err(|why| PullError::invalid(image, &why))
}

fn reference(image: &str) -> Result<Reference, String> {
    // An IPv6 address in brackets is a registry for docker, but not for the parser.
    if let Some((host, rest)) = image.split_once('/').filter(|(h, _)| h.starts_with('[')) {
        let (address, port) = host[1..].split_once(']').ok_or("invalid reference format")?;
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
        if !matches!(address.parse(), Ok(IpAddr::V6(_))) || !port_ok {
            return Err("invalid reference format".into());
        }
        let rest = Reference::try_from(format!("localhost/{rest}")).map_err(|e| e.to_string())?;
        let (host, repository) = (host.to_string(), rest.repository().to_string());
        return Ok(match (rest.digest(), rest.tag()) {
            (Some(digest), Some(tag)) => Reference::with_tag_and_digest(host, repository, tag.into(), digest.into()),
            (Some(digest), None) => Reference::with_digest(host, repository, digest.into()),
            (None, tag) => Reference::with_tag(host, repository, tag.unwrap_or("latest").into()),
        });
    }
    Reference::try_from(image).map_err(|e| match e.to_string() {
        known if known.starts_with("invalid reference format") => known,
        other => format!("invalid reference format: {other}"),
    })
}

/// Whether a registry is this machine, which is asked over plain HTTP, as docker and containerd do.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, _)) => address,
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, want) in [
            ("web", Some("docker.io/library/web:latest".to_string())),
            ("me/web:1", Some("docker.io/me/web:1".into())),
            ("ghcr.io/me/web", Some("ghcr.io/me/web:latest".into())),
            ("localhost:5000/web:1", Some("localhost:5000/web:1".into())),
            ("[::1]:5000/web", Some("[::1]:5000/web:latest".into())),
            (&format!("web@{digest}"), Some(format!("docker.io/library/web@{digest}"))),
            (&format!("ghcr.io/me/web:1@{digest}"), Some(format!("ghcr.io/me/web:1@{digest}"))),
            ("file:///srv/app.wasm", Some("file:///srv/app.wasm".into())),
            ("", None),
            ("Web", None),
            ("a b", None),
            ("[zz]:5000/web", None),
            ("file://app.wasm", Some("file://app.wasm".into())),
            ("file://", None),
            ("file:///srv/../etc/x.wasm", None),
        ] {
            assert_eq!(normalise(given), want, "{given}");
        }
    }

    #[test]
    fn what_is_this_machine() {
        for (registry, want) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:80", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("ghcr.io", false),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(registry), want, "{registry}");
        }
    }
}
