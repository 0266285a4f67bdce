//! A request resolved against the kinds, and what every verb does with it.

use std::sync::Arc;

use copepod_model::kinds::{Kind, Scale, Version, metadata};
use copepod_model::object::encode;
use copepod_model::request::{Body, FieldValidation};
use copepod_model::{ApiRequest, FieldError, Key, Object, Status};
use copepod_state::{Op, Require, Txn};
use serde_json::Value;

use crate::adapt::{self, Ty};
use crate::admission::Effects;
use crate::decision::{Answer, Decision, Reply, Retry, Write};
use crate::fields::told;
use crate::value::{self, text};
use crate::{Env, Registry};

/// Which part of an object a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The object.
    Whole,
    /// Its status.
    Status,
    /// Its scale.
    Scale(Scale),
    /// Another subresource that the kind lists.
    Other(&'static str),
}

impl Part {
    /// The subresource's name, empty for the object itself.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Status => "status",
            Part::Scale(_) => "scale",
            Part::Other(name) => name,
        }
    }
}

/// A request with its kind.
pub(crate) struct Call<'a, 'e> {
    pub(crate) registry: &'a Registry,
    pub(crate) env: &'a mut Env<'e>,
    pub(crate) req: &'a ApiRequest,
    pub(crate) kind: Arc<Kind>,
    /// The version that the client speaks, if it is not the stored one.
    pub(crate) version: Option<&'static Version>,
    pub(crate) ty: Option<Ty>,
    pub(crate) key: Key,
    pub(crate) part: Part,
}

/// The kind and the part that a request names.
pub(crate) fn resolve(registry: &Registry, req: &ApiRequest) -> Result<(Arc<Kind>, Part), Status> {
    let kind = registry
        .kinds
        .stored(&req.group, &req.resource)
        .filter(|k| k.serves(&req.group, &req.version))
        .ok_or_else(Status::no_such_path)?;
    if !kind.namespaced && !req.namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    let no_method = || Err(Status::method_not_supported(&req.group_resource(), req.verb.as_str()));
    let part = match req.subresource.as_deref() {
        None | Some("") if !kind.verbs.contains(&req.verb.as_str()) => return no_method(),
        None | Some("") => Part::Whole,
        Some("status") if kind.status => Part::Status,
        Some("scale") if kind.scale.is_some() => kind.scale.map_or(Part::Whole, Part::Scale),
        Some(name) => match kind.subresources.iter().find(|(n, ..)| *n == name) {
            Some((n, _, verbs)) if verbs.contains(&req.verb.as_str()) => Part::Other(n),
            Some(_) => return no_method(),
            None => return Err(Status::no_such_path()),
        },
    };
    Ok((kind.clone(), part))
}

impl<'a, 'e> Call<'a, 'e> {
    pub(crate) fn new(registry: &'a Registry, env: &'a mut Env<'e>, req: &'a ApiRequest) -> Result<Self, Status> {
        let (kind, part) = resolve(registry, req)?;
        let ty = registry.schema.lookup(&kind.api_version(), kind.kind);
        let version = kind.other_version(&req.group, &req.version);
        let key = Key::new(kind.group_resource(), req.namespace.as_str(), req.name.as_str());
        Ok(Call { registry, env, req, kind, version, ty, key, part })
    }

    /// The GroupResource as the client names it: where the objects are stored under another, `key` has that.
    pub(crate) fn resource(&self) -> String {
        self.req.group_resource()
    }

    /// The API version that the client speaks.
    pub(crate) fn api_version(&self) -> String {
        self.version.map_or_else(|| self.kind.api_version(), |version| self.kind.api_version_at(version))
    }

    /// The type of the request's objects, in the client's version.
    pub(crate) fn client_ty(&self) -> Option<Ty> {
        self.version.map_or(self.ty, |_| self.registry.schema.lookup(&self.api_version(), self.kind.kind))
    }

    /// Makes a stored object what the client sees.
    pub(crate) fn shown(&self, object: &mut Value) {
        if let Some(version) = self.version {
            self.kind.from_storage(version, object);
        }
    }

    /// Makes what the client has sent, checked, an object of the stored version.
    pub(crate) fn taken(&self, object: &mut Value) {
        if let Some(version) = self.version {
            self.kind.to_storage(version, object);
            adapt::normalise(&self.registry.schema, self.ty, object);
        }
    }

    /// The decision with its answer in the client's version.
    pub(crate) fn answered(&self, mut decision: Decision) -> Decision {
        if self.version.is_none() {
            return decision;
        }
        let stored = self.kind.api_version();
        let ours = |object: &Value| object["kind"] == self.kind.kind && object["apiVersion"] == stored.as_str();
        match &mut decision {
            Decision::Write(write) if ours(&write.object) => {
                self.shown(&mut write.object);
                if write.reply == Reply::Stored {
                    write.reply = Reply::Revised;
                }
            }
            Decision::Answer(answer) if ours(&answer.object) => self.shown(&mut answer.object),
            _ => {}
        }
        decision
    }

    /// The object that the request names.
    pub(crate) fn stored(&self) -> Result<Arc<Object>, Status> {
        self.env
            .view
            .get(&self.key.resource, &self.key.namespace, &self.key.name)
            .ok_or_else(|| Status::not_found(&self.resource(), &self.key.name))
    }

    /// The object in the request's body with its types checked and its form normalised, and warnings.
    pub(crate) fn body(&self, api_version: &str, kind: &str) -> Result<(Value, Vec<String>), Status> {
        let schema = &self.registry.schema;
        let ty = schema.lookup(api_version, kind);
        let wrong = |why: &dyn std::fmt::Display| {
            let version = api_version.rsplit('/').next().unwrap_or_default();
            Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
        };
        let (mut value, unknown) = match &self.req.body {
            Body::Json(bytes) => adapt::decode(schema, ty, bytes).map_err(|e| wrong(&e))?,
            Body::Object(value) => {
                let mut value = value.clone();
                let unknown = adapt::conform(schema, ty, &mut value).map_err(|e| wrong(&e))?;
                (value, unknown)
            }
            Body::None => return Err(Status::bad_request("the request has no body")),
            Body::Patch(..) => return Err(Status::bad_request("the request's body is a patch, not an object")),
        };
        if !value.is_object() {
            return Err(Status::bad_request("the object provided is unrecognized: it is no JSON object"));
        }
        let given = (text(&value, "apiVersion"), text(&value, "kind"));
        if !given.0.is_empty() && given.0 != api_version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({api_version})",
                given.0
            )));
        }
        if !given.1.is_empty() && given.1 != kind {
            return Err(Status::bad_request(format!(
                "the kind in the data ({}) does not match the expected kind ({kind})",
                given.1
            )));
        }
        let warnings = self.judge_unknown(unknown, |why| wrong(&why))?;
        told::keep_reset(&mut value);
        adapt::normalise(schema, ty, &mut value);
        let fields = value::object(&mut value);
        fields.insert("apiVersion".into(), api_version.into());
        fields.insert("kind".into(), kind.into());
        value::child(&mut value, "metadata");
        Ok((value, warnings))
    }

    /// The body as an object of the request's own kind.
    pub(crate) fn object(&self) -> Result<(Value, Vec<String>), Status> {
        let (mut object, warnings) = self.body(&self.api_version(), self.kind.kind)?;
        self.taken(&mut object);
        Ok((object, warnings))
    }

    /// What `fieldValidation` makes of unknown and duplicate fields.
    pub(crate) fn judge_unknown(
        &self,
        unknown: Vec<String>,
        refuse: impl FnOnce(String) -> Status,
    ) -> Result<Vec<String>, Status> {
        match self.req.field_validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                Err(refuse(format!("strict decoding error: {}", unknown.join(", "))))
            }
            FieldValidation::Warn => Ok(unknown),
            _ => Ok(Vec::new()),
        }
    }

    /// Sets the object's namespace to the request's, or says that they differ.
    pub(crate) fn settle_namespace(&self, object: &mut Value) -> Result<(), Status> {
        let meta = value::child(object, "metadata");
        match meta.get("namespace").and_then(Value::as_str).unwrap_or_default() {
            _ if !self.kind.namespaced => {
                meta.remove("namespace");
            }
            _ if self.key.namespace.is_empty() => {
                return Err(Status::bad_request("an empty namespace may not be set during creation"));
            }
            "" => {
                meta.insert("namespace".into(), (*self.key.namespace).into());
            }
            given if given == &*self.key.namespace => {}
            _ => {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        }
        Ok(())
    }

    /// The errors of a new object, or of a change of `old`, as a 422.
    pub(crate) fn validate(&self, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let mut errors: Vec<FieldError> = Vec::new();
        metadata::validate_metadata(&self.kind, new, &mut errors);
        let strategy = &self.kind.strategy;
        match (old, &self.part) {
            (Some(old), Part::Status) => {
                metadata::validate_metadata_update(new, old, &mut errors);
                strategy.validate_status(new, old, &mut errors);
            }
            (Some(old), part) => {
                metadata::validate_metadata_update(new, old, &mut errors);
                strategy.validate(new, &mut errors);
                match part {
                    Part::Other(name) => strategy.validate_subresource(name, new, old, &mut errors),
                    _ => strategy.validate_update(new, old, &mut errors),
                }
            }
            (None, _) => {
                strategy.validate(new, &mut errors);
                strategy.validate_create(new, &mut errors);
            }
        }
        if let Some(version) = self.version {
            (version.validate)(new, old, &mut errors);
        }
        self.refuse(&errors, text(&new["metadata"], "name"))
    }

    /// A 422 if there are errors.
    pub(crate) fn refuse(&self, errors: &[FieldError], name: &str) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(self.kind.group, self.kind.kind, name, errors))
    }

    /// Stores `object`: a Put under `require` and whatever admission added; or its answer alone in a dry run.
    pub(crate) fn put(
        &mut self,
        require: Require,
        object: Value,
        mut effects: Effects,
        code: u16,
        mut warnings: Vec<String>,
    ) -> Result<Decision, Status> {
        warnings.append(&mut effects.warnings);
        if self.req.dry_run {
            return Ok(Decision::Answer(Answer { code, object, warnings }));
        }
        let (body, reply) = if crate::seal::is_sealed(&self.key.resource) {
            let mut sealed = object.clone();
            let sealer = &self.registry.config.sealer;
            effects.require.extend(sealer.seal(self.env.view, self.env.ids, &self.key, &mut sealed)?);
            (encode(&sealed), Reply::Revised)
        } else {
            (encode(&object), Reply::Stored)
        };
        let op = Op::Put { key: self.key.clone(), body, revised: true };
        Ok(self.write(require, op, effects, object, reply, code, warnings))
    }

    /// A transaction with one op on the request's object, and whatever admission added.
    #[allow(clippy::too_many_arguments)] // They are the fields of the result.
    pub(crate) fn write(
        &self,
        require: Require,
        op: Op,
        effects: Effects,
        object: Value,
        reply: Reply,
        code: u16,
        warnings: Vec<String>,
    ) -> Decision {
        let mut txn = Txn { fence: None, require: effects.require, ops: Vec::with_capacity(1 + effects.ops.len()) };
        txn.require.push(require);
        txn.ops.push(op);
        txn.ops.extend(effects.ops);
        let retry = Retry::of(&self.key, effects.contended);
        Decision::Write(Box::new(Write {
            txn,
            key: self.key.clone(),
            op_index: 0,
            object,
            reply,
            code,
            warnings,
            retry,
        }))
    }
}
