//! HTTPRoute.

use serde_json::Value;

use super::route::{Route, filter_rules, port_of_service};
use super::{Outline, rule, structure};
use crate::FieldError;
use crate::kinds::fields::{Path, list, text};
use crate::kinds::{Kind, duration};

/// The kind.
pub fn kind() -> Kind {
    super::kind("HTTPRoute", ("httproutes", "httproute"), Route { outline: &OUTLINE, rule: http_rule })
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "HTTPRoute"));

/// The fields of a filter and the type that each belongs to.
const FILTERS: [(&str, &str); 7] = [
    ("cors", "CORS"),
    ("requestHeaderModifier", "RequestHeaderModifier"),
    ("responseHeaderModifier", "ResponseHeaderModifier"),
    ("requestMirror", "RequestMirror"),
    ("requestRedirect", "RequestRedirect"),
    ("urlRewrite", "URLRewrite"),
    ("extensionRef", "ExtensionRef"),
];
/// Those that a list has once at most.
const ONCE: [&str; 5] = ["CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"];

fn http_rule(path: Path<'_>, r: &Value, errors: &mut Vec<FieldError>) {
    let (backends, own) = (list(r, "backendRefs"), list(r, "filters"));
    let redirects = own.iter().any(|f| f.get("requestRedirect").is_some());
    let message = "RequestRedirect filter must not be used together with backendRefs";
    rule(path, "object", backends.is_empty() || !redirects, message, errors);
    let matches = list(r, "matches");
    let one_prefix = matches.len() == 1 && text(&matches[0]["path"], "type") == "PathPrefix";
    let replaces = |filters: &[Value], field: &str| {
        filters.iter().any(|f| text(&f[field]["path"], "type") == "ReplacePrefixMatch")
    };
    for (field, name) in [("requestRedirect", "RequestRedirect"), ("urlRewrite", "URLRewrite")] {
        let rest =
            format!("using {name} filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified");
        rule(path, "object", one_prefix || !replaces(own, field), &format!("When {rest}"), errors);
        let inside = backends.iter().any(|b| replaces(list(b, "filters"), field));
        // Upstream writes the two of them differently.
        let when = if name == "URLRewrite" { "When" } else { "when" };
        rule(path, "object", one_prefix || !inside, &format!("Within backendRefs, {when} {rest}"), errors);
    }
    filters(path.child("filters"), own, errors);
    for (i, b) in backends.iter().enumerate() {
        let path = path.child("backendRefs");
        let path = path.index(i);
        port_of_service(path, b, errors);
        filters(path.child("filters"), list(b, "filters"), errors);
    }
    for (i, m) in matches.iter().enumerate() {
        let path = path.child("matches");
        let path = path.index(i);
        path_match(path.child("path"), &m["path"], errors);
    }
    let timeouts = &r["timeouts"];
    let time = |field: &str| timeouts[field].as_str().and_then(duration::parse);
    if let (Some(request), Some(backend)) = (time("request"), time("backendRequest")) {
        let message = "backendRequest timeout cannot be longer than request timeout";
        rule(path.child("timeouts"), "object", request.is_zero() || backend <= request, message, errors);
    }
}

fn filters(path: Path<'_>, all: &[Value], errors: &mut Vec<FieldError>) {
    let has = |ty: &str| all.iter().any(|f| f["type"] == ty);
    let message = "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both";
    rule(path, "array", !(has("RequestRedirect") && has("URLRewrite")), message, errors);
    filter_rules(path, all, &FILTERS, &ONCE, errors);
    for (i, f) in all.iter().enumerate() {
        let path = path.index(i);
        let cors = path.child("cors");
        for (field, name, others) in [
            ("allowHeaders", "AllowHeaders", "methods"),
            ("allowMethods", "AllowMethods", "methods"),
            ("allowOrigins", "AllowOrigins", "origins"),
        ] {
            let values = list(&f["cors"], field);
            let alone = values.len() < 2 || values.iter().all(|v| v != "*");
            let message = format!("{name} cannot contain '*' alongside other {others}");
            rule(cors.child(field), "array", alone, &message, errors);
        }
        for field in ["requestRedirect", "urlRewrite"] {
            let path = path.child(field);
            path_modifier(path.child("path"), &f[field]["path"], errors);
        }
    }
}

fn path_modifier(path: Path<'_>, modifier: &Value, errors: &mut Vec<FieldError>) {
    if !modifier.is_object() {
        return;
    }
    for (ty, field) in [("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")] {
        let (is, has) = (text(modifier, "type") == ty, modifier.get(field).is_some());
        rule(path, "object", !is || has, &format!("{field} must be specified when type is set to '{ty}'"), errors);
        rule(path, "object", !has || is, &format!("type must be '{ty}' when {field} is set"), errors);
    }
}

fn path_match(path: Path<'_>, of: &Value, errors: &mut Vec<FieldError>) {
    let value = text(of, "value");
    if !["Exact", "PathPrefix"].contains(&text(of, "type")) {
        return;
    }
    let when = "when type one of ['Exact', 'PathPrefix']";
    let mut say = |holds: bool, message: String| rule(path, "object", holds, &message, errors);
    say(value.starts_with('/'), format!("value must be an absolute path and start with '/' {when}"));
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        say(!value.contains(part), format!("must not contain '{part}' {when}"));
    }
    for end in ["/..", "/."] {
        say(!value.ends_with(end), format!("must not end with '{end}' {when}"));
    }
    let characters =
        "must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$)";
    say(is_path(value), format!("{characters} for types ['Exact', 'PathPrefix']"));
}

/// Whether a text consists of what a path may have, escapes being whole.
fn is_path(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (c, after) if c.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(c) => after,
            _ => return false,
        };
    }
    !text.is_empty()
}
