//! A container's environment: Services, `envFrom`, `env`, in the order in which Kubernetes lets later ones win.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use copepod_model::Time;
use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, ResourceFieldSelector};

use crate::args::expand;
use crate::node::NodeFacts;
use crate::refs::{Lookup, Reference, Refs, ServiceRecord};

/// Why there is no environment.
#[derive(Debug, PartialEq)]
pub(crate) enum EnvError {
    /// Something is wrong or missing, in the kubelet's words.
    Config(String),
    /// Something is not known yet; it is in `fetch`.
    Unknown,
}

/// What resolving reads.
pub(crate) struct Source<'a> {
    pub pod: &'a Pod,
    pub ip: IpAddr,
    pub node: &'a NodeFacts,
    pub refs: &'a dyn Refs,
    pub now: Time,
}

/// What resolving found besides the variables.
#[derive(Default)]
pub(crate) struct Found {
    /// References that are not known yet.
    pub fetch: BTreeSet<Reference>,
    /// Events about skipped keys.
    pub skipped: Vec<String>,
}

/// An ordered environment without duplicates.
#[derive(Default)]
struct Env {
    list: Vec<(String, String)>,
    at: BTreeMap<String, usize>,
}

impl Env {
    fn set(&mut self, name: &str, value: String) {
        match self.at.get(name) {
            Some(i) => self.list[*i].1 = value,
            None => {
                self.at.insert(name.into(), self.list.len());
                self.list.push((name.into(), value));
            }
        }
    }
    fn get(&self, name: &str) -> Option<&str> {
        self.at.get(name).map(|i| self.list[*i].1.as_str())
    }
}

/// Resolves a container's environment.
pub(crate) fn resolve(
    source: &Source<'_>,
    container: &Container,
    hostname: &str,
    found: &mut Found,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = source.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut env = Env::default();
    env.set("HOSTNAME", hostname.into());
    let links = source.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let own = if links { source.refs.services(namespace) } else { Vec::new() };
    let masters = source.refs.services("default");
    for s in masters.iter().filter(|s| s.name == "kubernetes").chain(&own) {
        service(&mut env, s);
    }
    let mut unknown = false;
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let sources = [
            from.config_map_ref.as_ref().map(|r| ("configmaps", "configMap", &r.name, r.optional)),
            from.secret_ref.as_ref().map(|r| ("secrets", "secret", &r.name, r.optional)),
        ];
        for (resource, word, name, optional) in sources.into_iter().flatten() {
            let values = match lookup(source, resource, namespace, name, found) {
                Lookup::Found(values) => values,
                Lookup::Missing if optional == Some(true) => continue,
                Lookup::Missing => return Err(missing(resource, name)),
                Lookup::Unknown => {
                    unknown = true;
                    continue;
                }
            };
            let mut invalid = Vec::new();
            for (key, value) in values.iter() {
                let key = format!("{prefix}{key}");
                if valid_name(&key) {
                    env.set(&key, String::from_utf8_lossy(value).into_owned());
                } else {
                    invalid.push(key);
                }
            }
            if !invalid.is_empty() {
                let keys = invalid.join(", ");
                found.skipped.push(format!(
                    "Keys [{keys}] from the EnvFrom {word} {namespace}/{name} were skipped since they are considered invalid environment variable names."
                ));
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            None => Some(expand(var.value.as_deref().unwrap_or_default(), |n| env.get(n))),
            Some(from) => match value_from(source, container, from, namespace, found) {
                Ok(value) => value,
                Err(EnvError::Unknown) => {
                    unknown = true;
                    None
                }
                Err(e) => return Err(e),
            },
        };
        if let Some(value) = value {
            env.set(&var.name, value);
        }
    }
    if unknown { Err(EnvError::Unknown) } else { Ok(env.list) }
}

fn lookup(source: &Source<'_>, resource: &'static str, namespace: &str, name: &str, found: &mut Found) -> Lookup {
    let answer = match resource {
        "configmaps" => source.refs.config_map(namespace, name, source.now),
        _ => source.refs.secret(namespace, name, source.now),
    };
    if answer == Lookup::Unknown {
        found.fetch.insert(Reference { resource, namespace: namespace.into(), name: name.into() });
    }
    answer
}

fn missing(resource: &str, name: &str) -> EnvError {
    EnvError::Config(format!("{} \"{name}\" not found", resource.trim_end_matches('s')))
}

fn key(
    source: &Source<'_>,
    (resource, kind): (&'static str, &str),
    namespace: &str,
    (name, key, optional): (&str, &str, Option<bool>),
    found: &mut Found,
) -> Result<Option<String>, EnvError> {
    let optional = optional == Some(true);
    let values: Arc<BTreeMap<String, Vec<u8>>> = match lookup(source, resource, namespace, name, found) {
        Lookup::Found(values) => values,
        Lookup::Missing if optional => return Ok(None),
        Lookup::Missing => return Err(missing(resource, name)),
        Lookup::Unknown => return Err(EnvError::Unknown),
    };
    match values.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(EnvError::Config(format!("couldn't find key {key} in {kind} {namespace}/{name}"))),
    }
}

fn value_from(
    source: &Source<'_>,
    container: &Container,
    from: &EnvVarSource,
    namespace: &str,
    found: &mut Found,
) -> Result<Option<String>, EnvError> {
    if let Some(r) = &from.config_map_key_ref {
        return key(source, ("configmaps", "ConfigMap"), namespace, (&r.name, &r.key, r.optional), found);
    }
    if let Some(r) = &from.secret_key_ref {
        return key(source, ("secrets", "Secret"), namespace, (&r.name, &r.key, r.optional), found);
    }
    if let Some(r) = &from.field_ref {
        return field(source, &r.field_path).map(Some).map_err(EnvError::Config);
    }
    if let Some(r) = &from.resource_field_ref {
        return resource(source, container, r).map(Some).map_err(EnvError::Config);
    }
    Err(EnvError::Config(if from.file_key_ref.is_some() {
        "fileKeyRef is not supported yet".into()
    } else {
        "invalid valueFrom".into()
    }))
}

fn listed(ips: impl IntoIterator<Item = IpAddr>) -> String {
    ips.into_iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(",")
}

fn field(source: &Source<'_>, path: &str) -> Result<String, String> {
    let (pod, meta) = (source.pod, &source.pod.metadata);
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    if let Some((map, subscript)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let values = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(values.as_ref().and_then(|m| m.get(subscript)).cloned().unwrap_or_default());
    }
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "spec.nodeName" => source.node.name.clone(),
        "spec.serviceAccountName" => account.unwrap_or_default(),
        "status.hostIP" => source.node.host_ip.to_string(),
        "status.hostIPs" => listed(source.node.host_ips()),
        "status.podIP" => source.ip.to_string(),
        "status.podIPs" => listed(source.node.pod_ips(source.ip)),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A field as a file of a `downwardAPI` volume has it, where whole maps are fields too.
pub(crate) fn file_field(source: &Source<'_>, path: &str) -> Result<String, String> {
    let map = match path {
        "metadata.labels" => &source.pod.metadata.labels,
        "metadata.annotations" => &source.pod.metadata.annotations,
        _ => return field(source, path),
    };
    let lines = map.iter().flatten().map(|(k, v)| format!("{k}={}", crate::text::go_quoted(v)));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A resource of the container that the selector names.
pub(crate) fn file_resource(source: &Source<'_>, selector: &ResourceFieldSelector) -> Result<String, String> {
    resource(source, &Container::default(), selector)
}

fn resource(source: &Source<'_>, container: &Container, selector: &ResourceFieldSelector) -> Result<String, String> {
    let spec = source.pod.spec.as_ref();
    let other = selector.container_name.as_deref().filter(|n| !n.is_empty() && *n != container.name);
    let container = match other {
        None => container,
        Some(name) => spec
            .into_iter()
            .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
            .find(|c| c.name == name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let (list, what) = selector.resource.split_once('.').unwrap_or_default();
    let resources = container.resources.clone().unwrap_or_default();
    let amounts = match list {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let amount = amounts.and_then(|m| m.get(what).and_then(|q| q.0.parse::<Quantity>().ok()));
    let of_pod = spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.limits.as_ref());
    let of_pod = of_pod.and_then(|l| l.get(what)).and_then(|q| q.0.parse::<Quantity>().ok());
    let amount = match (amount, list, what) {
        (Some(q), _, _) => q,
        (None, "limits", _) if of_pod.is_some() => of_pod.unwrap_or_default(),
        // Without a limit, the node's own is what bounds the container.
        (None, "limits", "cpu") => Quantity::from_millis(source.node.allocatable_cpu_millis),
        (None, "limits", "memory") => Quantity::from_bytes(source.node.allocatable_memory),
        (None, "limits", "ephemeral-storage") => Quantity::from_bytes(source.node.allocatable_storage()),
        _ => Quantity::default(),
    };
    let divisor = selector.divisor.as_ref().and_then(|q| q.0.parse::<Quantity>().ok()).filter(|d| d.millis() > 0);
    let divisor = divisor.unwrap_or_else(|| Quantity::from_units(1));
    let (amount, divisor) =
        if what == "cpu" { (amount.millis(), divisor.millis()) } else { (amount.value(), divisor.value().max(1)) };
    // Rounded up, as upstream does.
    Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
}

/// Printable ASCII without `=`, which is what Kubernetes accepts.
fn valid_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

/// The variables that Docker links once had, one set per Service.
fn service(env: &mut Env, s: &ServiceRecord) {
    let Some(first) = s.ports.first() else { return };
    let upper = s.name.to_uppercase().replace('-', "_");
    let host = if s.ip.contains(':') { format!("[{}]", s.ip) } else { s.ip.clone() };
    env.set(&format!("{upper}_SERVICE_HOST"), s.ip.clone());
    env.set(&format!("{upper}_SERVICE_PORT"), first.port.to_string());
    for p in s.ports.iter().filter(|p| !p.name.is_empty()) {
        env.set(&format!("{upper}_SERVICE_PORT_{}", p.name.to_uppercase().replace('-', "_")), p.port.to_string());
    }
    for (i, p) in s.ports.iter().enumerate() {
        let url = format!("{}://{host}:{}", p.protocol.to_lowercase(), p.port);
        if i == 0 {
            env.set(&format!("{upper}_PORT"), url.clone());
        }
        let prefix = format!("{upper}_PORT_{}_{}", p.port, p.protocol.to_uppercase());
        env.set(&prefix, url);
        env.set(&format!("{prefix}_PROTO"), p.protocol.to_lowercase());
        env.set(&format!("{prefix}_PORT"), p.port.to_string());
        env.set(&format!("{prefix}_ADDR"), s.ip.clone());
    }
}

#[cfg(test)]
#[path = "env/tests.rs"]
mod tests;
