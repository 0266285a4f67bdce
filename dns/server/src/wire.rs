//! The zone's records in hickory's types.

use copepod_dns_zone::{Data, Record, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY};
use hickory_proto::ProtoError;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as WireRecord};

/// The shortest question (RFC 1035, section 4.1.2) and the shortest record (section 4.1.3) in bytes.
const SHORTEST: [usize; 4] = [5, 11, 11, 11];

/// A message, if these bytes are one. One that claims to hold more than its bytes can is refused before room is made for
/// that.
pub(crate) fn read(bytes: &[u8]) -> Option<Message> {
    let (head, rest) = bytes.split_first_chunk::<12>()?;
    let counts = head[4..].chunks_exact(2).map(|c| usize::from(u16::from_be_bytes([c[0], c[1]])));
    let least: usize = counts.zip(SHORTEST).map(|(count, each)| count * each).sum();
    if least > rest.len() {
        return None;
    }
    Message::from_vec(bytes).ok()
}

pub(crate) fn name(text: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(text)?;
    name.set_fqdn(true);
    Ok(name)
}

/// `record` on the wire; with the letters of `asked` if it is the name that was asked for.
pub(crate) fn record(record: &Record, ttl: u32, asked: &Name) -> Result<WireRecord, ProtoError> {
    let owner = name(&record.name)?;
    let owner = if owner == *asked { asked.clone() } else { owner };
    let data = match &record.data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Srv { priority, weight, port, target } => RData::SRV(SRV::new(*priority, *weight, *port, name(target)?)),
        Data::Soa { mname, rname, serial, minimum } => {
            let [refresh, retry, expire] = [SOA_REFRESH, SOA_RETRY, SOA_EXPIRE].map(|n| n as i32);
            RData::SOA(SOA::new(name(mname)?, name(rname)?, *serial, refresh, retry, expire, *minimum))
        }
    };
    Ok(WireRecord::from_rdata(owner, ttl, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_what_it_claims() {
        let mut message = Message::query();
        message.add_query(hickory_proto::op::Query::query(Name::root(), hickory_proto::rr::RecordType::A));
        let whole = message.to_vec().unwrap();
        assert_eq!(read(&whole).map(|m| m.queries.len()), Some(1), "the shortest question there is");
        assert!(read(&whole[..11]).is_none());
        for at in [4, 6, 8, 10] {
            let mut claims = whole.clone();
            claims[at + 1] += 1;
            assert!(read(&claims).is_none(), "one more at {at}");
        }
    }
}
