//! Reads `go.facts`: what only upstream's Go types tell. One line per struct: its path, then `field=code:type` for each
//! field that is not what its protobuf type lets one expect.
//!
//! Codes: `p` a scalar or list behind a pointer (zero is not absent); `r` a scalar, list or map without omitempty;
//! `v` a message that is a value, not a pointer; `i` a message inlined into its parent's JSON. The type is given where
//! it has a name of its own (error messages quote it). The struct's fields are named as in JSON, inlined ones as in
//! protobuf. Whether a pointer has omitempty is not told.
//!
//! `go-facts.py` makes the file from the Go sources; it says where they are.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;

/// Codes and Go type of one field.
#[derive(Clone, Default)]
pub struct Fact {
    pub code: String,
    pub go: String,
}

/// By struct path in lower case, then field name.
pub type Facts = BTreeMap<String, BTreeMap<String, Fact>>;

pub fn read(path: &Path) -> Result<Facts> {
    let mut all = Facts::new();
    for line in std::fs::read_to_string(path)?.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_lowercase();
        let fields = all.entry(name).or_default();
        for word in words {
            let (field, rest) = word.split_once('=').ok_or_else(|| format!("go.facts: {word}"))?;
            let (code, go) = rest.split_once(':').unwrap_or((rest, ""));
            fields.insert(field.into(), Fact { code: code.into(), go: go.into() });
        }
    }
    Ok(all)
}
