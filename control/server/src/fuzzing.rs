//! What decodes bytes of clients and peers, for tests/fuzz alone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use copepod_consensus::Message;
use copepod_model::{ApiRequest, Status, UserInfo};
use http::Method;

use crate::api::resource;
use crate::peers::wire;

/// What a head and a body ask the API for; nothing where the path is of no resource.
pub fn request(method: &Method, path: &str, content_type: &str, body: Bytes) -> Result<Option<ApiRequest>, Status> {
    resource::request_of(method, path, Arc::new(UserInfo::system("admin")), content_type, body)
}

/// Takes the first whole message of a peer's out of what has arrived.
pub fn message(buffer: &mut BytesMut) -> Result<Option<Message>, String> {
    wire::decode(buffer).map_err(|e| e.to_string())
}

/// Appends a message to a peer.
pub fn put_message(message: &Message, out: &mut BytesMut) {
    wire::encode(message, out);
}
