//! From a question to the sections of its answer: the zone first, aliases followed, the rest forwarded.

use std::net::IpAddr;

use copepod_dns_zone::{Answer, Data, Record as ZoneRecord, RecordType as ZoneType, Zone};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use crate::forward::Upstream;
use crate::wire;

/// How many aliases inside the zone are followed.
const ALIASES: usize = 8;

/// The sections of an answer.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) code: ResponseCode,
    /// Whether the zone itself says so.
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Sections {
    pub(crate) fn error(code: ResponseCode) -> Sections {
        Sections { code, ..Sections::default() }
    }

    fn forwarded(mut self, message: Message) -> Sections {
        self.code = message.metadata.response_code;
        self.answers.extend(message.answers);
        self.authorities.extend(message.authorities);
        self.additionals.extend(message.additionals);
        self
    }
}

/// Answers `query`. `upstream` is whom to ask for names outside the zone and for which client, if that is wanted. `turn`
/// rotates the addresses of an answer, so that clients that take the first one spread.
pub(crate) async fn answer(
    zone: &Zone,
    upstream: Option<(&dyn Upstream, IpAddr)>,
    query: &Query,
    turn: u16,
) -> Sections {
    resolve(zone, upstream, query, turn).await.unwrap_or_else(Sections::error)
}

async fn resolve(
    zone: &Zone,
    upstream: Option<(&dyn Upstream, IpAddr)>,
    query: &Query,
    turn: u16,
) -> Result<Sections, ResponseCode> {
    let broken = |_| ResponseCode::ServFail;
    let asked = &query.name;
    let rtype = u16::from(query.query_type).into();
    let mut sections = Sections { authoritative: true, ..Sections::default() };
    let mut name = asked.to_ascii();
    for _ in 0..ALIASES {
        match zone.lookup(&name, rtype) {
            Answer::Records(mut records) => {
                let n = records.answers.len();
                if matches!(rtype, ZoneType::A | ZoneType::Aaaa) {
                    records.answers.rotate_left(usize::from(turn) % n.max(1));
                }
                for r in &records.answers {
                    sections.answers.push(wire::record(r, records.ttl, asked).map_err(broken)?);
                }
                for r in &records.additional {
                    // In the letters of the record that it goes with, not in those of the question.
                    let target = wire::name(&r.name).map_err(broken)?;
                    sections.additionals.push(wire::record(r, records.ttl, &target).map_err(broken)?);
                }
                return Ok(sections);
            }
            none @ (Answer::NoData | Answer::NxDomain) => {
                let soa = zone.soa();
                let Data::Soa { minimum, .. } = soa.data else { return Err(ResponseCode::ServFail) };
                sections.authorities.push(wire::record(&soa, minimum, asked).map_err(broken)?);
                if none == Answer::NxDomain {
                    sections.code = ResponseCode::NXDomain;
                }
                return Ok(sections);
            }
            Answer::External(target) => {
                let owner = name.trim_end_matches('.').to_ascii_lowercase();
                let alias = ZoneRecord { name: owner, data: Data::Cname(target.clone()) };
                let Data::Soa { minimum, .. } = zone.soa().data else { return Err(ResponseCode::ServFail) };
                sections.answers.push(wire::record(&alias, minimum, asked).map_err(broken)?);
                name = target;
            }
            Answer::NotOurs => {
                let alias = !sections.answers.is_empty();
                sections.authoritative = alias;
                let Some((upstream, client)) = upstream else {
                    // The alias is ours to tell, what it leads to is not.
                    return if alias { Ok(sections) } else { Err(ResponseCode::Refused) };
                };
                let target = if alias { wire::name(&name).map_err(broken)? } else { asked.clone() };
                let message = ask(upstream, target, query.query_type, client).await?;
                return Ok(sections.forwarded(message));
            }
        }
    }
    Err(ResponseCode::ServFail)
}

async fn ask(upstream: &dyn Upstream, name: Name, rtype: RecordType, client: IpAddr) -> Result<Message, ResponseCode> {
    upstream.forward(Query::query(name, rtype), client).await.map_err(|error| {
        tracing::debug!(%error, "DNS forwarding");
        ResponseCode::ServFail
    })
}
