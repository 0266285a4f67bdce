//! Helm 3, which patches by what it has applied before, and Helm 4, which applies on the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Cluster, has, needs, text};
use serde_json::Value;

/// A chart's files.
const CHART: [(&str, &str); 6] = [
    ("Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n"),
    ("values.yaml", "replicas: 1\ngreeting: one\n"),
    (
        "templates/web.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: '{{ .Release.Name }}'}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: '{{ .Release.Name }}'}}
  template:
    metadata: {labels: {app: '{{ .Release.Name }}'}}
    spec:
      containers:
      - name: hello
        image: file://examples/hello/hello.wasm
        env: [{name: GREETING, value: '{{ .Values.greeting }}'}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: '{{ .Release.Name }}'}
spec: {selector: {app: '{{ .Release.Name }}'}, ports: [{port: 80, targetPort: 8080}]}
",
    ),
    (
        "templates/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\ndata: {greeting: '{{ .Values.greeting }}'}\n",
    ),
    (
        "templates/ingress.yaml",
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: '{{ .Release.Name }}'}
spec:
  rules:
  - host: '{{ .Release.Name }}.localhost'
    http:
      paths: [{path: /, pathType: Prefix, backend: {service: {name: '{{ .Release.Name }}', port: {number: 80}}}}]
",
    ),
    (
        "templates/hook.yaml",
        "\
apiVersion: batch/v1
kind: Job
metadata:
  name: '{{ .Release.Name }}-ready'
  annotations: {helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-delete-policy: before-hook-creation}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'file://examples/preview1/preview1.wasm', args: [exit, '0']}]
",
    ),
];

/// A Helm with folders of its own.
struct Helm<'c> {
    binary: String,
    cluster: &'c Cluster,
    home: PathBuf,
}

impl Helm<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let home = |name: &str| self.home.join(name);
        Command::new(&self.binary)
            .args(args)
            .env("KUBECONFIG", self.cluster.dir.join("kubeconfig"))
            .env("HELM_CACHE_HOME", home("cache"))
            .env("HELM_CONFIG_HOME", home("config"))
            .env("HELM_DATA_HOME", home("data"))
            .output()
            .expect("helm runs")
    }

    /// Must succeed; its stdout.
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "helm {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Must fail; what it says.
    fn fails(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(!out.status.success(), "helm {args:?} succeeded: {}", text(&out.stdout));
        text(&out.stderr) + &text(&out.stdout)
    }

    fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("helm {args:?}: {e}: {out}"))
    }

    /// The release's last revision and its state.
    fn revision(&self) -> (u64, String) {
        let all = self.json(&["history", "web"]);
        let last = all.as_array().and_then(|a| a.last()).expect("a revision");
        (last["revision"].as_u64().unwrap_or(0), last["status"].as_str().unwrap_or_default().into())
    }
}

fn chart(dir: &Path) -> String {
    for (name, content) in CHART {
        let path = dir.join("chart").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }
    dir.join("chart").display().to_string()
}

#[test]
fn helm_3_installs_upgrades_and_rolls_back() {
    releases("COPEPOD_TEST_HELM3", "v3.");
}

#[test]
fn helm_4_installs_upgrades_and_rolls_back() {
    releases("COPEPOD_TEST_HELM4", "v4.");
}

fn releases(variable: &str, version: &str) {
    let binary = std::env::var(variable).unwrap_or_default();
    if !needs(&format!("Helm {version} ({variable})"), !binary.is_empty()) || !needs("kubectl", has("kubectl")) {
        return;
    }
    let (data, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Cluster::up(data.path(), &[]);
    let chart = chart(home.path());
    let helm = Helm { binary, cluster: &cluster, home: home.path().into() };
    let said = helm.ok(&["version", "--short"]);
    assert!(said.starts_with(version), "{said}");
    let on_server = version == "v4.";
    let field = |what: &str, path: &str| cluster.ok(&["get", what, "web", "-o", &format!("jsonpath={{{path}}}")]);
    let env = || field("deployment", ".spec.template.spec.containers[0].env[0].value");

    helm.ok(&["install", "web", &chart, "--wait", "--timeout", "60s"]);
    assert_eq!(field("deployment", ".status.readyReplicas"), "1");
    assert_eq!(cluster.ok(&["get", "job", "web-ready", "-o", "jsonpath={.status.succeeded}"]), "1");
    let listed = helm.json(&["list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["status"]), (&"web".into(), &"deployed".into()), "{listed}");
    assert_eq!(helm.json(&["status", "web"])["info"]["status"], "deployed");
    let manifest = helm.ok(&["get", "manifest", "web"]);
    assert!(["Deployment", "Service", "ConfigMap", "Ingress"].iter().all(|k| manifest.contains(k)), "{manifest}");

    // What others have added stays; what they have changed comes back, for who applies on the server if it insists.
    cluster.ok(&["annotate", "deployment", "web", "by=hand"]);
    cluster.ok(&["patch", "deployment", "web", "--type=merge", "-p", r#"{"spec":{"replicas":3}}"#]);
    let two = ["upgrade", "web", &chart, "--set", "greeting=two", "--wait", "--timeout", "60s"];
    if on_server {
        let conflict = helm.fails(&two);
        assert!(conflict.contains("conflict") && conflict.contains(".spec.replicas"), "{conflict}");
        helm.ok(&[&two[..], &["--force-conflicts"]].concat());
    } else {
        helm.ok(&two);
    }
    assert_eq!((env(), field("deployment", ".spec.replicas")), ("two".into(), "1".into()));
    assert_eq!(field("deployment", ".metadata.annotations.by"), "hand");
    assert_eq!(field("configmap", ".data.greeting"), "two");
    let managers = field("configmap", ".metadata.managedFields[*].operation");
    assert_eq!(managers.contains("Apply"), on_server, "{managers}");
    let (upgraded, _) = helm.revision();

    // A chart that the API refuses leaves things as they were.
    let rollback = if on_server { "--rollback-on-failure" } else { "--atomic" };
    let bad =
        ["upgrade", "--install", "web", &chart, "--set", "replicas=-1,greeting=bad", rollback, "--timeout", "60s"];
    let refused = helm.fails(&bad);
    assert!(refused.contains("spec.replicas: Invalid value: -1"), "{refused}");
    assert_eq!(helm.revision(), (upgraded + 2, "deployed".into()));
    assert_eq!((env(), field("configmap", ".data.greeting")), ("two".into(), "two".into()));

    helm.ok(&["rollback", "web", "1", "--wait", "--timeout", "60s"]);
    assert_eq!(helm.revision(), (upgraded + 3, "deployed".into()));
    assert_eq!((env(), field("configmap", ".data.greeting")), ("one".into(), "one".into()));

    cluster.apply(&helm.ok(&["template", "other", &chart, "--no-hooks"]));
    cluster.ok(&["rollout", "status", "deployment/other", "--timeout=60s"]);

    helm.ok(&["uninstall", "web", "--wait", "--timeout", "60s"]);
    for kind in ["deployment", "service", "configmap", "ingress"] {
        assert!(cluster.fails(&["get", kind, "web"]).contains("NotFound"), "{kind}");
    }
    assert_eq!(helm.json(&["list"]).as_array().map(Vec::len), Some(0));
}
