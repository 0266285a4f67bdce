//! URLs of the API: which resource a path and its query speak of (apiserver `endpoints/request/requestinfo.go`).

use copepod_model::request::{FieldValidation, ListOptions};
use copepod_model::{FieldError, Status};

/// A path under `/api` or `/apis` that names a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// Group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace, empty for none.
    pub namespace: String,
    /// Resource.
    pub resource: String,
    /// Name, empty for the collection.
    pub name: String,
    /// Subresource, empty for none.
    pub subresource: String,
    /// What follows the subresource, of proxies.
    pub rest: String,
    /// The deprecated `/watch/` prefix.
    pub watch: bool,
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource.
    Resource(ResourcePath),
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: (group, version).
    GroupVersion(String, String),
    /// Anything else: `/version`, `/healthz` …
    Other,
}

/// Takes a path apart. Segments are percent-decoded; a malformed one is a 400.
pub fn parse(path: &str) -> Result<Target, Status> {
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect::<Result<_, _>>()?;
    let s: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match s.as_slice() {
        ["api"] => return Ok(Target::CoreVersions),
        ["apis"] => return Ok(Target::Groups),
        ["apis", group] => return Ok(Target::Group((*group).into())),
        ["api", version] => return Ok(Target::GroupVersion(String::new(), (*version).into())),
        ["apis", group, version] => return Ok(Target::GroupVersion((*group).into(), (*version).into())),
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(Target::Other),
    };
    let mut out = ResourcePath { group: group.into(), version: version.into(), ..ResourcePath::default() };
    let rest = match rest {
        ["watch", rest @ ..] => {
            out.watch = true;
            rest
        }
        rest => rest,
    };
    // `namespaces/NAME` alone is the namespace; with a resource behind it, it is the resource's namespace — unless
    // that resource is one of the namespace's own subresources.
    let rest = match rest {
        ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"] | ["finalize"]) => {
            out.namespace = (*namespace).into();
            rest
        }
        rest => rest,
    };
    if let Some(resource) = rest.first() {
        out.resource = (*resource).into();
    }
    out.name = rest.get(1).copied().unwrap_or_default().into();
    out.subresource = rest.get(2).copied().unwrap_or_default().into();
    out.rest = rest.get(3..).unwrap_or_default().join("/");
    Ok(Target::Resource(out))
}

fn decode(text: &str) -> Result<String, Status> {
    percent(text, false).ok_or_else(|| Status::bad_request(format!("invalid URL escape in {text:?}")))
}

pub(crate) fn percent(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let mut hex = || (bytes.next()? as char).to_digit(16);
                out.push((hex()? * 16 + hex()?) as u8);
            }
            b'+' if plus_is_space => out.push(b' '),
            b => out.push(b),
        }
    }
    String::from_utf8(out).ok()
}

/// A decoded query, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query string apart; malformed pairs are a 400.
    pub fn parse(text: &str) -> Result<Query, Status> {
        let pair = |part: &str| {
            let (k, v) = part.split_once('=').unwrap_or((part, ""));
            Some((percent(k, true)?, percent(v, true)?))
        };
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(pair).collect::<Option<_>>();
        pairs.map(Query).ok_or_else(|| Status::bad_request("invalid URL escape in the query"))
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Whether a parameter is there, with whatever value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether a boolean parameter is on: with any value, none included, but `0` and `false` in whatever case
    /// (apimachinery `Convert_Slice_string_To_bool`).
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        let bad = || Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"));
        text.parse().map(Some).map_err(|_| bad())
    }

    /// The parameters of a list or watch.
    pub fn list_options(&self) -> Result<ListOptions, Status> {
        let text = |k: &str| self.get(k).unwrap_or_default().to_string();
        let resource_version = self.get("resourceVersion").filter(|v| !v.is_empty()).map(str::to_string);
        if let Some(rv) = &resource_version
            && rv.parse::<u64>().is_err()
        {
            return Err(Status::bad_request(format!(
                "resourceVersion: Invalid value: \"{rv}\": strconv.ParseUint: parsing \"{rv}\": invalid syntax"
            )));
        }
        let limit: i64 = self.number("limit")?.unwrap_or(0);
        Ok(ListOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: text("continue"),
            resource_version,
            resource_version_match: self.get("resourceVersionMatch").filter(|v| !v.is_empty()).map(str::to_string),
            allow_watch_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.get("sendInitialEvents").map(|_| self.flag("sendInitialEvents")),
            timeout_seconds: self.number("timeoutSeconds")?,
        })
    }

    /// The options of a write, and what is wrong with them.
    pub fn write_options(&self, errors: &mut Vec<FieldError>) -> WriteOptions {
        let manager = self.get("fieldManager").unwrap_or_default();
        if manager.len() > MANAGER {
            errors.push(FieldError::too_long("fieldManager", MANAGER));
        }
        if manager.chars().any(char::is_control) {
            let why = "should only contain printable characters";
            errors.push(FieldError::invalid("fieldManager", manager, why));
        }
        let dry_run: Vec<&str> = self.all("dryRun").filter(|v| !v.is_empty()).collect();
        let given = self.get("fieldValidation").unwrap_or_default();
        let out = WriteOptions {
            dry_run: dry_run_of(&dry_run, errors),
            field_manager: manager.to_string(),
            field_validation: match given {
                "Ignore" => FieldValidation::Ignore,
                "Strict" => FieldValidation::Strict,
                _ => FieldValidation::Warn,
            },
        };
        if !matches!(given, "" | "Ignore" | "Strict" | "Warn") {
            let known = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported("fieldValidation", given, &known));
        }
        out
    }
}

/// Longest name of a field manager in bytes.
const MANAGER: usize = 128;

/// What the options of a create, update or patch have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Nothing is to be stored.
    pub dry_run: bool,
    /// Who owns what is written; empty when the client does not say.
    pub field_manager: String,
    /// What becomes of unknown fields.
    pub field_validation: FieldValidation,
}

/// Whether `dryRun` says so; it has one value that is allowed.
pub fn dry_run_of(given: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if given.iter().any(|v| *v != "All") {
        errors.push(FieldError::not_supported("dryRun", given.to_vec(), &["All"]));
    }
    given.contains(&"All")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> String {
        match parse(path).unwrap() {
            Target::Resource(r) => {
                format!(
                    "{}|{}|{}|{}|{}|{}|{}",
                    r.group, r.version, r.namespace, r.resource, r.name, r.subresource, r.rest
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths() {
        for (path, want) in [
            ("/api/v1/namespaces", "|v1||namespaces|||"),
            ("/api/v1/namespaces/a", "|v1||namespaces|a||"),
            ("/api/v1/namespaces/a/status", "|v1||namespaces|a|status|"),
            ("/api/v1/namespaces/a/pods", "|v1|a|pods|||"),
            ("/api/v1/namespaces/a/pods/b/log", "|v1|a|pods|b|log|"),
            ("/api/v1/nodes/n/proxy/x/y", "|v1||nodes|n|proxy|x/y"),
            ("/apis/apps/v1/deployments", "apps|v1||deployments|||"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "apps|v1|a|deployments|b|scale|"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io|v1||clusterroles|system:node||",
            ),
            ("/api", "CoreVersions"),
            ("/apis/apps", "Group(\"apps\")"),
            ("/version", "Other"),
        ] {
            assert_eq!(resource(path), want, "{path}");
        }
        assert!(parse("/api/v1/pods/%zz").is_err());
    }

    #[test]
    fn queries() {
        let q = Query::parse("labelSelector=a%3Db%2Cc&watch=1&limit=5&x=a+b&continue=").unwrap();
        assert_eq!(q.get("x"), Some("a b"));
        assert!(q.flag("watch") && !q.flag("nothing"));
        for (value, want) in [("=1", true), ("=True", true), ("=", true), ("", true), ("=no", true), ("=2", true)]
            .into_iter()
            .chain([("=0", false), ("=false", false), ("=False", false), ("=FALSE", false)])
        {
            let query = Query::parse(&format!("watch{value}&sendInitialEvents{value}")).unwrap();
            assert_eq!(query.flag("watch"), want, "{value:?}");
            assert_eq!(query.list_options().unwrap().send_initial_events, Some(want), "{value:?}");
        }
        let l = q.list_options().unwrap();
        assert_eq!((l.label_selector.as_str(), l.limit), ("a=b,c", 5));
        assert!(Query::parse("resourceVersion=abc").unwrap().list_options().is_err());
        assert!(Query::parse("limit=abc").unwrap().list_options().is_err());
        let errors = |text: &str| {
            let mut errors = Vec::new();
            let options = Query::parse(text).unwrap().write_options(&mut errors);
            (options.dry_run, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        assert_eq!(errors("dryRun=All&fieldManager=m&fieldValidation=Strict"), (true, String::new()));
        assert_eq!(errors("dryRun=Some").1, "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"");
        assert!(errors("fieldValidation=x").1.starts_with("fieldValidation: Unsupported value: \"x\""));
        assert!(errors(&format!("fieldManager={}", "m".repeat(129))).1.starts_with("fieldManager: Too long"));
    }
}
