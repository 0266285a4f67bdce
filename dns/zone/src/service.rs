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

/// A port; its name is empty where the Service has only one and did not name it.
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
        let ports = facts.ports.iter().map(|p| port(&p.name, &p.protocol, p.port)).collect();
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

    /// Every name below and at `service`, the Service's own, and the types of its records.
    pub(crate) fn names(&self, service: &str) -> Vec<(String, &'static [RecordType])> {
        use RecordType::{A, Aaaa, Cname, Srv};
        const ITSELF: &[RecordType] = &[A, Aaaa, Srv];
        const ALIAS: &[RecordType] = &[Cname, A];
        const HOST: &[RecordType] = &[A, Aaaa];
        const LOCATION: &[RecordType] = &[Srv];
        const BETWEEN: &[RecordType] = &[];
        let mut names: Vec<(String, &'static [RecordType])> = Vec::new();
        let (ports, hosts): (Vec<&Port>, Vec<&str>) = match self {
            Entry::External(_) => return vec![(service.to_string(), ALIAS)],
            Entry::Vip { ports, .. } => (ports.iter().collect(), Vec::new()),
            Entry::Headless { hosts, ports } => {
                (ports.iter().flat_map(|g| &g.ports).collect(), hosts.keys().map(|h| &**h).collect())
            }
        };
        names.push((service.to_string(), ITSELF));
        names.extend(hosts.iter().map(|host| (format!("{host}.{service}"), HOST)));
        for port in ports.iter().filter(|p| !p.name.is_empty()) {
            names.push((format!("_{}._{}.{service}", port.name, port.protocol), LOCATION));
            names.push((format!("_{}.{service}", port.protocol), BETWEEN));
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        names
    }

    fn has_protocol(&self, protocol: &str) -> bool {
        let fits = |p: &Port| !p.name.is_empty() && *p.protocol == *protocol;
        match self {
            Entry::Vip { ports, .. } => ports.iter().any(fits),
            Entry::Headless { ports, .. } => ports.iter().any(|g| g.ports.iter().any(fits)),
            Entry::External(_) => false,
        }
    }
}

fn port(name: &str, protocol: &str, number: u16) -> Port {
    Port { name: name.into(), protocol: protocol.to_ascii_lowercase().into(), number }
}

fn headless<O: Borrow<Object>>(slices: &[O]) -> Entry {
    let mut hosts: BTreeMap<Box<str>, Vec<IpAddr>> = BTreeMap::new();
    let mut groups = Vec::new();
    for slice in slices {
        let slice: Arc<EndpointSliceFacts> = slice.borrow().facts();
        let mut group = HostPorts { ports: Vec::new(), hosts: Vec::new() };
        group.ports.extend(slice.ports.iter().map(|(name, protocol, number)| port(name, protocol, *number)));
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
        // Not in the specification, but CoreDNS answers so and peer finders ask so: the name itself locates every port.
        [] if rtype == RecordType::Srv && !matches!(**entry, Entry::External(_)) => {
            itself(entry, service.clone(), rtype, ttl)?;
            Some(located(entry, &service, &service, |_| true, ttl).map_or(Answer::NoData, Answer::Records))
        }
        [] => itself(entry, service, rtype, ttl),
        [protocol] if protocol.starts_with('_') => entry.has_protocol(&protocol[1..]).then_some(Answer::NoData),
        [host] => {
            let Entry::Headless { hosts, .. } = &**entry else { return None };
            let name = format!("{host}.{service}");
            Some(select(addresses(&name, hosts.get(*host)?), rtype, ttl))
        }
        [port, protocol] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            let owner = format!("_{port}._{protocol}.{service}");
            let fits = |p: &Port| !port.is_empty() && *p.name == *port && *p.protocol == *protocol;
            let records = located(entry, &service, &owner, fits, ttl)?;
            let asked = matches!(rtype, RecordType::Srv | RecordType::Any);
            Some(if asked { Answer::Records(records) } else { Answer::NoData })
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

/// SRV records named `owner` for the ports that fit, and the addresses of their targets beside them.
fn located(entry: &Entry, service: &str, owner: &str, fits: impl Fn(&Port) -> bool, ttl: u32) -> Option<Records> {
    let mut targets: Vec<(u16, String, &[IpAddr])> = Vec::new();
    match entry {
        Entry::Vip { ips, ports } => {
            let fitting = ports.iter().filter(|p| fits(p));
            targets.extend(fitting.map(|p| (p.number, service.to_string(), &ips[..])));
        }
        Entry::Headless { hosts, ports } => {
            for group in ports {
                for port in group.ports.iter().filter(|p| fits(p)) {
                    for host in &group.hosts {
                        let ips = hosts.get(host).map_or(&[] as &[IpAddr], |v| v);
                        targets.push((port.number, format!("{host}.{service}"), ips));
                    }
                }
            }
        }
        Entry::External(_) => return None,
    }
    if targets.is_empty() {
        return None;
    }
    // Two endpoints of one host name are one target.
    targets.sort();
    targets.dedup();
    let mut records = Records { ttl, ..Records::default() };
    for (number, target, ips) in targets {
        let beside = addresses(&target, ips);
        records.additional.extend(beside.into_iter().filter(|r| !records.additional.contains(r)).collect::<Vec<_>>());
        let data = Data::Srv { priority: 0, weight: WEIGHT, port: number, target };
        records.answers.push(Record { name: owner.to_string(), data });
    }
    Some(records)
}
