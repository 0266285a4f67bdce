//! Bearer tokens: whose they are, and `serviceaccounts/token`, TokenRequest (KEP-1205).

use std::collections::BTreeMap;

use copepod_machine::{Ids as _, View};
use copepod_model::join_token::Expiration;
use copepod_model::request::Body as Payload;
use copepod_model::{ApiRequest, FieldError, Object, Status, Time, UserInfo, Verb, bootstrap_token};
use serde_json::{Value, json};

use super::Api;
use crate::auth::token::{Claims, ISSUER};
use crate::{SystemIds, now};

/// Upstream's bounds and default, in seconds.
const SHORTEST: u64 = 600;
const LONGEST: u64 = 1 << 32;
const DEFAULT: u64 = 3600;

/// Whether the metadata of a TokenRequest is about the account `name` of `namespace`, as far as it says: 400 for another namespace
/// (upstream's handler), 422 for another name (its `TokenREST`).
fn names(meta: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let said = |field: &str| meta[field].as_str().filter(|text| !text.is_empty());
    if said("namespace").is_some_and(|other| other != namespace) {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    match said("name").filter(|other| *other != name) {
        Some(other) => {
            let error = FieldError::invalid("metadata.name", other, "must match the service account name if specified");
            Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, &[error]))
        }
        None => Ok(()),
    }
}

/// Whether it is about the account with this UID, as far as it says (upstream's `TokenRequestServiceAccountUIDValidation`, on since
/// 1.34): else 409.
fn is_uid(meta: &Value, name: &str, uid: &str) -> Result<(), Status> {
    match meta["uid"].as_str().filter(|other| !other.is_empty() && *other != uid) {
        Some(other) => {
            let why =
                format!("the UID in the token request ({other}) does not match the UID of the service account ({uid})");
            Err(Status::conflict("TokenRequest.authentication.k8s.io", name, &why))
        }
        None => Ok(()),
    }
}

impl Api {
    /// Whose a token is and for which of `audiences` (none: for us), if it holds: a service account's, or a bootstrap token,
    /// which is for us alone. 500 where the Secret of a bootstrap token cannot be opened.
    pub(super) fn bearer(&self, token: &str, audiences: &[&str]) -> Result<Option<(UserInfo, Vec<String>)>, Status> {
        let (view, now) = (self.store.snapshot(), now());
        let Some((id, secret)) = bootstrap_token::parse(token) else {
            return Ok(self.tokens.check(token, audiences, &*view, now));
        };
        if !audiences.is_empty() && !audiences.contains(&ISSUER) {
            return Ok(None);
        }
        let stored = view.get("secrets", bootstrap_token::NAMESPACE, &bootstrap_token::secret_name(id));
        let Some(stored) = stored else { return Ok(None) };
        let open = self.registry.unseal(&*view, &stored)?;
        Ok(bootstrap_token::check(&open, id, secret, now).map(|user| (user, vec![ISSUER.to_string()])))
    }

    /// When the token of a bootstrap token's Secret ends; `None` where the Secret cannot be opened.
    pub(crate) fn bootstrap_token_end(&self, view: &dyn View, secret: &Object) -> Option<Expiration> {
        match self.registry.unseal(view, secret) {
            Ok(open) => Some(bootstrap_token::expiration(&open)),
            Err(e) => {
                tracing::warn!(secret = %secret.key, "it cannot be read when this token ends: {}", e.message);
                None
            }
        }
    }

    pub(super) async fn token(&self, request: &ApiRequest) -> Result<Value, Status> {
        if request.verb != Verb::Create {
            return Err(Status::method_not_supported("serviceaccounts/token", request.verb.as_str()));
        }
        let asked: Value = match &request.body {
            Payload::Object(v) => v.clone(),
            Payload::Json(bytes) => serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?,
            _ => return Err(Status::bad_request("a TokenRequest is required")),
        };
        let view = self.current().await?;
        self.registry.admit_token(&*view, request, &asked["spec"])?;
        names(&asked["metadata"], &request.namespace, &request.name)?;
        let account = view
            .get("serviceaccounts", &request.namespace, &request.name)
            .ok_or_else(|| Status::not_found("serviceaccounts", &request.name))?;
        is_uid(&asked["metadata"], &request.name, &account.meta.uid)?;
        let spec = &asked["spec"];
        let lifetime = spec["expirationSeconds"].as_u64().unwrap_or(DEFAULT);
        let invalid = |error| Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
        if lifetime < SHORTEST {
            let text = "may not specify a duration less than 10 minutes";
            return invalid(FieldError::invalid("spec.expirationSeconds", lifetime, text));
        }
        if lifetime > LONGEST {
            let text = "may not specify a duration larger than 2^32 seconds";
            return invalid(FieldError::invalid("spec.expirationSeconds", lifetime, text));
        }
        let mut audiences: Vec<String> =
            spec["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(Into::into)).collect();
        if audiences.is_empty() {
            audiences.push(ISSUER.into());
        }
        let bound = &spec["boundObjectRef"];
        let pod = match (bound["kind"].as_str(), bound["name"].as_str()) {
            (None | Some(""), _) => None,
            (Some("Pod"), Some(name)) => {
                let pod = view.get("pods", &request.namespace, name).ok_or_else(|| Status::not_found("pods", name))?;
                if pod.value()["spec"]["serviceAccountName"] != *request.name {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        &*request.name
                    )));
                }
                let asked_uid = bound["uid"].as_str().unwrap_or_default();
                if !asked_uid.is_empty() && *pod.meta.uid != *asked_uid {
                    let why = format!(
                        "the UID in the bound object reference ({asked_uid}) does not match the UID in record. The object might have been deleted and then recreated"
                    );
                    return Err(Status::conflict("pods", name, &why));
                }
                Some((name.to_string(), pod.meta.uid.clone()))
            }
            _ => return Err(Status::bad_request("cannot bind token to object of this kind")),
        };
        let now = now();
        let claims = Claims {
            namespace: &request.namespace,
            account: &request.name,
            uid: &account.meta.uid,
            pod: pod.as_ref().map(|(name, uid)| (name.as_str(), &**uid)),
            audiences: &audiences,
            lifetime,
        };
        let token = self.tokens.sign(&claims, &SystemIds.uid(), now).map_err(Status::internal)?;
        let mut out = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "metadata": {"name": request.name, "namespace": request.namespace, "creationTimestamp": now.rfc3339()},
            "spec": {"audiences": audiences, "expirationSeconds": lifetime},
            "status": {"token": token, "expirationTimestamp": Time::from_secs(now.secs() + lifetime).rfc3339()},
        });
        if !bound.is_null() {
            out["spec"]["boundObjectRef"] = bound.clone();
        }
        Ok(out)
    }

    /// `tokenreviews`: whose token it is, if it is one of ours.
    pub(super) fn review_token(&self, request: &ApiRequest) -> Result<Value, Status> {
        if request.verb != Verb::Create {
            return Err(Status::method_not_supported("tokenreviews", request.verb.as_str()));
        }
        let mut review: Value = match &request.body {
            Payload::Object(v) => v.clone(),
            Payload::Json(bytes) => serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?,
            _ => return Err(Status::bad_request("a TokenReview is required")),
        };
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let asked = review["spec"]["audiences"].as_array().into_iter().flatten();
        let asked: Vec<&str> = asked.filter_map(Value::as_str).collect();
        let status = match self.bearer(token, &asked)? {
            None => json!({"user": {}, "error": "invalid bearer token"}),
            Some((user, audiences)) => {
                let extra: BTreeMap<_, _> = user.extra.into_iter().collect();
                json!({
                    "authenticated": true, "audiences": audiences,
                    "user": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": extra},
                })
            }
        };
        if !review.is_object() {
            return Err(Status::bad_request("the object provided is unrecognized: it is no JSON object"));
        }
        review["status"] = status;
        review["kind"] = "TokenReview".into();
        review["apiVersion"] = "authentication.k8s.io/v1".into();
        Ok(review)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_request_is_about_the_account_that_is_asked() {
        let judge = |meta: Value| {
            let found = names(&meta, "default", "robot").and_then(|()| is_uid(&meta, "robot", "u1"));
            found.map_err(|e| format!("{} {}", e.code, e.message))
        };
        for meta in [
            Value::Null,
            json!({}),
            json!({"name": "", "namespace": "", "uid": ""}),
            json!({"name": "robot", "namespace": "default", "uid": "u1", "labels": {"a": "b"}, "creationTimestamp": null}),
        ] {
            assert_eq!(judge(meta.clone()), Ok(()), "{meta}");
        }
        for (meta, want) in [
            (
                json!({"name": "other"}),
                "422 TokenRequest.authentication.k8s.io \"robot\" is invalid: metadata.name: Invalid value: \"other\": must \
                 match the service account name if specified",
            ),
            (
                json!({"namespace": "other"}),
                "400 the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                json!({"uid": "u2"}),
                "409 Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"robot\": the UID in the token \
                 request (u2) does not match the UID of the service account (u1)",
            ),
        ] {
            assert_eq!(judge(meta), Err(want.to_string()));
        }
    }
}
