//! Floor 2: the decision of every API request, as a pure function of the stored objects, the request, the time and a
//! source of ids. A write becomes a [`Txn`] whose preconditions are what the decision read; the server proposes it and,
//! if a precondition no longer holds, decides again on a newer view.
#![deny(clippy::iter_over_hash_type)]

mod adapt;
mod admission;
mod call;
mod cidr;
mod create;
mod decision;
mod delete;
mod eviction;
mod fields;
#[doc(hidden)]
pub mod fuzzing;
mod patch;
mod pods;
pub mod rbac;
mod read;
mod review;
mod scale;
pub mod seal;
mod system_objects;
mod update;
mod value;
mod watch;

use std::ops::RangeInclusive;
use std::sync::Arc;

use copepod_machine::{Ids, Time, View};
use copepod_model::kinds::core::binding;
use copepod_model::kinds::{Kind, Kinds, Version};
use copepod_model::schema::Schema;
use copepod_model::{ApiRequest, Key, Object, Status, Verb};
use copepod_state::Txn;
use serde_json::Value;

pub use admission::{Evaluation, IMAGE_HOST, image_attributes, missing_addresses};
use call::{Call, Part};
pub use cidr::Cidr;
pub use decision::{Answer, Decision, Reply, Retry, Write};
pub use rbac::bootstrap::{KUBELET_CLIENT, bootstrap_objects};
pub use rbac::{Attributes, Authz};
pub use read::{Page, check_list_options, continue_revision};
pub use seal::Sealer;
pub use watch::{EventKind, WatchFilter};

/// What the decisions depend on besides the stored objects.
pub struct Config {
    /// Where Services get their addresses: one network, or one of each family, that of the default family first.
    pub service_cidrs: Vec<Cidr>,
    /// Where Services get their node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Seals what may not be stored in plain text.
    pub sealer: Sealer,
}

impl Config {
    /// Kubernetes' ranges: 10.96.0.0/12 is kubeadm's, but the design's 10.96.0.0/16 is the default here, and for IPv6 what
    /// kind has.
    pub fn new(sealer: Sealer) -> Config {
        Config { service_cidrs: Cidr::DEFAULT.into(), node_ports: 30000..=32767, sealer }
    }
}

/// The registry: the kinds that are served and how requests about them are decided.
pub struct Registry {
    /// The kinds.
    pub kinds: Arc<Kinds>,
    /// The types of their objects.
    pub schema: Schema,
    /// The rest.
    pub config: Config,
}

/// What varies from one decision to the next.
pub struct Env<'a> {
    /// The stored objects.
    pub view: &'a dyn View,
    /// The wall clock.
    pub now: Time,
    /// Where uids, name suffixes, nonces and random addresses come from.
    pub ids: &'a mut dyn Ids,
    /// What the Pod Security Standards had to say of the request, to be counted once the decision stands.
    pub evaluations: Vec<Evaluation>,
}

impl<'a> Env<'a> {
    /// For one decision.
    pub fn new(view: &'a dyn View, now: Time, ids: &'a mut dyn Ids) -> Env<'a> {
        Env { view, now, ids, evaluations: Vec::new() }
    }
}

/// Whether the user of a request may make it: for deciders that must know without asking the API.
pub fn allows(view: &dyn View, request: &ApiRequest) -> bool {
    rbac::authorize(view, &Attributes::of(request)).allowed
}

impl Registry {
    /// A registry of `kinds`, whose types are the built-in ones.
    pub fn new(kinds: Arc<Kinds>, config: Config) -> Registry {
        Registry { kinds, schema: Schema::builtin().clone(), config }
    }

    /// Whether the user may do what `attributes` say.
    pub fn authorize(&self, view: &dyn View, attributes: &Attributes<'_>) -> Authz {
        rbac::authorize(view, attributes)
    }

    /// Decides a create, update, patch or delete of an object or subresource that the registry implements. The caller
    /// has authorized the request.
    pub fn decide(&self, env: &mut Env<'_>, req: &ApiRequest) -> Result<Decision, Status> {
        if let Some(answer) = review::decide(env.view, req) {
            return answer.map(Decision::Answer);
        }
        let mut call = Call::new(self, env, req)?;
        let decision = match (req.verb, &call.part) {
            (Verb::Create, Part::Whole) if &*call.key.resource == binding::RESOURCE => pods::bind_named(&mut call),
            (Verb::Create, Part::Whole) if req.name.is_empty() => create::create(&mut call),
            (Verb::Create, Part::Other("binding")) => pods::bind(&mut call),
            (Verb::Create, Part::Other("eviction")) => eviction::evict(&mut call),
            (Verb::Update, Part::Scale(_)) => scale::update(&mut call),
            (Verb::Update, Part::Whole | Part::Status) => update::update(&mut call),
            (Verb::Update, Part::Other("finalize" | "ephemeralcontainers" | "resize" | "approval")) => {
                update::update(&mut call)
            }
            (Verb::Patch, Part::Scale(_)) => scale::patch(&mut call),
            (Verb::Patch, Part::Whole | Part::Status) => patch::patch(&mut call),
            (Verb::Patch, Part::Other("finalize" | "ephemeralcontainers" | "resize" | "approval")) => {
                patch::patch(&mut call)
            }
            (Verb::Delete, Part::Whole) => delete::delete(&mut call),
            _ => Err(Status::method_not_supported(&req.group_resource(), req.verb.as_str())),
        };
        decision.map(|decision| call.answered(decision))
    }

    /// The object that a get names; of a subresource `status`, the whole object. A `scale` is made by
    /// [`Registry::get_scale`].
    pub fn get(&self, view: &dyn View, req: &ApiRequest) -> Result<Arc<Object>, Status> {
        let object = read::get(self, view, req)?;
        Ok(match self.version(req) {
            Some((kind, version)) => kind.convert(version, &object),
            None => object,
        })
    }

    /// The kind of a request and the version that it speaks, if that is not the stored one.
    pub fn version(&self, req: &ApiRequest) -> Option<(Arc<Kind>, &'static Version)> {
        let kind = self.kinds.stored(&req.group, &req.resource)?;
        kind.other_version(&req.group, &req.version).map(|v| (kind.clone(), v))
    }

    /// The GroupResource under which the objects of a request are stored.
    pub fn stored_as(&self, req: &ApiRequest) -> String {
        let kind = self.kinds.stored(&req.group, &req.resource);
        kind.map_or_else(|| req.group_resource(), |kind| kind.group_resource())
    }

    /// The `autoscaling/v1` Scale of the object that the request names.
    pub fn get_scale(&self, view: &dyn View, req: &ApiRequest) -> Result<Value, Status> {
        scale::get(self, view, req)
    }

    /// A page of a collection. `view` is the snapshot at the revision that the request or its token asks for.
    pub fn list(&self, view: &dyn View, req: &ApiRequest) -> Result<Page, Status> {
        let mut page = read::list(self, view, req)?;
        if let Some((kind, version)) = self.version(req) {
            page.items.iter_mut().for_each(|o| *o = kind.convert(version, o));
        }
        Ok(page)
    }

    /// What a watch lets through.
    pub fn watch_filter(&self, req: &ApiRequest) -> Result<WatchFilter, Status> {
        WatchFilter::of(self, req)
    }

    /// One delete request for each object that a deletecollection means, in order.
    pub fn deletions(&self, view: &dyn View, req: &ApiRequest) -> Result<Vec<ApiRequest>, Status> {
        delete::deletions(self, view, req)
    }

    /// Whether objects of `resource` (a GroupResource) have sealed values, so that their stored bytes are not what a
    /// client may see.
    pub fn is_sealed(&self, resource: &str) -> bool {
        seal::is_sealed(resource)
    }

    /// The object as clients see it. `view` is as new as the object, for the key that has sealed it; 500 where there is no
    /// such key, or a value is damaged.
    pub fn unseal(&self, view: &dyn View, object: &Object) -> Result<Value, Status> {
        let mut value = object.value();
        self.config.sealer.open(view, &object.key, &mut value)?;
        Ok(value)
    }

    /// The transaction that makes a new key, with which everything is sealed from then on, and the key's id. Keys but the
    /// newest that seal nothing any more are dropped. 500 where the keyring cannot be read.
    pub fn add_seal_key(&self, env: &mut Env<'_>) -> Result<(u64, Txn), Status> {
        self.config.sealer.add_key(env.view, env.ids)
    }

    /// The transaction that seals a stored object with the newest key; none if it is sealed so already, or has nothing to
    /// seal. 500 as for [`Registry::unseal`].
    pub fn reseal(&self, env: &mut Env<'_>, object: &Object) -> Result<Option<Txn>, Status> {
        self.config.sealer.reseal(env.view, env.ids, object)
    }

    /// Where everything is that may have sealed values.
    pub fn sealed(&self, view: &dyn View) -> Vec<Key> {
        seal::objects(view).map(|object| object.key.clone()).collect()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
