//! What the repositories have. That is in the cluster's state: every server knows it, and what is deleted is gone for all.
//!
//! | resource | namespace | name | value |
//! |---|---|---|---|
//! | `_image_blobs` | repository | SHA-256 | |
//! | `_image_manifests` | repository | SHA-256 | `mediaType` |
//! | `_image_tags` | repository | tag | `digest` of a manifest |
//!
//! The content itself is in [`super::files`].

use std::collections::BTreeSet;
use std::sync::Arc;

use copepod_model::{Key, Object, object};
use copepod_state::{Op, Tables};
use serde_json::{Value, json};

use super::path::Digest;

const TAGS: &str = "_image_tags";

/// What a repository has under a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Manifest,
}

impl Kind {
    pub(super) const ALL: [Kind; 2] = [Kind::Blob, Kind::Manifest];

    /// What it is stored as; like all such it is not served.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Kind::Blob => "_image_blobs",
            Kind::Manifest => "_image_manifests",
        }
    }

    pub(super) fn key(self, repository: &str, digest: &Digest) -> Key {
        Key::new(self.resource(), repository, digest.hex())
    }
}

pub(super) fn tag_key(repository: &str, tag: &str) -> Key {
    Key::new(TAGS, repository, tag)
}

/// Gives a repository a blob, or a manifest of a media type.
pub(super) fn link(repository: &str, kind: Kind, digest: &Digest, media_type: &str) -> Op {
    let value = match kind {
        Kind::Blob => json!({}),
        Kind::Manifest => json!({"mediaType": media_type}),
    };
    put(kind.key(repository, digest), value)
}

/// Lets a tag stand for a manifest.
pub(super) fn tagged(repository: &str, tag: &str, digest: &Digest) -> Op {
    put(tag_key(repository, tag), json!({"digest": digest.to_string()}))
}

fn put(key: Key, mut value: Value) -> Op {
    value["metadata"] = json!({"name": key.name, "namespace": key.namespace});
    Op::Put { key, body: object::encode(&value), revised: true }
}

/// What they have at one time.
pub(super) struct Index(pub(super) Arc<Tables>);

impl Index {
    /// Whether a repository exists.
    pub(super) fn exists(&self, repository: &str) -> bool {
        Kind::ALL.iter().any(|kind| !self.0.is_none(kind.resource(), Some(repository)))
    }

    /// The media type of what a repository has under a digest (empty for blobs); `None` if it has not.
    pub(super) fn link(&self, repository: &str, kind: Kind, digest: &Digest) -> Option<String> {
        self.0.at(&kind.key(repository, digest)).map(|o| field(o, "mediaType"))
    }

    /// What a tag stands for.
    pub(super) fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.0.at(&tag_key(repository, tag)).and_then(|o| Digest::parse(&field(o, "digest")).ok())
    }

    /// All tags of a repository, in order.
    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        self.0.scan(TAGS, Some(repository)).map(|o| o.key.name.to_string()).collect()
    }

    /// The tags that stand for a manifest, and the revisions at which they were set.
    pub(super) fn tags_of(&self, repository: &str, digest: &Digest) -> Vec<(Key, u64)> {
        let wanted = digest.to_string();
        let those = self.0.scan(TAGS, Some(repository)).filter(|o| field(o, "digest") == wanted);
        those.map(|o| (o.key.clone(), o.revision)).collect()
    }

    /// The manifests of a repository with their media types.
    pub(super) fn manifests(&self, repository: &str) -> Vec<(Digest, String)> {
        let all = self.0.scan(Kind::Manifest.resource(), Some(repository));
        all.filter_map(|o| Some((digest(o)?, field(o, "mediaType")))).collect()
    }

    /// Every repository that has a manifest, in order.
    pub(super) fn repositories(&self) -> Vec<String> {
        let all = self.0.scan(Kind::Manifest.resource(), None).map(|o| o.key.namespace.to_string());
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Everything that some repository has.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        let all = Kind::ALL.iter().flat_map(|kind| self.0.scan(kind.resource(), None));
        all.filter_map(|o| digest(o)).collect()
    }
}

fn digest(link: &Object) -> Option<Digest> {
    Digest::of_hex(&link.key.name)
}

fn field(object: &Object, name: &str) -> String {
    object.value()[name].as_str().unwrap_or_default().into()
}
