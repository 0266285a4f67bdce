//! What decides about bytes of a disk, for tests/fuzz alone.

use std::io;

use crate::artifacts::seal::Seal;

/// The tag of `digest`'s artifact by a node's key, where `compatibility` stands for the version and settings of wasmtime.
pub fn tag(key: &[u8; 32], compatibility: u64, digest: &str, artifact: &[u8]) -> Vec<u8> {
    Seal::new(key, compatibility).tag(digest, artifact).as_ref().to_vec()
}

/// Whether `tag` is the tag of `digest`'s artifact.
pub fn is_authentic(
    key: &[u8; 32],
    compatibility: u64,
    digest: &str,
    mut artifact: &[u8],
    tag: &[u8],
) -> io::Result<bool> {
    Seal::new(key, compatibility).is_authentic(digest, &mut artifact, tag)
}
