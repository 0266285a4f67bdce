//! Proofs over the whole table, and the texts that clients see.

mod decoding;
mod every_kind;
mod normalising;
mod patching;
mod random;

use super::*;

/// The type of a kind.
fn ty(api_version: &str, kind: &str) -> TypeId {
    Schema::builtin().lookup(api_version, kind).unwrap_or_else(|| panic!("no {api_version} {kind}"))
}
