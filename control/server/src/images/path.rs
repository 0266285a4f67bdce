//! URLs of the registry (OCI distribution 1.1, "Endpoints").

use super::error::OciError;

/// What a path under `/v2` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: whether this is a registry.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest(String, Reference),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(String, Digest),
    /// `/v2/NAME/blobs/uploads/`.
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`.
    Upload(String, String),
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(String, Digest),
}

/// A SHA-256, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(String);

impl Digest {
    pub(super) fn parse(text: &str) -> Result<Digest, OciError> {
        let digest = text.strip_prefix("sha256:").and_then(Digest::of_hex);
        digest.ok_or_else(|| OciError::new(400, "DIGEST_INVALID", format!("not a sha256 digest: {text:?}")))
    }
    pub(super) fn of_hex(hex: &str) -> Option<Digest> {
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Digest(hex.into()))
    }
    pub(super) fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::from_hash(sha2::Sha256::new_with_prefix(bytes))
    }
    pub(super) fn from_hash(hash: sha2::Sha256) -> Digest {
        use sha2::Digest as _;
        Digest(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    fn parse(text: &str) -> Result<Reference, OciError> {
        if text.contains(':') {
            return Digest::parse(text).map(Reference::Digest);
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let tag = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if tag { Ok(Reference::Tag(text.into())) } else { Err(OciError::new(400, "MANIFEST_INVALID", "invalid tag")) }
    }
}

/// Takes a path apart; it begins with `/v2`.
pub(super) fn parse(path: &str) -> Result<Route, OciError> {
    let rest = path.strip_prefix("/v2").unwrap_or(path).trim_start_matches('/');
    let segments: Vec<&str> = rest.split('/').collect();
    match segments.as_slice() {
        [""] => Ok(Route::Base),
        ["_catalog"] => Ok(Route::Catalog),
        [all @ .., "tags", "list"] => Ok(Route::Tags(name(all)?)),
        [all @ .., "blobs", "uploads"] | [all @ .., "blobs", "uploads", ""] => Ok(Route::Uploads(name(all)?)),
        [all @ .., "blobs", "uploads", id] => Ok(Route::Upload(name(all)?, (*id).into())),
        [all @ .., "blobs", digest] => Ok(Route::Blob(name(all)?, Digest::parse(digest)?)),
        [all @ .., "manifests", reference] => Ok(Route::Manifest(name(all)?, Reference::parse(reference)?)),
        [all @ .., "referrers", digest] => Ok(Route::Referrers(name(all)?, Digest::parse(digest)?)),
        _ => Err(OciError::new(404, "NAME_UNKNOWN", "no such path")),
    }
}

/// A repository's name from its segments.
fn name(segments: &[&str]) -> Result<String, OciError> {
    let name = segments.join("/");
    let ok = !segments.is_empty() && name.len() <= 255 && segments.iter().all(|s| component(s));
    if ok { Ok(name) } else { Err(invalid(&name)) }
}

/// A name given otherwise than in a path.
pub(super) fn check_name(text: &str) -> Result<String, OciError> {
    name(&text.split('/').collect::<Vec<_>>())
}

fn invalid(name: &str) -> OciError {
    OciError::new(400, "NAME_INVALID", format!("invalid repository name {name:?}"))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !plain(*first) || !plain(*last) {
        return false;
    }
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let hex = "a".repeat(64);
        let d = || Digest(hex.clone());
        for (path, want) in [
            ("/v2".to_string(), Ok(Route::Base)),
            ("/v2/".into(), Ok(Route::Base)),
            ("/v2/_catalog".into(), Ok(Route::Catalog)),
            ("/v2/a/b/tags/list".into(), Ok(Route::Tags("a/b".into()))),
            ("/v2/a/manifests/v1".into(), Ok(Route::Manifest("a".into(), Reference::Tag("v1".into())))),
            (format!("/v2/a/manifests/sha256:{hex}"), Ok(Route::Manifest("a".into(), Reference::Digest(d())))),
            (format!("/v2/a/blobs/sha256:{hex}"), Ok(Route::Blob("a".into(), d()))),
            ("/v2/a/blobs/uploads/".into(), Ok(Route::Uploads("a".into()))),
            ("/v2/a/blobs/uploads".into(), Ok(Route::Uploads("a".into()))),
            ("/v2/a/blobs/uploads/7".into(), Ok(Route::Upload("a".into(), "7".into()))),
            (format!("/v2/a/referrers/sha256:{hex}"), Ok(Route::Referrers("a".into(), d()))),
            // Words of the protocol may be names.
            ("/v2/blobs/tags/list".into(), Ok(Route::Tags("blobs".into()))),
            ("/v2/A/tags/list".into(), Err("NAME_INVALID")),
            ("/v2/a/../b/tags/list".into(), Err("NAME_INVALID")),
            ("/v2//tags/list".into(), Err("NAME_INVALID")),
            ("/v2/tags/list".into(), Err("NAME_INVALID")),
            ("/v2/a/blobs/sha256:zz".into(), Err("DIGEST_INVALID")),
            ("/v2/a/blobs/sha512:00".into(), Err("DIGEST_INVALID")),
            ("/v2/a/manifests/.x".into(), Err("MANIFEST_INVALID")),
            ("/v2/a/manifests/%2e%2e".into(), Err("MANIFEST_INVALID")),
            ("/v2/a".into(), Err("NAME_UNKNOWN")),
        ] {
            assert_eq!(parse(&path).map_err(|e| e.code), want, "{path}");
        }
    }

    #[test]
    fn components() {
        for (text, want) in [
            ("a", true),
            ("a.b_c__d---e9", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a..b", false),
            ("a___b", false),
            ("_blobs", false),
            ("a b", false),
            (".", false),
        ] {
            assert_eq!(component(text), want, "{text}");
        }
    }
}
