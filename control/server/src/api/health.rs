//! `/version`, `/healthz`, `/livez`, `/readyz` and their single checks, and the list of paths.

use copepod_client::Body;
use copepod_model::Status;
use http::Response;
use serde_json::{Value, json};

use super::path::Query;
use super::{Api, respond};

/// `/version`: the Kubernetes level that we speak.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "35",
        "gitVersion": concat!("v1.35.0+copepod-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// This machine's architecture by Go's name for it, which clients expect.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/`.
pub fn paths() -> Value {
    json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})
}

/// A check's name and what it found.
type Check = (&'static str, Result<(), String>);

impl Api {
    /// The answer for `/healthz`, `/livez`, `/readyz` and for one of their checks, such as `/livez/ping`.
    pub(super) fn health(&self, path: &str, query: &Query) -> Result<Response<Body>, Status> {
        let path = path.trim_start_matches('/').trim_end_matches('/');
        let (name, one) = path.split_once('/').unwrap_or((path, ""));
        let mut checks = vec![("ping", Ok(())), ("store", self.store.health())];
        if name == "readyz" {
            // A restart makes neither a slow disk faster nor a full store emptier, so that these are nothing to be
            // alive by.
            checks.insert(1, ("log", self.store.disk()));
            checks.push(("space", self.store.space()));
            // A server that has lost the others lives, and can do nothing.
            checks.push(("leader", self.store.leader().map(drop).ok_or_else(|| "no leader is known".to_string())));
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let (code, text) = match one {
            "" => all(name, &checks, &excluded, query.has("verbose")),
            one => single(&checks, one).ok_or_else(Status::no_such_path)?,
        };
        Ok(respond::text(code, text))
    }
}

fn single(checks: &[Check], name: &str) -> Option<(u16, String)> {
    let (_, result) = checks.iter().find(|(n, _)| *n == name)?;
    Some(match result {
        Ok(()) => (200, "ok".into()),
        Err(why) => (500, format!("internal server error: {why}\n")),
    })
}

fn all(name: &str, checks: &[Check], excluded: &[&str], verbose: bool) -> (u16, String) {
    let mut out = String::new();
    let mut failed = false;
    for (check, result) in checks {
        match result {
            _ if excluded.contains(check) => out.push_str(&format!("[+]{check} excluded: ok\n")),
            Ok(()) => out.push_str(&format!("[+]{check} ok\n")),
            // Anybody may read this; why is for those who may read the check itself or the log.
            Err(_) => {
                failed = true;
                out.push_str(&format!("[-]{check} failed: reason withheld\n"));
            }
        }
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|e| !e.is_empty() && !checks.iter().any(|(n, _)| n == *e))
        .map(|e| format!("{e:?}"))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        out.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    match (failed, verbose) {
        (false, false) => (200, "ok".into()),
        (false, true) => (200, format!("{out}{name} check passed\n")),
        (true, _) => (500, format!("{out}{name} check failed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_and_exclusions() {
        let good: [Check; 2] = [("ping", Ok(())), ("store", Ok(()))];
        let bad: [Check; 2] = [("ping", Ok(())), ("store", Err("no disk".into()))];
        assert_eq!(all("livez", &good, &[], false), (200, "ok".into()));
        let (_, text) = all("livez", &good, &["ping", "foo"], true);
        assert_eq!(
            text,
            "[+]ping excluded: ok\n[+]store ok\nwarn: some health checks cannot be excluded: no matches for \"foo\"\n\
             livez check passed\n"
        );
        let (code, text) = all("readyz", &bad, &[], false);
        assert_eq!((code, text.contains("no disk")), (500, false));
        assert!(text.ends_with("[-]store failed: reason withheld\nreadyz check failed\n"));
        assert_eq!(all("readyz", &bad, &["store"], false).0, 200);
        assert_eq!(single(&bad, "ping"), Some((200, "ok".into())));
        assert_eq!(single(&bad, "store"), Some((500, "internal server error: no disk\n".into())));
        assert_eq!(single(&bad, "nope"), None);
    }
}
