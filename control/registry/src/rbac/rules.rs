//! What roles and bindings say, decoded once per stored version.

use copepod_model::facts::Facts;
use copepod_model::selector::LabelSelector;
use copepod_model::{Object, UserInfo};
use serde_json::Value;

use super::Attributes;
use crate::value::{list, text, texts};

/// `rbac/v1.PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<Box<str>>,
    pub(crate) groups: Vec<Box<str>>,
    pub(crate) resources: Vec<Box<str>>,
    pub(crate) names: Vec<Box<str>>,
    pub(crate) urls: Vec<Box<str>>,
}

const ALL: &str = "*";

fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|x| &**x == ALL || &**x == wanted)
}

impl Rule {
    fn of(v: &Value) -> Rule {
        let all = |name| texts(v, name).map(Into::into).collect();
        Rule {
            verbs: all("verbs"),
            groups: all("apiGroups"),
            resources: all("resources"),
            names: all("resourceNames"),
            urls: all("nonResourceURLs"),
        }
    }

    /// The rules in a `rules` field.
    pub(crate) fn all(rules: &Value) -> Vec<Rule> {
        rules.as_array().into_iter().flatten().map(Rule::of).collect()
    }

    /// Every verb on every resource.
    pub(crate) fn everything() -> Rule {
        let all = || vec![ALL.into()];
        Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() }
    }

    /// Every verb on every path.
    pub(crate) fn every_path() -> Rule {
        Rule { verbs: vec![ALL.into()], urls: vec![ALL.into()], ..Rule::default() }
    }

    /// Whether the rule allows what is asked for.
    pub(crate) fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has(&self.verbs, a.verb) {
            return false;
        }
        if let Some(path) = a.path {
            return self.urls.iter().any(|u| url_covers(u, path));
        }
        has(&self.groups, a.group)
            && self.has_resource(a.resource, a.subresource)
            && (self.names.is_empty() || self.names.iter().any(|n| &**n == a.name))
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|r| match (&**r, subresource) {
            (ALL, _) => true,
            (r, "") => r == resource,
            // `*/scale` is that subresource of every resource.
            (r, sub) => r.split_once('/').is_some_and(|(of, s)| s == sub && (of == ALL || of == resource)),
        })
    }

    /// The rule taken apart: one verb on one resource (or name, or path) each, in which form rules can be compared.
    fn atoms(&self) -> Vec<Rule> {
        let one = |x: &str| vec![Box::from(x)];
        let mut out = Vec::new();
        for verb in &self.verbs {
            for url in &self.urls {
                out.push(Rule { verbs: one(verb), urls: one(url), ..Rule::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let atom =
                        Rule { verbs: one(verb), groups: one(group), resources: one(resource), ..Rule::default() };
                    if self.names.is_empty() {
                        out.push(atom);
                    } else {
                        out.extend(self.names.iter().map(|n| Rule { names: one(n), ..atom.clone() }));
                    }
                }
            }
        }
        out
    }

    /// Whether the rule allows all that an atom does.
    fn covers(&self, atom: &Rule) -> bool {
        let first = |list: &[Box<str>]| list.first().cloned().unwrap_or_default();
        if !has(&self.verbs, &first(&atom.verbs)) {
            return false;
        }
        if let Some(url) = atom.urls.first() {
            return self.urls.iter().any(|u| url_covers(u, url));
        }
        let wanted = first(&atom.resources);
        let (resource, subresource) = wanted.split_once('/').unwrap_or((&wanted, ""));
        has(&self.groups, &first(&atom.groups))
            && self.has_resource(resource, subresource)
            && (self.names.is_empty() || atom.names.first().is_some_and(|n| self.names.contains(n)))
    }

    /// The `rules` entry that this is.
    pub(crate) fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (name, values) in [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !values.is_empty() {
                out.insert(name.into(), values.iter().map(|v| Value::from(&**v)).collect());
            }
        }
        out.into()
    }
}

/// As upstream prints rules in its messages.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ];
        let shown = parts.iter().filter(|(_, v)| !v.is_empty()).map(|(name, v)| {
            let values = v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(" ");
            format!("{name}:[{values}]")
        });
        write!(f, "{{{}}}", shown.collect::<Vec<_>>().join(", "))
    }
}

fn url_covers(allowed: &str, path: &str) -> bool {
    allowed == ALL || allowed == path || allowed.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// Which of `wanted` (as atoms) none of `held` covers.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms.filter(|atom| !held.iter().any(|h| h.covers(atom))).collect()
}

/// What a Role or ClusterRole says.
pub(crate) struct RoleFacts {
    pub(crate) rules: Vec<Rule>,
    /// Of an aggregated role: which roles' rules are its own. They are looked up at each decision, so no controller has
    /// to copy them.
    pub(crate) selectors: Vec<LabelSelector>,
}

impl Facts for RoleFacts {
    fn of(object: &Object) -> RoleFacts {
        let v = object.value();
        let selectors = list(&v["aggregationRule"], "clusterRoleSelectors");
        RoleFacts {
            rules: Rule::all(&v["rules"]),
            selectors: selectors.iter().filter_map(|s| LabelSelector::from_json(s).ok()).collect(),
        }
    }
}

/// The role that a binding refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleRef {
    pub(crate) cluster: bool,
    pub(crate) name: Box<str>,
}

impl RoleRef {
    /// GroupResource of the role.
    pub(crate) fn resource(&self) -> &'static str {
        if self.cluster { super::CLUSTER_ROLES } else { super::ROLES }
    }
    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        if self.cluster { "ClusterRole" } else { "Role" }
    }
}

/// Whom a binding is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    User(Box<str>),
    Group(Box<str>),
    /// The user name of a service account, and its namespace and name.
    ServiceAccount(Box<str>, Box<str>, Box<str>),
}

impl Subject {
    fn covers(&self, user: &UserInfo) -> bool {
        match self {
            Subject::User(name) => &**name == ALL || **name == *user.name,
            Subject::Group(name) => user.in_group(name),
            Subject::ServiceAccount(name, ..) => **name == *user.name,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::ServiceAccount(_, namespace, name) => write!(f, "ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

/// What a RoleBinding or ClusterRoleBinding says.
pub(crate) struct BindingFacts {
    pub(crate) role: RoleRef,
    pub(crate) subjects: Vec<Subject>,
}

impl BindingFacts {
    /// The subject by which the binding is for `user`.
    pub(crate) fn subject(&self, user: &UserInfo) -> Option<&Subject> {
        self.subjects.iter().find(|s| s.covers(user))
    }
}

impl Facts for BindingFacts {
    fn of(object: &Object) -> BindingFacts {
        let v = object.value();
        let subject = |s: &Value| {
            let name = text(s, "name");
            match text(s, "kind") {
                "User" => Some(Subject::User(name.into())),
                "Group" => Some(Subject::Group(name.into())),
                "ServiceAccount" => {
                    let namespace = Some(text(s, "namespace")).filter(|n| !n.is_empty()).unwrap_or(object.namespace());
                    let user = format!("system:serviceaccount:{namespace}:{name}");
                    (!namespace.is_empty()).then(|| Subject::ServiceAccount(user.into(), namespace.into(), name.into()))
                }
                _ => None,
            }
        };
        BindingFacts {
            role: RoleRef {
                cluster: text(&v["roleRef"], "kind") == "ClusterRole",
                name: text(&v["roleRef"], "name").into(),
            },
            subjects: list(&v, "subjects").iter().filter_map(subject).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(v: Value) -> Vec<Rule> {
        Rule::all(&v)
    }

    #[test]
    fn coverage_is_by_atoms() {
        let held = rules(json!([
            {"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]},
            {"verbs":["watch"],"apiGroups":[""],"resources":["pods","pods/log"]},
            {"verbs":["update"],"apiGroups":["apps"],"resources":["*/scale"]},
            {"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["a"]},
            {"verbs":["get"],"nonResourceURLs":["/healthz/*"]}]));
        for (wanted, want) in [
            (json!([{"verbs":["get","watch"],"apiGroups":[""],"resources":["pods"]}]), vec![]),
            (
                json!([{"verbs":["get","delete"],"apiGroups":[""],"resources":["pods"]}]),
                vec!["{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"],
            ),
            (json!([{"verbs":["update"],"apiGroups":["apps"],"resources":["deployments/scale"]}]), vec![]),
            (
                json!([{"verbs":["update"],"apiGroups":["apps"],"resources":["deployments"]}]),
                vec!["{APIGroups:[\"apps\"], Resources:[\"deployments\"], Verbs:[\"update\"]}"],
            ),
            (json!([{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["a"]}]), vec![]),
            (
                json!([{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]),
                vec!["{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"],
            ),
            (
                json!([{"verbs":["get"],"nonResourceURLs":["/healthz/x","/metrics"]}]),
                vec!["{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}"],
            ),
        ] {
            let got: Vec<String> = missing(&held, &rules(wanted.clone())).iter().map(ToString::to_string).collect();
            assert_eq!(got, want, "{wanted}");
        }
        let everything = [Rule::everything(), Rule::every_path()];
        assert!(missing(&everything, &held).is_empty());
        assert_eq!(missing(&held, &everything).len(), 2);
    }
}
