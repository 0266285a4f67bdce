//! Facts of Ingresses, and which of them are ours.

use std::borrow::Borrow;

use copepod_model::Object;
use copepod_model::facts::{Facts, ingress_is_ours};
use serde_json::Value;

use crate::http::{Backend, BackendPort, TlsSecret};
use crate::service::ServiceKey;
use crate::table::Config;

/// How a path is compared; `ImplementationSpecific` is `Prefix` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathType {
    Exact,
    Prefix,
}

/// The rules of one host of one Ingress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Lower case; `None` is any host.
    pub(crate) host: Option<String>,
    pub(crate) paths: Vec<(PathType, String, Backend)>,
}

/// Facts of an Ingress.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct IngressFacts {
    pub(crate) default: Option<Backend>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) tls: Vec<TlsSecret>,
}

impl Facts for IngressFacts {
    fn of(object: &Object) -> Self {
        let value = object.value();
        let spec = &value["spec"];
        let backend = |v: &Value| backend(object, v);
        let default = backend(&spec["defaultBackend"]);
        IngressFacts {
            rules: list(&spec["rules"]).map(|r| rule(r, default.as_ref(), &backend)).collect(),
            tls: list(&spec["tls"]).filter_map(|t| tls(object, t)).collect(),
            default,
        }
    }
}

fn rule(value: &Value, default: Option<&Backend>, backend: &dyn Fn(&Value) -> Option<Backend>) -> Rule {
    let mut paths: Vec<_> = list(&value["http"]["paths"])
        .filter_map(|p| {
            let kind = if p["pathType"] == "Exact" { PathType::Exact } else { PathType::Prefix };
            let path = p["path"].as_str().filter(|p| !p.is_empty()).unwrap_or("/");
            Some((kind, path.to_string(), backend(&p["backend"])?))
        })
        .collect();
    if value["http"].is_null() {
        // A host without rules belongs to the Ingress's default backend.
        paths.extend(default.map(|d| (PathType::Prefix, "/".to_string(), d.clone())));
    }
    let host = value["host"].as_str().filter(|h| !h.is_empty()).map(str::to_ascii_lowercase);
    Rule { host, paths }
}

fn backend(object: &Object, value: &Value) -> Option<Backend> {
    let service = &value["service"];
    let port = &service["port"];
    let number = port["number"].as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    Some(Backend {
        service: ServiceKey { namespace: object.key.namespace.clone(), name: service["name"].as_str()?.into() },
        port: match number {
            Some(number) => BackendPort::Number(number),
            None => BackendPort::Name(port["name"].as_str()?.into()),
        },
    })
}

fn tls(object: &Object, value: &Value) -> Option<TlsSecret> {
    Some(TlsSecret {
        hosts: list(&value["hosts"]).filter_map(|h| Some(h.as_str()?.to_ascii_lowercase().into())).collect(),
        namespace: object.key.namespace.clone(),
        secret: value["secretName"].as_str()?.into(),
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether an Ingress is ours.
pub(crate) fn ours<O: Borrow<Object>>(ingress: &Object, classes: &[O], config: &Config) -> bool {
    ingress_is_ours(ingress, classes, &config.ingress_class, &config.ingress_controller)
}
