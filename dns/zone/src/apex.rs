//! The zone's own names: its authority, its name server, its version.

use crate::record::{Answer, Data, Record, RecordType, select};
use crate::zone::Zone;

/// The version of the schema that the zone follows.
const SCHEMA: &str = "1.1.0";

/// The names below the domain that are always there, and the types of their records.
pub(crate) const NAMES: &[(&str, &[RecordType])] = &[
    ("", &[RecordType::Soa, RecordType::Ns]),
    ("dns-version", &[RecordType::Txt]),
    ("dns", &[]),
    ("ns.dns", &[RecordType::A, RecordType::Aaaa]),
    ("svc", &[]),
    ("pod", &[]),
];

pub(crate) fn lookup(zone: &Zone, labels: &[&str], rtype: RecordType) -> Option<Answer> {
    let domain = &zone.config.domain;
    let records = match labels {
        [] => vec![zone.soa(), Record { name: domain.to_string(), data: Data::Ns(format!("ns.dns.{domain}")) }],
        ["dns-version"] => {
            vec![Record { name: format!("dns-version.{domain}"), data: Data::Txt(SCHEMA.into()) }]
        }
        ["dns"] => Vec::new(),
        ["ns", "dns"] => {
            let name = format!("ns.dns.{domain}");
            zone.config.dns_ip.map(|ip| Record { name, data: Data::address(ip) }).into_iter().collect()
        }
        _ => return None,
    };
    Some(select(records, rtype, zone.config.ttl))
}
