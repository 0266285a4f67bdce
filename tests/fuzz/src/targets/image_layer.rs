//! Layers of ordinary images: tar, perhaps compressed. An input that does not begin as a gzip file is a tar file; with `gz` in
//! front, the rest is compressed here.

use std::io::Write as _;

use copepod_images::fuzzing::module;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{Outcome, Room, Seed, Target};

/// The greatest module, and what headers may take beside it.
const LIMIT: u64 = 4096;
const HEADERS: usize = 1 << 20;

pub(super) const TARGET: Target = Target {
    name: "image_layer",
    run,
    seeds,
    words: &["ustar\0", "ustar  \0", "app.wasm", "0000644", "L", "x", "\0asm", "../", "S", "00000000010"],
    room: Room { base: HEADERS + (2 << 20), each: 512 },
};

fn run(input: &[u8]) -> Outcome {
    let layer = match input.strip_prefix(b"gz") {
        Some(tar) => compressed(tar),
        None => input.to_vec(),
    };
    match module(&[&layer], LIMIT) {
        Ok(found) => {
            assert!(found.len() <= LIMIT as usize + HEADERS, "{} bytes", found.len());
            assert!(module(&[&layer, &layer], LIMIT).is_err(), "two are not one");
            Outcome::taken(found.len())
        }
        Err(e) => Outcome::refused(e),
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    let _ = out.write_all(bytes);
    out.finish().unwrap_or_default()
}

fn seeds() -> Vec<Seed> {
    let tar = |files: &[(&str, &[u8])]| {
        let mut out = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let _ = out.append_data(&mut header, name, *bytes);
        }
        out.into_inner().unwrap_or_default()
    };
    let wasm: &[u8] = b"\0asm\x01\0\0\0";
    let one = tar(&[("app.wasm", wasm)]);
    let zeros = vec![0u8; 200_000];
    let long = "d/".repeat(60) + "app.wasm";
    vec![
        ("module".into(), one.clone()),
        ("compressed".into(), compressed(&tar(&[("bin/app.wasm", wasm)]))),
        ("inside".into(), [&b"gz"[..], &tar(&[("a.txt", &b"text"[..]), ("a.wasm", wasm)])[..]].concat()),
        ("two".into(), compressed(&tar(&[("a.wasm", wasm), ("b.wasm", wasm)]))),
        ("long-name".into(), compressed(&tar(&[(long.as_str(), wasm)]))),
        ("bomb".into(), compressed(&tar(&[("big.wasm", &zeros[..])]))),
    ]
}
