//! PriorityLevelConfiguration.

use serde_json::{Value, json};

use super::{conditions, fixed, mandatory, suggested};
use crate::kinds::fields::{Path, child_mut, fill, fill_absent, spec_mut, text, within};
use crate::kinds::table::{col, columns, name, number};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        status: true,
        generation: true,
        ..Kind::new(
            super::V1,
            "PriorityLevelConfiguration",
            ("prioritylevelconfigurations", "prioritylevelconfiguration"),
            PriorityLevelConfiguration,
        )
    }
}

struct PriorityLevelConfiguration;

const SPEC: Path<'static> = Path::root("spec");
const MAX_QUEUES: i64 = 10_000_000;
/// How many bits of a flow's hash choose its queues.
const HASH_BITS: f64 = 60.0;
const SHARES: &str = "nominalConcurrencyShares";
const LENDABLE: &str = "lendablePercent";
const BORROWING: &str = "borrowingLimitPercent";

/// The specs of those that every cluster has. Nobody may change them, but for what is said of `exempt` itself.
fn specs() -> [(&'static str, Value); 2] {
    [
        ("exempt", json!({"type": "Exempt", "exempt": {SHARES: 0, LENDABLE: 0}})),
        (
            "catch-all",
            json!({"type": "Limited", "limited": {SHARES: 5, LENDABLE: 0, "limitResponse": {"type": "Reject"}}}),
        ),
    ]
}

/// Those that every cluster has, by name.
pub fn system() -> Vec<(&'static str, Value)> {
    let all = specs().into_iter().chain(suggested::levels());
    all.map(|(name, spec)| (name, mandatory("PriorityLevelConfiguration", name, &spec))).collect()
}

impl Strategy for PriorityLevelConfiguration {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(super::UNENFORCED)
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        if let Some(exempt) = child_mut(spec, "exempt") {
            fill_absent(exempt, SHARES, || 0.into());
            fill_absent(exempt, LENDABLE, || 0.into());
        }
        if let Some(limited) = child_mut(spec, "limited") {
            fill_absent(limited, SHARES, || 30.into());
            fill_absent(limited, LENDABLE, || 0.into());
            if let Some(queuing) = child_mut(limited, "limitResponse").and_then(|r| child_mut(r, "queuing")) {
                fill(queuing, "handSize", 8);
                fill(queuing, "queues", 64);
                fill(queuing, "queueLengthLimit", 50);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let kind = text(spec, "type");
        if (object["metadata"]["name"] == "exempt") != (kind == "Exempt") {
            let why = "type must be 'Exempt' if and only if name is 'exempt'";
            errors.push(FieldError::invalid(SPEC.child("type"), kind, why));
        }
        let (limited, exempt) = (&spec["limited"], &spec["exempt"]);
        match kind {
            "Exempt" => {
                if limited.is_object() {
                    let why = "must be nil if the type is not Limited";
                    errors.push(FieldError::forbidden(SPEC.child("limited"), why));
                }
                shares(SPEC.child("exempt"), exempt, errors);
            }
            "Limited" => {
                if exempt.is_object() {
                    let why = "must be nil if the type is Limited";
                    errors.push(FieldError::forbidden(SPEC.child("exempt"), why));
                }
                match limited.is_object() {
                    true => validate_limited(SPEC.child("limited"), limited, errors),
                    false => {
                        let why = "must not be empty when type is Limited";
                        errors.push(FieldError::required(SPEC.child("limited"), why));
                    }
                }
            }
            other => errors.push(FieldError::not_supported(SPEC.child("type"), other, &["Exempt", "Limited"])),
        }
        match object["metadata"]["name"] == "exempt" {
            true => fixed_but_for_exempt(object, errors),
            false => fixed(&specs(), object, errors),
        }
        conditions(object, errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        conditions(new, errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "Type",
                    "string",
                    "`type` indicates whether this priority level is subject to limitation on request execution.",
                ),
                col(
                    "NominalConcurrencyShares",
                    "string",
                    "`nominalConcurrencyShares` contributes to the NominalConcurrencyLimit of this level.",
                ),
                col("Queues", "string", "`queues` is the number of queues for this priority level."),
                col(
                    "HandSize",
                    "string",
                    "`handSize` is a small positive number that configures the shuffle sharding of requests into queues.",
                ),
                col(
                    "QueueLengthLimit",
                    "string",
                    "`queueLengthLimit` is how many requests may wait in a queue of this level.",
                ),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        let (limited, queuing) = (&spec["limited"], &spec["limited"]["limitResponse"]["queuing"]);
        let shown = |v: &Value, field: &str| if v.is_object() { number(&v[field]) } else { "<none>".into() };
        let level = if limited.is_object() { limited } else { &spec["exempt"] };
        vec![
            name(o),
            text(spec, "type").into(),
            shown(level, SHARES),
            shown(queuing, "queues"),
            shown(queuing, "handSize"),
            shown(queuing, "queueLengthLimit"),
            age(o, now),
        ]
    }
}

/// Rules of the level `exempt`: what it has and lends may be changed.
fn fixed_but_for_exempt(object: &Value, errors: &mut Vec<FieldError>) {
    let mut rest = object["spec"].clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("exempt");
    }
    if rest != json!({"type": "Exempt"}) {
        let why = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value";
        errors.push(FieldError::invalid(SPEC, object["spec"].clone(), why));
    }
}

fn shares(path: Path<'_>, level: &Value, errors: &mut Vec<FieldError>) {
    if let Some(n) = level[SHARES].as_i64().filter(|n| *n < 0) {
        errors.push(FieldError::invalid(path.child(SHARES), n, "must be a non-negative integer"));
    }
    within(path.child(LENDABLE), &level[LENDABLE], 0, 100, errors);
}

fn validate_limited(path: Path<'_>, limited: &Value, errors: &mut Vec<FieldError>) {
    shares(path, limited, errors);
    if let Some(n) = limited[BORROWING].as_i64().filter(|n| *n < 0) {
        errors.push(FieldError::invalid(path.child(BORROWING), n, "if specified, must be a non-negative integer"));
    }
    let (path, response) = (path.child("limitResponse"), &limited["limitResponse"]);
    let queuing = &response["queuing"];
    match text(response, "type") {
        "Reject" if queuing.is_object() => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(path.child("queuing"), why));
        }
        "Reject" => {}
        "Queue" if queuing.is_object() => queues(path.child("queuing"), queuing, errors),
        "Queue" => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(path.child("queuing"), why));
        }
        other => errors.push(FieldError::not_supported(path.child("type"), other, &["Queue", "Reject"])),
    }
}

fn queues(path: Path<'_>, queuing: &Value, errors: &mut Vec<FieldError>) {
    let int = |field: &str| queuing[field].as_i64().unwrap_or(0);
    let (limit, queues, hand) = (int("queueLengthLimit"), int("queues"), int("handSize"));
    if limit <= 0 {
        errors.push(FieldError::invalid(path.child("queueLengthLimit"), limit, "must be positive"));
    }
    if queues <= 0 {
        errors.push(FieldError::invalid(path.child("queues"), queues, "must be positive"));
    } else if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        errors.push(FieldError::invalid(path.child("queues"), queues, why));
    }
    let why = if hand <= 0 {
        "must be positive".to_string()
    } else if hand > queues {
        format!("should not be greater than queues ({queues})")
    } else if ((queues as f64).log2() * hand as f64).ceil() > HASH_BITS {
        format!("required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}")
    } else {
        return;
    };
    errors.push(FieldError::invalid(path.child("handSize"), hand, why));
}
