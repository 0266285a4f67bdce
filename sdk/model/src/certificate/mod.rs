//! X.509 as the API of certificates needs it: requests (PKCS#10, RFC 2986) are read, and what a certificate (RFC 5280) is to say
//! becomes its DER. Whoever has the CA's key signs that; serial numbers and times are arguments.

mod der;
pub mod pem;
mod request;
#[cfg(test)]
pub(crate) mod samples;
mod subject;
mod template;
#[cfg(test)]
mod tests;
pub mod usage;

use std::net::IpAddr;

pub use request::Request;
pub use subject::Subject;
pub use template::{Authority, SignatureAlgorithm, Template, not_after};

/// The signers that every cluster has (`certificates/v1`).
pub mod signer {
    /// Clients of the API server.
    pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    /// Kubelets as clients of the API server.
    pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    /// Kubelets as servers.
    pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
    /// What had no signer's name before there were any; `v1` has no new requests for it.
    pub const LEGACY: &str = "kubernetes.io/legacy-unknown";
}

/// The group of the cluster's servers among each other. It is worth what `system:masters` is.
pub const SERVERS: &str = "system:copepod:servers";

/// Names by which clients know the API.
const OF_THE_API: [&str; 2] = ["localhost", "kubernetes"];
/// Names of servers, by which they know each other, and of Services.
const ZONES: [&str; 2] = ["copepod.internal", "cluster.local"];

/// Why no node may show a certificate for a DNS name, if none may.
pub fn reserved(name: &str) -> Option<&'static str> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.contains('*') {
        return Some("it may stand for the cluster's own names");
    }
    if OF_THE_API.iter().any(|r| name == *r || name.starts_with(&format!("{r}."))) {
        return Some("the API server is known by this name");
    }
    let within = |zone: &&str| name.strip_suffix(*zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ZONES.iter().any(within).then_some("the cluster gives names that end so itself")
}

/// The subject alternative names of a request or certificate, of the sorts that Go knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }
}
