//! What the targets of patches share: a patch of a sample in the cluster gives an object that can be read, or an error of the
//! client's.

use copepod_model::Verb;
use copepod_model::request::{Body, PatchType};
use serde_json::Value;

use crate::cluster::{Cluster, change};
use crate::support::{joined, parts};
use crate::{Outcome, Seed, samples};

/// A name, the kind of the sample that it changes, and its text.
pub(crate) type Patch = (&'static str, &'static str, &'static str);

fn sample(kind: &str) -> Option<&'static str> {
    samples::OBJECTS.iter().find(|text| samples::kind_of(text).ends_with(&format!(" {kind}"))).copied()
}

/// Patches the sample of the kind that is the input's first part with the second one.
pub(crate) fn run(format: PatchType, input: &[u8]) -> Outcome {
    let [kind, text] = parts(input);
    let kind = std::str::from_utf8(kind).unwrap_or_default();
    let patch: Value = match serde_json::from_slice(text) {
        Ok(patch) => patch,
        Err(e) => return Outcome::refused(e),
    };
    let object = sample(kind).or(sample("Pod")).unwrap_or_default();
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    let mut cluster = Cluster::new();
    let Some(request) = change(Verb::Patch, &object, Body::Patch(format, patch)) else {
        return Outcome::refused("it is not served");
    };
    match cluster.send(&request) {
        Ok(patched) => {
            for same in ["apiVersion", "kind"] {
                assert_eq!(patched[same], object[same], "a patch does not change what it is");
            }
            assert_eq!(patched["metadata"]["name"], object["metadata"]["name"], "nor its name");
            Outcome::taken(patched.to_string().len()).and(kind)
        }
        Err(status) => Outcome::refused(status.message).and(kind),
    }
}

/// Inputs of these patches.
pub(crate) fn seeds(patches: &[Patch]) -> Vec<Seed> {
    patches.iter().map(|(name, kind, text)| ((*name).to_string(), joined(&[kind, text]))).collect()
}
