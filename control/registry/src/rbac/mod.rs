//! Authorization: RBAC over the stored roles and bindings, and what every node may do.

pub mod bootstrap;
mod components;
pub(crate) mod node;
pub(crate) mod rules;

use copepod_machine::View;
use copepod_model::{ApiRequest, Object, Status, UserInfo};

use rules::{BindingFacts, RoleFacts, RoleRef, Rule, Subject};

/// RBAC's API group.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// The group whose members may do everything, whatever the roles say.
pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const ROLES: &str = "roles.rbac.authorization.k8s.io";
pub(crate) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// RBAC verb; of a path, the HTTP method in lower case.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Resource in the plural.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace; empty for cluster scope or all namespaces.
    pub namespace: &'a str,
    /// Name; empty for collections and creates.
    pub name: &'a str,
    /// The path, when it is about no resource; then the other fields but `user` and `verb` do not count.
    pub path: Option<&'a str>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authz {
    /// Whether it may be done.
    pub allowed: bool,
    /// By which binding it is allowed; why it is not, when there is something to say.
    pub reason: String,
}

impl<'a> Attributes<'a> {
    /// What an API request wants.
    pub fn of(req: &'a ApiRequest) -> Attributes<'a> {
        // A namespace lies in itself, so that roles in it can be about it.
        let own = req.group.is_empty() && req.resource == "namespaces" && req.namespace.is_empty();
        Attributes {
            user: &req.user,
            verb: req.verb.as_str(),
            group: &req.group,
            resource: &req.resource,
            subresource: req.subresource.as_deref().unwrap_or_default(),
            namespace: if own { &req.name } else { &req.namespace },
            name: &req.name,
            path: None,
        }
    }

    /// What a request to a path that is no resource wants.
    pub fn of_path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Attributes<'a> {
        Attributes { user, verb, group: "", resource: "", subresource: "", namespace: "", name: "", path: Some(path) }
    }

    /// The 403 in upstream's words.
    pub fn forbidden(&self, reason: &str) -> Status {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let user = &self.user.name;
        if let Some(path) = self.path {
            let mut status = Status::forbidden("", "", "");
            status.message = format!("forbidden: User {user:?} cannot {} path {path:?}{why}", self.verb);
            return status;
        }
        let resource = match self.subresource {
            "" => self.resource.to_string(),
            sub => format!("{}/{sub}", self.resource),
        };
        let scope = match self.namespace {
            "" => "at the cluster scope".to_string(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let what = format!(
            "User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}{why}",
            self.verb, self.group
        );
        let qualified =
            if self.group.is_empty() { self.resource.to_string() } else { format!("{}.{}", self.resource, self.group) };
        Status::forbidden(&qualified, self.name, &what)
    }
}

/// Whether `a` may be done.
pub(crate) fn authorize(view: &dyn View, a: &Attributes<'_>) -> Authz {
    if a.user.in_group(MASTERS) {
        return Authz { allowed: true, reason: String::new() };
    }
    let mut reason = String::new();
    if let Some(name) = node::name_of(a.user) {
        match node::authorize(view, name, a) {
            Ok(true) => return Authz { allowed: true, reason },
            Ok(false) => {}
            Err(why) => reason = why,
        }
    }
    let mut by = None;
    visit(view, a.user, a.namespace, |source, rule| {
        if rule.allows(a) {
            by = Some(source.reason());
        }
        by.is_none()
    });
    match by {
        Some(reason) => Authz { allowed: true, reason },
        None => Authz { allowed: false, reason },
    }
}

/// The binding by which a user has a rule.
struct Source<'s> {
    name: &'s str,
    namespace: &'s str,
    role: &'s RoleRef,
    subject: &'s Subject,
}

impl Source<'_> {
    fn reason(&self) -> String {
        let Source { name, role, subject, .. } = self;
        let (kind, role) = (role.kind(), &role.name);
        match self.namespace {
            "" => format!("RBAC: allowed by ClusterRoleBinding {name:?} of {kind} {role:?} to {subject}"),
            namespace => {
                format!(
                    "RBAC: allowed by RoleBinding {:?} of {kind} {role:?} to {subject}",
                    format!("{name}/{namespace}")
                )
            }
        }
    }
}

/// Shows each rule that a user has in a namespace, until `more` says that it has seen enough.
fn visit(view: &dyn View, user: &UserInfo, namespace: &str, mut more: impl FnMut(&Source<'_>, &Rule) -> bool) {
    let in_namespace = (!namespace.is_empty()).then(|| view.list(BINDINGS, Some(namespace)));
    for binding in view.list(CLUSTER_BINDINGS, None).chain(in_namespace.into_iter().flatten()) {
        let facts = binding.facts::<BindingFacts>();
        let Some(subject) = facts.subject(user) else { continue };
        let source = Source { name: binding.name(), namespace: binding.namespace(), role: &facts.role, subject };
        if !visit_role(view, &facts.role, binding.namespace(), &mut |rule| more(&source, rule)) {
            return;
        }
    }
}

/// How deep roles may aggregate roles that aggregate: admin takes edit, which takes view. Also what ends a circle.
const DEPTH: usize = 4;

/// Shows each rule of a role; `false` if `more` had enough. A role that does not exist has none.
fn visit_role(view: &dyn View, role: &RoleRef, namespace: &str, more: &mut dyn FnMut(&Rule) -> bool) -> bool {
    let namespace = if role.cluster { "" } else { namespace };
    match view.get(role.resource(), namespace, &role.name) {
        Some(object) => visit_rules(view, &object, DEPTH, more),
        None => true,
    }
}

fn visit_rules(view: &dyn View, object: &Object, depth: usize, more: &mut dyn FnMut(&Rule) -> bool) -> bool {
    let facts = object.facts::<RoleFacts>();
    if !facts.rules.iter().all(&mut *more) {
        return false;
    }
    if facts.selectors.is_empty() || depth == 0 {
        return true;
    }
    view.list(CLUSTER_ROLES, None)
        .filter(|r| r.name() != object.name() && facts.selectors.iter().any(|s| s.matches(&r.meta.labels)))
        .all(|r| visit_rules(view, &r, depth - 1, more))
}

/// The rules of a role, if it exists.
pub(crate) fn rules_of(view: &dyn View, role: &RoleRef, namespace: &str) -> Option<Vec<Rule>> {
    let at = if role.cluster { "" } else { namespace };
    view.get(role.resource(), at, &role.name)?;
    let mut out = Vec::new();
    visit_role(view, role, namespace, &mut |rule| {
        out.push(rule.clone());
        true
    });
    Some(out)
}

/// Every rule that a user has in a namespace.
pub(crate) fn rules_for(view: &dyn View, user: &UserInfo, namespace: &str) -> Vec<Rule> {
    let mut out = Vec::new();
    visit(view, user, namespace, |_, rule| {
        out.push(rule.clone());
        true
    });
    // What they may they may without any binding.
    if user.in_group(MASTERS) {
        for rule in [Rule::everything(), Rule::every_path()] {
            if !out.contains(&rule) {
                out.push(rule);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
