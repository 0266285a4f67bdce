//! Static pods among the others: started from their files, shown in the API by mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copepod_model::request::DeleteOptions;
use copepod_model::{Key, Object, object};
use copepod_node_plan::{Effect, MIRROR, MirrorStep, Observed, admit, host_ports, mirror_step};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::entry::Entry;
use super::{Done, Pods, RETRY, Uid, claim};
use crate::clock::now;
use crate::static_pods::Set;

/// Namespace and name.
pub(super) type Name = (String, String);

/// What the files ask for and what the API shows of it.
#[derive(Default)]
pub(super) struct Statics {
    /// `None` until the folder was read.
    wanted: Option<Set>,
    mirrors: BTreeMap<Name, Arc<Object>>,
    /// Mirrors that a request is about.
    busy: BTreeSet<Name>,
}

fn name(object: &Object) -> Name {
    (object.namespace().into(), object.name().into())
}

pub(super) fn is_mirror(object: &Object) -> bool {
    object.meta.annotations.contains_key(MIRROR)
}

impl Pods {
    /// The files ask for these pods.
    pub(super) fn statics(&mut self, wanted: Set) {
        self.statics.wanted = Some(wanted);
        self.sync_statics();
    }

    /// Starts those that are wanted, ends those that are not, and looks after all mirrors. Not before the API has said
    /// what was there, since a pod goes on where it left off.
    pub(super) fn sync_statics(&mut self) {
        let Some(wanted) = self.statics.wanted.clone().filter(|_| self.listed) else { return };
        for (uid, entry) in &mut self.entries {
            let asked = wanted.get(&name(&entry.object)).is_some_and(|pod| pod["metadata"]["uid"] == **uid);
            if entry.is_static && !asked && entry.object.meta.deletion_timestamp.is_none() {
                let mut value = entry.object.value();
                let grace = value["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
                let end = now() + std::time::Duration::from_secs(grace);
                value["metadata"]["deletionTimestamp"] = end.rfc3339().into();
                value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
                entry.object = local(&value);
                self.dirty.insert(uid.clone());
            }
        }
        for (name, pod) in &wanted {
            self.start_static(name, pod);
        }
        if !std::mem::replace(&mut self.swept, true) {
            self.sweep(&wanted);
        }
        let names: BTreeSet<Name> = wanted.keys().chain(self.statics.mirrors.keys()).cloned().collect();
        names.into_iter().for_each(|n| self.mirror(n));
    }

    /// Deletes the logs and volumes that earlier runs left and that belong to no pod, once all pods are known.
    fn sweep(&self, wanted: &Set) {
        let wanted = wanted.values().filter_map(|pod| pod["metadata"]["uid"].as_str()).map(Uid::from);
        let known: BTreeSet<Uid> = self.entries.keys().chain(self.homeless.keys()).cloned().chain(wanted).collect();
        self.logs.sweep(|uid| known.contains(uid));
        let _ = self.effects.send(Effect::KeepPods(known));
    }

    fn start_static(&mut self, wanted: &Name, pod: &Value) {
        // One of the same name that is still ending is waited for.
        if self.entries.values().any(|e| e.is_static && name(&e.object) == *wanted) {
            return;
        }
        let mut pod = pod.clone();
        let mirror = self.statics.mirrors.get(wanted).cloned();
        let same = |m: &Arc<Object>| m.meta.annotations.get(MIRROR).is_some_and(|h| pod["metadata"]["uid"] == **h);
        if let Some(mirror) = mirror.filter(same) {
            pod["status"] = mirror.value()["status"].take();
        }
        let object = local(&pod);
        let Some(typed) = object.typed::<Pod>() else { return };
        let (claim, ports) = (claim(&object, &typed), host_ports(&typed));
        if typed.status.as_ref().is_none_or(|s| s.start_time.is_none())
            && let Err(refusal) = admit(&pod, claim, self.taken, self.clash(&ports), &self.facts, &self.node)
        {
            tracing::warn!(pod = %object.key, reason = refusal.reason, message = refusal.message, "a static pod is not taken");
            return;
        }
        let Some((ip, addressed)) = self.address(&typed) else {
            tracing::warn!(pod = %object.key, "there is no address for a static pod");
            return;
        };
        let uid = object.meta.uid.clone();
        let mut entry = Entry::new(object, Observed::adopt(&typed, ip, now()), addressed, claim);
        entry.is_static = true;
        entry.mirror = self.statics.mirrors.get(wanted).cloned();
        self.take(&uid, claim, ports);
        self.entries.insert(uid.clone(), entry);
        self.dirty.begin(uid);
    }

    /// A mirror is new or different.
    pub(super) fn put_mirror(&mut self, object: Arc<Object>) {
        let name = name(&object);
        self.show(&name, Some(&object));
        self.statics.mirrors.insert(name.clone(), object);
        self.mirror(name);
    }

    /// Tells the pod behind a mirror, whose status has to be written there.
    fn show(&mut self, wanted: &Name, mirror: Option<&Arc<Object>>) {
        let found = self.entries.iter_mut().find(|(_, e)| e.is_static && name(&e.object) == *wanted);
        if let Some((uid, entry)) = found
            && entry.show(mirror.cloned())
        {
            self.dirty.insert(uid.clone());
        }
    }

    /// Something has gone; whether it was a mirror.
    pub(super) fn forget_mirror(&mut self, uid: &Uid) -> bool {
        let found = self.statics.mirrors.iter().find(|(_, m)| m.meta.uid == *uid).map(|(n, _)| n.clone());
        let Some(name) = found else { return false };
        self.statics.mirrors.remove(&name);
        self.show(&name, None);
        self.mirror(name);
        true
    }

    /// The API has been read anew: mirrors that it did not show have gone.
    pub(super) fn keep_mirrors(&mut self, keep: &BTreeSet<Uid>) {
        let gone: Vec<Uid> =
            self.statics.mirrors.values().map(|m| m.meta.uid.clone()).filter(|u| !keep.contains(u)).collect();
        for uid in gone {
            self.forget_mirror(&uid);
        }
    }

    /// Does what has to be done about one mirror, unless something is under way.
    fn mirror(&mut self, name: Name) {
        let Some(wanted) = self.statics.wanted.as_ref().filter(|_| self.listed) else { return };
        let there = self.statics.mirrors.get(&name).map(|m| m.value());
        let uid = self.node["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        let step = mirror_step(wanted.get(&name), there.as_ref(), (&self.facts.name, &uid));
        if step == MirrorStep::Keep || !self.statics.busy.insert(name.clone()) {
            return;
        }
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let done = match step {
                MirrorStep::Create(pod) => client.create("pods", &name.0, pod).await.map(Some),
                MirrorStep::Delete(uid) => {
                    let options =
                        DeleteOptions { grace_period_seconds: Some(0), uid: Some(uid), ..DeleteOptions::default() };
                    match client.delete("pods", &name.0, &name.1, options).await {
                        Err(e) if e.code != 404 && e.code != 409 => Err(e),
                        _ => Ok(None),
                    }
                }
                MirrorStep::Keep => Ok(None),
            };
            if let Err(error) = &done {
                tracing::warn!(pod = name.1, %error, "cannot mirror a static pod yet");
                tokio::time::sleep(RETRY).await;
            }
            Done::Mirrored(name, done.map_err(drop))
        });
    }

    /// A request about a mirror has come back.
    pub(super) fn mirrored(&mut self, name: Name, result: Result<Option<Arc<Object>>, ()>) {
        self.statics.busy.remove(&name);
        match result {
            Ok(Some(object)) => self.put_mirror(object),
            // The watch tells when it has gone, and may have told already.
            Ok(None) if self.statics.mirrors.contains_key(&name) => {}
            _ => self.mirror(name),
        }
    }
}

/// An object that no API has: it has no revision.
fn local(value: &Value) -> Arc<Object> {
    let part = |n: &str| value["metadata"][n].as_str().unwrap_or_default();
    let body = object::with_revision(&object::encode(value), 0);
    Arc::new(Object::decode(Key::new("pods", part("namespace"), part("name")), 0, body))
}
