//! The stream of a whole state: what is restored, and what a member that is far behind is sent. An input is the stream without
//! the digest at its end and, for each part, without the checksum: they are made here.

use std::sync::Arc;

use copepod_consensus::ConfState;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use copepod_server::store::snapshot::{Meta, read, verify, write};
use copepod_state::Tables;
use ring::digest::{SHA256, digest};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "snapshot",
    run,
    seeds,
    words: &["copepod snapshot", "\u{1}", "\u{2}", "\u{1}\0\0\0", "\0\0\0\0", "pods", "default"],
    room: Room { base: 4 << 20, each: 512 },
};

/// Magic, format and length; then comes the checksum of the header.
const HEAD: usize = 24;
const SUM: usize = 32;

fn run(input: &[u8]) -> Outcome {
    let whole = sealed(input);
    let mut rest = whole.as_slice();
    let (meta, tables) = match read(&mut rest) {
        Ok(read) => read,
        Err(e) => return Outcome::refused(e),
    };
    assert_eq!(verify(&mut whole.as_slice()).ok().as_ref(), Some(&meta), "verifying says something else");
    assert_eq!(meta.objects, tables.len() as u64);
    let mut again = Vec::new();
    write(&meta, &tables, &mut again).unwrap_or_else(|e| panic!("it cannot be written: {e}"));
    let (same, _) = read(&mut again.as_slice()).unwrap_or_else(|e| panic!("it cannot be read again: {e}"));
    assert_eq!(same, meta);
    Outcome::taken(again.len()).and(meta.objects.min(4))
}

/// The input with the checksums that make it whole, as far as it has parts.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(usize::MAX, |b| u32::from_le_bytes(b) as usize)
    };
    let crc = |parts: &[&[u8]]| {
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|p| hasher.update(p));
        hasher.finalize().to_le_bytes()
    };
    let (mut at, mut chunk) = (HEAD, 0u64);
    let length = number(&out, HEAD - 4);
    let Some(end) = at.checked_add(4).and_then(|n| n.checked_add(length)).filter(|end| *end <= out.len()) else {
        return out;
    };
    let sum = crc(&[&out[HEAD - 8..HEAD], &out[at + 4..end]]);
    out[at..at + 4].copy_from_slice(&sum);
    at = end;
    while out.get(at) == Some(&1) {
        chunk += 1;
        let rows = at + 9;
        let Some(end) = rows.checked_add(number(&out, at + 1)).filter(|end| *end <= out.len()) else { break };
        let sum = crc(&[&chunk.to_le_bytes(), &out[rows..end]]);
        out[at + 5..rows].copy_from_slice(&sum);
        at = end;
    }
    let sum = digest(&SHA256, &out);
    out.extend_from_slice(sum.as_ref());
    out
}

fn seeds() -> Vec<Seed> {
    let state = |names: &[&str]| {
        let mut tables = Tables::default();
        for (i, name) in names.iter().enumerate() {
            let body = with_revision(&encode(&serde_json::json!({"metadata": {"name": name}})), i as u64);
            tables.put(Arc::new(Object::decode(Key::new("pods", "default", *name), i as u64, body)));
        }
        tables.set_revision(9);
        let members = ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() };
        let meta = Meta { index: 12, term: 3, members, revision: 9, objects: names.len() as u64 };
        let mut out = Vec::new();
        write(&meta, &tables, &mut out).unwrap_or_else(|e| panic!("{e}"));
        out.truncate(out.len() - SUM);
        out
    };
    vec![("none".into(), state(&[])), ("one".into(), state(&["a"])), ("three".into(), state(&["a", "b", "c"]))]
}
