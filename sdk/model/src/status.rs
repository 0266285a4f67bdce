//! Kubernetes' `Status`: the one error that clients see, and the field errors that make up a 422.

use serde_json::{Map, Value, json};

/// An API error: HTTP code, machine-readable reason, message and details, as `metav1.Status`
/// (apimachinery `pkg/api/errors`).
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`, such as `NotFound`. Empty when upstream gives none.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    /// `details`, when there are any.
    pub details: Option<Box<Details>>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Resource or kind name, as upstream chooses per reason.
    pub kind: String,
    /// Group of the resource.
    pub group: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// `causes`.
    pub causes: Vec<Cause>,
    /// `retryAfterSeconds`, 0 for none.
    pub retry_after_seconds: u32,
}

/// `metav1.StatusCause`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// `metav1.CauseType`, such as `FieldValueRequired`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Field path.
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None }
    }
    fn about(code: u16, reason: &'static str, message: String, resource: &str, name: &str) -> Status {
        let (kind, group) = split_resource(resource);
        let details = Details { kind: kind.into(), group: group.into(), name: name.into(), ..Details::default() };
        Status { code, reason, message, details: Some(Box::new(details)) }
    }
    /// 404 for an object; `resource` in GroupResource form (`deployments.apps`).
    pub fn not_found(resource: &str, name: &str) -> Status {
        Status::about(404, "NotFound", format!("{resource} \"{name}\" not found"), resource, name)
    }
    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
    }
    /// 409 for a create over something that exists.
    pub fn already_exists(resource: &str, name: &str) -> Status {
        Status::about(409, "AlreadyExists", format!("{resource} \"{name}\" already exists"), resource, name)
    }
    /// 409 for a failed precondition. `why` completes "Operation cannot be fulfilled on …: ".
    pub fn conflict(resource: &str, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Status::about(409, "Conflict", message, resource, name)
    }
    /// The 409 of an update whose resourceVersion is stale, in upstream's words.
    pub fn stale(resource: &str, name: &str) -> Status {
        Status::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }
    /// 401.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }
    /// 403 on a resource, in upstream's words.
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Status {
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Status::about(403, "Forbidden", message, resource, name)
    }
    /// 405, in the words that upstream's router has for a method without a route, whatever the resource and verb.
    pub fn method_not_supported(_resource: &str, _verb: &str) -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status { details: Some(Box::default()), ..Status::new(405, "MethodNotAllowed", message) }
    }
    /// 406.
    pub fn not_acceptable(accepted: &str) -> Status {
        Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
    }
    /// 406 for a form of answer that does not suit what was asked for.
    pub fn not_convertible(message: impl Into<String>) -> Status {
        Status::new(406, "NotAcceptable", message)
    }
    /// 415.
    pub fn unsupported_media_type(accepted: &str) -> Status {
        Status::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }
    /// 410 for a watch or a continue token that fell out of the window.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }
    /// 413.
    pub fn too_large(message: impl Into<String>) -> Status {
        Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {}", message.into()))
    }
    /// 422 for an object of `kind` (its group is `group`) with its field errors.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let text = match errors {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let qualified = if group.is_empty() { kind.to_string() } else { format!("{kind}.{group}") };
        let details = Details {
            kind: kind.into(),
            group: group.into(),
            name: name.into(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        };
        Status {
            code: 422,
            reason: "Invalid",
            message: format!("{qualified} \"{name}\" is invalid: {text}"),
            details: Some(Box::new(details)),
        }
    }
    /// 422 that has no field errors, for a patch that cannot be applied.
    pub fn unprocessable(message: impl Into<String>) -> Status {
        Status::new(422, "Invalid", message)
    }
    /// 429 with a `Retry-After`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let details = Details { retry_after_seconds, ..Details::default() };
        Status { details: Some(Box::new(details)), ..Status::new(429, "TooManyRequests", message) }
    }
    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Status {
        Status::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }
    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }
    /// 504: the outcome of a write is unknown, or a read did not become possible in time.
    pub fn timeout(message: impl Into<String>) -> Status {
        Status::new(504, "Timeout", format!("Timeout: {}", message.into()))
    }
    /// 504 for a read at a revision that is not there yet. Clients know it by its cause and read again.
    pub fn resource_version_too_large(asked: u64, current: u64) -> Status {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        let details = Details { retry_after_seconds: 1, causes: vec![cause], ..Details::default() };
        let message = format!("Too large resource version: {asked}, current: {current}");
        Status { details: Some(Box::new(details)), ..Status::timeout(message) }
    }

    /// The `metav1.Status` object as JSON.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            out["reason"] = self.reason.into();
        }
        if let Some(d) = &self.details {
            let mut m = Map::new();
            for (k, v) in [("name", &d.name), ("group", &d.group), ("kind", &d.kind), ("uid", &d.uid)] {
                if !v.is_empty() {
                    m.insert(k.into(), v.as_str().into());
                }
            }
            if !d.causes.is_empty() {
                let causes = d.causes.iter().map(|c| {
                    let mut m = Map::new();
                    for (k, v) in [("reason", &c.reason), ("message", &c.message), ("field", &c.field)] {
                        if !v.is_empty() {
                            m.insert(k.into(), v.as_str().into());
                        }
                    }
                    Value::Object(m)
                });
                m.insert("causes".into(), causes.collect());
            }
            if d.retry_after_seconds > 0 {
                m.insert("retryAfterSeconds".into(), d.retry_after_seconds.into());
            }
            out["details"] = Value::Object(m);
        }
        out
    }

    /// Reads a `metav1.Status` that a server sent with HTTP status `code`; anything else becomes a Status with the text.
    pub fn from_json(code: u16, body: &[u8]) -> Status {
        let Ok(v) = serde_json::from_slice::<Value>(body) else {
            if code == 404 {
                // The plain text for a path that nothing serves, which says less than we can.
                return Status::no_such_path();
            }
            return Status::new(code, reason_for(code), String::from_utf8_lossy(body).trim().to_string());
        };
        let text = |v: &Value, k: &str| v[k].as_str().unwrap_or_default().to_string();
        let d = &v["details"];
        let details = d.is_object().then(|| {
            Box::new(Details {
                kind: text(d, "kind"),
                group: text(d, "group"),
                name: text(d, "name"),
                uid: text(d, "uid"),
                causes: d["causes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|c| Cause { reason: text(c, "reason"), message: text(c, "message"), field: text(c, "field") })
                    .collect(),
                retry_after_seconds: d["retryAfterSeconds"].as_u64().unwrap_or(0) as u32,
            })
        });
        let reason = REASONS.iter().map(|(_, r)| *r).find(|r| v["reason"] == **r).unwrap_or_else(|| reason_for(code));
        Status { code, reason, message: text(&v, "message"), details }
    }
}

const REASONS: [(u16, &str); 15] = [
    (400, "BadRequest"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (405, "MethodNotAllowed"),
    (406, "NotAcceptable"),
    (409, "Conflict"),
    (409, "AlreadyExists"),
    (410, "Expired"),
    (413, "RequestEntityTooLarge"),
    (415, "UnsupportedMediaType"),
    (422, "Invalid"),
    (429, "TooManyRequests"),
    (500, "InternalError"),
    (503, "ServiceUnavailable"),
];

fn reason_for(code: u16) -> &'static str {
    REASONS.iter().find(|(c, _)| *c == code).map_or("", |(_, r)| r)
}

fn split_resource(resource: &str) -> (&str, &str) {
    resource.split_once('.').unwrap_or((resource, ""))
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// What is wrong with one field: apimachinery's `field.Error`, with its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Which of upstream's error types.
    pub kind: FieldErrorKind,
    /// Path such as `spec.containers[0].name`.
    pub field: String,
    /// The offending value, for the types that print it.
    pub value: Option<Value>,
    /// Explanation.
    pub detail: String,
}

/// The types of `field.Error` that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A value is missing.
    Required,
    /// A value is malformed or out of range.
    Invalid,
    /// A value is outside an enumeration.
    NotSupported,
    /// A value that must be unique appears twice.
    Duplicate,
    /// A value may not be given here.
    Forbidden,
    /// A value is too long.
    TooLong,
    /// Too many items.
    TooMany,
    /// A value is of the wrong JSON type.
    TypeInvalid,
    /// What the value refers to does not exist.
    NotFound,
}

impl FieldError {
    fn make(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError { kind, field: field.into(), value, detail: detail.into() }
    }
    /// `field: Required value: detail`.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::make(FieldErrorKind::Required, field, None, detail)
    }
    /// `field: Invalid value: "value": detail`.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::make(FieldErrorKind::Invalid, field, Some(value.into()), detail)
    }
    /// `field: Unsupported value: "value": supported values: "a", "b"`.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let list = supported.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", ");
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {list}") };
        FieldError::make(FieldErrorKind::NotSupported, field, Some(value.into()), detail)
    }
    /// `field: Duplicate value: "value"`.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::make(FieldErrorKind::Duplicate, field, Some(value.into()), "")
    }
    /// `field: Forbidden: detail`.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::make(FieldErrorKind::Forbidden, field, None, detail)
    }
    /// `field: Too long: may not be more than N bytes`.
    pub fn too_long(field: impl Into<String>, max: usize) -> FieldError {
        FieldError::make(FieldErrorKind::TooLong, field, None, format!("may not be more than {max} bytes"))
    }
    /// `field: Too many: N: must have at most MAX items`.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> FieldError {
        FieldError::make(FieldErrorKind::TooMany, field, Some(actual.into()), format!("must have at most {max} items"))
    }
    /// `field: Invalid value: "value": detail`, where the value's JSON type is wrong.
    pub fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::make(FieldErrorKind::TypeInvalid, field, Some(value.into()), detail)
    }
    /// `field: Not found: "value"`.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::make(FieldErrorKind::NotFound, field, Some(value.into()), "")
    }

    fn body(&self) -> String {
        let (words, _) = self.words();
        let mut out = words.to_string();
        if let Some(v) = &self.value {
            out.push_str(": ");
            out.push_str(&v.to_string());
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
    fn words(&self) -> (&'static str, &'static str) {
        match self.kind {
            FieldErrorKind::Required => ("Required value", "FieldValueRequired"),
            FieldErrorKind::Invalid => ("Invalid value", "FieldValueInvalid"),
            FieldErrorKind::NotSupported => ("Unsupported value", "FieldValueNotSupported"),
            FieldErrorKind::Duplicate => ("Duplicate value", "FieldValueDuplicate"),
            FieldErrorKind::Forbidden => ("Forbidden", "FieldValueForbidden"),
            FieldErrorKind::TooLong => ("Too long", "FieldValueTooLong"),
            FieldErrorKind::TooMany => ("Too many", "FieldValueTooMany"),
            FieldErrorKind::TypeInvalid => ("Invalid value", "FieldValueTypeInvalid"),
            FieldErrorKind::NotFound => ("Not found", "FieldValueNotFound"),
        }
    }
    /// The `StatusCause` of this error.
    pub fn cause(&self) -> Cause {
        Cause { reason: self.words().1.into(), message: self.body(), field: self.field.clone() }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
