//! Names made of an address: `10-244-0-5.NAMESPACE.pod`. The schema has deprecated them and clients still use them.

use std::net::IpAddr;

use crate::record::{Answer, Data, Record, RecordType, select};
use crate::zone::Zone;

pub(crate) fn lookup(zone: &Zone, labels: &[&str], rtype: RecordType) -> Option<Answer> {
    let (address, namespace) = match labels {
        ["pod"] => return Some(Answer::NoData),
        [namespace, "pod"] => return zone.has_namespace(namespace).then_some(Answer::NoData),
        [address, namespace, "pod"] => (address, namespace),
        _ => return None,
    };
    let ip = parse(address).filter(|_| zone.has_namespace(namespace))?;
    let name = format!("{address}.{namespace}.pod.{}", zone.config.domain);
    Some(select(vec![Record { name, data: Data::address(ip) }], rtype, zone.config.ttl))
}

fn parse(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}
