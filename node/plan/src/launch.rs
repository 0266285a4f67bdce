//! From a pod's spec to what a runtime needs to start one of its containers.

use std::net::IpAddr;
use std::sync::Arc;

use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::args::expand;
use crate::dns::pod_dns;
use crate::effect::{ContainerSpec, PodIdentity, TerminationMessage};
use crate::env::{EnvError, Found, Source, resolve};
use crate::host_port::host_ports;
use crate::local_storage;
use crate::memory;
use crate::message;
use crate::node::NodeFacts;
use crate::volumes::{self, Volumes};

/// The longest host name that Linux takes.
const LONGEST_FQDN: usize = 64;

/// A pod as the network and its logs know it.
pub(crate) fn identity(pod: &Pod, ip: IpAddr, node: &NodeFacts) -> PodIdentity {
    let text = |s: &Option<String>| -> Arc<str> { s.as_deref().unwrap_or_default().into() };
    let spec = pod.spec.as_ref();
    let account = spec.and_then(|s| s.service_account_name.as_deref()).filter(|s| !s.is_empty());
    PodIdentity {
        uid: text(&pod.metadata.uid),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        service_account: account.unwrap_or("default").into(),
        ip,
        second_ip: node.pod_ips(ip).get(1).copied(),
        hostname: hostname(pod, node).into(),
        hosts: hosts(pod, ip, node),
        host_ports: host_ports(pod),
        storage: local_storage::limits(pod),
        memory_limit: memory::limit(pod),
        dns: pod_dns(spec, pod.metadata.namespace.as_deref().unwrap_or_default(), &node.cluster_domain),
    }
}

/// The pod's host name as its containers see it.
pub(crate) fn hostname(pod: &Pod, node: &NodeFacts) -> String {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.as_ref()).filter(|s| !s.is_empty()) {
        return name.clone();
    }
    match fqdn(pod, node) {
        Some(name) if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) => name,
        _ => short_name(pod),
    }
}

/// At most 63 characters, as the kernel has it.
fn short_name(pod: &Pod) -> String {
    let set = pod.spec.as_ref().and_then(|s| s.hostname.as_ref()).filter(|s| !s.is_empty());
    let name = set.or(pod.metadata.name.as_ref()).cloned().unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_string()
}

/// The pod's name in its subdomain, where it has one.
fn fqdn(pod: &Pod, node: &NodeFacts) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref().filter(|s| !s.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{}.{subdomain}.{namespace}.svc.{}", short_name(pod), node.cluster_domain))
}

/// What the pod's `/etc/hosts` would say besides its host name.
fn hosts(pod: &Pod, ip: IpAddr, node: &NodeFacts) -> Vec<(IpAddr, Vec<Arc<str>>)> {
    let own = fqdn(pod, node).map(|name| -> Arc<str> { name.into() });
    let own = own.into_iter().flat_map(|name| node.pod_ips(ip).into_iter().map(move |ip| (ip, vec![name.clone()])));
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).filter_map(|a| {
        let names = a.hostnames.iter().flatten().map(|n| n.as_str().into()).collect();
        Some((a.ip.parse().ok()?, names))
    });
    own.chain(aliases).collect()
}

/// Everything to start `container` from `digest`, or why not yet.
pub(crate) fn container_spec(
    source: &Source<'_>,
    container: &Container,
    digest: &str,
    volumes: &Volumes,
    found: &mut Found,
) -> Result<ContainerSpec, EnvError> {
    supported(source.pod, container).map_err(EnvError::Config)?;
    let name = hostname(source.pod, source.node);
    if name.len() > LONGEST_FQDN {
        let text = format!(
            "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {name} is too long ({LONGEST_FQDN} characters is the max, {} characters requested)",
            name.len()
        );
        return Err(EnvError::Config(text));
    }
    let env = resolve(source, container, &name, found)?;
    let mounts = volumes::resolve(source, container, &env, volumes).map_err(EnvError::Config)?;
    let value = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let command = container.command.as_deref().unwrap_or_default();
    // A wasm image's entry point is its module: `command` names another program only by its argv[0], and what follows it
    // comes before `args`.
    let named = crate::exec::entry_words(container.image.as_deref().unwrap_or_default(), command);
    let args = command.iter().skip(named).chain(container.args.iter().flatten());
    let args = args.map(|a| expand(a, value)).collect();
    let (memory_limit, cpu_limit_millis) = hard_limits(container);
    let ports = container.ports.iter().flatten().filter_map(|p| {
        let number = u16::try_from(p.container_port).ok().filter(|n| *n > 0)?;
        Some((p.name.clone().unwrap_or_default(), number, p.protocol.clone().unwrap_or_else(|| "TCP".into())))
    });
    Ok(ContainerSpec {
        digest: digest.into(),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        args,
        ports: ports.collect(),
        mounts,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        memory_limit,
        cpu_limit_millis,
        limits: crate::limits::limits(source.pod, container).map_err(EnvError::Config)?,
        env,
        termination: TerminationMessage {
            path: message::path(container.termination_message_path.as_deref().unwrap_or_default())
                .map_err(EnvError::Config)?,
            own: None,
            fallback_to_logs: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
        },
    })
}

/// Memory in bytes and CPU in millicores that a container may use at most.
pub(crate) fn hard_limits(container: &Container) -> (Option<u64>, Option<u32>) {
    let limit = |what: &str| {
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        limits.and_then(|l| l.get(what)).and_then(|q| q.0.parse::<Quantity>().ok())
    };
    let memory = limit("memory").and_then(|q| u64::try_from(q.value()).ok()).filter(|n| *n > 0);
    let cpu = limit("cpu").and_then(|q| u32::try_from(q.millis()).ok()).filter(|n| *n > 0);
    (memory, cpu)
}

/// Says what a container asks for that no runtime here gives yet.
fn supported(pod: &Pod, container: &Container) -> Result<(), String> {
    pod_wide(pod.spec.as_ref(), container)?;
    let over_sctp = |protocol: &Option<String>| protocol.as_deref() == Some("SCTP");
    if container.ports.iter().flatten().any(|p| p.host_port.is_some_and(|n| n != 0) && over_sctp(&p.protocol)) {
        return Err("hostPort over SCTP is not supported".into());
    }
    if container.security_context.as_ref().and_then(|s| s.privileged) == Some(true) {
        return Err("privileged containers are not supported for wasm pods".into());
    }
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err("volumeDevices are not supported for wasm pods".into());
    }
    Ok(())
}

/// The same of what is said once for all containers.
fn pod_wide(spec: Option<&PodSpec>, container: &Container) -> Result<(), String> {
    let Some(spec) = spec else { return Ok(()) };
    // `kubectl debug node/…` asks for all of these, and the toolbox, which knows none of them, is of use there without.
    let needless = crate::exec::is_toolbox(container.image.as_deref().unwrap_or_default());
    for (name, wanted) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        if wanted == Some(true) && !needless {
            return Err(format!("{name} is not supported for wasm pods"));
        }
    }
    match spec.runtime_class_name.as_deref() {
        None | Some("" | "wasm" | "wasmtime") => Ok(()),
        Some(other) => Err(format!("RuntimeClass \"{other}\" not found; this node has \"wasm\" and \"wasmtime\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::{Lookup, Refs, ServiceRecord};
    use copepod_model::Time;
    use serde_json::json;

    struct Nothing;
    impl Refs for Nothing {
        fn config_map(&self, _: &str, _: &str, _: Time) -> Lookup {
            Lookup::Missing
        }
        fn secret(&self, _: &str, _: &str, _: Time) -> Lookup {
            Lookup::Missing
        }
        fn services(&self, _: &str) -> Vec<ServiceRecord> {
            Vec::new()
        }
    }

    fn spec(container: serde_json::Value, mut pod: serde_json::Value) -> Result<ContainerSpec, EnvError> {
        let mut c = container;
        c["name"] = "c".into();
        pod["containers"] = json!([c]);
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": pod})).unwrap();
        let node = NodeFacts::example();
        let source =
            Source { pod: &pod, ip: "10.0.0.1".parse().unwrap(), node: &node, refs: &Nothing, now: Time::default() };
        container_spec(
            &source,
            &pod.spec.as_ref().unwrap().containers[0],
            "sha256:1",
            &Volumes::default(),
            &mut Found::default(),
        )
    }

    #[test]
    fn command_arguments_limits_and_ports() {
        let s = spec(
            json!({"command": ["x", "-a"], "args": ["$(E)", "$(F)"], "env": [{"name": "E", "value": "1"}],
                "ports": [{"containerPort": 80, "name": "web"}], "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}),
            json!({}),
        )
        .unwrap();
        assert_eq!(s.args, ["-a", "1", "$(F)"]);
        let tool = json!({"image": "copepod.dev/toolbox", "command": ["ls", "/data"]});
        assert_eq!(spec(tool, json!({})).unwrap().args, ["ls", "/data"]);
        let named = json!({"image": "copepod.dev/toolbox", "command": ["toolbox", "ls"]});
        assert_eq!(spec(named, json!({})).unwrap().args, ["ls"]);
        assert_eq!(s.ports, [("web".into(), 80, "TCP".into())]);
        assert_eq!((s.memory_limit, s.cpu_limit_millis), (Some(64 << 20), Some(250)));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (container, pod, named) in [
            (json!({"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "SCTP"}]}), json!({}), "hostPort"),
            (json!({"securityContext": {"privileged": true}}), json!({}), "privileged"),
            (json!({"volumeDevices": [{"name": "d", "devicePath": "/dev/x"}]}), json!({}), "volumeDevices"),
            (json!({}), json!({"hostNetwork": true}), "hostNetwork"),
            (json!({}), json!({"hostPID": true}), "hostPID"),
            (json!({}), json!({"hostIPC": true}), "hostIPC"),
            (json!({}), json!({"runtimeClassName": "runc"}), "RuntimeClass \"runc\""),
        ] {
            match spec(container, pod) {
                Err(EnvError::Config(why)) => assert!(why.contains(named), "{why}"),
                other => panic!("{named}: {other:?}"),
            }
        }
        let host = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true});
        let tools = spec(json!({"image": "copepod.dev/toolbox:latest", "args": ["ls"]}), host);
        assert!(tools.is_ok(), "to debug a node: {tools:?}");
        let harmless = json!({"hostNetwork": false, "runtimeClassName": "wasm", "hostAliases": []});
        let ports = json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "protocol": "SCTP"}], "securityContext": {"runAsUser": 5}});
        assert!(spec(ports, harmless).is_ok());
    }
}
