//! The zone: an index of what Services and EndpointSlices say, and the walk from a question to its source.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::facts::EndpointSliceFacts;
use imbl::{OrdMap, OrdSet};

use crate::compiled::Compiled;
use crate::record::{Answer, Data, Record, RecordType};
use crate::service::Entry;
use crate::{apex, compiled, pod, reverse, service};

/// What the zone must know besides the objects.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster domain, lower case, without the final dot.
    pub domain: Arc<str>,
    /// Seconds that answers may be kept.
    pub ttl: u32,
    /// The address of the cluster's DNS service, for the zone's own name server record.
    pub dns_ip: Option<IpAddr>,
    /// Networks (address, prefix length) whose reverse names are answered here even when nobody has them.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Default for Config {
    fn default() -> Self {
        Config { domain: "cluster.local".into(), ttl: 5, dns_ip: None, networks: Vec::new() }
    }
}

/// All names of the cluster. Immutable and cheap to copy: a change of one Service shares all the rest.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(crate) config: Arc<Config>,
    /// The SOA record's serial number.
    pub serial: u32,
    namespaces: OrdSet<Arc<str>>,
    services: OrdMap<Arc<str>, OrdMap<Arc<str>, Arc<Entry>>>,
    pub(crate) reverse: OrdMap<IpAddr, OrdSet<Arc<str>>>,
    /// The domain on the wire.
    wire_domain: Arc<[u8]>,
    /// What is there, by names on the wire in lower case: all names but those of namespaces and of pods' addresses.
    names: OrdMap<Arc<[u8]>, Arc<Compiled>>,
}

impl Default for Zone {
    fn default() -> Self {
        Zone::new(Config::default())
    }
}

/// A source of records: answers for the labels of a name below the zone's domain, leftmost first, or passes.
type Source = fn(&Zone, &[&str], RecordType) -> Option<Answer>;

/// What names of addresses have.
const POINTER: &[RecordType] = &[RecordType::Ptr];

/// Every source of names; the first that knows a name answers.
const SOURCES: &[Source] = &[apex::lookup, service::lookup, pod::lookup];

impl Zone {
    /// The address of the cluster's DNS Service, if it has one.
    pub fn dns_ip(&self) -> Option<IpAddr> {
        self.config.dns_ip
    }

    /// A zone without Services.
    pub fn new(config: Config) -> Zone {
        let wire_domain = compiled::name_to_wire(&config.domain).unwrap_or_else(|| vec![0]).into();
        let mut zone = Zone {
            config: Arc::new(config),
            serial: 0,
            namespaces: OrdSet::new(),
            services: OrdMap::new(),
            reverse: OrdMap::new(),
            wire_domain,
            names: OrdMap::new(),
        };
        let domain = zone.config.domain.clone();
        for (name, types) in apex::NAMES {
            let name = if name.is_empty() { domain.to_string() } else { format!("{name}.{domain}") };
            zone.compile(&name, types);
        }
        zone
    }

    /// The zone of these objects. Objects keep their decoded facts, so a rebuild costs no parsing.
    pub fn build<O: Borrow<Object>>(
        namespaces: impl IntoIterator<Item = O>,
        services: impl IntoIterator<Item = O>,
        slices: impl IntoIterator<Item = O>,
        config: Config,
    ) -> Zone {
        let mut of: BTreeMap<(Box<str>, Box<str>), Vec<O>> = BTreeMap::new();
        for slice in slices {
            let o = slice.borrow();
            let facts: Arc<EndpointSliceFacts> = o.facts();
            of.entry((o.namespace().into(), facts.service.as_str().into())).or_default().push(slice);
        }
        let mut zone = Zone::new(config).with_namespaces(namespaces);
        for service in services {
            let o = service.borrow();
            let slices = of.remove(&(o.namespace().into(), o.name().into())).unwrap_or_default();
            zone.put(o, &slices);
        }
        zone
    }

    /// The zone of everything in `view`.
    pub fn from_view(view: &dyn View, config: Config) -> Zone {
        let mut zone = Zone::build(
            view.list("namespaces", None),
            view.list("services", None),
            view.list("endpointslices.discovery.k8s.io", None),
            config,
        );
        // Serial numbers are compared modulo 2^32 (RFC 1982).
        zone.serial = view.revision() as u32;
        zone
    }

    /// The zone with these namespaces, all of them.
    pub fn with_namespaces<O: Borrow<Object>>(&self, namespaces: impl IntoIterator<Item = O>) -> Zone {
        let namespaces = namespaces.into_iter().map(|o| o.borrow().key.name.clone()).collect();
        Zone { namespaces, ..self.clone() }
    }

    /// The zone after a change of one Service or of its slices; `service` is `None` when it is gone. Slices of other
    /// Services are passed over.
    pub fn with_service<O: Borrow<Object>>(
        &self,
        namespace: &str,
        name: &str,
        service: Option<&Object>,
        slices: impl IntoIterator<Item = O>,
    ) -> Zone {
        let mut zone = self.clone();
        zone.remove(namespace, name);
        if let Some(service) = service {
            let own = |o: &O| {
                let o: &Object = o.borrow();
                o.namespace() == namespace && o.facts::<EndpointSliceFacts>().service == name
            };
            zone.put(service, &slices.into_iter().filter(own).collect::<Vec<_>>());
        }
        zone
    }

    fn put<O: Borrow<Object>>(&mut self, service: &Object, slices: &[O]) {
        let entry = Entry::of(service, slices);
        let (namespace, name) = (&service.key.namespace, &service.key.name);
        let (entry, own) = (Arc::new(entry), self.service_name(name, namespace));
        let pointers = entry.pointers(&own);
        for (ip, target) in &pointers {
            self.reverse.entry(*ip).or_default().insert(target.as_str().into());
        }
        self.services.entry(namespace.clone()).or_default().insert(name.clone(), entry.clone());
        for (name, types) in entry.names(&own) {
            self.compile(&name, types);
        }
        for (ip, _) in pointers {
            self.compile(&compiled::reverse_name(ip), POINTER);
        }
    }

    /// Makes a name's records anew, or forgets it where there is no such name.
    fn compile(&mut self, name: &str, types: &[RecordType]) {
        match compiled::compile(self, name, types) {
            Some((wire, made)) => drop(self.names.insert(wire, made)),
            None => {
                if let Some(wire) = compiled::name_to_wire(name) {
                    self.names.remove(&wire[..]);
                }
            }
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(services) = self.services.get_mut(namespace) else { return };
        let Some(old) = services.remove(name) else { return };
        if services.is_empty() {
            self.services.remove(namespace);
        }
        let own = self.service_name(name, namespace);
        for (name, types) in old.names(&own) {
            self.compile(&name, types);
        }
        for (ip, target) in old.pointers(&own) {
            if let Some(names) = self.reverse.get_mut(&ip) {
                names.remove(target.as_str());
                if names.is_empty() {
                    self.reverse.remove(&ip);
                }
            }
            self.compile(&compiled::reverse_name(ip), POINTER);
        }
    }

    /// The cluster domain.
    pub fn domain(&self) -> &str {
        &self.config.domain
    }

    /// The search list that a pod of `namespace` has by default.
    pub fn search_list(&self, namespace: &str) -> Vec<String> {
        let d = &self.config.domain;
        vec![format!("{namespace}.svc.{d}"), format!("svc.{d}"), d.to_string()]
    }

    /// The answer to a question. `name` may be of any case and end in a dot.
    pub fn lookup(&self, name: &str, rtype: RecordType) -> Answer {
        let name = name.strip_suffix('.').unwrap_or(name);
        let name: Cow<'_, str> = match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => name.to_ascii_lowercase().into(),
            false => name.into(),
        };
        if let Some(answer) = reverse::lookup(self, &name, rtype) {
            return answer;
        }
        let Some(below) = name.strip_suffix(&*self.config.domain) else { return Answer::NotOurs };
        let labels: Vec<&str> = match below.strip_suffix('.') {
            Some(below) => below.split('.').collect(),
            None if below.is_empty() => Vec::new(),
            None => return Answer::NotOurs,
        };
        SOURCES.iter().find_map(|source| source(self, &labels, rtype)).unwrap_or(Answer::NxDomain)
    }

    /// The record that goes with a negative answer: it says how long the answer may be kept.
    pub fn soa(&self) -> Record {
        let domain = &self.config.domain;
        let data = Data::Soa {
            mname: format!("ns.dns.{domain}"),
            rname: format!("hostmaster.{domain}"),
            serial: self.serial,
            minimum: self.config.ttl,
        };
        Record { name: domain.to_string(), data }
    }

    /// Seconds that answers may be kept.
    pub(crate) fn ttl(&self) -> u32 {
        self.config.ttl
    }

    pub(crate) fn wire_domain(&self) -> &[u8] {
        &self.wire_domain
    }

    pub(crate) fn compiled(&self, name: &[u8]) -> Option<&Arc<Compiled>> {
        self.names.get(name)
    }

    #[cfg(test)]
    pub(crate) fn names_len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace) || self.services.contains_key(namespace)
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Entry>> {
        self.services.get(namespace)?.get(name)
    }

    pub(crate) fn service_name(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.config.domain)
    }
}

#[cfg(test)]
pub(crate) mod tests;
