//! Which Events are written for what is reported: repetitions are counted on one object instead of written again (client-go
//! `tools/record`).

use std::collections::{BTreeMap, VecDeque};

use copepod_model::Time;
use serde_json::{Value, json};

use crate::EventType;

/// How many different events are remembered for counting.
const REMEMBERED: usize = 4096;

/// What makes two events the same: object, type, reason, message.
type Same = (String, bool, String, String);

/// What one component has reported; whoever writes for it keeps this.
#[derive(Debug)]
pub struct Correlator {
    component: String,
    host: String,
    /// What each is called and how often it has happened.
    seen: BTreeMap<Same, (String, u64)>,
    order: VecDeque<Same>,
    made: u64,
}

/// What to write of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlated {
    /// Where the Event is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// The merge patch that counts it once more, if it has been reported before.
    pub again: Option<Value>,
    /// The Event, to be created if it is new, or if it is not there any more: it has expired then.
    pub object: Value,
}

impl Correlator {
    /// For `component` on `host` (empty for the control plane), which has reported nothing yet.
    pub fn new(component: &str, host: &str) -> Correlator {
        Correlator {
            component: component.into(),
            host: host.into(),
            seen: BTreeMap::new(),
            order: VecDeque::new(),
            made: 0,
        }
    }

    /// Something happened at `now` to `regarding`, a `core/v1.ObjectReference`.
    pub fn correlate(
        &mut self,
        regarding: &Value,
        kind: EventType,
        reason: &str,
        message: &str,
        now: Time,
    ) -> Correlated {
        let text = |k: &str| regarding[k].as_str().unwrap_or_default();
        let namespace = if text("namespace").is_empty() { "default" } else { text("namespace") };
        let same: Same = (
            ["kind", "namespace", "name", "uid", "fieldPath"].map(text).join("/"),
            kind == EventType::Warning,
            reason.into(),
            message.into(),
        );
        let (name, count) = self.count(same, text("name"), now);
        let object = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": regarding,
            "reason": reason, "message": message,
            "type": if kind == EventType::Warning { "Warning" } else { "Normal" },
            "firstTimestamp": now.rfc3339(), "lastTimestamp": now.rfc3339(), "count": count,
            "source": if self.host.is_empty() { json!({"component": self.component}) }
                else { json!({"component": self.component, "host": self.host}) },
            "reportingComponent": self.component, "reportingInstance": self.host,
        });
        let again = (count > 1).then(|| json!({"count": count, "lastTimestamp": now.rfc3339()}));
        Correlated { namespace: namespace.into(), name, again, object }
    }

    /// What one more of the same is called, and how many there are then.
    fn count(&mut self, same: Same, object: &str, now: Time) -> (String, u64) {
        if let Some((name, count)) = self.seen.get_mut(&same) {
            *count += 1;
            return (name.clone(), *count);
        }
        // Two events of one object in the same nanosecond need two names.
        self.made += 1;
        let name = format!("{object}.{:x}", now.0.wrapping_add(self.made));
        self.seen.insert(same.clone(), (name.clone(), 1));
        self.order.push_back(same);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        (name, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "d", "name": name, "uid": name})
    }

    #[test]
    fn what_happens_again_is_counted_on_the_same_object() {
        let mut all = Correlator::new("kubelet", "n");
        let mut tell = |object: &Value, kind: EventType, message: &str, seconds: u64| {
            all.correlate(object, kind, "Killing", message, Time::from_secs(seconds))
        };
        let first = tell(&pod("p"), EventType::Normal, "a", 1);
        assert_eq!((&*first.namespace, &first.again), ("d", &None));
        assert_eq!(first.object["metadata"], json!({"name": first.name, "namespace": "d"}));
        assert_eq!(first.object["source"], json!({"component": "kubelet", "host": "n"}));
        let again = tell(&pod("p"), EventType::Normal, "a", 2);
        assert_eq!(again.name, first.name);
        let since = Time::from_secs(2).rfc3339();
        assert_eq!(again.again, Some(json!({"count": 2, "lastTimestamp": since})));
        assert_eq!((&again.object["count"], &again.object["firstTimestamp"]), (&json!(2), &json!(since)), "expired");
        for (object, kind, message) in [
            (pod("q"), EventType::Normal, "a"),
            (pod("p"), EventType::Warning, "a"),
            (pod("p"), EventType::Normal, "b"),
        ] {
            let other = tell(&object, kind, message, 2);
            assert!(other.again.is_none() && other.name != first.name, "{message} of {object}");
        }
    }

    #[test]
    fn events_at_the_same_time_have_names_of_their_own_and_the_oldest_are_forgotten() {
        let mut all = Correlator::new("scheduler", "");
        let mut tell = |message: &str| {
            let node = json!({"kind": "Node", "name": "n", "uid": "n"});
            all.correlate(&node, EventType::Normal, "NodeNotReady", message, Time::from_secs(1))
        };
        let first = tell("0");
        assert_eq!(first.namespace, "default", "what is about no namespace");
        assert_eq!(first.object["source"], json!({"component": "scheduler"}));
        assert_ne!(tell("1").name, first.name);
        assert_eq!(tell("0").again.map(|patch| patch["count"].clone()), Some(json!(2)));
        (2..=REMEMBERED).for_each(|n| drop(tell(&n.to_string())));
        assert_eq!(tell("0").again, None);
        assert!(tell(&REMEMBERED.to_string()).again.is_some());
    }
}
