//! `/version`, `/healthz`, `/livez`, `/readyz`, and the list of paths.

use copepod_client::Body;
use http::Response;
use serde_json::{Value, json};

use super::{Api, respond};

/// `/version`: the Kubernetes level that we speak.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "35",
        "gitVersion": concat!("v1.35.0+copepod-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}

/// `/`.
pub fn paths() -> Value {
    json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})
}

impl Api {
    pub(super) fn health(&self, path: &str, verbose: bool) -> Response<Body> {
        let checks = [("ping", Ok(())), ("log", Ok(())), ("store", self.store.health())];
        let failed = checks.iter().any(|(_, r)| r.is_err());
        let name = path.trim_start_matches('/');
        let mut out = String::new();
        for (check, result) in &checks {
            match result {
                Ok(()) => out.push_str(&format!("[+]{check} ok\n")),
                Err(why) => out.push_str(&format!("[-]{check} failed: {why}\n")),
            }
        }
        match (failed, verbose) {
            (false, false) => respond::text(200, "ok"),
            (false, true) => respond::text(200, format!("{out}{name} check passed\n")),
            (true, _) => respond::text(500, format!("{out}{name} check failed\n")),
        }
    }
}
