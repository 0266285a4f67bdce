//! Reviews: `kubectl auth can-i` and `kubectl auth whoami`. They store nothing.

use std::collections::BTreeMap;

use copepod_machine::View;
use copepod_model::request::Body;
use copepod_model::{ApiRequest, Status, UserInfo, Verb};
use serde_json::{Value, json};

use crate::decision::Answer;
use crate::rbac::{self, Attributes};
use crate::value::{self, text, texts};

/// Answers the review that a request asks for; `None` if it asks for something else.
pub(crate) fn decide(view: &dyn View, req: &ApiRequest) -> Option<Result<Answer, Status>> {
    let review = match (&*req.group, &*req.resource) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => self_access,
        ("authorization.k8s.io", "subjectaccessreviews") => access,
        ("authorization.k8s.io", "localsubjectaccessreviews") => local_access,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => self_rules,
        ("authentication.k8s.io", "selfsubjectreviews") => whoami,
        _ => return None,
    };
    Some(answer(view, req, review))
}

type Review = fn(&dyn View, &ApiRequest, &Value) -> Result<Value, Status>;

fn answer(view: &dyn View, req: &ApiRequest, review: Review) -> Result<Answer, Status> {
    if req.version != "v1" {
        return Err(Status::no_such_path());
    }
    if req.verb != Verb::Create {
        return Err(Status::method_not_supported(&req.group_resource(), req.verb.as_str()));
    }
    let mut object = match &req.body {
        Body::Json(bytes) => serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?,
        Body::Object(value) => value.clone(),
        _ => return Err(Status::bad_request("the request has no body")),
    };
    let status = review(view, req, &object)?;
    value::child(&mut object, "metadata");
    value::object(&mut object).insert("status".into(), status);
    Ok(Answer { code: 201, object, warnings: Vec::new() })
}

fn self_access(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    judge(view, &req.user, &review["spec"])
}

fn access(view: &dyn View, _: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    judge(view, &subject(spec)?, spec)
}

fn local_access(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    if text(&spec["resourceAttributes"], "namespace") != req.namespace {
        return Err(Status::bad_request("spec.resourceAttributes.namespace must match namespace"));
    }
    judge(view, &subject(spec)?, spec)
}

fn subject(spec: &Value) -> Result<UserInfo, Status> {
    let groups: Vec<String> = texts(spec, "groups").map(String::from).collect();
    let name = text(spec, "user").to_string();
    if name.is_empty() && groups.is_empty() {
        return Err(Status::bad_request("at least one of user or group must be specified"));
    }
    Ok(UserInfo { name, uid: text(spec, "uid").into(), groups, extra: Vec::new() })
}

fn judge(view: &dyn View, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let attributes = match (resource.is_object(), path.is_object()) {
        (true, false) => Attributes {
            user,
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: None,
        },
        (false, true) => Attributes::of_path(user, text(path, "verb"), text(path, "path")),
        _ => {
            return Err(Status::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let authz = rbac::authorize(view, &attributes);
    let mut status = json!({ "allowed": authz.allowed });
    if !authz.reason.is_empty() {
        status["reason"] = authz.reason.into();
    }
    Ok(status)
}

fn self_rules(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let namespace = text(&review["spec"], "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = rbac::rules_for(view, &req.user, namespace);
    if rbac::node::name_of(&req.user).is_some() {
        rules.extend(rbac::node::RULES.iter().cloned());
    }
    let (paths, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|r| !r.urls.is_empty());
    let json = |rules: Vec<&rbac::rules::Rule>| rules.into_iter().map(|r| r.to_json()).collect::<Vec<_>>();
    Ok(json!({ "resourceRules": json(resources), "nonResourceRules": json(paths), "incomplete": false }))
}

fn whoami(_: &dyn View, req: &ApiRequest, _: &Value) -> Result<Value, Status> {
    let user = &*req.user;
    let mut info = json!({ "username": user.name });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra.iter().cloned().collect::<BTreeMap<_, _>>());
    }
    Ok(json!({ "userInfo": info }))
}
