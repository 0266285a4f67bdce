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
    use std::time::Duration;

    use copepod_model::kinds::Kinds;
    use copepod_registry::{Config, Registry, Sealer};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::auth::token::Tokens;
    use crate::now;
    use crate::pki::Pki;
    use crate::store::Store;
    use crate::store::tests::disk::Disk;
    use crate::store::tests::{options, put, txn};

    #[tokio::test]
    async fn a_log_whose_disk_hangs_fails_readyz_until_it_goes_on() {
        let (dir, keys, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Disk::default());
        let store = Store::open(options(&dir, &disk)).unwrap();
        let pki = Pki::open(keys.path(), now()).unwrap();
        let tokens = Tokens::new(&pki.signing_key("sa").unwrap()).unwrap();
        let registry = Registry::new(Kinds::shared(), Config::new(Sealer::new(&pki.secret("seal").unwrap())));
        let api = Api::new(store.clone(), registry, tokens, String::new());
        let ask = async |path: &str| {
            let answer = api.health(path, &Query::parse("").unwrap()).unwrap();
            let (head, body) = answer.into_parts();
            let text = body.collect().await.unwrap().to_bytes();
            (head.status.as_u16(), String::from_utf8(text.to_vec()).unwrap())
        };
        let good = (200, "ok".to_string());
        assert_eq!(ask("/readyz").await, good);
        disk.hold("raft.redb");
        let writer = store.clone();
        let written = tokio::spawn(async move { writer.propose(txn([put("a", "1")])).await });
        let failed = async {
            loop {
                let found = ask("/readyz").await;
                if found != good {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (code, text) = tokio::time::timeout(Duration::from_secs(60), failed).await.expect("it is noticed");
        assert_eq!(code, 500);
        let failing: Vec<&str> = text.lines().filter(|line| line.starts_with("[-]")).collect();
        assert_eq!(failing, ["[-]log failed: reason withheld"], "{text}");
        let (code, why) = ask("/readyz/log").await;
        assert!(code == 500 && why.contains("the disk is slow or stuck"), "{why}");
        assert_eq!(ask("/livez").await, good, "a restart makes no disk faster");
        assert!(!written.is_finished());
        disk.release();
        assert!(written.await.unwrap().is_ok(), "nothing was lost over it");
        assert_eq!((ask("/readyz").await, ask("/readyz/log").await), (good.clone(), good));
        store.close().await.unwrap();
    }

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
