//! One request: what is no question is refused, the rest is answered.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Edns, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::ZoneSource;
use crate::answer::{Sections, answer};
use crate::forward::Upstream;

/// The largest UDP message that is sure not to be fragmented on its way.
const MAX_UDP: u16 = 1232;

/// Answers from the zone and forwards the rest.
#[derive(Clone)]
pub struct Handler {
    zone: ZoneSource,
    upstream: Arc<dyn Upstream>,
}

impl Handler {
    /// A handler over the zone that `zone` gives.
    pub fn new(zone: ZoneSource, upstream: Arc<dyn Upstream>) -> Handler {
        Handler { zone, upstream }
    }

    async fn sections(&self, request: &Request) -> Sections {
        if let Some(code) = refusal(request) {
            return Sections::error(code);
        }
        let [query] = request.queries.queries() else { return Sections::error(ResponseCode::FormErr) };
        let zone = (self.zone)();
        answer(&zone, &*self.upstream, query.original(), request.metadata.id).await
    }
}

/// Why a request is not answered at all.
fn refusal(request: &Request) -> Option<ResponseCode> {
    let [query] = request.queries.queries() else { return Some(ResponseCode::FormErr) };
    if request.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return Some(ResponseCode::BADVERS);
    }
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    (query.query_class() != DNSClass::IN || transfer).then_some(ResponseCode::Refused)
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let sections = self.sections(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.authoritative = sections.authoritative;
        metadata.response_code = sections.code;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, MAX_UDP));
            edns.set_rcode_high(high_bits(sections.code));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &sections.answers, &sections.authorities, [], &sections.additionals);
        match out.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "DNS response");
                failed(request)
            }
        }
    }
}

/// The part of a response code that only EDNS has room for.
fn high_bits(code: ResponseCode) -> u8 {
    (u16::from(code) >> 4) as u8
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    metadata.response_code = ResponseCode::ServFail;
    hickory_proto::op::Header { metadata, counts: HeaderCounts::default() }.into()
}
