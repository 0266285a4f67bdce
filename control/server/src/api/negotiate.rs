//! Media types: what a client accepts and what it sends (apiserver `endpoints/handlers/negotiation`).

use copepod_model::Status;
use copepod_model::request::PatchType;

/// Protobuf's media type.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// `k8s\0` protobuf.
    Protobuf,
    /// YAML.
    Yaml,
}

/// What shape an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself.
    Object,
    /// `meta.k8s.io/v1 Table`; the flag is v1beta1.
    Table(bool),
    /// `meta.k8s.io/v1 PartialObjectMetadata` (or its List).
    Partial,
    /// `apidiscovery.k8s.io APIGroupDiscoveryList`; the flag is v2beta1.
    Discovery(bool),
}

/// An answer's encoding and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Encoding.
    pub encoding: Encoding,
    /// Shape.
    pub shape: Shape,
}

/// Chooses among what an `Accept` header lists. JSON is preferred wherever it is acceptable for the same shape: every
/// client that lists protobuf lists JSON too, and stored bytes are JSON.
pub fn accept(header: &str) -> Result<Accepted, Status> {
    let mut found: Vec<Accepted> = Vec::new();
    for clause in header.split(',').filter(|c| !c.trim().is_empty()) {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut kind, mut group, mut version) = ("", "", "");
        for (k, v) in parts.filter_map(|p| p.split_once('=')) {
            match k.trim() {
                "as" => kind = v.trim(),
                "g" => group = v.trim(),
                "v" => version = v.trim(),
                _ => {}
            }
        }
        let encoding = match media {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            PROTOBUF => Encoding::Protobuf,
            "application/yaml" => Encoding::Yaml,
            _ => continue,
        };
        let shape = match (kind, group, version) {
            ("", ..) => Shape::Object,
            ("Table", "meta.k8s.io", "v1") => Shape::Table(false),
            ("Table", "meta.k8s.io", "v1beta1") => Shape::Table(true),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Shape::Partial,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery(false),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => Shape::Discovery(true),
            _ => continue,
        };
        // A Table in protobuf does not exist; JSON of the same shape usually follows in the list.
        if matches!(shape, Shape::Table(_) | Shape::Discovery(_)) && encoding != Encoding::Json {
            continue;
        }
        found.push(Accepted { encoding, shape });
    }
    if header.trim().is_empty() {
        return Ok(Accepted { encoding: Encoding::Json, shape: Shape::Object });
    }
    let Some(first) = found.first().copied() else {
        return Err(Status::not_acceptable("application/json, application/yaml, application/vnd.kubernetes.protobuf"));
    };
    let json = found.iter().find(|a| a.shape == first.shape && a.encoding == Encoding::Json);
    Ok(json.copied().unwrap_or(first))
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `k8s\0` protobuf.
    Protobuf,
    /// A patch.
    Patch(PatchType),
}

/// Reads a `Content-Type`; none means JSON, as upstream.
pub fn content(header: &str, patch: bool) -> Result<Content, Status> {
    let media = header.split(';').next().unwrap_or_default().trim();
    if patch {
        let all = [PatchType::Json, PatchType::Merge, PatchType::Strategic, PatchType::Apply];
        let found = all.into_iter().find(|p| p.media_type() == media);
        let accepted = all.map(PatchType::media_type).join(", ");
        return found.map(Content::Patch).ok_or_else(|| Status::unsupported_media_type(&accepted));
    }
    match media {
        "" | "application/json" => Ok(Content::Json),
        "application/yaml" => Ok(Content::Yaml),
        PROTOBUF => Ok(Content::Protobuf),
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_kubectl_sends() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table).unwrap().shape, Shape::Table(false));
        let both = accept("application/vnd.kubernetes.protobuf,application/json").unwrap();
        assert_eq!(both, Accepted { encoding: Encoding::Json, shape: Shape::Object });
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap().encoding, Encoding::Protobuf);
        assert_eq!(accept("").unwrap().encoding, Encoding::Json);
        assert_eq!(accept("text/html").unwrap_err().code, 406);
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(accept(discovery).unwrap().shape, Shape::Discovery(false));
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(accept(partial).unwrap(), Accepted { encoding: Encoding::Json, shape: Shape::Partial });
    }

    #[test]
    fn content_types() {
        assert_eq!(content("application/json; charset=utf-8", false).unwrap(), Content::Json);
        assert_eq!(content("application/merge-patch+json", true).unwrap(), Content::Patch(PatchType::Merge));
        assert_eq!(content("application/json", true).unwrap_err().code, 415);
        assert_eq!(content("text/plain", false).unwrap_err().code, 415);
    }
}
