//! kubectl, for what it can do with the kinds that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Cluster, needs, text, until};

#[test]
fn creates_get_described_and_deleted() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    // These send protobuf and do not fall back.
    c.ok(&["create", "namespace", "x"]);
    c.ok(&["create", "deployment", "web", "--image=file://examples/hello/hello.wasm", "--port=8080", "-n", "x"]);
    c.ok(&["create", "configmap", "c", "--from-literal=a=b", "-n", "x"]);
    c.ok(&["create", "secret", "generic", "s", "--from-literal=password=hunter2", "-n", "x"]);
    c.ok(&["create", "serviceaccount", "robot", "-n", "x"]);
    c.ok(&["create", "role", "r", "--verb=get,list", "--resource=pods", "-n", "x"]);
    c.ok(&["create", "rolebinding", "rb", "--role=r", "--serviceaccount=x:robot", "-n", "x"]);
    c.ok(&["create", "clusterrolebinding", "crb", "--clusterrole=view", "--serviceaccount=x:robot"]);
    c.ok(&["create", "ingress", "i", "--rule=a.localhost/*=web:80", "-n", "x"]);
    c.ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080", "-n", "x"]);
    c.ok(&["rollout", "status", "deployment/web", "-n", "x", "--timeout=60s"]);
    let wide = c.ok(&["get", "pods,deployments,services,nodes,ingresses", "-A", "-o", "wide"]);
    assert!(wide.contains("1/1") && wide.contains("Running") && wide.contains("10.244."), "{wide}");
    let all = c.ok(&["get", "all", "-n", "x"]);
    assert!(all.contains("deployment.apps/web") && all.contains("replicaset.apps/web-"), "{all}");
    let described = c.ok(&["describe", "deployment", "web", "-n", "x"]);
    assert!(described.contains("ScalingReplicaSet") && described.contains("MinimumReplicasAvailable"), "{described}");
    let described = c.ok(&["describe", "pods", "-n", "x"]);
    assert!(described.contains("Started container") || described.contains("Started"), "{described}");
    c.ok(&["describe", "node"]);
    c.ok(&["describe", "service", "web", "-n", "x"]);
    assert_eq!(c.ok(&["get", "secret", "s", "-n", "x", "-o", "jsonpath={.data.password}"]), "aHVudGVyMg==");
    if c.kubectl_is(28) {
        tokens(&c);
    }
    assert!(c.ok(&["auth", "can-i", "create", "pods"]).contains("yes"));
    assert!(c.ok(&["explain", "deployment.spec.strategy"]).contains("rollingUpdate"));
    assert!(c.ok(&["api-resources"]).contains("deploy"));
    c.ok(&["delete", "namespace", "x", "--timeout=60s"]);
    assert!(c.fails(&["get", "namespace", "x"]).contains("NotFound"));
    let left = c.ok(&["get", "pods,deployments,configmaps,secrets,services,ingresses", "-n", "x", "-o", "name"]);
    assert_eq!(left, "");
}

fn tokens(c: &Cluster) {
    if !c.kubectl_is(24) {
        return;
    }
    let token = c.ok(&["create", "token", "robot", "-n", "x"]);
    let token = token.trim();
    // The certificate of the kubeconfig comes first: a token beside it is not looked at.
    assert!(c.ok(&["--token", "nonsense", "get", "pods", "-n", "x"]).contains("Running"));
    let alone = ["--token", token, "--kubeconfig", "/dev/null", "-s", &c.api, "--insecure-skip-tls-verify", "-n", "x"];
    let with = |rest: &[&'static str]| [&alone[..], rest].concat();
    assert!(c.ok(&with(&["get", "pods"])).contains("Running"));
    let refused = c.fails(&with(&["delete", "pods", "--all"]));
    assert!(refused.contains("forbidden") && refused.contains("system:serviceaccount:x:robot"), "{refused}");
    assert!(c.ok(&["auth", "whoami"]).contains("kubernetes-admin"));
}

#[test]
fn apply_edit_patch_label_and_rollback() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    let same = c.ok(&["apply", "-f", "examples/hello/hello.yaml"]);
    assert!(same.contains("deployment.apps/hello"), "{same}");
    assert!(c.ok(&["apply", "-f", "examples/hello/hello.yaml"]).contains("unchanged"));
    c.ok(&["label", "deployment", "hello", "team=a"]);
    c.ok(&["annotate", "deployment", "hello", "note=x"]);
    c.ok(&["patch", "deployment", "hello", "-p", r#"{"spec":{"minReadySeconds":1}}"#]);
    c.ok(&["patch", "deployment", "hello", "--type=merge", "-p", r#"{"spec":{"minReadySeconds":0}}"#]);
    c.ok(&[
        "patch",
        "deployment",
        "hello",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/revisionHistoryLimit","value":5}]"#,
    ]);
    c.ok(&["scale", "deployment/hello", "--replicas=5"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(c.ok(&["get", "deployment", "hello", "-o", "jsonpath={.status.readyReplicas}"]), "5");
    c.ok(&["scale", "deployment/hello", "--replicas=1"]);
    until("four pods are gone", || (c.ok(&["get", "pods", "-o", "name"]).lines().count() == 1).then_some(()));
    c.ok(&["set", "env", "deployment/hello", "GREETING=two"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert!(c.get("hello.localhost", "/env").1.contains("GREETING=two"));
    let history = c.ok(&["rollout", "history", "deployment/hello"]);
    assert!(history.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2, "{history}");
    c.ok(&["rollout", "undo", "deployment/hello"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    until("the first template serves again", || {
        (!c.get("hello.localhost", "/env").1.contains("GREETING")).then_some(())
    });
    c.ok(&["rollout", "restart", "deployment/hello"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    c.ok(&["cordon", "copepod"]);
    assert!(c.ok(&["get", "nodes"]).contains("SchedulingDisabled"));
    c.ok(&["uncordon", "copepod"]);
    c.ok(&["delete", "-f", "examples/hello/hello.yaml", "--timeout=60s"]);
    until("the pods are gone", || c.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}

/// Writes a manifest and gives its path.
fn manifest(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

fn map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: a}}}}\ndata: {{k: {value}}}\n---\n"
    )
}

#[test]
fn objects_are_compared_edited_and_pruned() {
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let of = |name: &str| c.ok(&["get", "configmap", name, "-o", "jsonpath={.data.k}"]);
    let both = manifest(dir.path(), "both.yaml", &(map("a", "one") + &map("b", "one")));
    c.ok(&["apply", "-f", &both]);
    assert_eq!(c.ok(&["diff", "-f", &both]), "");
    let other = manifest(dir.path(), "other.yaml", &(map("a", "two") + &map("b", "one")));
    let out = c.kubectl(&["diff", "-f", &other]);
    let said = text(&out.stdout);
    assert!(out.status.code() == Some(1) && said.contains("-  k: one") && said.contains("+  k: two"), "{said}");
    assert_eq!(of("a"), "one", "nothing was changed");

    let edited = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(c.dir.join("kubeconfig"))
        .args(["edit", "configmap", "a"])
        .env("KUBE_EDITOR", "sed -i s/k:.one/k:\\ edited/")
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", text(&edited.stderr));
    assert_eq!(of("a"), "edited");

    // Who edits owns what is edited.
    let refused = c.fails(&["apply", "--server-side", "-f", &both]);
    assert!(refused.contains("Apply failed with 1 conflict: conflict with \"kubectl-edit\""), "{refused}");
    c.ok(&["apply", "--server-side", "--force-conflicts", "-f", &both]);
    assert_eq!(of("a"), "one");
    if c.kubectl_is(28) {
        let one = manifest(dir.path(), "one.yaml", &map("a", "one"));
        let pruned = c.ok(&["apply", "--prune", "-l", "set=a", "--prune-allowlist=core/v1/ConfigMap", "-f", &one]);
        assert!(pruned.contains("configmap/b pruned"), "{pruned}");
        assert!(c.fails(&["get", "configmap", "b"]).contains("NotFound"));
    }
}

#[test]
fn rollouts_pause_and_nodes_are_tainted() {
    let Some((dir, c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    let sets = || c.ok(&["get", "replicasets", "-o", "name"]).lines().count();
    c.ok(&["rollout", "pause", "deployment/hello"]);
    let image = dir.path().join("other.wasm");
    std::fs::copy(e2e::root().join("examples/hello/hello.wasm"), &image).unwrap();
    c.ok(&["set", "image", "deployment/hello", &format!("hello=file://{}", image.display())]);
    c.ok(&["set", "resources", "deployment/hello", "--requests=cpu=2m"]);
    until("the controller has seen it", || {
        let seen =
            c.ok(&["get", "deployment", "hello", "-o", "jsonpath={.metadata.generation} {.status.observedGeneration}"]);
        seen.split_once(' ').is_some_and(|(a, b)| a == b).then_some(())
    });
    assert_eq!(sets(), 1, "a paused one rolls nothing out");
    c.ok(&["rollout", "resume", "deployment/hello"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(sets(), 2, "both changes at once");
    let new = c.ok(&["get", "deployment", "hello", "-o", "jsonpath={.spec.template.spec.containers[0]}"]);
    assert!(new.contains("other.wasm") && new.contains("\"cpu\":\"2m\""), "{new}");

    c.ok(&["taint", "nodes", "copepod", "a=b:NoSchedule"]);
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: 'file://examples/hello/hello.wasm'}\n",
    );
    let why = ["get", "pod", "p", "-o", "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}"];
    until("it finds no place", || c.ok(&why).contains("had untolerated taint").then_some(()));
    c.ok(&["taint", "nodes", "copepod", "a:NoSchedule-"]);
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
}

#[test]
fn the_cluster_says_what_it_is_and_roles_are_reconciled() {
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    assert!(c.ok(&["cluster-info"]).contains("is running at"));
    let versions = c.ok(&["api-versions"]);
    for version in ["v1", "apps/v1", "gateway.networking.k8s.io/v1", "metrics.k8s.io/v1beta1"] {
        assert!(versions.lines().any(|l| l == version), "{versions}");
    }
    let role = |verb: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: e2e}}\nrules:\n\
             - {{apiGroups: [''], resources: [pods], verbs: [{verb}]}}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: e2e}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e}}\n\
             subjects:\n- {{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}}\n"
        )
    };
    for verb in ["get", "list"] {
        let path = manifest(dir.path(), "role.yaml", &role(verb));
        let said = c.ok(&["auth", "reconcile", "-f", &path]);
        assert!(said.contains("clusterrole.rbac.authorization.k8s.io/e2e reconciled"), "{said}");
    }
    // What is there stays, what is missing comes.
    for verb in ["get", "list"] {
        assert!(c.ok(&["auth", "can-i", verb, "pods", "--as", "ann"]).contains("yes"), "{verb}");
    }
    assert!(c.kubectl(&["auth", "can-i", "delete", "pods", "--as", "ann"]).stdout.starts_with(b"no"));

    if !needs("curl", e2e::has("curl")) {
        return;
    }
    let mut proxy = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(c.dir.join("kubeconfig"))
        .args(["proxy", "--port=0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(proxy.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = line.trim().rsplit(' ').next().unwrap_or_default();
    let out = Command::new("curl").args(["-s", &format!("http://{at}/api/v1/namespaces/default")]).output().unwrap();
    let _ = proxy.kill();
    proxy.wait().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    assert_eq!(found["metadata"]["name"], "default", "{line}{}", text(&out.stdout));
}

#[test]
fn bad_input_gets_the_errors_of_kubernetes() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    assert!(c.fails(&["get", "pod", "nope"]).contains("Error from server (NotFound): pods \"nope\" not found"));
    assert!(c.fails(&["get", "nonsense"]).contains("the server doesn't have a resource type"));
    c.ok(&["create", "namespace", "x"]);
    assert!(c.fails(&["create", "namespace", "x"]).contains("(AlreadyExists): namespaces \"x\" already exists"));
    assert!(c.fails(&["create", "namespace", "Not_Valid"]).contains("is invalid: metadata.name: Invalid value"));
    assert!(c.fails(&["create", "configmap", "c", "-n", "missing"]).contains("namespaces \"missing\" not found"));
    let dir = tempfile::tempdir().unwrap();
    let bad = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        c.fails(&["apply", "-f", &path.to_string_lossy()])
    };
    let unknown = bad(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: x}], nonsense: 1}\n",
    );
    assert!(unknown.contains("strict decoding error: unknown field \"spec.nonsense\""), "{unknown}");
    let missing = bad("b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n");
    assert!(missing.contains("spec.containers[0].image: Required value"), "{missing}");
    let wrong = bad("c.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: p}\nspec: {replicas: many}\n");
    assert!(wrong.contains("cannot unmarshal string") || wrong.contains("json:"), "{wrong}");
    let name = bad("d.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n");
    assert!(name.contains("RFC 1123"), "{name}");
    assert_eq!(c.ok(&["get", "pods", "-o", "name"]), "");
}

#[test]
fn deletion_propagates_as_asked() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    let pods = || c.ok(&["get", "pods", "-o", "name"]).lines().count();
    let uid = || c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let (before, running) = (uid(), pods());
    assert!(running > 0);
    // Orphaned: the ReplicaSet goes on with its pods, and belongs to nobody.
    c.ok(&["delete", "deployment", "hello", "--cascade=orphan", "--timeout=60s"]);
    assert!(c.fails(&["get", "deployment", "hello"]).contains("NotFound"));
    assert_eq!((uid(), pods()), (before.clone(), running));
    assert_eq!(c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences}"]), "");
    // A Deployment with the same selector takes it in again.
    c.ok(&["apply", "-f", "examples/hello/hello.yaml"]);
    until("the ReplicaSet is adopted", || {
        let owner = c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences[0].name}"]);
        (owner == "hello" && uid() == before).then_some(())
    });
    // In the foreground: when the owner is gone, nothing is left of what it owned.
    c.ok(&["delete", "deployment", "hello", "--cascade=foreground", "--timeout=60s"]);
    assert_eq!((uid(), pods()), (String::new(), 0));
    assert!(c.fails(&["delete", "namespace", "default"]).contains("this namespace may not be deleted"));
}

#[test]
fn watches_waits_and_pages() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    for i in 0..7 {
        c.ok(&["create", "configmap", &format!("c{i}"), &format!("--from-literal=i={i}")]);
    }
    let listed = c.ok(&["get", "configmaps", "--chunk-size=2", "-o", "name"]);
    assert_eq!(listed.lines().filter(|l| l.contains("/c")).count(), 7, "{listed}");
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec:\n  containers:\n  - {name: c, image: 'file://examples/hello/hello.wasm'}\n",
    );
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    c.ok(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=60s"]);
    let by_field = c.ok(&["get", "pods", "-l", "app=p", "--field-selector=status.phase=Running", "-o", "name"]);
    assert_eq!(by_field.trim(), "pod/p");
    c.ok(&["delete", "pod", "p", "--timeout=60s"]);
    c.ok(&["wait", "--for=delete", "pod/p", "--timeout=60s"]);
    assert!(c.ok(&["get", "--raw", "/readyz?verbose"]).contains("readyz check passed"));
    assert!(c.ok(&["get", "--raw", "/metrics"]).contains("apiserver_request"));
}

#[test]
fn other_commands_do_what_they_say() {
    let Some((dir, mut c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    c.kubectl_env = &[("KUBE_EDITOR", "sed -i s/k:.one/k:\\ edited/")];
    let maps = manifest(dir.path(), "maps.yaml", &(map("a", "one") + &map("b", "one")));
    let other = manifest(dir.path(), "other.yaml", &map("a", "two"));
    let kustomization = dir.path().join("kustomization");
    std::fs::create_dir(&kustomization).unwrap();
    let text = "namePrefix: k-\nconfigMapGenerator:\n- {name: made, literals: [a=b]}\n";
    manifest(&kustomization, "kustomization.yaml", text);
    let kustomization = kustomization.to_string_lossy();
    c.ok(&["create", "serviceaccount", "robot"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    until("there are events", || c.ok(&["get", "events"]).contains("ScalingReplicaSet").then_some(()));
    let commands: &[(&[&str], &str)] = &[
        (&["apply", "--dry-run=server", "-f", &maps], "configmap/a created (server dry run)"),
        (&["get", "configmaps", "-l", "set=a", "-o", "name"], ""),
        (&["apply", "-f", &maps], "configmap/a created"),
        (&["apply", "view-last-applied", "configmap/a"], "k: one"),
        (&["apply", "edit-last-applied", "configmap/a"], "configmap/a edited"),
        (&["apply", "view-last-applied", "configmap/a"], "k: edited"),
        (&["apply", "set-last-applied", "-f", &maps], "configmap/a configured"),
        (&["apply", "view-last-applied", "configmap/a"], "k: one"),
        (&["replace", "-f", &other], "configmap/a replaced"),
        (&["get", "configmap", "a", "-o", "jsonpath={.data.k}"], "two"),
        (&["replace", "--force", "-f", &maps], "configmap/a replaced"),
        (&["get", "configmap", "a", "-o", "jsonpath={.data.k}"], "one"),
        (&["kustomize", &kustomization], "name: k-made-"),
        (&["apply", "-k", &kustomization], "configmap/k-made-"),
        (&["create", "service", "nodeport", "np", "--tcp=80:8080", "--node-port=30999"], "service/np created"),
        (&["get", "service", "np", "-o", "jsonpath={.spec.ports[0].nodePort}"], "30999"),
        (&["create", "service", "loadbalancer", "lb", "--tcp=80:8080"], "service/lb created"),
        (&["get", "service", "lb", "-o", "jsonpath={.spec.type}"], "LoadBalancer"),
        (&["create", "service", "externalname", "out", "--external-name=example.test"], "service/out created"),
        (&["get", "service", "out", "-o", "jsonpath={.spec.externalName}"], "example.test"),
        (&["set", "selector", "service", "np", "a=b"], "service/np selector updated"),
        (&["get", "service", "np", "-o", "jsonpath={.spec.selector}"], r#"{"a":"b"}"#),
        (
            &["create", "rolebinding", "r", "--clusterrole=view", "--user=one"],
            "rolebinding.rbac.authorization.k8s.io/r created",
        ),
        (
            &["set", "subject", "rolebinding", "r", "--user=two"],
            "rolebinding.rbac.authorization.k8s.io/r subjects updated",
        ),
        (&["get", "rolebinding", "r", "-o", "jsonpath={.subjects[*].name}"], "one two"),
        (&["create", "service", "clusterip", "svc", "--tcp=80:8080"], "service/svc created"),
        (&["get", "service", "svc", "-o", "jsonpath={.spec.ports[0].targetPort}"], "8080"),
        (&["rollout", "history", "deployment/hello", "--revision=1"], "Pod Template"),
        (&["set", "serviceaccount", "deployment/hello", "robot"], "serviceaccount updated"),
        (&["get", "deployment", "hello", "-o", "jsonpath={.spec.template.spec.serviceAccountName}"], "robot"),
        (
            &[
                "patch",
                "deployment",
                "hello",
                "--subresource=scale",
                "--type=merge",
                "-p",
                r#"{"spec":{"replicas":1}}"#,
            ],
            "patched",
        ),
        (&["get", "deployment", "hello", "-o", "jsonpath={.spec.replicas}"], "1"),
        (&["get", "events", "--sort-by=.metadata.creationTimestamp"], "ScalingReplicaSet"),
        (&["events"], "ScalingReplicaSet"),
        (&["events", "--for=deployment/hello"], "ScalingReplicaSet"),
        (&["cluster-info", "dump"], "\"kind\": \"NodeList\""),
        (&["delete", "configmap", "-l", "set=a"], "configmap \"b\" "),
        (&["get", "configmaps", "-l", "set=a", "-o", "name"], ""),
        (&["delete", "pods", "--all", "--force", "--grace-period=0"], "force deleted"),
        (&["auth", "can-i", "--list"], "selfsubjectaccessreviews.authorization.k8s.io"),
    ];
    // The youngest of these, `kubectl events`, is that old.
    if !c.kubectl_is(26) {
        return;
    }
    for (command, want) in commands {
        let said = c.ok(command);
        // What is to say nothing says nothing.
        assert!(if want.is_empty() { said.is_empty() } else { said.contains(want) }, "kubectl {command:?}: {said}");
    }
}

/// Other versions of kubectl, `kubectl.1.N`, in the folders of PATH or beside what `kubectl` leads to: the oldest, one
/// between, and the newest.
fn other_kubectls() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let resolved = folders.iter().find_map(|f| f.join("kubectl").canonicalize().ok());
    folders.extend(resolved.and_then(|k| k.parent().map(Path::to_path_buf)));
    let mut found = BTreeMap::new();
    for file in folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten() {
        let name = file.file_name();
        let minor = name.to_str().and_then(|n| n.strip_prefix("kubectl.1.")).and_then(|m| m.parse::<u32>().ok());
        if let Some(minor) = minor {
            found.entry(minor).or_insert_with(|| file.path());
        }
    }
    let all: Vec<PathBuf> = found.into_values().collect();
    let chosen = BTreeSet::from([0, all.len() / 2, all.len().saturating_sub(1)]);
    chosen.into_iter().filter_map(|i| all.get(i).cloned()).collect()
}

#[test]
fn old_and_new_kubectls_do_the_same() {
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let programs = other_kubectls();
    if !needs("other versions of kubectl (kubectl.1.N in a folder of PATH)", !programs.is_empty()) {
        return;
    }
    let web = manifest(
        dir.path(),
        "web.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  \
         template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      \
         containers:\n      - {name: c, image: 'file://examples/preview1/preview1.wasm', args: [loop, '100000']}\n",
    );
    for (i, program) in programs.iter().enumerate() {
        let run = |args: &[&str]| {
            let mut kubectl = Command::new(program);
            kubectl.arg("--kubeconfig").arg(c.dir.join("kubeconfig")).args(args).current_dir(e2e::root());
            kubectl.output().expect("kubectl runs")
        };
        let ok = |args: &[&str]| {
            let out = run(args);
            let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
            assert!(out.status.success(), "{} {args:?}: {stdout}{stderr}", program.display());
            stdout
        };
        let namespace = format!("n{i}");
        let n = namespace.as_str();
        let says = |args: &[&str], want: &str| {
            let said = ok(args);
            assert!(said.contains(want), "{} {args:?}: {said}", program.display());
        };
        println!("{}", program.display());
        says(&["create", "namespace", n], &format!("namespace/{n} created"));
        says(&["apply", "-n", n, "-f", &web], "deployment.apps/web created");
        says(&["apply", "-n", n, "-f", &web], "deployment.apps/web unchanged");
        says(&["rollout", "status", "deployment/web", "-n", n, "--timeout=60s"], "successfully rolled out");
        let wide = ok(&["get", "pods", "-n", n, "-o", "wide"]);
        let head: Vec<&str> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
        assert!(head.starts_with(&["NAME", "READY", "STATUS"]) && head.contains(&"NODE"), "{wide}");
        assert!(wide.contains("Running") && wide.contains("10.244."), "{wide}");
        until("it has said something", || ok(&["logs", "deployment/web", "-n", n]).contains("tick 1").then_some(()));
        // By what the kind says of its lists: the container keeps its image.
        let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"}]}]}}}}"#;
        says(&["patch", "deployment", "web", "-n", n, "-p", patch], "deployment.apps/web patched");
        let container = ["get", "deployment", "web", "-n", n, "-o", "jsonpath={.spec.template.spec.containers[*]}"];
        let found = ok(&container);
        assert!(found.contains("preview1.wasm") && found.contains("\"A\""), "{found}");
        says(&["scale", "deployment/web", "--replicas=2", "-n", n], "deployment.apps/web scaled");
        says(&["rollout", "status", "deployment/web", "-n", n, "--timeout=60s"], "successfully rolled out");
        assert_eq!(ok(&["get", "deployment", "web", "-n", n, "-o", "jsonpath={.status.readyReplicas}"]), "2");
        says(&["delete", "-n", n, "-f", &web, "--timeout=60s"], "\"web\" ");
        says(&["delete", "namespace", n, "--timeout=60s"], &format!("namespace \"{n}\" deleted"));
        let gone = run(&["get", "namespace", n]);
        assert!(!gone.status.success() && text(&gone.stderr).contains("NotFound"), "{}", text(&gone.stderr));
    }
}
