//! Deletes requests for certificates that nobody needs any more (upstream's `csrcleaner`): an hour after they were issued, denied or
//! failed, when the certificate has ended, and when nobody has said anything for a day.

use std::time::Duration;

use copepod_machine::{Action, Plan, View};
use copepod_model::certificate::not_after;
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use copepod_model::{Key, Object, Time};
use serde_json::Value;

use crate::support::{keys_of, text};
use crate::{Config, Controller};

/// How long the requester has to fetch what came of it.
const SETTLED: Duration = Duration::from_secs(3600);
/// How long approvers have.
const PENDING: Duration = Duration::from_secs(24 * 3600);

struct CsrCleaner;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    CsrCleaner
}

/// When a request may go, and why. What is approved and not issued stays: its signer may be slow.
fn ends(object: &Object, value: &Value) -> Option<(Time, &'static str)> {
    let settled = |condition: &'static str| {
        let at = csr::conditions(value, condition).filter_map(|c| Time::parse(text(&c["lastUpdateTime"]))).min();
        at.map(|at| at + SETTLED)
    };
    let certificate = csr::certificate(value);
    let mut all = vec![
        settled(csr::DENIED).map(|at| (at, "denied an hour ago")),
        settled(csr::FAILED).map(|at| (at, "failed an hour ago")),
    ];
    if csr::has(value, csr::APPROVED) && !certificate.is_empty() {
        all.push(settled(csr::APPROVED).map(|at| (at, "approved and issued an hour ago")));
        all.push(not_after(&certificate).map(|at| (at, "its certificate has ended")));
    }
    if value["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
        all.push(object.meta.created().map(|at| (at + PENDING, "nobody has approved or denied it for a day")));
    }
    all.into_iter().flatten().min()
}

impl Controller for CsrCleaner {
    fn name(&self) -> &'static str {
        "csr-cleaner"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[csr::RESOURCE]
    }

    fn keys(&self, _: &dyn View, _: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        new.map(|o| o.key.clone()).into_iter().collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, csr::RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(csr::RESOURCE, "", &key.name) else { return plan };
        match ends(&object, &object.value()) {
            Some((at, why)) if now < at => plan.push(Action::After(at.since(now)), format!("then: {why}")),
            Some((_, why)) => {
                let delete = Action::Delete {
                    resource: csr::RESOURCE.into(),
                    namespace: String::new(),
                    name: key.name.to_string(),
                    uid: object.meta.uid.to_string(),
                    propagation: None,
                    grace_seconds: None,
                };
                plan.push(delete, why);
            }
            None => {}
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::certificates::samples::{CA, put};
    use crate::support::sim::{TestView, config};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    #[test]
    fn requests_go_when_they_have_served() {
        const BORN: Time = Time::from_secs(1_000_000);
        const GONE: &str = "delete certificatesigningrequests.certificates.k8s.io/a";
        let certificate = STANDARD.encode(CA);
        let issued = not_after(CA.as_bytes()).unwrap();
        let at = |minutes: u64| BORN + Duration::from_secs(minutes * 60);
        let condition = |kind: &str, at: Time| json!({"type": kind, "status": "True", "lastUpdateTime": at.rfc3339()});
        for (status, when, want) in [
            (json!({}), at(24 * 60 - 1), "again after 60s"),
            (json!({}), at(24 * 60), GONE),
            (json!({"conditions": [condition("Denied", at(5))]}), at(64), "again after 60s"),
            (json!({"conditions": [condition("Denied", at(5))]}), at(65), GONE),
            (json!({"conditions": [condition("Approved", at(5)), condition("Failed", at(6))]}), at(66), GONE),
            (json!({"conditions": [condition("Approved", at(5))]}), at(100_000), ""),
            (
                json!({"conditions": [condition("Approved", at(5))], "certificate": certificate}),
                at(64),
                "again after 60s",
            ),
            (json!({"conditions": [condition("Approved", at(5))], "certificate": certificate}), at(65), GONE),
            (json!({"conditions": [{"type": "Approved"}], "certificate": certificate}), issued, GONE),
            (json!({"conditions": [{"type": "Approved"}], "certificate": STANDARD.encode("x")}), issued, ""),
        ] {
            let mut view = TestView::default();
            let key = put(&mut view, "a", json!({}));
            view.edit(&key, |o| {
                o["metadata"]["creationTimestamp"] = BORN.rfc3339().into();
                o["status"] = status.clone();
            });
            let plan = new(&config()).reconcile(&view, &key, when).to_string();
            assert!(plan.starts_with(want) && plan.is_empty() == want.is_empty(), "{status}: {plan:?}, not {want:?}");
        }
    }
}
