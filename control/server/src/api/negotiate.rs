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

impl Encoding {
    /// All, in the order in which upstream tries them for a clause with `*`.
    const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Yaml, Encoding::Protobuf];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => PROTOBUF,
        }
    }

    /// Whether a watch can be sent in it: one YAML document cannot be told from the next.
    fn streams(self) -> bool {
        self != Encoding::Yaml
    }
}

/// What shape an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself.
    Object,
    /// `meta.k8s.io/v1 Table`; the flag is v1beta1.
    Table(bool),
    /// `meta.k8s.io/v1 PartialObjectMetadata`; the flag is v1beta1.
    Partial(bool),
    /// `meta.k8s.io/v1 PartialObjectMetadataList`; the flag is v1beta1.
    Partials(bool),
}

/// An answer's encoding and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Encoding.
    pub encoding: Encoding,
    /// Shape.
    pub shape: Shape,
}

impl Accepted {
    /// What who says nothing gets.
    pub const JSON: Accepted = Accepted { encoding: Encoding::Json, shape: Shape::Object };

    /// The same for a watch: a 406 if it cannot be streamed. Upstream does not go on to a later clause.
    pub fn streamed(self) -> Result<Accepted, Status> {
        let can = Encoding::ALL.into_iter().filter(|e| e.streams()).map(|e| format!("{};stream=watch", e.media_type()));
        if self.encoding.streams() {
            Ok(self)
        } else {
            Err(Status::not_acceptable(&can.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What an endpoint can answer with, beside JSON and YAML.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint {
    /// Its objects in protobuf.
    pub protobuf: bool,
    /// Tables of its objects.
    pub tables: bool,
    /// Their metadata alone.
    pub partials: bool,
}

impl Endpoint {
    /// What errors and discovery are (`DefaultEndpointRestrictions`).
    pub const PLAIN: Endpoint = Endpoint { protobuf: true, tables: false, partials: false };

    /// The shape in which it answers a clause in an encoding, if it does.
    fn shape(self, clause: &Clause<'_>, encoding: Encoding) -> Option<Shape> {
        let conversion = ["as", "g", "v"].map(|name| clause.parameter(name));
        let stream = clause.parameter("stream").unwrap_or_default();
        if !stream.is_empty() && (stream != "watch" || !encoding.streams()) {
            return None;
        }
        // The version of the `meta.k8s.io` types around the answer; errors have none.
        let version = clause.parameter("sv").unwrap_or_default();
        if !version.is_empty() && (version != "v1" || !self.partials) {
            return None;
        }
        if conversion == [None; 3] {
            return (self.protobuf || encoding != Encoding::Protobuf).then_some(Shape::Object);
        }
        let [kind, group, version] = conversion.map(Option::unwrap_or_default);
        let beta = match (group, version) {
            ("meta.k8s.io", "v1") => false,
            ("meta.k8s.io", "v1beta1") => true,
            _ => return None,
        };
        match kind {
            // There is no Table in protobuf.
            "Table" if self.tables && encoding != Encoding::Protobuf => Some(Shape::Table(beta)),
            "PartialObjectMetadata" if self.partials => Some(Shape::Partial(beta)),
            "PartialObjectMetadataList" if self.partials => Some(Shape::Partials(beta)),
            _ => None,
        }
    }
}

/// One part of an `Accept` header.
#[derive(Debug, PartialEq)]
struct Clause<'h> {
    kind: &'h str,
    subtype: &'h str,
    quality: f32,
    parameters: Vec<(&'h str, &'h str)>,
}

impl<'h> Clause<'h> {
    fn parse(text: &'h str) -> Option<Clause<'h>> {
        let mut parts = text.split(';');
        let media = parts.next()?;
        let (kind, subtype) = match media.split_once('/') {
            Some((_, subtype)) if subtype.is_empty() || subtype.contains('/') => return None,
            Some((kind, subtype)) => (kind.trim_matches(' '), subtype.trim_matches(' ')),
            None if media.trim_matches(' ') == "*" => ("*", "*"),
            None => return None,
        };
        let mut clause = Clause { kind, subtype, quality: 1.0, parameters: Vec::new() };
        for (name, value) in parts.filter_map(|p| p.split_once('=')).filter(|(_, v)| !v.contains('=')) {
            match name.trim_matches(' ') {
                // What is no number is none.
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                name => clause.parameters.push((name, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    /// The last value of a parameter.
    fn parameter(&self, name: &str) -> Option<&'h str> {
        self.parameters.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    fn covers(&self, encoding: Encoding) -> bool {
        let (kind, subtype) = encoding.media_type().split_once('/').unwrap_or_default();
        (self.kind, self.subtype) == ("*", "*") || self.kind == kind && (self.subtype == subtype || self.subtype == "*")
    }

    /// Whether it is tried before another (goautoneg). It is no order: a named type goes before `*` whatever their qualities
    /// are, and a better quality before a worse one.
    fn before(&self, other: &Clause<'_>) -> bool {
        self.quality > other.quality
            || self.kind != "*" && other.kind == "*"
            || self.subtype != "*" && other.subtype == "*"
    }
}

/// Clauses up to which Go sorts by insertion.
const FEW: usize = 12;

/// The clauses of an `Accept` header in the order in which they are tried: a few are sorted by insertion, as upstream's sort
/// does it, since what they are sorted by is no order; many by something like it that is one, so that a long header costs
/// little.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> = header.split(',').filter_map(Clause::parse).collect();
    if out.len() > FEW {
        out.sort_by(|a, b| {
            let named = |clause: &Clause<'_>| (clause.kind != "*", clause.subtype != "*");
            b.quality.total_cmp(&a.quality).then_with(|| named(b).cmp(&named(a)))
        });
        return out;
    }
    for last in 1..out.len() {
        let mut at = last;
        while at > 0 && out[at].before(&out[at - 1]) {
            out.swap(at, at - 1);
            at -= 1;
        }
    }
    out
}

/// How an endpoint answers an `Accept` header: in the first clause's way that it has, else with a 406. None is JSON.
pub fn accept(header: &str, endpoint: Endpoint) -> Result<Accepted, Status> {
    if header.is_empty() {
        return Ok(Accepted::JSON);
    }
    for clause in clauses(header) {
        for encoding in Encoding::ALL.into_iter().filter(|e| clause.covers(*e)) {
            if let Some(shape) = endpoint.shape(&clause, encoding) {
                return Ok(Accepted { encoding, shape });
            }
        }
    }
    Err(Status::not_acceptable(&Encoding::ALL.map(Encoding::media_type).join(", ")))
}

/// Whether an `Accept` header asks for discovery of everything at once (KEP-3352), and whether in v2beta1. Upstream takes
/// such a clause even behind others.
pub fn aggregated(header: &str) -> Option<bool> {
    clauses(header).iter().filter(|c| c.covers(Encoding::Json)).find_map(|clause| {
        match ["as", "g", "v"].map(|name| clause.parameter(name).unwrap_or_default()) {
            ["APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"] => Some(false),
            ["APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1"] => Some(true),
            _ => None,
        }
    })
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
mod tests;
