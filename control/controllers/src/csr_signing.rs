//! Decides what certificates approved requests get from the signers that every cluster has (upstream's four `csrsigning`
//! controllers), or that they get none.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use copepod_machine::{Action, Plan, View};
use copepod_model::certificate::{Authority, Names, Request, Template, reserved, signer};
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::certificates::{api_client, kubelet_client, kubelet_serving, usages};
use crate::support::{conditions, keys_of, patch};
use crate::{Config, Controller};

/// kube-controller-manager's `--cluster-signing-duration`.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// The shortest life that a certificate gets, whatever is asked for.
const SHORTEST: Duration = Duration::from_secs(600);
/// How long before now a certificate begins, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// Lives shorter than this are not made shorter by that.
const SHORT: Duration = Duration::from_secs(8 * 3600);

struct CsrSigning {
    /// None where the CA's certificate cannot be read; then nothing is signed.
    authority: Option<Authority>,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    CsrSigning { authority: Authority::parse(&config.ca_pem) }
}

/// The write of a certificate (PEM) that was issued for a request.
pub fn certified(name: &str, uid: &str, certificate: &str) -> Action {
    Action::Patch {
        resource: csr::RESOURCE.into(),
        namespace: String::new(),
        name: name.into(),
        subresource: "status",
        kind: PatchType::Merge,
        patch: json!({"metadata": {"uid": uid}, "status": {"certificate": STANDARD.encode(certificate)}}),
    }
}

/// What a signer demands; `None` for signers of others. `api` is the address of the Service `kubernetes`.
fn judge(name: &str, request: &Request, usages: &[String], api: Option<IpAddr>) -> Option<Result<(), String>> {
    Some(match name {
        signer::API_CLIENT => api_client(usages),
        signer::KUBELET_CLIENT => kubelet_client(request, usages),
        signer::KUBELET_SERVING => kubelet_serving(request, usages).and_then(|()| no_others(&request.names, api)),
        signer::LEGACY => Ok(()),
        _ => return None,
    })
}

/// No node may pass for the API, another server or a Service.
fn no_others(names: &Names, api: Option<IpAddr>) -> Result<(), String> {
    if let Some((name, why)) = names.dns.iter().find_map(|name| Some((name, reserved(name)?))) {
        return Err(format!("DNS subjectAltName {name:?} is not allowed: {why}"));
    }
    match names.ips.iter().find(|ip| Some(**ip) == api) {
        Some(ip) => Err(format!("IP subjectAltName {ip} is not allowed: the API server is known by this address")),
        None => Ok(()),
    }
}

/// When a certificate begins and ends that is asked for with this life, if the CA (which ends at `limit`) can still give any.
fn validity(asked: Option<u64>, now: Time, limit: Time) -> Option<(Time, Time)> {
    let life = asked.map_or(LONGEST, |s| Duration::from_secs(s).clamp(SHORTEST, LONGEST));
    let not_before = Time::from_secs(now.secs().saturating_sub(BACKDATE.as_secs()));
    let end = if life < SHORT { Time::from_secs(now.secs()) + life } else { not_before + life };
    (now < limit).then(|| (not_before, end.min(limit)))
}

impl Controller for CsrSigning {
    fn name(&self) -> &'static str {
        "csr-signing"
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
        let (Some(authority), Some(object)) = (&self.authority, view.get(csr::RESOURCE, "", &key.name)) else {
            return plan;
        };
        let value = object.value();
        let open = csr::has(&value, csr::APPROVED)
            && ![csr::DENIED, csr::FAILED].iter().any(|c| csr::has(&value, c))
            && csr::certificate(&value).is_empty();
        let Some(request) = csr::request(&value).ok().filter(|_| open) else { return plan };
        let usages = usages(&value);
        let service = view.get("services", "default", "kubernetes");
        let api = service.and_then(|s| s.value()["spec"]["clusterIP"].as_str()?.parse().ok());
        match judge(csr::signer_name(&value), &request, &usages, api) {
            None => {}
            Some(Err(message)) => {
                let mut all = conditions::of(&value);
                let wanted = conditions::Wanted {
                    kind: csr::FAILED,
                    status: "True",
                    reason: "SignerValidationFailure",
                    message,
                };
                conditions::set(&mut all, &wanted, true, now);
                let body = json!({
                    "metadata": {"resourceVersion": object.revision.to_string()}, "status": {"conditions": all},
                });
                plan.push(patch(&object, "status", PatchType::Merge, body), "its signer does not sign such requests");
            }
            Some(Ok(())) => {
                let asked = value["spec"]["expirationSeconds"].as_u64();
                if let Some(validity) = validity(asked, now, authority.not_after) {
                    let template = Box::new(Template::of(request, usages, validity));
                    let (name, uid) = (key.name.to_string(), object.meta.uid.to_string());
                    plan.push(Action::Certify { name, uid, template }, "it is approved");
                }
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::certificates::samples::{CA, put};
    use crate::support::sim::{TestView, config};

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn approved(view: &mut TestView, spec: serde_json::Value) -> Key {
        let key = put(view, "a", spec);
        view.edit(&key, |o| o["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]));
        key
    }

    #[test]
    fn what_is_approved_is_signed_once_if_its_signer_takes_it() {
        let controller = new(&Config { ca_pem: CA.into(), ..config() });
        let client = json!(["digital signature", "client auth"]);
        for (signer_name, usages, want) in [
            (
                signer::KUBELET_CLIENT,
                &client,
                "certify a as \"system:node:n\" from 2027-01-15T07:55:00Z to 2028-01-15T07:55:00Z",
            ),
            (signer::API_CLIENT, &client, "certify a"),
            (signer::LEGACY, &json!(["cert sign"]), "certify a"),
            ("example.com/mine", &client, ""),
            (signer::API_CLIENT, &json!(["server auth"]), "invalid usage for client certificate: server auth"),
            (
                signer::API_CLIENT,
                &json!(["key encipherment"]),
                "missing required usage for client certificate: client auth",
            ),
            (
                signer::KUBELET_CLIENT,
                &json!(["client auth"]),
                "usages did not match [client auth digital signature key enc",
            ),
            (signer::KUBELET_SERVING, &json!(["server auth"]), "DNS or IP subjectAltName is required"),
        ] {
            let mut view = TestView::default();
            let key = approved(&mut view, json!({"signerName": signer_name, "usages": usages}));
            let plan = |view: &TestView| controller.reconcile(view, &key, NOW).to_string();
            assert!(plan(&view).contains(want) && plan(&view).is_empty() == want.is_empty(), "{}", plan(&view));
            for condition in [csr::DENIED, csr::FAILED] {
                let before = view.value(&key);
                view.edit(&key, |o| {
                    let all = o["status"]["conditions"].as_array_mut().unwrap();
                    all.push(json!({"type": condition, "status": "True"}));
                });
                assert_eq!(plan(&view), "");
                view.edit(&key, |o| *o = before);
            }
            view.edit(&key, |o| o["status"]["certificate"] = STANDARD.encode("x").into());
            assert_eq!(plan(&view), "");
            view.edit(&key, |o| o["status"] = json!({}));
            assert_eq!(plan(&view), "");
        }
    }

    #[test]
    fn no_node_passes_for_the_api_or_a_service() {
        let api = "10.96.0.1".parse().ok();
        let dns = |name: &str| no_others(&Names { dns: vec!["n".into(), name.into()], ..Names::default() }, api);
        assert_eq!(dns("kubernetes-2.example"), Ok(()));
        for (name, why) in [
            ("kubernetes.default.svc", "the API server is known by this name"),
            ("LocalHost.", "the API server is known by this name"),
            ("server-1.copepod.internal", "the cluster gives names that end so itself"),
            ("web.default.svc.cluster.local", "the cluster gives names that end so itself"),
            ("*.default.svc", "it may stand for the cluster's own names"),
        ] {
            assert_eq!(dns(name), Err(format!("DNS subjectAltName {name:?} is not allowed: {why}")));
        }
        let ip = |ip: &str| no_others(&Names { ips: vec![ip.parse().unwrap()], ..Names::default() }, api);
        let refused = "IP subjectAltName 10.96.0.1 is not allowed: the API server is known by this address";
        assert_eq!((ip("10.0.0.7"), ip("10.96.0.1")), (Ok(()), Err(refused.into())));
    }

    #[test]
    fn lives_are_bounded_and_begin_five_minutes_ago() {
        let limit = NOW + 2 * LONGEST;
        let (minute, hour) = (60, 3600);
        for (asked, ends) in [
            (None, LONGEST.as_secs() - 5 * minute),
            (Some(1), 10 * minute),
            (Some(hour), hour),
            (Some(8 * hour - 1), 8 * hour - 1),
            (Some(8 * hour), 8 * hour - 5 * minute),
            (Some(u64::from(u32::MAX)), LONGEST.as_secs() - 5 * minute),
        ] {
            let (from, to) = validity(asked, NOW, limit).unwrap();
            assert_eq!((NOW.since(from).as_secs(), to.since(NOW).as_secs()), (5 * minute, ends), "{asked:?}");
        }
        let soon = NOW + Duration::from_secs(minute);
        assert_eq!(validity(None, NOW, soon).unwrap().1, soon);
        assert_eq!(validity(None, NOW, NOW), None);
    }

    #[test]
    fn a_certificate_is_written_into_the_request_that_asked() {
        let action = certified("a", "u", "PEM");
        let want = r#"patch certificatesigningrequests.certificates.k8s.io/a/status {"metadata":{"uid":"u"},"status":{"certificate":"UEVN"}}"#;
        assert_eq!(action.to_string(), want);
    }
}
