//! IPAddress: who has an address of the cluster's Services.

use serde_json::{Value, json};

use crate::FieldError;
use crate::Time;
use crate::kinds::fields::{Path, any, check, immutable, required, text};
use crate::kinds::table::{col, name, or_none};
use crate::kinds::{Column, Kind, NAME, Strategy, names};

/// Its GroupResource.
pub const RESOURCE: &str = "ipaddresses.networking.k8s.io";

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["ip"],
        namespaced: false,
        ..Kind::new(super::V1, "IPAddress", ("ipaddresses", "ipaddress"), IpAddress)
    }
}

/// The object of a Service's address, as upstream's allocator makes it, without what every create adds.
pub fn of_service(ip: &str, namespace: &str, service: &str) -> Value {
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": ip, "labels": {
            "ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    })
}

struct IpAddress;

const PARENT: Path<'static> = Path::root("spec.parentRef");

impl Strategy for IpAddress {
    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::ip(name)?;
        let Ok(ip) = name.parse::<std::net::IpAddr>() else { return Ok(()) };
        if matches!(ip, std::net::IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return Err("must not be an IPv4-mapped IPv6 address".into());
        }
        let written = ip.to_string();
        if written == name { Ok(()) } else { Err(format!("must be in canonical form ({written:?})")) }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let parent = &object["spec"]["parentRef"];
        if !parent.is_object() {
            errors.push(FieldError::required(PARENT, ""));
            return;
        }
        let group = text(parent, "group");
        check(PARENT.child("group"), group, |g| if g.is_empty() { Ok(()) } else { names::subdomain(g) }, errors);
        for field in ["resource", "name"] {
            required(PARENT.child(field), text(parent, field), names::path_segment, errors);
        }
        let namespace = text(parent, "namespace");
        let rule = if namespace.is_empty() { any } else { names::path_segment };
        check(PARENT.child("namespace"), namespace, rule, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(PARENT, &new["spec"]["parentRef"], &old["spec"]["parentRef"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let description = "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.";
        vec![NAME, col("ParentRef", "string", description)]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        let parent = &o["spec"]["parentRef"];
        let resource = match text(parent, "group") {
            "" => text(parent, "resource").to_string(),
            group => format!("{}.{group}", text(parent, "resource")),
        };
        let parts = [resource.as_str(), text(parent, "namespace"), text(parent, "name")];
        let shown: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        vec![name(o), or_none(&shown.join("/"))]
    }
}
