//! A pod.

use serde_json::Value;

use super::page::{Page, list, pairs, plain};

pub fn describe(page: &mut Page, pod: &Value) {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    page.some(0, "Name", &meta["name"]);
    page.some(0, "Namespace", &meta["namespace"]);
    page.field(0, "Priority", spec["priority"].as_i64().unwrap_or(0).to_string());
    page.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    page.some(0, "Service Account", &spec["serviceAccountName"]);
    let node = match status["hostIP"].as_str() {
        Some(ip) => format!("{}/{ip}", plain(&spec["nodeName"])),
        None => plain(&spec["nodeName"]),
    };
    page.field(0, "Node", node);
    page.some(0, "Start Time", &status["startTime"]);
    page.map(0, "Labels", &meta["labels"], "=");
    page.map(0, "Annotations", &meta["annotations"], ": ");
    let phase = plain(&status["phase"]);
    match meta["deletionTimestamp"].as_str() {
        Some(at) => page.field(0, "Status", format!("Terminating (since {at})")),
        None => page.field(0, "Status", phase),
    }
    page.some(0, "Reason", &status["reason"]);
    page.some(0, "Message", &status["message"]);
    page.field(0, "IP", plain(&status["podIP"]));
    page.controlled_by(pod);
    for (title, containers, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        if list(&spec[containers]).is_empty() {
            continue;
        }
        page.line(0, format!("{title}:"));
        for c in list(&spec[containers]) {
            let status = list(&status[statuses]).iter().find(|s| s["name"] == c["name"]);
            container(page, c, status.unwrap_or(&Value::Null));
        }
    }
    let row =
        |c: &Value| vec![plain(&c["type"]), plain(&c["status"]), c["message"].as_str().unwrap_or_default().to_string()];
    page.table("Conditions", 0, &["Type", "Status", "Message"], list(&status["conditions"]).iter().map(row).collect());
    volumes(page, spec);
    page.some(0, "QoS Class", &status["qosClass"]);
    page.field(0, "Node-Selectors", pairs(&spec["nodeSelector"]));
    let mut name = "Tolerations:";
    for t in list(&spec["tolerations"]) {
        page.line(0, format!("{name}\t{}", toleration(t)));
        name = "";
    }
}

fn container(page: &mut Page, c: &Value, status: &Value) {
    page.line(1, format!("{}:", plain(&c["name"])));
    page.some(2, "Container ID", &status["containerID"]);
    page.some(2, "Image", &c["image"]);
    page.some(2, "Image ID", &status["imageID"]);
    for p in list(&c["ports"]) {
        page.field(2, "Port", format!("{}/{}", plain(&p["containerPort"]), p["protocol"].as_str().unwrap_or("TCP")));
    }
    for (title, words) in [("Command", &c["command"]), ("Args", &c["args"])] {
        if !list(words).is_empty() {
            page.line(2, format!("{title}:"));
            list(words).iter().for_each(|w| page.line(3, plain(w)));
        }
    }
    if !status.is_null() {
        state(page, "State", &status["state"]);
        if status["lastState"].as_object().is_some_and(|s| !s.is_empty()) {
            state(page, "Last State", &status["lastState"]);
        }
        page.field(2, "Ready", if status["ready"] == true { "True" } else { "False" });
        page.some(2, "Restart Count", &status["restartCount"]);
    }
    for (title, amounts) in [("Limits", &c["resources"]["limits"]), ("Requests", &c["resources"]["requests"])] {
        if amounts.as_object().is_some_and(|a| !a.is_empty()) {
            page.line(2, format!("{title}:"));
            amounts.as_object().into_iter().flatten().for_each(|(k, v)| page.field(3, k, plain(v)));
        }
    }
    for (title, probe) in
        [("Liveness", &c["livenessProbe"]), ("Readiness", &c["readinessProbe"]), ("Startup", &c["startupProbe"])]
    {
        if probe.is_object() {
            page.field(2, title, self::probe(probe));
        }
    }
    environment(page, c);
    if list(&c["volumeMounts"]).is_empty() {
        page.field(2, "Mounts", "<none>");
    } else {
        page.line(2, "Mounts:");
        for m in list(&c["volumeMounts"]) {
            let mode = if m["readOnly"] == true { "ro" } else { "rw" };
            page.line(3, format!("{} from {} ({mode})", plain(&m["mountPath"]), plain(&m["name"])));
        }
    }
}

fn environment(page: &mut Page, c: &Value) {
    let (env, from) = (list(&c["env"]), list(&c["envFrom"]));
    for e in from {
        for (key, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            if e[key].is_object() {
                page.field(2, "Environment Variables from", format!("{} {kind}", plain(&e[key]["name"])));
            }
        }
    }
    if env.is_empty() {
        return page.field(2, "Environment", "<none>");
    }
    page.line(2, "Environment:");
    for e in env {
        let of = &e["valueFrom"];
        let key = |r: &Value, kind: &str| {
            format!("<set to the key '{}' in {kind} '{}'>", plain(&r["key"]), plain(&r["name"]))
        };
        let value = if of["secretKeyRef"].is_object() {
            key(&of["secretKeyRef"], "secret")
        } else if of["configMapKeyRef"].is_object() {
            key(&of["configMapKeyRef"], "config map")
        } else if of["fieldRef"].is_object() {
            format!(
                "({}:{})",
                of["fieldRef"]["apiVersion"].as_str().unwrap_or("v1"),
                plain(&of["fieldRef"]["fieldPath"])
            )
        } else if of["resourceFieldRef"].is_object() {
            plain(&of["resourceFieldRef"]["resource"])
        } else {
            e["value"].as_str().unwrap_or_default().to_string()
        };
        page.field(3, &plain(&e["name"]), value);
    }
}

fn state(page: &mut Page, title: &str, state: &Value) {
    let (kind, s) = [("Running", "running"), ("Waiting", "waiting"), ("Terminated", "terminated")]
        .into_iter()
        .find_map(|(kind, key)| state[key].is_object().then(|| (kind, &state[key])))
        .unwrap_or(("Waiting", &Value::Null));
    page.field(2, title, kind);
    page.some(3, "Reason", &s["reason"]);
    if let Some(message) = s["message"].as_str() {
        // A trap's message is a backtrace of many lines.
        let mut lines = message.lines();
        page.field(3, "Message", lines.next().unwrap_or_default());
        lines.for_each(|l| page.line(4, l.trim_end()));
    }
    page.some(3, "Exit Code", &s["exitCode"]);
    page.some(3, "Started", &s["startedAt"]);
    page.some(3, "Finished", &s["finishedAt"]);
}

fn probe(p: &Value) -> String {
    let what = if p["httpGet"].is_object() {
        let g = &p["httpGet"];
        let scheme = g["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        let host = g["host"].as_str().unwrap_or_default();
        format!("http-get {scheme}://{host}:{}{}", plain(&g["port"]), g["path"].as_str().unwrap_or("/"))
    } else if p["tcpSocket"].is_object() {
        format!("tcp-socket :{}", plain(&p["tcpSocket"]["port"]))
    } else if p["grpc"].is_object() {
        format!("grpc <pod>:{}", plain(&p["grpc"]["port"]))
    } else {
        let words: Vec<String> = list(&p["exec"]["command"]).iter().map(plain).collect();
        format!("exec [{}]", words.join(" "))
    };
    let n = |k: &str, default: i64| p[k].as_i64().unwrap_or(default);
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        n("initialDelaySeconds", 0),
        n("timeoutSeconds", 1),
        n("periodSeconds", 10),
        n("successThreshold", 1),
        n("failureThreshold", 3)
    )
}

fn volumes(page: &mut Page, spec: &Value) {
    let all = list(&spec["volumes"]);
    if all.is_empty() {
        return page.field(0, "Volumes", "<none>");
    }
    page.line(0, "Volumes:");
    for v in all {
        page.line(1, format!("{}:", plain(&v["name"])));
        for (kind, source) in v.as_object().into_iter().flatten().filter(|(k, _)| *k != "name") {
            page.field(2, "Type", kind);
            for (k, x) in source.as_object().into_iter().flatten().filter(|(_, x)| !x.is_array() && !x.is_object()) {
                page.field(2, k, plain(x));
            }
        }
    }
}

fn toleration(t: &Value) -> String {
    let text = |k: &str| t[k].as_str().unwrap_or_default();
    let mut out = text("key").to_string();
    if !text("value").is_empty() {
        out.push_str(&format!("={}", text("value")));
    }
    if !text("effect").is_empty() {
        out.push_str(&format!(":{}", text("effect")));
    }
    if text("operator") == "Exists" {
        out.push_str(" op=Exists");
    }
    if let Some(s) = t["tolerationSeconds"].as_i64() {
        out.push_str(&format!(" for {s}s"));
    }
    out
}

/// A pod template, as workloads show theirs.
pub fn template(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    page.map(1, "Labels", &template["metadata"]["labels"], "=");
    if template["metadata"]["annotations"].is_object() {
        page.map(1, "Annotations", &template["metadata"]["annotations"], ": ");
    }
    page.line(1, "Containers:");
    for c in list(&template["spec"]["containers"]) {
        container(page, c, &Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trap_is_shown_with_its_backtrace() {
        let mut page = Page::default();
        describe(
            &mut page,
            &json!({
                "metadata": {"name": "p", "namespace": "a"},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i",
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 80}}}],
                    "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 2, "ready": false,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 134, "message": "wasm trap: unreachable\n  0: main\n  1: run"}}}]},
            }),
        );
        let text = page.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for want in [
            "Status:           Running",
            "Reason:       CrashLoopBackOff",
            "Message:    wasm trap: unreachable",
            "0: main",
            "1: run",
            "A:  <set to the key 'k' in secret 's'>",
            "Tolerations:     k:NoExecute op=Exists for 300s",
            "Readiness:      http-get http://:80/ready delay=0s timeout=1s period=10s #success=1 #failure=3",
        ] {
            let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(lines.iter().any(|l| squeeze(l) == squeeze(want)), "{want} in\n{text}");
        }
    }
}
