//! Who may ask the node's API for what, as the kubelet has it: users by client certificate or TokenReview, rights by
//! SubjectAccessReview on subresources of the node (`pkg/kubelet/server/auth.go`; KEP-2862).

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_model::{Time, UserInfo};
use serde_json::{Value, json};

/// How long a token's user is remembered (`authentication.webhook.cacheTTL`).
pub const AUTHENTICATED: Duration = Duration::from_secs(120);
/// How long it is remembered that somebody may (`authorization.webhook.cacheAuthorizedTTL`).
pub const ALLOWED: Duration = Duration::from_secs(300);
/// How long it is remembered that somebody may not (`authorization.webhook.cacheUnauthorizedTTL`).
pub const REFUSED: Duration = Duration::from_secs(30);

/// What a request needs: the verb on one of these subresources of the node, asked for in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// API verb, empty for methods that have none.
    pub verb: &'static str,
    /// Subresources of `nodes`, of which one is enough.
    pub subresources: &'static [&'static str],
}

/// What a request needs, by its method and the decoded segments of its path.
pub fn attributes(method: &str, path: &[&str]) -> Attributes {
    let verb = match method {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let subresources: &'static [&'static str] = match path.first().copied().unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "statusz" => &["statusz", "proxy"],
        _ => &["proxy"],
    };
    Attributes { verb, subresources }
}

impl Attributes {
    /// The text of a 403.
    pub fn forbidden(&self, user: &str) -> String {
        let (verb, all) = (self.verb, self.subresources.join(" "));
        format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{all}])")
    }

    /// The text of a 500: nobody could say whether it is allowed.
    pub fn undecided(&self, user: &str, subresource: &str) -> String {
        let verb = self.verb;
        format!("Authorization error (user={user}, verb={verb}, resource=nodes, subresource={subresource})")
    }
}

/// The TokenReview that asks whose token it is.
pub fn token_review(token: &str) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}})
}

/// The user that a TokenReview has come to, if any.
pub fn reviewed(review: &Value) -> Option<UserInfo> {
    let status = &review["status"];
    if status["authenticated"] != true || status["error"].as_str().is_some_and(|e| !e.is_empty()) {
        return None;
    }
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
    };
    let user = &status["user"];
    let name = user["username"].as_str().filter(|n| !n.is_empty())?.to_string();
    let mut groups = texts(&user["groups"]);
    if !groups.iter().any(|g| g == "system:authenticated") {
        groups.push("system:authenticated".into());
    }
    let extra = user["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values)));
    Some(UserInfo { name, uid: user["uid"].as_str().unwrap_or_default().into(), groups, extra: extra.collect() })
}

/// The SubjectAccessReview that asks whether `user` may do `verb` to a subresource of the node.
pub fn subject_access_review(node: &str, user: &UserInfo, verb: &str, subresource: &str) -> Value {
    let extra: BTreeMap<&str, &[String]> = user.extra.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": user.name, "uid": user.uid, "groups": user.groups, "extra": extra,
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node,
            },
        },
    })
}

/// Whether a SubjectAccessReview allows it.
pub fn allowed(review: &Value) -> bool {
    review["status"]["allowed"] == true && review["status"]["denied"] != true
}

/// Answers that are good for a while; at most so many.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: BTreeMap<K, (Time, V)>,
    room: usize,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    /// A cache of at most `room` answers.
    pub fn new(room: usize) -> Cache<K, V> {
        Cache { entries: BTreeMap::new(), room }
    }

    /// The answer, unless it is too old.
    pub fn get(&self, key: &K, now: Time) -> Option<V> {
        self.entries.get(key).filter(|(until, _)| now < *until).map(|(_, v)| v.clone())
    }

    /// Keeps an answer until a time. Where there is no room, what is too old goes, else what would be so first.
    pub fn put(&mut self, key: K, value: V, until: Time, now: Time) {
        if self.entries.len() >= self.room && !self.entries.contains_key(&key) {
            self.entries.retain(|_, (until, _)| now < *until);
            if self.entries.len() >= self.room {
                let first = self.entries.iter().min_by_key(|(_, (until, _))| *until).map(|(k, _)| k.clone());
                if let Some(first) = first {
                    self.entries.remove(&first);
                }
            }
        }
        self.entries.insert(key, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_need_what_the_kubelet_asks_for() {
        for (method, path, verb, subresources) in [
            ("GET", "/stats/summary", "get", &["stats"][..]),
            ("GET", "/metrics", "get", &["metrics"]),
            ("GET", "/metrics/cadvisor", "get", &["metrics"]),
            ("GET", "/logs/syslog", "get", &["log"]),
            ("POST", "/checkpoint/ns/p/c", "create", &["checkpoint"]),
            ("GET", "/pods", "get", &["pods", "proxy"]),
            ("GET", "/runningpods/", "get", &["pods", "proxy"]),
            ("GET", "/healthz/ping", "get", &["healthz", "proxy"]),
            ("GET", "/configz", "get", &["configz", "proxy"]),
            ("GET", "/statusz", "get", &["statusz", "proxy"]),
            ("GET", "/statsx", "get", &["proxy"]),
            ("GET", "/containerLogs/ns/p/c", "get", &["proxy"]),
            ("POST", "/exec/ns/p/c", "create", &["proxy"]),
            ("PUT", "/", "update", &["proxy"]),
            ("PATCH", "/x", "patch", &["proxy"]),
            ("DELETE", "/x", "delete", &["proxy"]),
            ("OPTIONS", "/metrics", "", &["metrics"]),
        ] {
            let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
            assert_eq!(attributes(method, &segments), Attributes { verb, subresources }, "{method} {path}");
        }
    }

    #[test]
    fn refusals_have_the_kubelets_words() {
        let wanted = attributes("GET", &["pods"]);
        let text = "Forbidden (user=bob, verb=get, resource=nodes, subresource(s)=[pods proxy])";
        assert_eq!(wanted.forbidden("bob"), text);
        let text = "Authorization error (user=bob, verb=get, resource=nodes, subresource=proxy)";
        assert_eq!(wanted.undecided("bob", "proxy"), text);
    }

    #[test]
    fn reviews_are_written_and_read() {
        let status = json!({"authenticated": true, "user": {
            "username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}});
        let user = reviewed(&json!({"status": status})).unwrap();
        let want = UserInfo {
            name: "u".into(),
            uid: "1".into(),
            groups: vec!["g".into(), "system:authenticated".into()],
            extra: vec![("k".into(), vec!["v".into()])],
        };
        assert_eq!(user, want);
        for bad in [
            json!({}),
            json!({"authenticated": false, "user": {"username": "u"}}),
            json!({"authenticated": true, "user": {}}),
            json!({"authenticated": true, "error": "invalid bearer token", "user": {"username": "u"}}),
        ] {
            assert_eq!(reviewed(&json!({"status": bad})), None, "{bad}");
        }
        let review = subject_access_review("n", &user, "get", "metrics");
        let attributes =
            json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": "n"});
        assert_eq!(review["spec"]["resourceAttributes"], attributes);
        assert_eq!((&review["spec"]["user"], &review["spec"]["extra"]), (&json!("u"), &json!({"k": ["v"]})));
        assert!(allowed(&json!({"status": {"allowed": true}})));
        assert!(!allowed(&json!({"status": {"allowed": true, "denied": true}})) && !allowed(&json!({})));
    }

    #[test]
    fn answers_are_forgotten_in_time_and_for_lack_of_room() {
        let at = Time::from_secs;
        let mut cache = Cache::new(2);
        cache.put("a", 1, at(100), at(0));
        assert_eq!((cache.get(&"a", at(99)), cache.get(&"a", at(100))), (Some(1), None));
        cache.put("b", 2, at(50), at(0));
        cache.put("a", 3, at(100), at(0));
        assert_eq!((cache.get(&"a", at(1)), cache.get(&"b", at(1))), (Some(3), Some(2)), "the same key takes no room");
        cache.put("c", 4, at(200), at(1));
        assert_eq!((cache.get(&"b", at(1)), cache.get(&"c", at(1))), (None, Some(4)), "what ends first makes room");
        cache.put("d", 5, at(300), at(150));
        assert_eq!((cache.get(&"a", at(1)), cache.get(&"c", at(150))), (None, Some(4)), "what is too old goes first");
    }
}
