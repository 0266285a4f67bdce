//! An object's JSON through all that the registry decides: decoding, defaults, admission, validation. What it takes it takes
//! again as an update.

use bytes::Bytes;
use copepod_model::Verb;
use copepod_model::request::Body;
use serde_json::Value;

use crate::cluster::{Cluster, change, create};
use crate::support::OBJECT_WORDS;
use crate::{Outcome, Room, Seed, Target, samples};

pub(super) const TARGET: Target =
    Target { name: "create", run, seeds, words: OBJECT_WORDS, room: Room { base: 8 << 20, each: 8192 } };

fn run(input: &[u8]) -> Outcome {
    let like: Value =
        serde_json::from_slice(input).unwrap_or_else(|_| serde_json::json!({"apiVersion": "v1", "kind": "Pod"}));
    let Some(request) = create(&like, Body::Json(Bytes::copy_from_slice(input))) else {
        return Outcome::refused("it is not served");
    };
    let mut cluster = Cluster::new();
    let kind = request.resource.clone();
    let created = match cluster.send(&request) {
        Ok(created) => created,
        Err(status) => return Outcome::refused(status.message).and(kind),
    };
    let text = created.to_string();
    if let Some(update) = change(Verb::Update, &created, Body::Json(text.clone().into())) {
        let updated =
            cluster.send(&update).unwrap_or_else(|e| panic!("{text} is not taken as an update: {}", e.message));
        assert_eq!(
            updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"],
            "an update with the same object is none: {created} {updated}"
        );
    }
    Outcome::taken(text.len()).and(kind)
}

fn seeds() -> Vec<Seed> {
    let renamed = |text: &str| text.replacen(r#""metadata":{"name":""#, r#""metadata":{"name":"new"#, 1).into_bytes();
    samples::OBJECTS.iter().map(|text| (samples::name_of(text), renamed(text))).collect()
}
