//! Which IP families a Service has, and an address of each (KEP-563; upstream's `pkg/registry/core/service/storage/alloc.go`).
//! A Service has one family, the first of the cluster's, unless it asks for others. The second address comes and goes with
//! `ipFamilyPolicy`; the first stays.

use std::net::IpAddr;

use copepod_model::kinds::core::service::validate_addresses;
use copepod_model::kinds::networking::ip_address;
use copepod_model::networks::family;
use copepod_model::{FieldError, Status};
use serde_json::{Value, json};

use super::{ADDRESSES, has_address, is_headless};
use crate::admission::Review;
use crate::value::{self, text, texts};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Gives `service` its families and addresses, or says what is wrong with those that it asks for.
pub(super) fn assign(review: &mut Review<'_>, service: &mut Value) -> Result<(), Status> {
    if !has_address(&service["spec"]) {
        return Ok(());
    }
    let old = review.old.map(|o| &o["spec"]).filter(|o| has_address(o));
    // Such a Service gets no second address, and loses none, because the cluster has another number of families now.
    let as_before = |old: &Value| {
        let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
        old["ipFamilyPolicy"] == PREFER && fields.iter().all(|f| service["spec"][f] == old[f])
    };
    if !old.is_some_and(as_before) {
        families(review, service, old)?;
    }
    allocate(review, service, old)
}

fn invalid(review: &Review<'_>, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Service", &review.key.name, errors)) }
}

fn owned_texts(spec: &Value, name: &str) -> Vec<String> {
    texts(spec, name).map(String::from).collect()
}

/// Defaults of `ipFamilyPolicy` and `ipFamilies`, and the errors of those that are given.
fn families(review: &Review<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let spec = &service["spec"];
    let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty());
    // Nothing is allocated and nothing is selected: such a Service may claim both families on any cluster.
    let bare = is_headless(spec) && !selects;
    let before = old.map(|old| text(old, "ipFamilyPolicy")).filter(|policy| !policy.is_empty());
    let policy = match text(spec, "ipFamilyPolicy") {
        "" => before.unwrap_or(if bare { REQUIRE } else { SINGLE }),
        given => given,
    }
    .to_string();
    let mut errors = Vec::new();
    validate_addresses(spec, &mut errors);
    invalid(review, &errors)?;

    let mut wanted = owned_texts(spec, "ipFamilies");
    let mut ips = owned_texts(spec, "clusterIPs");
    let refuse = |why: &str| FieldError::invalid("spec.ipFamilyPolicy", policy.as_str(), why);
    if let Some(old) = old {
        let (had_ips, had_families) = (owned_texts(old, "clusterIPs"), owned_texts(old, "ipFamilies"));
        if policy == SINGLE {
            // Whoever sends along what there was means the policy.
            if ips == had_ips {
                ips.truncate(1);
            }
            if wanted == had_families {
                wanted.truncate(1);
            }
        } else {
            let reduced = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
            if reduced(&ips, &had_ips) {
                errors.push(refuse("must be 'SingleStack' to release the secondary cluster IP"));
            }
            if reduced(&wanted, &had_families) {
                errors.push(refuse("must be 'SingleStack' to release the secondary IP family"));
            }
        }
    }
    if policy == SINGLE {
        let why = |what| format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        if ips.len() == 2 {
            errors.push(refuse(&why("cluster IPs")));
        }
        if wanted.len() == 2 {
            errors.push(refuse(&why("IP families")));
        }
    }
    let served: Vec<&str> = review.config.service_cidrs.iter().map(|range| range.family()).collect();
    // What is not said of families, the addresses say.
    for (i, ip) in ips.iter().enumerate().skip(wanted.len()) {
        match ip.parse::<IpAddr>().map(family) {
            Ok(of_ip) if served.contains(&of_ip) => wanted.push(of_ip.into()),
            Ok(of_ip) => {
                let why = format!("{of_ip} is not configured on this cluster");
                errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), json!(ips), why));
            }
            Err(_) => break,
        }
    }
    invalid(review, &errors)?;

    if !bare {
        if policy == REQUIRE && served.len() < 2 {
            errors.push(refuse("this cluster is not configured for dual-stack services"));
        }
        for (i, of) in wanted.iter().enumerate().filter(|(_, of)| !served.contains(&of.as_str())) {
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(format!("spec.ipFamilies[{i}]"), of.as_str(), why));
        }
        invalid(review, &errors)?;
    }
    if wanted.is_empty() {
        wanted.extend(served.first().map(ToString::to_string));
    }
    if policy != SINGLE && wanted.len() == 1 && (bare || served.len() == 2) {
        wanted.push(if wanted[0] == "IPv4" { "IPv6" } else { "IPv4" }.into());
    }
    let spec = value::child(service, "spec");
    spec.insert("ipFamilies".into(), wanted.into());
    spec.insert("ipFamilyPolicy".into(), policy.into());
    if !ips.is_empty() {
        spec.insert("clusterIPs".into(), ips.into());
    }
    Ok(())
}

/// An address of each family: those that it has, those that it asks for, or any.
fn allocate(review: &mut Review<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let spec = &service["spec"];
    let given = owned_texts(spec, "clusterIPs");
    let had = old.map(|old| owned_texts(old, "clusterIPs")).unwrap_or_default();
    if let Some(first) = had.first()
        && given.first() != Some(first)
    {
        let why = "may not change once set";
        return invalid(review, &[FieldError::invalid("spec.clusterIPs[0]", json!(given), why)]);
    }
    if is_headless(spec) {
        return Ok(());
    }
    let mut addresses = Vec::new();
    for (i, of) in owned_texts(spec, "ipFamilies").iter().enumerate() {
        let address = match given.get(i) {
            Some(ip) if had.contains(ip) => ip.clone(),
            wanted => address(review, of, wanted.map(String::as_str), &given)?,
        };
        addresses.push(address);
    }
    let spec = value::child(service, "spec");
    spec.insert("clusterIP".into(), addresses.first().cloned().into());
    spec.insert("clusterIPs".into(), addresses.into());
    Ok(())
}

/// A free address of a family, the `wanted` one if one is. `given` are all that the client has sent.
fn address(review: &mut Review<'_>, of: &str, wanted: Option<&str>, given: &[String]) -> Result<String, Status> {
    let Some(range) = review.config.service_cidrs.iter().find(|range| range.family() == of).copied() else {
        return Err(Status::internal(format!("failed to allocate a serviceIP: the cluster has no {of} addresses")));
    };
    let view = review.view;
    let taken = |ip: IpAddr| {
        let name = ip.to_string();
        [ADDRESSES, ip_address::RESOURCE].iter().any(|resource| view.get(resource, "", &name).is_some())
    };
    let Some(wanted) = wanted else {
        let picked = range.pick(review.ids, taken).map(|ip| ip.to_string());
        return picked.ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"));
    };
    let why = match wanted.parse::<IpAddr>() {
        Err(_) => "it is not a valid IP address".to_string(),
        Ok(ip) if !range.usable(ip) => {
            format!("the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {range}")
        }
        Ok(ip) if taken(ip) => "provided IP is already allocated".into(),
        Ok(ip) => return Ok(ip.to_string()),
    };
    let error = FieldError::invalid("spec.clusterIPs", json!(given), format!("failed to allocate IP {wanted}: {why}"));
    Err(Status::invalid("", "Service", &review.key.name, &[error]))
}
