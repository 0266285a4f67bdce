//! Manifests, tags and referrers.

use copepod_client::Body;
use copepod_state::{Op, Outcome, Require, Txn};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::error::OciError;
use super::index::{Index, Kind, link, tag_key, tagged};
use super::path::{Digest, Reference};
use super::{Call, Images, MAX_MANIFEST, SILENCE, empty};
use crate::api::respond;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Images {
    pub(super) async fn manifest(
        &self,
        call: &Call<'_>,
        request: &mut Request<Body>,
        name: String,
        reference: Reference,
    ) -> Result<Response<Body>, OciError> {
        match *request.method() {
            Method::GET | Method::HEAD => {
                call.may_read(&name)?;
                let index = self.index().await;
                let unknown = || OciError::no_manifest(&shown(&reference));
                let digest = resolve(&index, &name, &reference).ok_or_else(unknown)?;
                let media_type = index.link(&name, Kind::Manifest, &digest).ok_or_else(unknown)?;
                if !self.have(&digest).await? {
                    return Err(unknown());
                }
                let bytes = tokio::fs::read(self.0.files.blob(&digest)).await?;
                let mut response = respond::bytes(200, &media_type, bytes.into());
                for (header, value) in
                    [("docker-content-digest", digest.to_string()), ("etag", format!("\"{digest}\""))]
                {
                    if let Ok(value) = value.parse() {
                        response.headers_mut().insert(header, value);
                    }
                }
                Ok(response)
            }
            Method::PUT => self.put_manifest(call, request, name, reference).await,
            Method::DELETE => {
                call.may("delete", &name)?;
                let gone = match &reference {
                    Reference::Tag(tag) => {
                        let key = tag_key(&name, tag);
                        let (require, ops) = (vec![Require::Exists(key.clone())], vec![Op::Delete { key }]);
                        let outcome = self.propose(Txn { require, ops, ..Txn::default() }).await?;
                        matches!(outcome, Outcome::Applied(_))
                    }
                    Reference::Digest(digest) => self.unlink(&name, Kind::Manifest, digest).await?,
                };
                if gone { Ok(empty(202, &[])) } else { Err(OciError::no_manifest(&shown(&reference))) }
            }
            _ => Err(OciError::new(405, "UNSUPPORTED", "the operation is unsupported")),
        }
    }

    async fn put_manifest(
        &self,
        call: &Call<'_>,
        request: &mut Request<Body>,
        name: String,
        reference: Reference,
    ) -> Result<Response<Body>, OciError> {
        call.may("update", &name)?;
        let given = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let given = given.split(';').next().unwrap_or_default().trim().to_string();
        let read = tokio::time::timeout(SILENCE, Limited::new(request.body_mut(), MAX_MANIFEST).collect()).await;
        let bytes = match read {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
                let why = format!("the manifest is larger than the limit of {MAX_MANIFEST} bytes");
                return Err(OciError::new(413, "MANIFEST_INVALID", why));
            }
            Ok(Err(e)) => return Err(OciError::new(400, "MANIFEST_INVALID", format!("the upload broke off: {e}"))),
            Err(_) => return Err(OciError::new(408, "MANIFEST_INVALID", "the client has fallen silent")),
        };
        let digest = Digest::of(&bytes);
        if let Reference::Digest(wanted) = &reference
            && *wanted != digest
        {
            let why = format!("provided digest {wanted} did not match uploaded content, which is {digest}");
            return Err(OciError::new(400, "DIGEST_INVALID", why));
        }
        let manifest = Manifest::read(&bytes, &given)?;
        let subject = manifest.subject.clone();
        let lacks = |needed: &Digest| {
            let why = format!("manifest references content that the repository does not have: {needed}");
            OciError::new(404, "MANIFEST_BLOB_UNKNOWN", why)
        };
        let index = self.index().await;
        let mut txn = Txn { ops: vec![link(&name, Kind::Manifest, &digest, &manifest.media_type)], ..Txn::default() };
        for (kind, needed) in &manifest.needs {
            // It may have been pushed by way of another server.
            if index.link(&name, *kind, needed).is_none() || !self.have(needed).await? {
                return Err(lacks(needed));
            }
            txn.require.push(Require::Exists(kind.key(&name, needed)));
        }
        if let Reference::Tag(tag) = &reference {
            txn.ops.push(tagged(&name, tag, &digest));
        }
        let file = self.0.files.upload(&format!("manifest-{}", crate::random_name()));
        tokio::fs::write(&file, &bytes).await?;
        if let Outcome::Failed(which) = self.keep(file, &digest, txn).await? {
            // Deleted just now.
            return Err(manifest.needs.get(which).map_or_else(|| lacks(&digest), |(_, needed)| lacks(needed)));
        }
        let mut headers =
            vec![("location", format!("/v2/{name}/manifests/{digest}")), ("docker-content-digest", digest.to_string())];
        headers.extend(subject.map(|s| ("oci-subject", s.to_string())));
        Ok(empty(201, &headers))
    }

    /// The manifests whose subject is `digest`.
    pub(super) async fn referrers(
        &self,
        call: &Call<'_>,
        name: String,
        digest: Digest,
    ) -> Result<Response<Body>, OciError> {
        call.may_read(&name)?;
        let wanted = call.query.get("artifactType").map(String::from);
        let kind = wanted.clone();
        let subject = digest.to_string();
        let mut all = Vec::new();
        for (other, media_type) in self.index().await.manifests(&name) {
            if !self.have(&other).await? {
                continue;
            }
            let bytes = tokio::fs::read(self.0.files.blob(&other)).await?;
            let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { continue };
            if value["subject"]["digest"].as_str() == Some(&subject) {
                all.push(descriptor(&value, &other, bytes.len(), &media_type));
            }
        }
        if let Some(kind) = &kind {
            all.retain(|d| d["artifactType"] == **kind);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all});
        let mut response = respond::bytes(200, INDEX, index.to_string().into());
        if wanted.is_some() {
            response.headers_mut().insert("oci-filters-applied", header::HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

fn shown(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => tag.clone(),
        Reference::Digest(digest) => digest.to_string(),
    }
}

fn resolve(index: &Index, name: &str, reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Tag(tag) => index.tag(name, tag),
        Reference::Digest(digest) => Some(digest.clone()),
    }
}

/// A referrer's entry in the list of them.
fn descriptor(manifest: &Value, digest: &Digest, size: usize, media_type: &str) -> Value {
    let mut out = json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
    let config = &manifest["config"]["mediaType"];
    let kind = if manifest["artifactType"].is_string() { &manifest["artifactType"] } else { config };
    for (field, value) in [("artifactType", kind), ("annotations", &manifest["annotations"])] {
        if !value.is_null() {
            out[field] = value.clone();
        }
    }
    out
}

/// What of a manifest matters to a registry.
#[derive(Debug, PartialEq, Eq)]
struct Manifest {
    media_type: String,
    needs: Vec<(Kind, Digest)>,
    subject: Option<Digest>,
}

impl Manifest {
    fn read(bytes: &[u8], content_type: &str) -> Result<Manifest, OciError> {
        let bad = |why: String| OciError::new(400, "MANIFEST_INVALID", why);
        let value: Value = serde_json::from_slice(bytes).map_err(|e| bad(format!("manifest invalid: {e}")))?;
        if !value.is_object() || value["schemaVersion"] != 2 {
            return Err(bad("manifest invalid: schemaVersion must be 2".into()));
        }
        let own = value["mediaType"].as_str().unwrap_or_default();
        if !own.is_empty() && !content_type.is_empty() && own != content_type {
            return Err(bad(format!("manifest invalid: its mediaType is {own:?}, its Content-Type {content_type:?}")));
        }
        let index = value["manifests"].is_array();
        let usual = if index { INDEX } else { "application/vnd.oci.image.manifest.v1+json" };
        let media_type = [own, content_type, usual].into_iter().find(|t| !t.is_empty()).unwrap_or(usual);
        if media_type.len() > 255 || !media_type.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("manifest invalid: its media type is no media type".into()));
        }
        let mut needs = Vec::new();
        let list = |field: &str| value[field].as_array().into_iter().flatten();
        let one = |d: &Value| Digest::parse(d["digest"].as_str().unwrap_or_default());
        if index {
            for d in list("manifests") {
                needs.push((Kind::Manifest, one(d)?));
            }
        } else {
            if !value["config"].is_object() || !value["layers"].is_array() {
                return Err(bad("manifest invalid: config and layers are required".into()));
            }
            needs.push((Kind::Blob, one(&value["config"])?));
            // Layers that may not be redistributed lie elsewhere.
            for d in list("layers").filter(|d| d["urls"].as_array().is_none_or(Vec::is_empty)) {
                needs.push((Kind::Blob, one(d)?));
            }
        }
        // The subject may come later.
        let subject = if value["subject"].is_object() { Some(one(&value["subject"])?) } else { None };
        Ok(Manifest { media_type: media_type.into(), needs, subject })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_that_are_none() {
        let d = format!("sha256:{}", "a".repeat(64));
        let image = json!({"schemaVersion": 2, "config": {"digest": d}, "layers": [{"digest": d}]});
        let read = |v: &Value, t: &str| Manifest::read(v.to_string().as_bytes(), t);
        let good = read(&image, "application/vnd.docker.distribution.manifest.v2+json").unwrap();
        assert_eq!(
            (good.media_type.as_str(), good.needs.len()),
            ("application/vnd.docker.distribution.manifest.v2+json", 2)
        );
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": d}], "subject": {"digest": d}});
        let good = read(&index, "").unwrap();
        assert_eq!((good.media_type.as_str(), good.needs[0].0, good.subject.is_some()), (INDEX, Kind::Manifest, true));
        let mut other = image.clone();
        other["mediaType"] = "a/b".into();
        let mut unsafe_digest = image.clone();
        unsafe_digest["layers"][0]["digest"] = "sha256:../../x".into();
        for (v, t) in [
            (json!([]), ""),
            (json!({"schemaVersion": 1}), ""),
            (json!({"schemaVersion": 2}), ""),
            (other, "c/d"),
            (unsafe_digest, ""),
            (image.clone(), "a/b\nc"),
        ] {
            assert!(read(&v, t).is_err(), "{v} {t}");
        }
        assert!(Manifest::read(b"{", "").is_err());
    }
}
