//! The zone's records in hickory's types.

use copepod_dns_zone::{Data, Record, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY};
use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as WireRecord};

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
