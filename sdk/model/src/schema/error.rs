//! What can go wrong, in upstream's words.

use crate::Status;

/// Why bytes or a value are not an object of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Malformed JSON, or JSON of the wrong types; the text is that of Go's decoder.
    #[error("{0}")]
    Json(String),
    /// Malformed protobuf.
    #[error("{0}")]
    Protobuf(&'static str),
    /// A kind that the schema does not have.
    #[error(
        "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    )]
    NotRegistered {
        /// apiVersion.
        version: String,
        /// Kind.
        kind: String,
    },
}

impl DecodeError {
    /// The 400 that kube-apiserver answers when a request body is not an object of `kind`.
    pub fn status(&self, api_version: &str, kind: &str) -> Status {
        match self {
            DecodeError::NotRegistered { .. } => Status::bad_request(self.to_string()),
            _ => Status::bad_request(cannot_be_handled(api_version, kind, self)),
        }
    }
}

/// The text of a 400 about a body.
pub(super) fn cannot_be_handled(api_version: &str, kind: &str, why: impl std::fmt::Display) -> String {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}")
}

/// Why a value cannot be written as protobuf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It has no apiVersion and kind, or ones that the schema does not have.
    #[error(
        "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    )]
    NotRegistered {
        /// apiVersion.
        version: String,
        /// Kind.
        kind: String,
    },
    /// Custom resources have no protobuf.
    #[error("object does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message")]
    NoProtobuf,
    /// A field's value is not of its type.
    #[error("{field} cannot be written: it is not of its type")]
    Type {
        /// Name of the field.
        field: String,
    },
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(pub(super) String);
