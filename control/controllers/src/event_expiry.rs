//! Deletes Events some time after they last happened. (Upstream leaves this to etcd's leases.)

use std::time::Duration;

use copepod_machine::{Action, Plan, View};
use copepod_model::{Key, Object, Time};

use crate::support::BURST;
use crate::{Config, Controller};

const RESOURCE: &str = "events";
/// How often all Events are looked at.
const SWEEP: Duration = Duration::from_secs(60);

struct EventExpiry {
    ttl: Duration,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    EventExpiry { ttl: config.event_ttl }
}

impl Controller for EventExpiry {
    fn name(&self) -> &'static str {
        "event-expiry"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[]
    }

    fn keys(&self, _: &dyn View, _: Option<&Object>, _: Option<&Object>) -> Vec<Key> {
        vec![]
    }

    /// One key stands for all Events: a timer for each would cost more than the sweep.
    fn all(&self, _: &dyn View) -> Vec<Key> {
        vec![Key::new(RESOURCE, "", "")]
    }

    fn reconcile(&self, view: &dyn View, _: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        // An Event cannot have expired before its creation time has, and that is decoded already.
        let old = view.list(RESOURCE, None).filter(|e| e.meta.created().is_none_or(|t| t + self.ttl <= now));
        for event in old.filter(|e| last_seen(e).is_none_or(|t| t + self.ttl <= now)).take(BURST) {
            let delete = Action::Delete {
                resource: RESOURCE.into(),
                namespace: event.namespace().into(),
                name: event.name().into(),
                uid: event.meta.uid.to_string(),
                propagation: None,
                grace_seconds: None,
            };
            plan.push(delete, "expired");
        }
        let wait = if plan.0.len() == BURST { Duration::ZERO } else { SWEEP };
        plan.push(Action::After(wait), "the next sweep");
        plan
    }
}

fn last_seen(event: &Object) -> Option<Time> {
    let v = event.value();
    let times =
        [&v["lastTimestamp"], &v["eventTime"], &v["series"]["lastObservedTime"], &v["metadata"]["creationTimestamp"]];
    times.into_iter().filter_map(|t| Time::parse(t.as_str()?)).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};
    use serde_json::json;

    #[test]
    fn an_event_that_goes_on_happening_stays() {
        let event = |name: &str, created: u64, last: u64| {
            json!({
                "apiVersion": "v1", "kind": "Event", "lastTimestamp": Time::from_secs(last).rfc3339(),
                "metadata": {"name": name, "namespace": "a", "uid": name,
                    "creationTimestamp": Time::from_secs(created).rfc3339()},
            })
        };
        let mut view = TestView::default();
        for e in [event("old", 100, 100), event("repeated", 100, 3000), event("young", 3000, 3000)] {
            view.put("events", e);
        }
        let controller = new(&config());
        let plan = controller.reconcile(&view, &controller.all(&view)[0], Time::from_secs(3700));
        assert_eq!(plan.to_string(), "delete events/old (expired); again after 60s (the next sweep)");
    }
}
