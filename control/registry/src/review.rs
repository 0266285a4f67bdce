//! Reviews: `kubectl auth can-i` and `kubectl auth whoami`. They store nothing.

use std::collections::BTreeMap;

use copepod_machine::View;
use copepod_model::request::Body;
use copepod_model::{ApiRequest, FieldError, Status, UserInfo, Verb};
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
    let spec = &review["spec"];
    valid(&wrong_attributes(spec))?;
    Ok(judge(view, &req.user, spec))
}

fn access(view: &dyn View, _: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    valid(&wrong_access(spec))?;
    Ok(judge(view, &subject(spec), spec))
}

fn local_access(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = wrong_access(spec);
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let namespace = text(resource, "namespace");
    if resource.is_object() && namespace != req.namespace {
        let field = "spec.resourceAttributes.namespace";
        errors.push(FieldError::invalid(field, namespace, "must match metadata.namespace"));
    }
    if path.is_object() {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path.clone(), why));
    }
    valid(&errors)?;
    Ok(judge(view, &subject(spec), spec))
}

/// Upstream's 422; it names no kind, as what it decodes into has none.
fn valid(errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("authorization.k8s.io", "", "", errors)) }
}

/// What upstream's `ValidateSubjectAccessReviewSpec` finds.
fn wrong_access(spec: &Value) -> Vec<FieldError> {
    let mut errors = wrong_attributes(spec);
    if text(spec, "user").is_empty() && texts(spec, "groups").next().is_none() {
        errors.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    errors
}

/// What upstream's `ValidateSelfSubjectAccessReviewSpec` finds.
fn wrong_attributes(spec: &Value) -> Vec<FieldError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_object(), path.is_object()) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid("spec.nonResourceAttributes", path.clone(), why)]
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid("spec.resourceAttributes", Value::Null, why)]
        }
        _ => Vec::new(),
    }
}

fn subject(spec: &Value) -> UserInfo {
    let groups = texts(spec, "groups").map(String::from).collect();
    UserInfo { name: text(spec, "user").into(), uid: text(spec, "uid").into(), groups, extra: Vec::new() }
}

/// Judges what is valid.
fn judge(view: &dyn View, user: &UserInfo, spec: &Value) -> Value {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let attributes = if resource.is_object() {
        Attributes {
            user,
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: None,
        }
    } else {
        Attributes::of_path(user, text(path, "verb"), text(path, "path"))
    };
    let authz = rbac::authorize(view, &attributes);
    let mut status = json!({ "allowed": authz.allowed });
    if !authz.reason.is_empty() {
        status["reason"] = authz.reason.into();
    }
    status
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
