//! Names of images, and how registries ask who we are.

use copepod_images::fuzzing::challenge;
use copepod_images::normalise;

use crate::support::{joined, parts};
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "image_reference",
    run,
    seeds,
    words: &[
        "docker.io/",
        "library/",
        ":latest",
        "@sha256:",
        "localhost:5000/",
        "[::1]:5000/",
        "file://",
        "..",
        "/",
        "Bearer ",
        "Basic ",
        "realm=\"",
        "service=",
        "\\\"",
        ",",
        "\n===\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ],
    room: Room { base: 8 << 20, each: 4096 },
};

fn run(input: &[u8]) -> Outcome {
    let [name, header] = parts(input);
    let asked = challenge(&String::from_utf8_lossy(header));
    if let Some(Some((realm, service))) = &asked {
        assert!(realm.len() + service.as_ref().map_or(0, String::len) <= 3 * header.len());
    }
    let name = String::from_utf8_lossy(name);
    match normalise(&name) {
        Some(full) => {
            assert_eq!(normalise(&full).as_ref(), Some(&full), "{name:?} has no one name");
            assert!(!full.split('/').any(|part| part == ".."), "{full}");
            Outcome::taken(full.len()).and(asked.is_some())
        }
        None => Outcome::refused("no name").and(asked.is_some()),
    }
}

fn seeds() -> Vec<Seed> {
    let digest = format!("ghcr.io/me/web:1@sha256:{}", "a".repeat(64));
    let all = [
        ("short", "web", "Basic realm=\"x\""),
        (
            "whole",
            digest.as_str(),
            "Bearer realm=\"https://auth.test/token\",service=\"registry.test\",scope=\"a:b:pull\"",
        ),
        ("port", "localhost:5000/me/web:1", "Basic realm=\"a\", Bearer realm=\"https://b\""),
        ("v6", "[::1]:5000/web", "Bearer realm=\"q\\\"q\""),
        ("file", "file:///srv/app.wasm", ""),
    ];
    all.iter().map(|(name, image, header)| ((*name).to_string(), joined(&[image, header]))).collect()
}
