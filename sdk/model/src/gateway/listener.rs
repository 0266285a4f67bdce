//! What a Gateway says.

use serde_json::Value;

use super::{GROUP, RouteKind};
use crate::Object;
use crate::facts::Facts;
use crate::kinds::fields::{list, text};
use crate::selector::LabelSelector;

/// What a Gateway says.
#[derive(Debug, Default)]
pub struct GatewayFacts {
    /// The name of its GatewayClass.
    pub class: String,
    /// Its listeners, in its order.
    pub listeners: Vec<Listener>,
    /// The addresses that it asks for: type and value.
    pub addresses: Vec<(String, String)>,
    /// Whether it names parameters of its own.
    pub parameters: bool,
    /// Whether it asks for certificates of clients, or shows one to backends.
    pub own_tls: bool,
}

/// A listener of a Gateway.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Lower case; `None` is any host.
    pub hostname: Option<String>,
    /// Its port.
    pub port: u16,
    /// `HTTP`, `HTTPS` …
    pub protocol: String,
    /// Whether it ends TLS, if it says anything of TLS.
    pub terminates: Option<bool>,
    /// Where its certificates are.
    pub certificates: Vec<CertificateRef>,
    /// Kinds of routes that it asks for and that are supported; `None` where it asks for none.
    pub kinds: Option<Vec<RouteKind>>,
    /// Whether it asks for kinds that are not supported.
    pub foreign_kinds: bool,
    /// Whose routes it takes.
    pub from: From,
}

/// The namespaces whose routes a listener takes.
#[derive(Debug, PartialEq)]
pub enum From {
    /// Its Gateway's.
    Same,
    /// All.
    All,
    /// Those with labels.
    Selector(LabelSelector),
    /// A selector that is none.
    Nobody,
}

/// A certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRef {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace: the Gateway's where it names none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Facts for GatewayFacts {
    fn of(object: &Object) -> Self {
        let spec = &object.spec_and_status().0;
        GatewayFacts {
            class: text(spec, "gatewayClassName").into(),
            listeners: list(spec, "listeners").iter().filter_map(|l| listener(object, l)).collect(),
            addresses: list(spec, "addresses")
                .iter()
                .map(|a| (a["type"].as_str().unwrap_or("IPAddress").into(), text(a, "value").into()))
                .collect(),
            parameters: spec["infrastructure"]["parametersRef"].is_object(),
            own_tls: spec["tls"].as_object().is_some_and(|t| !t.is_empty()),
        }
    }
}

fn listener(object: &Object, l: &Value) -> Option<Listener> {
    let tls = &l["tls"];
    let asked = list(&l["allowedRoutes"], "kinds");
    let known = |k: &Value| {
        let ours = k["group"].as_str().unwrap_or(GROUP) == GROUP;
        RouteKind::ALL.into_iter().find(|r| ours && r.name() == text(k, "kind"))
    };
    let mut kinds: Vec<RouteKind> = Vec::new();
    for kind in asked.iter().filter_map(known) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let namespaces = &l["allowedRoutes"]["namespaces"];
    let from = match text(namespaces, "from") {
        "All" => From::All,
        "Selector" if !namespaces["selector"].is_object() => From::Nobody,
        "Selector" => LabelSelector::from_json(&namespaces["selector"]).map_or(From::Nobody, From::Selector),
        _ => From::Same,
    };
    let certificate = |c: &Value| CertificateRef {
        group: text(c, "group").into(),
        kind: c["kind"].as_str().unwrap_or("Secret").into(),
        namespace: c["namespace"].as_str().unwrap_or(object.namespace()).into(),
        name: text(c, "name").into(),
    };
    Some(Listener {
        name: text(l, "name").into(),
        hostname: l["hostname"].as_str().filter(|h| !h.is_empty()).map(str::to_ascii_lowercase),
        port: u16::try_from(l["port"].as_u64()?).ok().filter(|p| *p != 0)?,
        protocol: text(l, "protocol").into(),
        terminates: tls.is_object().then(|| text(tls, "mode") != "Passthrough"),
        certificates: list(tls, "certificateRefs").iter().map(certificate).collect(),
        foreign_kinds: asked.iter().any(|k| known(k).is_none()),
        kinds: (!asked.is_empty()).then_some(kinds),
        from,
    })
}
