//! What a cluster has from its first start besides namespaces and roles: the system's priority classes, the classes of the
//! runtime that nodes bring, the mandatory and the suggested objects of API priority and fairness, the range of the Services'
//! addresses, and what the API server says of itself.

use copepod_machine::View;
use copepod_model::Key;
use copepod_model::kinds::apiregistration::api_service;
use copepod_model::kinds::flowcontrol::{flow_schema, priority_level_configuration};
use copepod_model::kinds::networking::service_cidr;
use copepod_model::kinds::scheduling::priority_class;
use serde_json::{Value, json};

use crate::Cidr;

/// Under which names nodes run WebAssembly.
const RUNTIMES: [&str; 2] = ["wasm", "wasmtime"];

/// A class by its name: the stored one, or one of these that is still to be stored, as while the leader is of an earlier release.
pub(crate) fn class(view: &dyn View, resource: &str, name: &str) -> Option<Value> {
    let own = || all().into_iter().find(|(key, _)| *key.resource == *resource && *key.name == *name);
    view.get(resource, "", name).map(|class| class.value()).or_else(|| own().map(|(_, class)| class))
}

/// These objects, in no need of each other.
pub(crate) fn all() -> Vec<(Key, Value)> {
    let runtimes = RUNTIMES.iter().map(|name| {
        let object = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name,
        });
        (*name, object)
    });
    let of = |resource: &'static str| move |(name, object): (&str, Value)| (Key::new(resource, "", name), object);
    let mut out: Vec<(Key, Value)> = Vec::new();
    out.extend(priority_class::system().into_iter().map(of("priorityclasses.scheduling.k8s.io")));
    out.extend(runtimes.map(of("runtimeclasses.node.k8s.io")));
    let levels = priority_level_configuration::system().into_iter();
    out.extend(levels.map(of("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io")));
    out.extend(flow_schema::system().into_iter().map(of("flowschemas.flowcontrol.apiserver.k8s.io")));
    let ranges = service_cidr::system(&Cidr::DEFAULT.map(|range| range.to_string()));
    out.push(of(service_cidr::RESOURCE)(ranges));
    let services = api_service::system().into_iter();
    out.extend(services.map(|(name, object)| (Key::new(api_service::RESOURCE, "", name), object)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver 1.35 makes them.
    #[test]
    fn flows_have_their_levels() {
        let all = all();
        let of =
            |resource: &str| -> Vec<&(Key, Value)> { all.iter().filter(|(k, _)| *k.resource == *resource).collect() };
        let levels = of("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io");
        let mut names: Vec<&str> = levels.iter().map(|(key, _)| &*key.name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "catch-all",
                "exempt",
                "global-default",
                "leader-election",
                "node-high",
                "system",
                "workload-high",
                "workload-low"
            ]
        );
        let schemas = of("flowschemas.flowcontrol.apiserver.k8s.io");
        for name in ["catch-all", "exempt", "probes", "system-leader-election", "system-nodes", "service-accounts"] {
            assert!(schemas.iter().any(|(key, _)| *key.name == *name), "{name}");
        }
        for (key, schema) in schemas {
            let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap();
            assert!(names.contains(&level), "{key}: {level}");
        }
    }
}
