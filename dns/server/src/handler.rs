//! One message: what is no question is refused, the rest is answered. The short way copies what the zone has prepared, the
//! long way knows all of DNS and asks others.

use std::net::IpAddr;
use std::sync::Arc;

use copepod_dns_zone::{HEADER, LARGEST_UDP, Question, Reading, Room, SMALLEST_UDP, Zone, udp_room};
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::access::Access;
use crate::answer::{Sections, answer};
use crate::forward::Upstream;

/// Gives the zone in use: it is asked for each question, so that a new zone counts at once. None while it is not known.
pub type ZoneSource = Arc<dyn Fn() -> Option<Arc<Zone>> + Send + Sync>;

/// An OPT record without options.
const OPT_LENGTH: usize = 11;

/// What a message came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Whom a message came from, and over what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) over: Transport,
}

/// What the short way made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quick {
    /// The answer was written.
    Answered,
    /// It takes the long way.
    Long,
    /// It gets no answer.
    Noise,
}

/// Answers from the zone and forwards the rest.
pub(crate) struct Handler {
    pub(crate) zone: ZoneSource,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) access: Access,
}

impl Handler {
    /// The short way: writes the answer into `out`.
    pub(crate) fn quick(&self, message: &[u8], client: Client, out: &mut Vec<u8>) -> Quick {
        let question = match Question::read(message) {
            Reading::Question(question) => question,
            Reading::Unusual => return Quick::Long,
            Reading::Noise => return Quick::Noise,
        };
        let Some(zone) = (self.zone)() else { return Quick::Long };
        let recursion = self.access.forwards(client.ip);
        let bytes = room(client.over, question.edns.map(|e| e.payload), recursion);
        match zone.answer(&question, Room { bytes, recursion }, out) {
            true => Quick::Answered,
            false => Quick::Long,
        }
    }

    /// The long way; none for what gets no answer.
    pub(crate) async fn answer(&self, message: &[u8], client: Client) -> Option<Vec<u8>> {
        let header = message.get(..HEADER).filter(|h| h[2] & 0x80 == 0)?;
        if header[2] >> 3 & 15 != 0 {
            return Some(bare(header, ResponseCode::NotImp));
        }
        // One question, as RFC 9619 has it: room for more is not even made.
        let read = (header[4..6] == [0, 1]).then(|| crate::wire::read(message));
        let Some(asked) = read.flatten() else { return Some(bare(header, ResponseCode::FormErr)) };
        let recursion = self.access.forwards(client.ip);
        let sections = self.sections(&asked, client.ip, recursion).await;
        let room = room(client.over, asked.edns.as_ref().map(Edns::max_payload), recursion);
        let encoded = encode(&asked, sections, recursion, room);
        encoded.map_err(|error| tracing::debug!(%error, "DNS response")).ok().or_else(|| {
            let failed = encode(&asked, Sections::error(ResponseCode::ServFail), recursion, room);
            failed.ok()
        })
    }

    async fn sections(&self, asked: &Message, client: IpAddr, recursion: bool) -> Sections {
        let [query] = &asked.queries[..] else { return Sections::error(ResponseCode::FormErr) };
        if let Some(code) = refusal(asked, query) {
            return Sections::error(code);
        }
        // A zone that is not known yet denies nothing.
        let Some(zone) = (self.zone)() else { return Sections::error(ResponseCode::ServFail) };
        let upstream = (recursion && asked.metadata.recursion_desired).then_some((&*self.upstream, client));
        answer(&zone, upstream, query, asked.metadata.id).await
    }
}

/// How many bytes an answer may have. Strangers get no more over UDP than a question without EDNS does: whoever forges
/// their address gains little.
fn room(over: Transport, payload: Option<u16>, known: bool) -> usize {
    match over {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp if known => udp_room(payload),
        Transport::Udp => SMALLEST_UDP,
    }
}

/// Why a question is not answered at all.
fn refusal(asked: &Message, query: &Query) -> Option<ResponseCode> {
    if asked.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return Some(ResponseCode::BADVERS);
    }
    let transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    (query.query_class != DNSClass::IN || transfer).then_some(ResponseCode::Refused)
}

/// A response without sections to a message that cannot be read.
fn bare(header: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut response = vec![0; HEADER];
    response[..2].copy_from_slice(&header[..2]);
    // A response, of the same operation, with the same RD.
    response[2] = 0x80 | (header[2] & 0x79);
    response[3] = code.low();
    response
}

fn encode(asked: &Message, sections: Sections, recursion: bool, room: usize) -> Result<Vec<u8>, ProtoError> {
    let mut response = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata = Metadata::response_from_request(&asked.metadata);
    response.metadata.recursion_available = recursion;
    response.metadata.authoritative = sections.authoritative;
    // The rest of the code is in the OPT record, which is added at the end.
    response.metadata.response_code = ResponseCode::from_low(sections.code.low());
    response.add_queries(asked.queries.iter().cloned());
    response.answers = sections.answers;
    response.authorities = sections.authorities;
    response.additionals = sections.additionals;
    let opt = if asked.edns.is_some() { OPT_LENGTH } else { 0 };
    let mut bytes = fit(&response, room - opt)?;
    if bytes[2] & TC != 0 && !response.additionals.is_empty() {
        // What is only beside the answer is left out without a word (RFC 2181, 9).
        response.additionals.clear();
        bytes = fit(&response, room - opt)?;
    }
    if let Some(edns) = &asked.edns {
        append_opt(&mut bytes, sections.code.high(), edns.flags().dnssec_ok);
    }
    Ok(bytes)
}

/// Truncated, in the third byte of a message.
const TC: u8 = 0x02;

/// The message with as many records as fit.
fn fit(message: &Message, room: usize) -> Result<Vec<u8>, ProtoError> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::try_from(room).unwrap_or(u16::MAX));
    message.emit(&mut encoder)?;
    // A record that did not fit leaves its beginning behind.
    encoder.trim();
    Ok(bytes)
}

fn append_opt(bytes: &mut Vec<u8>, code: u8, dnssec_ok: bool) {
    bytes.extend([0, 0, 41]);
    bytes.extend(LARGEST_UDP.to_be_bytes());
    bytes.extend([code, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    let additional = u16::from_be_bytes([bytes[10], bytes[11]]).saturating_add(1);
    bytes[10..12].copy_from_slice(&additional.to_be_bytes());
}
