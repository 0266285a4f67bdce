//! Transactions, as the log carries them, and their application to whatever is stored. An input is what is behind the
//! checksum, or a whole one.

use std::sync::OnceLock;

use copepod_model::Key;
use copepod_model::object;
use copepod_state::codec::{WRITES, decode, encode};
use copepod_state::{Op, Require, Tables, Txn, apply};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "transaction",
    run,
    seeds,
    words: &[
        "\u{4}pods",
        "\u{7}default",
        "\u{1}a",
        "{\"metadata\":{\"resourceVersion\":\"",
        "_count",
        "\0",
        "\u{1}",
        "\u{2}",
        "\u{3}",
    ],
    room: Room { base: 1 << 20, each: 512 },
};

/// Version byte and CRC32.
const HEADER: usize = 5;

fn run(input: &[u8]) -> Outcome {
    let whole = decode(input);
    let mut sealed = vec![WRITES];
    sealed.extend(crc32fast::hash(input).to_le_bytes());
    sealed.extend_from_slice(input);
    let txn = match decode(&sealed) {
        Ok(txn) => txn,
        Err(e) => return Outcome::refused(e).and(whole.is_ok()),
    };
    let written = encode(&txn);
    assert_eq!(decode(&written).as_ref(), Ok(&txn), "it is not what it was");
    assert!(written.len() <= sealed.len(), "integers are written as short as can be");
    let mut tables = stored();
    let (outcome, changes) = apply(&mut tables, 7, &txn);
    assert!(changes.len() <= txn.ops.len(), "{} changes", changes.len());
    let kind = format!("{outcome:?}");
    Outcome::taken(written.len()).and((kind.split('(').next().unwrap_or_default().len(), txn.ops.len().min(4)))
}

fn key(name: &str) -> Key {
    Key::new("pods", "default", name)
}

fn stored() -> Tables {
    static STORED: OnceLock<Tables> = OnceLock::new();
    let made = STORED.get_or_init(|| {
        let mut tables = Tables::default();
        let body = object::encode(&serde_json::json!({"metadata": {"name": "a"}}));
        let put = |key, body| Op::Put { key, body, revised: true };
        let counter = Op::Put { key: Key::new("_count", "default", "n"), body: "3".into(), revised: false };
        apply(&mut tables, 1, &Txn { ops: vec![put(key("a"), body), counter], ..Txn::default() });
        tables
    });
    made.clone()
}

fn seeds() -> Vec<Seed> {
    let body = object::encode(&serde_json::json!({"metadata": {"name": "a"}, "kind": "Pod"}));
    let txns = [
        ("empty", Txn::default()),
        (
            "put",
            Txn {
                fence: Some(7),
                require: vec![Require::At(key("a"), 1), Require::Absent(key("b"))],
                ops: vec![Op::Put { key: key("a"), body, revised: true }],
            },
        ),
        (
            "rest",
            Txn {
                fence: None,
                require: vec![
                    Require::Exists(key("a")),
                    Require::PrefixEmpty { resource: "services".into(), namespace: Some("default".into()) },
                    Require::PrefixEmpty { resource: "nodes".into(), namespace: None },
                ],
                ops: vec![
                    Op::Delete { key: key("a") },
                    Op::CheckedAdd { key: Key::new("_count", "default", "n"), delta: -1, max: 10 },
                ],
            },
        ),
    ];
    txns.map(|(name, txn)| (name.to_string(), encode(&txn).split_off(HEADER))).into()
}
