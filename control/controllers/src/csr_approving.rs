//! Approves kubelets' requests for client certificates when whoever asks may have them (upstream's `csrapproving`): those of a node
//! that asks for itself, and those of who may ask for any node.

use std::sync::Arc;

use copepod_machine::{Plan, View};
use copepod_model::certificate::{Request, signer};
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use copepod_model::request::PatchType;
use copepod_model::{ApiRequest, Key, Object, Time, UserInfo, Verb};
use serde_json::{Value, json};

use crate::support::certificates::{kubelet_client, usages};
use crate::support::{conditions, keys_of, patch, text};
use crate::{Config, Controller};

/// What decides who may do what at the cluster's scope.
const RBAC: [&str; 2] = ["clusterrolebindings.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io"];

struct CsrApproving {
    allows: fn(&dyn View, &ApiRequest) -> bool,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    CsrApproving { allows: config.allows }
}

/// By which right a request may be approved, the subresource that one may create, and what is then said of it.
fn rights(value: &Value, request: &Request) -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    if csr::signer_name(value) != signer::KUBELET_CLIENT || kubelet_client(request, &usages(value)).is_err() {
        return out;
    }
    if text(&value["spec"]["username"]) == request.subject.common_name() {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        out.push(("selfnodeclient", message));
    }
    out.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    out
}

/// Who asked for the certificate.
fn requester(value: &Value) -> UserInfo {
    let texts = |v: &Value| v.as_array().into_iter().flatten().map(|g| text(g).to_string()).collect::<Vec<_>>();
    let spec = &value["spec"];
    UserInfo {
        name: text(&spec["username"]).into(),
        uid: text(&spec["uid"]).into(),
        groups: texts(&spec["groups"]),
        extra: spec["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), texts(v))).collect(),
    }
}

impl Controller for CsrApproving {
    fn name(&self) -> &'static str {
        "csr-approving"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[csr::RESOURCE, RBAC[0], RBAC[1]]
    }

    fn keys(&self, view: &dyn View, _: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        match new {
            Some(object) if &*object.key.resource == csr::RESOURCE => vec![object.key.clone()],
            // What was refused may be allowed now.
            _ => self.all(view),
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, csr::RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(csr::RESOURCE, "", &key.name) else { return plan };
        let value = object.value();
        if !csr::certificate(&value).is_empty() || csr::has(&value, csr::APPROVED) || csr::has(&value, csr::DENIED) {
            return plan;
        }
        let Ok(request) = csr::request(&value) else { return plan };
        let user = Arc::new(requester(&value));
        let allowed = |subresource: &str| {
            let (plural, _) = csr::RESOURCE.split_once('.').unwrap_or_default();
            let mut access = ApiRequest::new(user.clone(), Verb::Create, csr::GROUP, "v1", plural);
            access.subresource = Some(subresource.into());
            (self.allows)(view, &access)
        };
        if let Some((_, message)) = rights(&value, &request).into_iter().find(|(right, _)| allowed(right)) {
            let mut all = conditions::of(&value);
            let wanted = conditions::Wanted {
                kind: csr::APPROVED,
                status: "True",
                reason: "AutoApproved",
                message: message.into(),
            };
            conditions::set(&mut all, &wanted, true, now);
            let body = json!({
                "metadata": {"resourceVersion": object.revision.to_string()}, "status": {"conditions": all},
            });
            plan.push(patch(&object, csr::APPROVAL, PatchType::Merge, body), "the requester may have it");
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::certificates::samples::put;
    use crate::support::sim::{TestView, config};

    #[test]
    fn nodes_get_their_own_certificates_and_bootstrappers_any_nodes() {
        // A user may do what its name begins with.
        let allows = |_: &dyn View, r: &ApiRequest| {
            (&*r.group, &*r.resource, r.verb) == (csr::GROUP, "certificatesigningrequests", Verb::Create)
                && r.subresource.as_deref().is_some_and(|s| r.user.in_group(s))
        };
        let controller = new(&Config { allows, ..config() });
        for (user, group, signer_name, usage, want) in [
            ("system:node:n", "selfnodeclient", signer::KUBELET_CLIENT, "client auth", Some("self kubelet")),
            ("system:node:m", "selfnodeclient", signer::KUBELET_CLIENT, "client auth", None),
            ("boot", "nodeclient", signer::KUBELET_CLIENT, "client auth", Some("Auto approving kubelet")),
            ("system:node:n", "nodeclient", signer::KUBELET_CLIENT, "client auth", Some("Auto approving kubelet")),
            ("boot", "nodeclient", signer::KUBELET_CLIENT, "server auth", None),
            ("boot", "nodeclient", signer::API_CLIENT, "client auth", None),
            ("boot", "other", signer::KUBELET_CLIENT, "client auth", None),
        ] {
            let mut view = TestView::default();
            let key = put(
                &mut view,
                "a",
                json!({
                    "username": user, "groups": [group], "signerName": signer_name, "usages": ["digital signature", usage],
                }),
            );
            let plan = controller.reconcile(&view, &key, Time::from_secs(60)).to_string();
            match want {
                Some(message) => {
                    let start = "patch certificatesigningrequests.certificates.k8s.io/a/approval";
                    assert!(plan.starts_with(start) && plan.contains(message), "{user} {group}: {plan}");
                }
                None => assert_eq!(plan, "", "{user} {group} {signer_name} {usage}"),
            }
            view.edit(&key, |o| o["status"]["conditions"] = json!([{"type": "Denied", "status": "True"}]));
            assert!(controller.reconcile(&view, &key, Time::from_secs(60)).is_empty());
        }
    }

    #[test]
    fn a_new_binding_has_all_requests_looked_at_again() {
        let (mut view, controller) = (TestView::default(), new(&config()));
        let key = put(&mut view, "a", json!({}));
        let binding = view.put(RBAC[0], json!({"metadata": {"name": "b"}}));
        let binding = view.get(RBAC[0], "", &binding.name).unwrap();
        assert_eq!(controller.keys(&view, None, Some(&binding)), [key]);
    }
}
