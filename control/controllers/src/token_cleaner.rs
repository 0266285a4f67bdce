//! Deletes the Secrets of join tokens that have expired (upstream's `tokencleaner`, which does it for bootstrap tokens). Those of
//! bootstrap tokens stay: when they end is among their values, which are sealed to controllers.

use copepod_machine::{Action, Plan, View};
use copepod_model::join_token::{EXPIRATION, Expiration, NAMESPACE, SECRET_TYPE, expiration};
use copepod_model::{Key, Object, Time};

use crate::{Config, Controller};

const RESOURCE: &str = "secrets";

struct TokenCleaner;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    TokenCleaner
}

/// Whether it is a join token that ends at some time. The type is immutable, and neither it nor annotations are sealed.
fn ends(object: &Object) -> bool {
    object.namespace() == NAMESPACE
        && object.meta.annotations.contains_key(EXPIRATION)
        && object.value()["type"] == SECRET_TYPE
}

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE]
    }

    fn keys(&self, _: &dyn View, _: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        new.filter(|o| ends(o)).map(|o| o.key.clone()).into_iter().collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        view.list(RESOURCE, Some(NAMESPACE)).filter(|o| ends(o)).map(|o| o.key.clone()).collect()
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(token) = view.get(RESOURCE, &key.namespace, &key.name).filter(|o| ends(o)) else { return plan };
        match expiration(token.meta.annotations.get(EXPIRATION).map(|v| &**v)) {
            Expiration::At(at) if now < at => plan.push(Action::After(at.since(now)), "it ends then"),
            // Whoever wrote something else by hand may still mend it, and it lets nobody in.
            Expiration::Never | Expiration::Unreadable => {}
            Expiration::At(_) => {
                let delete = Action::Delete {
                    resource: RESOURCE.into(),
                    namespace: key.namespace.to_string(),
                    name: key.name.to_string(),
                    uid: token.meta.uid.to_string(),
                    propagation: None,
                    grace_seconds: None,
                };
                plan.push(delete, "expired");
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};
    use serde_json::json;

    #[test]
    fn a_token_goes_when_it_ends_and_nothing_else_does() {
        let mut view = TestView::default();
        let mut put = |namespace: &str, name: &str, kind: &str, ends: &str| {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind,
                "metadata": {"name": name, "namespace": namespace, "uid": name, "annotations": {EXPIRATION: ends}},
            });
            view.put(RESOURCE, secret)
        };
        let end = Time::from_secs(1000);
        let token = put(NAMESPACE, "join-token-abcdef", SECRET_TYPE, &end.rfc3339());
        let odd = put(NAMESPACE, "join-token-aaaaaa", SECRET_TYPE, "tomorrow");
        put(NAMESPACE, "mine", "Opaque", &end.rfc3339());
        put("a", "join-token-abcdef", SECRET_TYPE, &end.rfc3339());
        let controller = new(&config());
        assert_eq!(controller.all(&view), [odd.clone(), token.clone()]);
        let plan = |key: &Key, at: u64| controller.reconcile(&view, key, Time::from_secs(at)).to_string();
        assert_eq!(plan(&token, 990), "again after 10s (it ends then)");
        assert_eq!(plan(&token, 1000), "delete secrets/join-token-abcdef (expired)");
        assert_eq!(plan(&odd, 2000), "");
    }
}
