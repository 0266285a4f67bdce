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
    /// Kinds of routes that it asks for, of those that are known; `None` where it asks for none.
    pub kinds: Option<Vec<RouteKind>>,
    /// Whether it asks for other kinds.
    pub foreign_kinds: bool,
    /// Whose routes it takes.
    pub from: From,
}

/// What a listener's clients speak, and what becomes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// Requests in clear text.
    #[default]
    Http,
    /// Requests over TLS.
    Https,
    /// TLS that ends here; what is in it is passed on as bytes.
    Tls,
    /// TLS that is passed on as it is.
    Passthrough,
    /// Bytes.
    Tcp,
}

/// What is spoken first at a port: all of its listeners have that in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// HTTP in clear text.
    Http,
    /// TLS: by the name in its hello it is known for which listener a connection is.
    Tls,
    /// Bytes that nobody looks into.
    Tcp,
}

impl Speech {
    /// What is spoken first.
    pub fn layer(self) -> Layer {
        match self {
            Speech::Http => Layer::Http,
            Speech::Https | Speech::Tls | Speech::Passthrough => Layer::Tls,
            Speech::Tcp => Layer::Tcp,
        }
    }

    /// Whether a certificate is shown.
    pub fn ends_tls(self) -> bool {
        matches!(self, Speech::Https | Speech::Tls)
    }

    /// The routes that it can be attached to. TLS that is passed on is TLSRoutes' alone ("SSL passthrough is only supported by
    /// TLSRoute").
    pub fn kinds(self) -> &'static [RouteKind] {
        match self {
            Speech::Http | Speech::Https => &[RouteKind::Http, RouteKind::Grpc],
            Speech::Tls => &[RouteKind::Tls, RouteKind::Tcp],
            Speech::Passthrough => &[RouteKind::Tls],
            Speech::Tcp => &[RouteKind::Tcp],
        }
    }
}

impl Listener {
    /// What its clients speak; `None` if that is not supported.
    pub fn speech(&self) -> Option<Speech> {
        match self.protocol.as_str() {
            "HTTP" => Some(Speech::Http),
            "HTTPS" => Some(Speech::Https),
            "TLS" if self.terminates == Some(false) => Some(Speech::Passthrough),
            "TLS" => Some(Speech::Tls),
            "TCP" => Some(Speech::Tcp),
            _ => None,
        }
    }
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
