//! Impersonation: acting as somebody else by `Impersonate-*` headers (apiserver `endpoints/filters/impersonation.go`).

use copepod_model::{Status, UserInfo};
use copepod_registry::Attributes;
use http::HeaderMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Whom a request wants to act as.
#[derive(Debug, PartialEq, Eq)]
pub struct Impersonation {
    /// The user to act as.
    pub user: UserInfo,
    /// What has to be allowed to `impersonate`, each of it.
    pub grants: Vec<Grant>,
}

/// One thing to impersonate, as authorization sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grant {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

impl Grant {
    /// The question to the authorizer.
    pub fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            user,
            verb: "impersonate",
            group: self.group,
            resource: self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            path: None,
        }
    }
}

/// Reads the headers; `None` when there are none of them.
pub fn requested(headers: &HeaderMap) -> Result<Option<Impersonation>, Status> {
    let texts = |name: &str| -> Vec<String> {
        let all = headers.get_all(name).iter();
        all.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).filter(|v| !v.is_empty()).collect()
    };
    let (name, uid) = (texts(USER).into_iter().next(), texts(UID).into_iter().next());
    let mut groups = texts(GROUP);
    let mut extra: Vec<(String, Vec<String>)> = Vec::new();
    for header in headers.keys() {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            extra.push((unescape(key), texts(header.as_str())));
        }
    }
    extra.sort();
    let Some(name) = name else {
        if groups.is_empty() && extra.is_empty() && uid.is_none() {
            return Ok(None);
        }
        return Err(Status::internal("groups, a uid or extra were to be impersonated without a user"));
    };
    let mut grants = Vec::new();
    let account = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
    let account = account.filter(|(ns, n)| !ns.is_empty() && !n.is_empty() && !n.contains(':'));
    match account {
        Some((namespace, name)) => grants.push(Grant {
            resource: "serviceaccounts",
            namespace: namespace.into(),
            name: name.into(),
            ..Grant::default()
        }),
        None => grants.push(Grant { resource: "users", name: name.clone(), ..Grant::default() }),
    }
    for group in &groups {
        grants.push(Grant { resource: "groups", name: group.clone(), ..Grant::default() });
    }
    for (key, values) in &extra {
        for value in values {
            grants.push(Grant {
                group: "authentication.k8s.io",
                resource: "userextras",
                subresource: key.clone(),
                name: value.clone(),
                ..Grant::default()
            });
        }
    }
    if let Some(uid) = &uid {
        grants.push(Grant { group: "authentication.k8s.io", resource: "uids", name: uid.clone(), ..Grant::default() });
    }
    // A service account brings its groups along unless the request names some.
    if let Some((namespace, _)) = account.filter(|_| groups.is_empty()) {
        groups = UserInfo::service_account_groups(namespace);
    }
    let known = groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED);
    if name == ANONYMOUS && !groups.iter().any(|g| g == UNAUTHENTICATED) {
        groups.push(UNAUTHENTICATED.into());
    } else if name != ANONYMOUS && !known {
        groups.push(AUTHENTICATED.into());
    }
    Ok(Some(Impersonation { user: UserInfo { name, uid: uid.unwrap_or_default(), groups, extra }, grants }))
}

/// Keys of extra are percent-encoded where a header's name cannot hold them; what does not decode stays as it is.
fn unescape(key: &str) -> String {
    crate::api::path::percent(key, false).unwrap_or_else(|| key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &[(&str, &str)]) -> Result<Option<Impersonation>, Status> {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.append(http::HeaderName::from_bytes(k.as_bytes()).unwrap(), v.parse().unwrap());
        }
        requested(&map)
    }

    #[test]
    fn nobody_or_somebody() {
        assert_eq!(ask(&[("accept", "x")]), Ok(None));
        assert_eq!(ask(&[("impersonate-group", "g")]).unwrap_err().code, 500);
        for (headers, groups, grants) in [
            (&[("impersonate-user", "bob")][..], &["system:authenticated"][..], &["/users//bob/"][..]),
            (
                &[("impersonate-user", "bob"), ("impersonate-group", "a"), ("impersonate-group", "b")],
                &["a", "b", "system:authenticated"],
                &["/users//bob/", "/groups//a/", "/groups//b/"],
            ),
            (&[("impersonate-user", "system:anonymous")], &["system:unauthenticated"], &["/users//system:anonymous/"]),
            (
                &[("impersonate-user", "system:serviceaccount:x:robot")],
                &["system:serviceaccounts", "system:serviceaccounts:x", "system:authenticated"],
                &["/serviceaccounts/x/robot/"],
            ),
            (
                &[("impersonate-user", "b"), ("impersonate-extra-a%2fb", "v"), ("impersonate-uid", "7")],
                &["system:authenticated"],
                &["/users//b/", "authentication.k8s.io/userextras//v/a/b", "authentication.k8s.io/uids//7/"],
            ),
        ] {
            let found = ask(headers).unwrap().unwrap();
            assert_eq!(found.user.groups, groups, "{headers:?}");
            let shown: Vec<String> = found
                .grants
                .iter()
                .map(|g| format!("{}/{}/{}/{}/{}", g.group, g.resource, g.namespace, g.name, g.subresource))
                .collect();
            assert_eq!(shown, grants, "{headers:?}");
        }
    }
}
