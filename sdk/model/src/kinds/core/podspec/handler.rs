//! Rules of probes and life cycle hooks.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, any, check, list, nonnegative, one_of, port_number, required, text};
use crate::kinds::names;

/// Rules of one of a container's probes.
pub(super) fn probe(path: Path<'_>, name: &str, probe: &Value, errors: &mut Vec<FieldError>) {
    if !probe.is_object() {
        return;
    }
    action(path, probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        nonnegative(path.child(field), &probe[field], errors);
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|g| g <= 0) {
        errors.push(FieldError::invalid(
            path.child("terminationGracePeriodSeconds"),
            grace.clone(),
            "must be greater than 0",
        ));
    }
    if name == "readinessProbe" {
        if !grace.is_null() {
            let why = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(path.child("terminationGracePeriodSeconds"), grace.clone(), why));
        }
    } else if probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.push(FieldError::invalid(
            path.child("successThreshold"),
            probe["successThreshold"].clone(),
            "must be 1",
        ));
    }
}

/// Rules of `lifecycle`, in a pod with this `terminationGracePeriodSeconds`.
pub(super) fn lifecycle(path: Path<'_>, lifecycle: &Value, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    for hook in ["postStart", "preStop"] {
        if lifecycle[hook].is_object() {
            let path = path.child(hook);
            action(path, &lifecycle[hook], &["exec", "httpGet", "tcpSocket", "sleep"], errors);
            let sleep = &lifecycle[hook]["sleep"];
            let seconds = sleep["seconds"].as_i64().unwrap_or(0);
            if let Some(grace) = grace.filter(|grace| sleep.is_object() && !(0..=*grace).contains(&seconds)) {
                let path = path.child("sleep");
                let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.push(FieldError::invalid(path, seconds, why));
            }
        }
    }
}

fn action(path: Path<'_>, handler: &Value, kinds: &[&str], errors: &mut Vec<FieldError>) {
    let mut count = 0;
    for kind in kinds {
        let how = &handler[*kind];
        if !how.is_object() {
            continue;
        }
        count += 1;
        let path = path.child(kind);
        if count > 1 {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if list(how, "command").is_empty() => errors.push(FieldError::required(path.child("command"), "")),
            "httpGet" => {
                required(path.child("path"), text(how, "path"), any, errors);
                port(path.child("port"), &how["port"], errors);
                one_of(path.child("scheme"), text(how, "scheme"), &["HTTP", "HTTPS"], errors);
                for h in list(how, "httpHeaders") {
                    check(path.child("httpHeaders"), text(h, "name"), names::header_name, errors);
                }
            }
            "tcpSocket" => port(path.child("port"), &how["port"], errors),
            "grpc" => port_number(path.child("port"), &how["port"], errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

/// Rules of a port that may be a number or the name of a container port.
pub(crate) fn port(path: Path<'_>, port: &Value, errors: &mut Vec<FieldError>) {
    match port {
        Value::String(name) => check(path, name, names::port_name, errors),
        number => port_number(path, number, errors),
    }
}
