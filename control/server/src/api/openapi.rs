//! `/openapi/v2` and `/openapi/v3`: documents made from the schema and the registry of kinds, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use copepod_client::Body;
use copepod_model::kinds::Kinds;
use copepod_model::schema::{Schema, openapi};
use http::Response;

use super::respond;

/// The media type of the protobuf form of v2 (gnostic's `openapi.v2.Document`). Clients ask for it with an `@` before the
/// version, which no parser of media types accepts in an answer.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The documents made so far, by path and media type.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<(String, bool), Document>>);

/// A document and its media type.
type Document = (Bytes, &'static str);

impl Documents {
    /// The answer for a path under `/openapi`, if it is one.
    pub fn answer(&self, kinds: &Arc<Kinds>, path: &str, accept: &str, if_none_match: &str) -> Option<Response<Body>> {
        if !path.starts_with("/openapi/") {
            return None;
        }
        let protobuf = path == "/openapi/v2" && accept.contains("proto-openapi");
        let key = (path.to_string(), protobuf);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let (bytes, media) = match kept {
            Some(found) => found,
            None => {
                let made = make(kinds, path, protobuf);
                // Only what exists is kept: paths that do not are without number.
                let (bytes, media) = made?;
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (bytes.clone(), media));
                (bytes, media)
            }
        };
        Some(respond::tagged(bytes, media, if_none_match))
    }
}

fn make(kinds: &Kinds, path: &str, protobuf: bool) -> Option<Document> {
    let schema = Schema::builtin();
    let json = |v: serde_json::Value| (Bytes::from(v.to_string()), "application/json");
    match path.trim_end_matches('/').trim_start_matches("/openapi/") {
        "v2" if protobuf => Some((openapi::v2_protobuf(&openapi::v2(schema, kinds)).into(), V2_PROTOBUF)),
        "v2" => Some(json(openapi::v2(schema, kinds))),
        "v3" => Some(json(openapi::v3_index(schema, kinds))),
        rest => {
            let rest = rest.strip_prefix("v3/")?;
            let (group, version) = match rest.split('/').collect::<Vec<_>>().as_slice() {
                ["api", version] => (String::new(), (*version).to_string()),
                ["apis", group, version] => ((*group).to_string(), (*version).to_string()),
                _ => return None,
            };
            openapi::v3(schema, kinds, &group, &version).map(json)
        }
    }
}
