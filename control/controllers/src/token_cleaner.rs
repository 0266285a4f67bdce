//! Deletes the Secrets of tokens that have ended: of join tokens, and of bootstrap tokens (upstream's `tokencleaner`). When the latter
//! end is among their values, which are sealed to controllers; so they are told it, and nothing else of them.

use copepod_machine::{Action, Plan, View};
use copepod_model::join_token::{EXPIRATION, Expiration, NAMESPACE, expiration};
use copepod_model::{Key, Object, Time, bootstrap_token, join_token};

use crate::{Config, Controller, TokenEnd};

const RESOURCE: &str = "secrets";

/// What kind of token a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Join,
    Bootstrap,
}

struct TokenCleaner {
    bootstrap_end: TokenEnd,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    TokenCleaner { bootstrap_end: config.token_end.clone() }
}

/// Which kind of token a Secret is, if it is one that may end. The type is immutable, and neither it nor annotations are sealed.
fn kind(object: &Object) -> Option<Kind> {
    if object.namespace() != NAMESPACE {
        return None;
    }
    let value = object.value();
    match value["type"].as_str()? {
        join_token::SECRET_TYPE if object.meta.annotations.contains_key(EXPIRATION) => Some(Kind::Join),
        bootstrap_token::SECRET_TYPE => Some(Kind::Bootstrap),
        _ => None,
    }
}

impl TokenCleaner {
    /// When a token ends; `None` where nobody can say.
    fn end(&self, view: &dyn View, token: &Object, kind: Kind) -> Option<Expiration> {
        match kind {
            Kind::Join => Some(expiration(token.meta.annotations.get(EXPIRATION).map(|v| &**v))),
            Kind::Bootstrap => (self.bootstrap_end)(view, token),
        }
    }
}

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE]
    }

    fn keys(&self, _: &dyn View, _: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        new.filter(|o| kind(o).is_some()).map(|o| o.key.clone()).into_iter().collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        view.list(RESOURCE, Some(NAMESPACE)).filter(|o| kind(o).is_some()).map(|o| o.key.clone()).collect()
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(token) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let Some(kind) = kind(&token) else { return plan };
        let Some(end) = self.end(view, &token, kind) else { return plan };
        match (kind, end) {
            (_, Expiration::Never) => {}
            (_, Expiration::At(at)) if now < at => plan.push(Action::After(at.since(now)), "it ends then"),
            // Whoever wrote something else by hand may still mend it, and it lets nobody in.
            (Kind::Join, Expiration::Unreadable) => {}
            // An end of a bootstrap token that is no time counts as over, as upstream.
            (Kind::Bootstrap, Expiration::Unreadable) | (_, Expiration::At(_)) => {
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
    use std::sync::Arc;

    use super::*;
    use crate::support::sim::{TestView, config};
    use serde_json::json;

    const END: Time = Time::from_secs(1000);

    fn secret(namespace: &str, name: &str, kind: &str, annotation: &str) -> serde_json::Value {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": namespace, "uid": name},
        });
        if !annotation.is_empty() {
            secret["metadata"]["annotations"] = json!({EXPIRATION: annotation});
        }
        secret
    }

    #[test]
    fn a_token_goes_when_it_ends_and_nothing_else_does() {
        let mut view = TestView::default();
        let mut put = |namespace: &str, name: &str, kind: &str, ends: &str| {
            view.put(RESOURCE, secret(namespace, name, kind, ends))
        };
        let token = put(NAMESPACE, "join-token-abcdef", join_token::SECRET_TYPE, &END.rfc3339());
        let odd = put(NAMESPACE, "join-token-aaaaaa", join_token::SECRET_TYPE, "tomorrow");
        put(NAMESPACE, "mine", "Opaque", &END.rfc3339());
        put("a", "join-token-abcdef", join_token::SECRET_TYPE, &END.rfc3339());
        put("a", "bootstrap-token-abcdef", bootstrap_token::SECRET_TYPE, "");
        let controller = new(&config());
        assert_eq!(controller.all(&view), [odd.clone(), token.clone()]);
        let plan = |key: &Key, at: u64| controller.reconcile(&view, key, Time::from_secs(at)).to_string();
        assert_eq!(plan(&token, 990), "again after 10s (it ends then)");
        assert_eq!(plan(&token, 1000), "delete secrets/join-token-abcdef (expired)");
        assert_eq!(plan(&odd, 2000), "");
    }

    #[test]
    fn a_bootstrap_token_goes_when_its_end_is_over_or_is_no_time() {
        let mut view = TestView::default();
        let names = ["at", "never", "odd", "shut"];
        let keys = names.map(|name| view.put(RESOURCE, secret(NAMESPACE, name, bootstrap_token::SECRET_TYPE, "")));
        let token_end: TokenEnd = Arc::new(|_: &dyn View, token: &Object| match token.name() {
            "at" => Some(Expiration::At(END)),
            "never" => Some(Expiration::Never),
            "odd" => Some(Expiration::Unreadable),
            _ => None,
        });
        let controller = new(&Config { token_end, ..config() });
        assert_eq!(controller.all(&view), keys);
        let plans =
            |at: u64| keys.each_ref().map(|key| controller.reconcile(&view, key, Time::from_secs(at)).to_string());
        let odd = "delete secrets/odd (expired)";
        assert_eq!(plans(990), ["again after 10s (it ends then)", "", odd, ""]);
        assert_eq!(plans(1000), ["delete secrets/at (expired)", "", odd, ""]);
    }
}
