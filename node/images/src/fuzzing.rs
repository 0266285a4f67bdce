//! What decides about bytes of registries, for tests/fuzz alone.

use std::io;

use crate::auth::Challenge;
use crate::manifest::{self, Next};
use crate::unpack;

/// The digests that a manifest leads to, and whether a config has to be asked for the platform. The error is for people.
pub fn manifest(bytes: &[u8]) -> Result<(Vec<String>, bool), String> {
    Ok(match manifest::read(bytes)? {
        Next::Follow(digest) => (vec![digest], false),
        Next::Wasm(layer) => (vec![layer.digest], false),
        Next::Image { config, layers, .. } => {
            (std::iter::once(config).chain(layers).map(|blob| blob.digest).collect(), true)
        }
    })
}

/// The module in an image's layers.
pub fn module(layers: &[&[u8]], limit: u64) -> io::Result<Vec<u8>> {
    unpack::find(layers.iter().copied().map(Ok), limit, |module| {
        let mut out = Vec::new();
        module.read_to_end(&mut out)?;
        Ok(out)
    })
}

/// Realm and service of a `WWW-Authenticate` header that asks for a token, nothing of one that asks for a password.
pub fn challenge(header: &str) -> Option<Option<(String, Option<String>)>> {
    Some(match Challenge::parse(header)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, service } => Some((realm, service)),
    })
}
