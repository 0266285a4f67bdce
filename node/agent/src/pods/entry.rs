//! What the agent keeps of one pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use copepod_model::Object;
use copepod_node_plan::usage::ProbeCount;
use copepod_node_plan::{Claim, Observed, Written};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A pod of this node.
pub(crate) struct Entry {
    /// The newest version that the watch or a write of ours has shown.
    pub object: Arc<Object>,
    /// A version of the object, decoded: kept while the pod comes up, in which it is planned several times.
    decoded: Option<(Arc<Object>, Box<Pod>)>,
    pub observed: Observed,
    /// The status that it should have, until it is written.
    pub wanted: Option<Value>,
    /// It says no more than that the pod comes up.
    pub coming: bool,
    /// The status that was written last.
    written: Written,
    /// A write is under way.
    pub writing: bool,
    /// Nothing of it is left here: its object can go.
    pub remove: bool,
    pub delete_sent: bool,
    /// Its object has gone already.
    pub gone: bool,
    /// It has an address of the pool.
    pub addressed: bool,
    /// What it takes of the node, as long as it does.
    pub claim: Claim,
    /// It comes from a file, and the API knows only its mirror.
    pub is_static: bool,
    /// The mirror of a static pod, while it has one.
    pub mirror: Option<Arc<Object>>,
}

/// A write that is due.
#[derive(Debug, PartialEq)]
pub(crate) enum Write {
    /// Patch the status; the number is that of [`Written`].
    Status(Value, u64),
    /// Delete the object with no grace.
    Delete,
}

impl Entry {
    pub fn new(object: Arc<Object>, observed: Observed, addressed: bool, claim: Claim) -> Entry {
        Entry {
            object,
            decoded: None,
            observed,
            wanted: None,
            coming: false,
            written: Written::default(),
            writing: false,
            remove: false,
            delete_sent: false,
            gone: false,
            addressed,
            claim,
            is_static: false,
            mirror: None,
        }
    }

    /// The object decoded; [`Entry::keep`] gives it back.
    pub fn pod(&mut self) -> Option<Box<Pod>> {
        match self.decoded.take() {
            Some((of, pod)) if Arc::ptr_eq(&of, &self.object) => Some(pod),
            _ => self.object.typed().map(Box::new),
        }
    }

    /// Keeps what the object decodes to for the next time.
    pub fn keep(&mut self, pod: Box<Pod>) {
        self.decoded = Some((self.object.clone(), pod));
    }

    /// The status as it is known best.
    pub fn status(&self) -> Value {
        self.wanted.clone().unwrap_or_else(|| self.object.spec_and_status().1)
    }

    /// How its probes have ended so far.
    pub fn probe_counts(&self) -> impl Iterator<Item = ProbeCount> + '_ {
        self.observed.probe_counts().map(|(container, kind, successful, failed)| ProbeCount {
            uid: self.object.meta.uid.clone(),
            namespace: self.object.namespace().into(),
            pod: self.object.name().into(),
            container: container.into(),
            kind,
            successful,
            failed,
        })
    }

    /// What has to be written now, if anything.
    pub fn write(&mut self) -> Option<Write> {
        if self.writing || self.gone {
            return None;
        }
        let object = if self.is_static { self.mirror.clone()? } else { self.object.clone() };
        // The last words of a pod that goes at once matter to those who still hold it, or who wait for its result.
        let matters = |o: &Object| !o.meta.finalizers.is_empty() || o.value()["spec"]["restartPolicy"] != "Always";
        if let Some(wanted) = &self.wanted
            && (!self.remove || matters(&object))
        {
            match self.written.due(&object.spec_and_status().1, wanted) {
                Some((status, hash)) => {
                    self.writing = true;
                    return Some(Write::Status(
                        json!({"metadata": {"uid": &*object.meta.uid}, "status": status}),
                        hash,
                    ));
                }
                None => self.wanted = None,
            }
        }
        if self.remove && !self.delete_sent && !self.is_static {
            self.writing = true;
            self.delete_sent = true;
            return Some(Write::Delete);
        }
        None
    }

    /// A status write has succeeded; whether the pod has to be planned because of what the write came upon. It may have been
    /// faster than the watch, whose news of what others did before it, such as a deletion, looks old then.
    pub fn wrote(&mut self, hash: u64, object: Arc<Object>) -> bool {
        let made = object.spec_and_status().1;
        self.written.wrote(hash, &made);
        if self.is_static {
            self.show(Some(object));
            return false;
        }
        let (before, after) = (&self.object.meta, &object.meta);
        let other = before.deletion_timestamp != after.deletion_timestamp
            || before.generation != after.generation
            || (&before.labels, &before.annotations) != (&after.labels, &after.annotations)
            || self.wanted.as_ref().is_some_and(|wanted| verdicts(wanted) != verdicts(&made));
        self.see(object) && other
    }

    /// Takes in a static pod's mirror; `true` if it is another one, in which everything has to be written anew.
    pub fn show(&mut self, mirror: Option<Arc<Object>>) -> bool {
        let uid = |m: &Option<Arc<Object>>| m.as_ref().map(|m| m.meta.uid.clone());
        let other = uid(&self.mirror) != uid(&mirror);
        if other {
            self.written = Written::default();
        }
        self.mirror = mirror;
        other
    }

    /// Takes in a version of the object; `false` if it is known already.
    pub fn see(&mut self, object: Arc<Object>) -> bool {
        let newer = object.revision > self.object.revision;
        if newer {
            self.object = object;
        }
        newer
    }
}

/// What the conditions of a status say: types and statuses.
fn verdicts(status: &Value) -> BTreeSet<(&str, &str)> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|c| Some((c["type"].as_str()?, c["status"].as_str()?))).collect()
}

#[cfg(test)]
mod tests {
    use copepod_model::{Key, Time, object};

    use super::*;

    fn version(revision: u64, phase: &str) -> Arc<Object> {
        stored(revision, json!({"name": "p", "uid": "u"}), json!({"phase": phase}))
    }

    fn stored(revision: u64, metadata: Value, status: Value) -> Arc<Object> {
        let value = json!({"metadata": metadata, "spec": {"containers": []}, "status": status});
        let body = object::with_revision(&object::encode(&value), revision);
        Arc::new(Object::decode(Key::new("pods", "d", "p"), revision, body))
    }

    fn entry(object: Arc<Object>) -> Entry {
        let observed = Observed::adopt(&Pod::default(), [10, 244, 0, 1].into(), Time::from_secs(1));
        Entry::new(object, observed, false, Claim::default())
    }

    #[test]
    fn what_was_decoded_is_used_for_the_same_version_alone() {
        let mut entry = entry(version(1, "Pending"));
        let phase = |pod: Option<Box<Pod>>| pod.and_then(|p| p.status?.phase);
        let mut kept = entry.pod().unwrap();
        kept.status.as_mut().unwrap().phase = Some("kept".into());
        entry.keep(kept);
        assert_eq!(phase(entry.pod()).as_deref(), Some("kept"));
        assert_eq!(phase(entry.pod()).as_deref(), Some("Pending"), "it was not given back");
        let mut kept = entry.pod().unwrap();
        kept.status.as_mut().unwrap().phase = Some("kept".into());
        entry.keep(kept);
        assert!(entry.see(version(2, "Running")));
        assert_eq!(phase(entry.pod()).as_deref(), Some("Running"));
    }

    #[test]
    fn a_status_is_written_once() {
        let mut entry = entry(version(1, "Pending"));
        entry.wanted = Some(json!({"phase": "Running"}));
        let Some(Write::Status(patch, hash)) = entry.write() else { panic!("nothing to write") };
        assert_eq!(patch, json!({"metadata": {"uid": "u"}, "status": {"phase": "Running"}}));
        assert_eq!(entry.write(), None, "one is under way");
        entry.writing = false;
        // The API has made something else of it.
        entry.wrote(hash, version(2, "Strange"));
        assert_eq!((entry.write(), &entry.wanted), (None, &None));
        // Somebody else has: what is wanted is what it was.
        entry.see(version(3, "Pending"));
        entry.wanted = Some(json!({"phase": "Running"}));
        assert!(matches!(entry.write(), Some(Write::Status(..))));
        entry.writing = false;
        entry.wrote(hash, version(4, "Running"));
        entry.wanted = Some(json!({"phase": "Failed"}));
        assert!(matches!(entry.write(), Some(Write::Status(..))));
    }

    #[test]
    fn what_a_write_comes_upon_is_not_lost() {
        let named = json!({"name": "p", "uid": "u"});
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let says =
            |gate: &str| json!({"conditions": [condition("Ready", "True"), condition("example.com/gate", gate)]});
        let writes = |made: Arc<Object>| {
            let mut entry = entry(version(1, "Pending"));
            entry.wanted = Some(says("False"));
            let Some(Write::Status(_, hash)) = entry.write() else { panic!("nothing to write") };
            (entry.wrote(hash, made.clone()), entry.see(made))
        };
        assert_eq!(writes(stored(2, named.clone(), says("False"))), (false, false), "our own write is no news");
        // The watch's news of these would come too late, as an older version.
        assert_eq!(writes(stored(3, named, says("True"))), (true, false));
        let going = json!({"name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(writes(stored(3, going.clone(), says("False"))), (true, false));
        // The watch was faster, and the pod is planned already.
        let mut entry = entry(version(1, "Pending"));
        entry.wanted = Some(says("False"));
        let Some(Write::Status(_, hash)) = entry.write() else { panic!("nothing to write") };
        assert!(entry.see(stored(3, going.clone(), says("False"))));
        assert!(!entry.wrote(hash, stored(3, going, says("False"))));
    }
}
