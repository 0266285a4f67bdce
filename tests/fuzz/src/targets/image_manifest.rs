//! Manifests and indexes of registries.

use copepod_images::fuzzing::manifest;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "image_manifest",
    run,
    seeds,
    words: &[
        "\"mediaType\":\"application/wasm\",",
        "\"digest\":\"sha256:1\",",
        "\"size\":9",
        "\"platform\":{\"os\":\"wasip1\",\"architecture\":\"wasm\"}",
        "\"layers\":[",
        "\"manifests\":[",
        "\"config\":{",
        "\"annotations\":{",
        "null",
        "application/vnd.oci.image.config.v1+json",
        "-1",
    ],
    room: Room::VALUES,
};

fn run(input: &[u8]) -> Outcome {
    match manifest(input) {
        Ok((digests, image)) => {
            assert!(!digests.is_empty() && digests.iter().all(|d| d.len() <= input.len()));
            Outcome::taken(digests.len()).and(image)
        }
        Err(why) => {
            assert!(why.len() <= 1024 + 8 * input.len(), "an error of {} bytes", why.len());
            Outcome::refused(why)
        }
    }
}

fn seeds() -> Vec<Seed> {
    let all = [
        (
            "artifact",
            r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:0","size":2},"layers":[{"mediaType":"application/wasm","digest":"sha256:1","size":9}]}"#,
        ),
        (
            "image",
            r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:1","size":9}],"annotations":{"module.wasm.image/variant":"compat-smart"}}"#,
        ),
        (
            "index",
            r#"{"manifests":[{"digest":"sha256:0","platform":{"os":"linux","architecture":"amd64"}},{"digest":"sha256:1","platform":{"os":"wasip1","architecture":"wasm"}}]}"#,
        ),
        ("only", r#"{"manifests":[{"digest":"sha256:0"}]}"#),
    ];
    all.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into()
}
