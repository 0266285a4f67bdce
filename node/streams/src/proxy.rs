//! What the API server's proxy asks a node for: a request to a port of one of its pods. The path is ours; the kubelet has
//! none, since an API server of upstream's dials pods itself.

use std::net::{IpAddr, SocketAddr};

/// The first segment of such a path.
pub const PREFIX: &str = "podProxy";

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub pod: &'a str,
    /// Whether it is to be spoken to over TLS.
    pub https: bool,
    /// The address that it has, as the API knows it, and the port.
    pub to: SocketAddr,
    /// What of the path is the pod's, with its slash.
    pub path: &'a str,
}

impl Proxied<'_> {
    /// `/podProxy/NAMESPACE/POD/SCHEME/IP/PORT/PATH`, still encoded; none of what comes before `PATH` needs to be.
    pub fn parse(path: &str) -> Option<Proxied<'_>> {
        let rest = path.strip_prefix('/')?.strip_prefix(PREFIX)?.strip_prefix('/')?;
        let mut parts = rest.splitn(6, '/');
        let (namespace, pod, scheme) = (parts.next()?, parts.next()?, parts.next()?);
        let (ip, port): (IpAddr, u16) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let after = parts.next()?;
        // `after` is the end of `path`, and a slash comes before it.
        let path = &path[path.len() - after.len() - 1..];
        Some(Proxied { namespace, pod, https, to: SocketAddr::new(ip, port), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_pod_stays_as_it_is() {
        let of = |path| Proxied::parse(path);
        let to = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let want = Proxied { namespace: "ns", pod: "p", https: false, to: to("10.244.0.7", 80), path: "/" };
        assert_eq!(of("/podProxy/ns/p/http/10.244.0.7/80/"), Some(want.clone()));
        let deep = Proxied { path: "/a//b%2Fc/", ..want };
        assert_eq!(of("/podProxy/ns/p/http/10.244.0.7/80/a//b%2Fc/"), Some(deep.clone()));
        let six = Proxied { https: true, to: to("fd00::7", 443), path: "/x", ..deep };
        assert_eq!(of("/podProxy/ns/p/https/fd00::7/443/x"), Some(six));
        for bad in [
            "/podProxy/ns/p/http/10.244.0.7/80",
            "/podProxy/ns/p/ftp/10.244.0.7/80/",
            "/podProxy/ns/p/http/name/80/",
            "/podProxy/ns/p/http/10.244.0.7/http/",
            "/podProxies/ns/p/http/10.244.0.7/80/",
            "/podProxy/ns/p",
            "/pods",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
