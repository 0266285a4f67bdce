//! ServiceCIDR.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::kinds::fields::{Path, check, immutable, list};
use crate::kinds::table::{col, columns, name, or_none};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// Its GroupResource.
pub const RESOURCE: &str = "servicecidrs.networking.k8s.io";
/// The one that every cluster has, and what keeps it while addresses of it are in use.
pub const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        status: true,
        ..Kind::new(super::V1, "ServiceCIDR", ("servicecidrs", "servicecidr"), ServiceCidr)
    }
}

/// The one that every cluster has, ready. When it became so is left out: it is filled in where the object is written.
pub fn system(ranges: &[String]) -> (&'static str, Value) {
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
    });
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT, "finalizers": [FINALIZER]},
        "spec": {"cidrs": ranges}, "status": {"conditions": [ready]},
    });
    (DEFAULT, object)
}

struct ServiceCidr;

const CIDRS: Path<'static> = Path::root("spec.cidrs");

impl Strategy for ServiceCidr {
    fn unenforced(&self, object: &Value) -> Option<&'static str> {
        let other = object["metadata"]["name"] != DEFAULT;
        other.then_some("Services get their addresses from the ServiceCIDR \"kubernetes\" alone")
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let ranges: Vec<&str> = list(spec, "cidrs").iter().filter_map(Value::as_str).collect();
        match *ranges {
            [] => errors.push(FieldError::required(CIDRS, "at least one CIDR required")),
            [_] => {}
            [a, b] => {
                let families = [a, b].map(|r| names::cidr(r).ok().map(|(ip, _)| ip.is_ipv4()));
                if !matches!(families, [Some(a), Some(b)] if a != b) {
                    let why =
                        "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                    errors.push(FieldError::invalid(CIDRS, spec.clone(), why));
                    return;
                }
            }
            _ => {
                errors.push(FieldError::invalid(CIDRS, spec.clone(), "may only hold up to 2 values"));
                return;
            }
        }
        for (i, range) in ranges.iter().enumerate() {
            check(CIDRS.index(i), range, canonical, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(CIDRS, &new["spec"]["cidrs"], &old["spec"]["cidrs"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let description = "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from \
             which to assign service cluster IPs.";
        columns(&[col("CIDRs", "string", description)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let ranges: Vec<&str> = list(&o["spec"], "cidrs").iter().filter_map(Value::as_str).collect();
        vec![name(o), or_none(&ranges.join(",")), age(o, now)]
    }
}

/// A network in the one form that upstream's `IsValidCIDR` lets through.
fn canonical(text: &str) -> Result<(), String> {
    let (ip, bits) = names::cidr(text)?;
    if matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err("must not have an IPv4-mapped IPv6 address".into());
    }
    let network: IpAddr = match ip {
        IpAddr::V4(ip) => (ip & std::net::Ipv4Addr::from(!u32::MAX.checked_shr(bits.into()).unwrap_or(0))).into(),
        IpAddr::V6(ip) => (ip & std::net::Ipv6Addr::from(!u128::MAX.checked_shr(bits.into()).unwrap_or(0))).into(),
    };
    if ip != network {
        return Err("must not have bits set beyond the prefix length".into());
    }
    let written = format!("{ip}/{bits}");
    if written == text { Ok(()) } else { Err(format!("must be in canonical form ({written:?})")) }
}
