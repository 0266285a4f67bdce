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
    settle_metadata(&mut object, &req.namespace)?;
    let status = review(view, req, &object)?;
    value::object(&mut object).insert("status".into(), status);
    Ok(Answer { code: 201, object, warnings: Vec::new() })
}

fn self_access(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = wrong_attributes(spec);
    errors.extend(wrong_metadata(review, "must be empty"));
    valid(&errors)?;
    Ok(judge(view, &req.user, spec))
}

fn access(view: &dyn View, _: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = wrong_access(spec);
    errors.extend(wrong_metadata(review, "must be empty"));
    valid(&errors)?;
    Ok(judge(view, &subject(spec), spec))
}

fn local_access(view: &dyn View, req: &ApiRequest, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = wrong_access(spec);
    errors.extend(wrong_metadata(review, "must be empty except for namespace"));
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

/// Takes from the metadata of a review what is the system's to say, and gives it the request's namespace, as upstream's handler of
/// creations does with whatever is created: 400 where it names another one.
fn settle_metadata(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let meta = value::child(object, "metadata");
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta.remove(field);
    }
    let given = meta.remove("namespace");
    let given = given.as_ref().and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Ok(());
    }
    if !given.is_empty() && given != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    meta.insert("namespace".into(), namespace.into());
    Ok(())
}

/// What a review that is stored nowhere has no use for. (managedFields are let pass, the rest is settled before.)
const METADATA: [&str; 8] =
    ["name", "generateName", "resourceVersion", "generation", "labels", "annotations", "ownerReferences", "finalizers"];

/// What upstream's `ValidateSubjectAccessReview` and its like find in the metadata.
fn wrong_metadata(review: &Value, why: &str) -> Option<FieldError> {
    let meta = &review["metadata"];
    let said = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(_) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    METADATA.iter().any(|field| said(&meta[*field])).then(|| FieldError::invalid("metadata", meta.clone(), why))
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
