//! CertificateSigningRequest: somebody's PKCS#10 request, what approvers say of it, and the certificate that a signer has issued.
//! What was asked for never changes; `approval` and `status` are written by different people, and conditions are only added.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::certificate::{Request, pem, signer, usage};
use crate::kinds::fields::{Path, list, required_one_of, spec_mut, text};
use crate::kinds::table::{col, name, or_none};
use crate::kinds::{AGE, Column, Kind, NAME, Strategy, age, duration, names};
use crate::status::FieldErrorKind;
use crate::{FieldError, Time, UserInfo};

/// The group.
pub const GROUP: &str = "certificates.k8s.io";
/// The GroupResource.
pub const RESOURCE: &str = "certificatesigningrequests.certificates.k8s.io";
/// The subresource of approvers.
pub const APPROVAL: &str = "approval";
/// Somebody has said yes.
pub const APPROVED: &str = "Approved";
/// Somebody has said no.
pub const DENIED: &str = "Denied";
/// The signer will not sign it.
pub const FAILED: &str = "Failed";

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["csr"],
        namespaced: false,
        status: true,
        subresources: &[(APPROVAL, "CertificateSigningRequest", &["get", "patch", "update"])],
        ..Kind::new(
            (GROUP, "v1"),
            "CertificateSigningRequest",
            ("certificatesigningrequests", "certificatesigningrequest"),
            CertificateSigningRequest,
        )
    }
}

/// The request that an object carries.
pub fn request(object: &Value) -> Result<Request, String> {
    Request::parse(&bytes(&object["spec"]["request"]))
}

/// The signer that an object is for.
pub fn signer_name(object: &Value) -> &str {
    text(&object["spec"], "signerName")
}

/// The certificate that was issued, PEM; empty when there is none.
pub fn certificate(object: &Value) -> Vec<u8> {
    bytes(&object["status"]["certificate"])
}

/// Whether an object has a condition, which can only be true.
pub fn has(object: &Value, condition: &str) -> bool {
    conditions(object, condition).next().is_some()
}

/// The conditions of a type. There is one, but for what an earlier release may have stored.
pub fn conditions<'a>(object: &'a Value, condition: &'a str) -> impl Iterator<Item = &'a Value> {
    list(&object["status"], "conditions").iter().filter(move |c| text(c, "type") == condition)
}

const SPEC: Path<'static> = Path::root("spec");
const STATUS: Path<'static> = Path::root("status");
const CONDITIONS: Path<'static> = STATUS.child("conditions");
/// What approvers write.
const OF_APPROVAL: [&str; 2] = [APPROVED, DENIED];
/// Conditions that are true or not there, and stay.
const FINAL: [&str; 3] = [APPROVED, DENIED, FAILED];
/// The shortest life that may be asked for, in seconds.
const SHORTEST: i64 = 600;
/// A domain of 253, a `/`, and a path of a label, a dot and a subdomain.
const SIGNER: usize = 253 + 1 + 63 + 1 + 253;

struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn record_requester(&self, object: &mut Value, user: &UserInfo) {
        let Some(spec) = spec_mut(object) else { return };
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        for (field, value) in [("username", &user.name), ("uid", &user.uid)] {
            if !value.is_empty() {
                spec.insert(field.into(), value.as_str().into());
            }
        }
        if !user.groups.is_empty() {
            spec.insert("groups".into(), user.groups.clone().into());
        }
        if !user.extra.is_empty() {
            let extra = user.extra.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            spec.insert("extra".into(), Value::Object(extra));
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        // The approvers' conditions stay as they are; one more or fewer is for validation to see.
        for condition in OF_APPROVAL {
            let before: Vec<Value> = conditions(old, condition).cloned().collect();
            if before.len() == conditions(new, condition).count() {
                let of_it = conditions_mut(new).filter(|c| text(c, "type") == condition);
                of_it.zip(before).for_each(|(new, old)| *new = old);
            }
        }
    }

    fn owns_status(&self, subresource: &str) -> bool {
        subresource == APPROVAL
    }

    fn prepare_subresource(&self, _: &str, new: &mut Value, old: &Value) {
        // Approvers write the conditions and nothing else.
        let mut status = old["status"].as_object().cloned().unwrap_or_default();
        match new.pointer_mut("/status/conditions").map(Value::take) {
            Some(said) => drop(status.insert("conditions".into(), said)),
            None => drop(status.remove("conditions")),
        }
        keep(new, old, "spec");
        new["status"] = status.into();
    }

    fn stamp(&self, new: &mut Value, old: &Value, now: Time) {
        for c in conditions_mut(new) {
            if text(c, "lastUpdateTime").is_empty() {
                c["lastUpdateTime"] = now.rfc3339().into();
            }
            if text(c, "lastTransitionTime").is_empty() {
                let same = |o: &&Value| o["status"] == c["status"] && !text(o, "lastTransitionTime").is_empty();
                let since = conditions(old, text(c, "type")).find(same).map(|o| o["lastTransitionTime"].clone());
                c["lastTransitionTime"] = since.unwrap_or_else(|| now.rfc3339().into());
            }
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        if let Err(why) = request(object) {
            errors.push(invalid_bytes(SPEC.child("request"), &bytes(&spec["request"]), &why));
        }
        validate_usages(SPEC.child("usages"), spec, errors);
        validate_signer(SPEC.child("signerName"), text(spec, "signerName"), errors);
        if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|s| *s < SHORTEST) {
            let why = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(FieldError::invalid(SPEC.child("expirationSeconds"), seconds, why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(new, old, "", errors);
    }

    fn validate_subresource(&self, subresource: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(new, old, subresource, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(new, old, "status", errors);
    }

    /// Upstream does not care what they are called, beyond the rule of all objects.
    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            AGE,
            col("SignerName", "string", "signerName indicates the requested signer, and is a qualified name."),
            col("Requestor", "string", "The user who has created the request."),
            col("RequestedDuration", "string", "How long the issued certificate is to be valid."),
            col("Condition", "string", "Whether the request is approved or denied, and what has come of it."),
        ]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        let seconds = spec["expirationSeconds"].as_u64();
        let requested = seconds.map(|s| duration::human(Duration::from_secs(s))).unwrap_or_default();
        let mut condition = match (has(o, DENIED), has(o, APPROVED)) {
            (true, _) => "Denied",
            (_, true) => "Approved",
            _ => "Pending",
        }
        .to_string();
        if has(o, FAILED) {
            condition.push_str(",Failed");
        }
        if !text(&o["status"], "certificate").is_empty() {
            condition.push_str(",Issued");
        }
        vec![
            name(o),
            age(o, now),
            or_none(text(spec, "signerName")),
            text(spec, "username").into(),
            or_none(&requested),
            condition.into(),
        ]
    }
}

/// The bytes of a base64 field. What is not base64 was refused where it was decoded.
fn bytes(field: &Value) -> Vec<u8> {
    STANDARD.decode(field.as_str().unwrap_or_default()).unwrap_or_default()
}

fn conditions_mut(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten()
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    if let Some(fields) = new.as_object_mut() {
        match old.get(field) {
            Some(value) => drop(fields.insert(field.into(), value.clone())),
            None => drop(fields.remove(field)),
        }
    }
}

/// `Invalid value` of bytes, as Go prints them.
fn invalid_bytes(path: Path<'_>, value: &[u8], why: &str) -> FieldError {
    let value: Vec<String> = value.iter().map(|b| format!("{b:#x}")).collect();
    let detail = format!("[]byte{{{}}}: {why}", value.join(", "));
    FieldError { kind: FieldErrorKind::Invalid, field: path.into(), value: None, detail }
}

fn validate_usages(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let usages: Vec<&str> = list(spec, "usages").iter().map(|u| u.as_str().unwrap_or_default()).collect();
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (i, name) in usages.iter().enumerate().filter(|(_, name)| !usage::names().contains(name)) {
        errors.push(FieldError::not_supported(path.index(i), *name, &usage::names()));
    }
    for (i, name) in usages.iter().enumerate().filter(|(i, name)| usages[..*i].contains(name)) {
        errors.push(FieldError::duplicate(path.index(i), *name));
    }
}

/// A domain of at least two labels, and a path of one or more subdomains.
fn validate_signer(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    if name == signer::LEGACY {
        let why = "the legacy signerName is not allowed via this API version";
        return errors.push(FieldError::invalid(path, name, why));
    }
    if name.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, name, why));
    };
    if domain.len() > 253 {
        errors.push(FieldError::too_long(path, 253));
    }
    let mut judge = |segment: &str, rule: fn(&str) -> Result<(), String>| {
        let wrong = segment.split('.').find_map(|label| rule(label).err().map(|why| (label, why)));
        if let Some((label, why)) = wrong {
            errors.push(FieldError::invalid(path, segment, format!("validating label {label:?}: {why}")));
        }
    };
    judge(domain, names::label);
    judge(rest, names::subdomain);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    if name.len() > SIGNER {
        errors.push(FieldError::too_long(path, SIGNER));
    }
}

/// What a change of `part` (a subresource, or empty) may do to the status. What is wrong with the stored object already may stay so.
fn validate_change(new: &Value, old: &Value, part: &str, errors: &mut Vec<FieldError>) {
    validate_conditions(new, old, errors);
    let (issued, before) = (certificate(new), certificate(old));
    if issued != before
        && validate_certificate(&before).is_ok()
        && let Err(why) = validate_certificate(&issued)
    {
        errors.push(FieldError::invalid(STATUS.child("certificate"), "<certificate data>", why));
    }
    let count = |object: &Value, condition: &str| conditions(object, condition).count();
    for condition in FINAL {
        if count(new, condition) < count(old, condition) {
            let why = format!("updates may not remove a condition of type {condition:?}");
            errors.push(FieldError::forbidden(CONDITIONS, why));
        }
    }
    for condition in OF_APPROVAL {
        if part != APPROVAL && count(new, condition) > count(old, condition) {
            let why = format!("updates may not add a condition of type {condition:?}");
            errors.push(FieldError::forbidden(CONDITIONS, why));
        }
    }
    if issued != before && part != "status" {
        errors.push(FieldError::forbidden(STATUS.child("certificate"), "updates may not set certificate content"));
    } else if issued != before && !before.is_empty() {
        let why = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden(STATUS.child("certificate"), why));
    }
}

fn validate_conditions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    fn types(object: &Value) -> Vec<&str> {
        list(&object["status"], "conditions").iter().map(|c| text(c, "type")).collect()
    }
    let (all, before) = (types(new), types(old));
    let twice = |types: &[&str]| types.iter().enumerate().any(|(i, t)| types[..i].contains(t));
    let both = OF_APPROVAL.iter().all(|t| before.contains(t));
    for (i, (kind, condition)) in all.iter().zip(list(&new["status"], "conditions")).enumerate() {
        let path = CONDITIONS.index(i);
        if kind.is_empty() && !before.contains(&"") {
            errors.push(FieldError::required(path.child("type"), ""));
        }
        let statuses: &[&str] = if FINAL.contains(kind) { &["True"] } else { &["False", "True", "Unknown"] };
        required_one_of(path.child("status"), text(condition, "status"), statuses, errors);
        let opposite = OF_APPROVAL.iter().position(|t| t == kind).map(|at| OF_APPROVAL[1 - at]);
        if !both && opposite.is_some_and(|o| all[..i].contains(&o)) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(CONDITIONS, *kind, why));
        }
        if !twice(&before) && all[..i].contains(kind) {
            errors.push(FieldError::duplicate(path.child("type"), *kind));
        }
    }
}

/// One or more certificates in PEM and nothing else in blocks; or nothing at all.
fn validate_certificate(text: &[u8]) -> Result<(), String> {
    let blocks = pem::blocks(text);
    if blocks.is_empty() && !text.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    for block in blocks {
        if block.label != pem::CERTIFICATE {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.headers {
            return Err("no PEM block headers are permitted".into());
        }
        if block.contents.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        let mut rest = &*block.contents;
        while !rest.is_empty() {
            (rest, _) = X509Certificate::from_der(rest).map_err(|_| "x509: malformed certificate")?;
        }
    }
    Ok(())
}
