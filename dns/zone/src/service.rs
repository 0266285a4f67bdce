//! Names of Services: by virtual address, by endpoint (headless), by alias (ExternalName).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::{EndpointSliceFacts, ServiceFacts};

use crate::record::{Answer, Data, Record, RecordType, Records, select};
use crate::zone::Zone;

/// Weights only compare records of one answer.
const WEIGHT: u16 = 100;

/// What the zone knows of one Service.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has addresses of its own.
    Vip { ips: Vec<IpAddr>, ports: Vec<Port> },
    /// Its ready endpoints speak for it.
    Headless { hosts: BTreeMap<Box<str>, Vec<IpAddr>>, ports: Vec<HostPorts> },
    /// It is another name's alias.
    External(String),
}

/// A named port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    name: Box<str>,
    /// Lower case.
    protocol: Box<str>,
    number: u16,
}

/// Ports that some hosts share: those of one slice.
#[derive(Debug)]
pub(crate) struct HostPorts {
    ports: Vec<Port>,
    hosts: Vec<Box<str>>,
}

impl Entry {
    pub(crate) fn of<O: Borrow<Object>>(service: &Object, slices: &[O]) -> Entry {
        let facts: Arc<ServiceFacts> = service.facts();
        if let Some(target) = &facts.external_name {
            return Entry::External(target.trim_end_matches('.').to_ascii_lowercase());
        }
        if facts.headless {
            return headless(slices);
        }
        let ports = facts.ports.iter().filter_map(|p| port(&p.name, &p.protocol, p.port)).collect();
        Entry::Vip { ips: facts.cluster_ips.clone(), ports }
    }

    /// The addresses that have a name because of this Service.
    pub(crate) fn pointers(&self, service: &str) -> Vec<(IpAddr, String)> {
        match self {
            Entry::Vip { ips, .. } => ips.iter().map(|ip| (*ip, service.to_string())).collect(),
            Entry::Headless { hosts, .. } => hosts
                .iter()
                .flat_map(|(host, ips)| ips.iter().map(move |ip| (*ip, format!("{host}.{service}"))))
                .collect(),
            Entry::External(_) => Vec::new(),
        }
    }

    fn has_protocol(&self, protocol: &str) -> bool {
        let fits = |p: &Port| *p.protocol == *protocol;
        match self {
            Entry::Vip { ports, .. } => ports.iter().any(fits),
            Entry::Headless { ports, .. } => ports.iter().any(|g| g.ports.iter().any(fits)),
            Entry::External(_) => false,
        }
    }
}

fn port(name: &str, protocol: &str, number: u16) -> Option<Port> {
    (!name.is_empty()).then(|| Port { name: name.into(), protocol: protocol.to_ascii_lowercase().into(), number })
}

fn headless<O: Borrow<Object>>(slices: &[O]) -> Entry {
    let mut hosts: BTreeMap<Box<str>, Vec<IpAddr>> = BTreeMap::new();
    let mut groups = Vec::new();
    for slice in slices {
        let slice: Arc<EndpointSliceFacts> = slice.borrow().facts();
        let mut group = HostPorts { ports: Vec::new(), hosts: Vec::new() };
        group.ports.extend(slice.ports.iter().filter_map(|(name, protocol, number)| port(name, protocol, *number)));
        for endpoint in slice.endpoints.iter().filter(|e| e.ready) {
            let label: Box<str> = match &endpoint.hostname {
                Some(hostname) => hostname.to_ascii_lowercase().into(),
                None => dashed(endpoint.addresses[0]).into(),
            };
            let ips = hosts.entry(label.clone()).or_default();
            for ip in &endpoint.addresses {
                if !ips.contains(ip) {
                    ips.push(*ip);
                }
            }
            group.hosts.push(label);
        }
        groups.push(group);
    }
    Entry::Headless { hosts, ports: groups }
}

/// An endpoint without a host name is called by its address.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

pub(crate) fn lookup(zone: &Zone, labels: &[&str], rtype: RecordType) -> Option<Answer> {
    let (below, name, namespace) = match labels {
        ["svc"] => return Some(Answer::NoData),
        [namespace, "svc"] => return zone.has_namespace(namespace).then_some(Answer::NoData),
        [below @ .., name, namespace, "svc"] => (below, name, namespace),
        _ => return None,
    };
    let entry = zone.service(namespace, name)?;
    let service = zone.service_name(name, namespace);
    let ttl = zone.config.ttl;
    match below {
        [] => itself(entry, service, rtype, ttl),
        [protocol] if protocol.starts_with('_') => entry.has_protocol(&protocol[1..]).then_some(Answer::NoData),
        [host] => {
            let Entry::Headless { hosts, .. } = &**entry else { return None };
            let name = format!("{host}.{service}");
            Some(select(addresses(&name, hosts.get(*host)?), rtype, ttl))
        }
        [port, protocol] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            located(entry, &service, port, protocol, rtype, ttl)
        }
        _ => None,
    }
}

fn addresses(name: &str, ips: &[IpAddr]) -> Vec<Record> {
    ips.iter().map(|ip| Record { name: name.into(), data: Data::address(*ip) }).collect()
}

/// The Service's own name.
fn itself(entry: &Entry, service: String, rtype: RecordType, ttl: u32) -> Option<Answer> {
    match entry {
        Entry::Vip { ips, .. } => Some(select(addresses(&service, ips), rtype, ttl)),
        // By the specification a headless Service without ready endpoints has no name.
        Entry::Headless { hosts, .. } if hosts.is_empty() => None,
        Entry::Headless { hosts, .. } => {
            let ips: Vec<IpAddr> = hosts.values().flatten().copied().collect();
            Some(select(addresses(&service, &ips), rtype, ttl))
        }
        Entry::External(target) if matches!(rtype, RecordType::Cname | RecordType::Any) => {
            Some(select(vec![Record { name: service, data: Data::Cname(target.clone()) }], rtype, ttl))
        }
        Entry::External(target) => Some(Answer::External(target.clone())),
    }
}

/// `_port._protocol.service`: SRV records, and the addresses of their targets beside them.
fn located(entry: &Entry, service: &str, port: &str, protocol: &str, rtype: RecordType, ttl: u32) -> Option<Answer> {
    let fits = |p: &&Port| *p.name == *port && *p.protocol == *protocol;
    let mut targets: Vec<(u16, String, &[IpAddr])> = Vec::new();
    match entry {
        Entry::Vip { ips, ports } => {
            let number = ports.iter().find(fits)?.number;
            targets.push((number, service.to_string(), ips));
        }
        Entry::Headless { hosts, ports } => {
            for group in ports {
                let Some(number) = group.ports.iter().find(fits).map(|p| p.number) else { continue };
                for host in &group.hosts {
                    let ips = hosts.get(host).map_or(&[] as &[IpAddr], |v| v);
                    targets.push((number, format!("{host}.{service}"), ips));
                }
            }
            // Two endpoints of one host name are one target.
            targets.sort();
            targets.dedup();
        }
        Entry::External(_) => return None,
    }
    if targets.is_empty() {
        return None;
    }
    if !matches!(rtype, RecordType::Srv | RecordType::Any) {
        return Some(Answer::NoData);
    }
    let mut records = Records { ttl, ..Records::default() };
    for (number, target, ips) in targets {
        records.additional.extend(addresses(&target, ips));
        let data = Data::Srv { priority: 0, weight: WEIGHT, port: number, target };
        records.answers.push(Record { name: format!("_{port}._{protocol}.{service}"), data });
    }
    Some(Answer::Records(records))
}
