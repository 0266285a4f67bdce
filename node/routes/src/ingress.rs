//! Facts of Ingresses, and which of them are ours.

use std::borrow::Borrow;

use copepod_model::Object;
use copepod_model::facts::Facts;
use serde_json::Value;

use crate::http::{Backend, BackendPort, TlsSecret};
use crate::service::ServiceKey;
use crate::table::Config;

/// Upstream's annotation from before there was a field; it still wins over the field's absence.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

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
    class: Option<String>,
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
        let class = spec["ingressClassName"].as_str().map(String::from);
        IngressFacts {
            class: class.or_else(|| object.meta.annotations.get(CLASS_ANNOTATION).map(|c| c.to_string())),
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
        ingress: object.key.name.clone(),
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

/// Whether an Ingress is ours: its class has our controller, or is ours by name where no such object exists; without a
/// class, unless the cluster's default class is another controller's.
pub(crate) fn ours<O: Borrow<Object>>(ingress: &Object, classes: &[O], config: &Config) -> bool {
    let controller_is_ours = |class: &Object| class.value()["spec"]["controller"] == *config.ingress_controller;
    match &ingress.facts::<IngressFacts>().class {
        Some(name) => match classes.iter().map(Borrow::borrow).find(|c: &&Object| c.name() == name) {
            Some(class) => controller_is_ours(class),
            None => *name == *config.ingress_class,
        },
        None => {
            let is_default =
                |c: &&Object| c.meta.annotations.get(DEFAULT_CLASS_ANNOTATION).is_some_and(|v| &**v == "true");
            let defaults: Vec<&Object> = classes.iter().map(Borrow::borrow).filter(is_default).collect();
            defaults.is_empty() || defaults.into_iter().any(controller_is_ours)
        }
    }
}
