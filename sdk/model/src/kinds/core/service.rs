//! Service.

mod rules;
mod update;

pub use rules::validate_addresses;
use serde_json::{Value, json};

use crate::kinds::fields::{child_mut, fill, fill_absent, items_mut, list, spec_mut, text};
use crate::kinds::table::{self, col, columns, labels, name, or_none, wide};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["svc"],
        categories: &["all"],
        status: true,
        subresources: &[("proxy", "ServiceProxyOptions", super::PROXY)],
        ..Kind::new(super::V1, "Service", ("services", "service"), Service)
    }
}

struct Service;

/// Whether a spec stands for a name outside the cluster.
fn is_external(spec: &Value) -> bool {
    spec["type"] == "ExternalName"
}

/// Whether nothing stands before the endpoints of a spec.
fn is_headless(spec: &Value) -> bool {
    matches!(list(spec, "clusterIPs"), [one] if one == "None")
}

/// Whether clients outside the cluster have an address for it.
fn is_reached_from_outside(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether nodes are to tell a load balancer if they have endpoints.
pub fn wants_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill(spec, "sessionAffinity", "None");
        if spec["sessionAffinity"] == "None" {
            spec.remove("sessionAffinityConfig");
        } else if spec["sessionAffinity"] == "ClientIP" {
            let timeout = &spec.get("sessionAffinityConfig").unwrap_or(&Value::Null)["clientIP"]["timeoutSeconds"];
            if timeout.is_null() {
                spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": 10_800}}));
            }
        }
        fill(spec, "type", "ClusterIP");
        for p in items_mut(spec, "ports") {
            fill(p, "protocol", "TCP");
            if let Some(port) = p.get("port").cloned() {
                fill(p, "targetPort", port);
            }
        }
        let kind = spec["type"].as_str().unwrap_or_default().to_string();
        let shown = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && shown) {
            fill(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            fill_absent(spec, "internalTrafficPolicy", || "Cluster".into());
        }
        if kind == "LoadBalancer" {
            fill_absent(spec, "allocateLoadBalancerNodePorts", || true.into());
            let status = object.get_mut("status").and_then(Value::as_object_mut);
            let balancer = status.and_then(|status| child_mut(status, "loadBalancer"));
            for point in balancer.into_iter().flat_map(|balancer| items_mut(balancer, "ingress")) {
                if point.get("ip").is_some_and(|ip| ip != "") {
                    fill_absent(point, "ipMode", || "VIP".into());
                }
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        rules::validate(object, errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        rules::validate_status(new, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        update::validate(&new["spec"], &old["spec"], errors);
    }

    fn prepare_create(&self, object: &mut Value) {
        if object.is_object() {
            object["status"] = json!({"loadBalancer": {}});
        }
        if let Some(spec) = spec_mut(object) {
            update::pair_addresses(spec, &Value::Null);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if let Some(spec) = spec_mut(new) {
            update::carry_over(spec, &old["spec"]);
            update::pair_addresses(spec, &old["spec"]);
            update::drop_unused(spec, &old["spec"]);
        }
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::label_1035(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Type", "string", "Type determines how the Service is exposed."),
                col("Cluster-IP", "string", "The IP address of the service."),
                col("External-IP", "string", "Addresses outside the cluster at which the service answers."),
                col("Port(s)", "string", "The list of ports that are exposed by this service."),
            ],
            &[wide("Selector", "string", "Traffic goes to pods with these labels.")],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        vec![
            name(o),
            text(spec, "type").into(),
            or_none(text(spec, "clusterIP")),
            external(o).into(),
            or_none(&ports(spec)),
            age(o, now),
            labels(&spec["selector"]),
        ]
    }
}

fn external(o: &Value) -> String {
    let spec = &o["spec"];
    let given = list(spec, "externalIPs").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    match text(spec, "type") {
        "ClusterIP" | "NodePort" if given.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => given,
        "LoadBalancer" => match (table::load_balancer(o), given) {
            (balancer, given) if balancer.is_empty() && given.is_empty() => "<pending>".into(),
            (balancer, given) if balancer.is_empty() || given.is_empty() => balancer + &given,
            (balancer, given) => format!("{balancer},{given}"),
        },
        "ExternalName" => text(spec, "externalName").into(),
        _ => "<unknown>".into(),
    }
}

fn ports(spec: &Value) -> String {
    let one = |p: &Value| {
        let (port, protocol) = (p["port"].as_i64().unwrap_or(0), text(p, "protocol"));
        match p["nodePort"].as_i64().unwrap_or(0) {
            0 => format!("{port}/{protocol}"),
            node => format!("{port}:{node}/{protocol}"),
        }
    };
    list(spec, "ports").iter().map(one).collect::<Vec<_>>().join(",")
}
