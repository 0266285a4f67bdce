//! What probes and lifecycle hooks do: their handlers with ports and hosts resolved.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::args::expand;
use crate::effect::{HookHow, ProbeHow};

/// What a probe does.
pub(crate) fn probe(probe: &Probe, container: &Container, ip: IpAddr) -> Result<ProbeHow, String> {
    if let Some(h) = &probe.http_get {
        return http(h, container, ip);
    }
    if let Some(t) = &probe.tcp_socket {
        return tcp(t, container, ip);
    }
    if let Some(g) = &probe.grpc {
        let service = g.service.clone().unwrap_or_default();
        return Ok(ProbeHow::Grpc { host: ip.to_string(), port: port(&IntOrString::Int(g.port), container)?, service });
    }
    if let Some(e) = &probe.exec {
        // A probe's command is expanded by plain values alone: what comes from elsewhere is empty here.
        let env = container.env.as_deref().unwrap_or_default();
        let value =
            |name: &str| env.iter().rev().find(|e| e.name == name).map(|e| e.value.as_deref().unwrap_or_default());
        return Ok(ProbeHow::Exec { command: command(e).iter().map(|word| expand(word, value)).collect() });
    }
    Err("missing probe handler".into())
}

/// What a lifecycle hook does.
pub(crate) fn hook(handler: &LifecycleHandler, container: &Container, ip: IpAddr) -> Result<HookHow, String> {
    if let Some(h) = &handler.http_get {
        return http(h, container, ip).map(HookHow::Act);
    }
    if let Some(t) = &handler.tcp_socket {
        return tcp(t, container, ip).map(HookHow::Act);
    }
    if let Some(s) = &handler.sleep {
        return Ok(HookHow::Sleep(Duration::from_secs(u64::try_from(s.seconds).unwrap_or(0))));
    }
    if let Some(e) = &handler.exec {
        // A hook's command is taken as it is.
        return Ok(HookHow::Act(ProbeHow::Exec { command: command(e).to_vec() }));
    }
    Err("missing hook handler".into())
}

fn command(exec: &ExecAction) -> &[String] {
    exec.command.as_deref().unwrap_or_default()
}

fn host(declared: Option<&String>, ip: IpAddr) -> String {
    declared.filter(|h| !h.is_empty()).cloned().unwrap_or_else(|| ip.to_string())
}

fn http(http: &HTTPGetAction, container: &Container, ip: IpAddr) -> Result<ProbeHow, String> {
    let path = http.path.clone().unwrap_or_default();
    Ok(ProbeHow::Http {
        host: host(http.host.as_ref(), ip),
        port: port(&http.port, container)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        https: http.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
    })
}

fn tcp(tcp: &TCPSocketAction, container: &Container, ip: IpAddr) -> Result<ProbeHow, String> {
    Ok(ProbeHow::Tcp { host: host(tcp.host.as_ref(), ip), port: port(&tcp.port, container)? })
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => i64::from(*n),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(p), _) => i64::from(p.container_port),
                (None, Ok(n)) => n,
                _ => return Err(format!("couldn't find port: {name}")),
            }
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}
