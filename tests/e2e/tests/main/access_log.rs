//! The ingress' access log, as somebody with curl and a log rotation sees it.

use e2e::{Cluster, has, needs, until};
use serde_json::Value;

#[test]
fn requests_are_in_the_access_log_and_in_the_metrics() {
    if !needs("curl", has("curl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let flag = format!("--ingress-access-log={}", file.display());
    let cluster = Cluster::up(&dir.path().join("data"), &["-f", "examples/hello/hello.yaml", &flag]);
    until("hello answers", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
    let line = |path: &str| {
        until(&format!("{path} is in the log"), || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            // The last line may still be on its way.
            let lines = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
            lines.map(|l| serde_json::from_str::<Value>(l).expect("JSON")).find(|l| l["path"] == path)
        })
    };
    assert_eq!(cluster.get("hello.localhost", "/first?x=1").0, 200);
    let first = line("/first?x=1");
    assert_eq!(
        (&first["status"], &first["complete"], &first["service"]),
        (&Value::from(200), &Value::from(true), &Value::from("default/hello:http"))
    );
    assert!(first["userAgent"].as_str().is_some_and(|a| a.starts_with("curl/")), "{first}");
    assert!(first["responseBytes"].as_u64() > Some(0), "{first}");

    std::fs::rename(&file, &moved).unwrap();
    // The line by which it is seen may still be in the old file.
    assert_eq!(cluster.get("hello.localhost", "/second").0, 200);
    until("the file is made anew", || file.exists().then_some(()));
    assert_eq!(cluster.get("nobody.localhost", "/third").0, 404);
    assert_eq!(line("/third")["status"], 404);

    if needs("kubectl", has("kubectl")) {
        let metrics = cluster.ok(&["get", "--raw", "/api/v1/nodes/copepod/proxy/metrics"]);
        assert!(metrics.contains("\ncopepod_ingress_access_log_dropped_total 0\n"), "{metrics}");
        let lines = metrics.lines().find_map(|l| l.strip_prefix("copepod_ingress_access_log_lines_total "));
        assert!(lines.and_then(|n| n.parse::<u64>().ok()) >= Some(3), "{metrics}");
    }
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no-such-folder/access.log");
    let mut command = e2e::copepod();
    command.args(["up", "--api-port", "0", "--ingress-port", "0", "--ingress-tls-port", "0", "--dns-port", "0"]);
    command.args(["--kubelet-port", "0", "--data-dir"]).arg(dir.path().join("data"));
    let out = command.arg(format!("--ingress-access-log={}", file.display())).output().unwrap();
    let said = e2e::text(&out.stderr);
    assert!(!out.status.success() && said.contains(&format!("{}: No such file", file.display())), "{said}");
}
