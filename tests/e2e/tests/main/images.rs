//! The cluster's own registry: `copepod push`, skopeo, and another cluster that pulls from it.

use std::path::Path;
use std::process::{Command, Output};

use e2e::{Cluster, has, needs, root, text, until};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, labels: {app: NAME}}\nspec: {MORE containers: [{name: c, imagePullPolicy: Always, image: 'IMAGE', ports: [{containerPort: 8080}]}]}\n---\n";

fn pod(name: &str, image: &str, more: &str) -> String {
    POD.replace("NAME", name).replace("IMAGE", image).replace("MORE", more)
}

fn ready(c: &Cluster, name: &str) {
    c.ok(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]);
}

/// The waiting message of a pod's container, once its reason is one of these.
fn waits(c: &Cluster, name: &str, reasons: &[&str]) -> String {
    let field = |f: &str| format!("jsonpath={{.status.containerStatuses[0].state.waiting.{f}}}");
    until(&format!("{name} waits for {reasons:?}"), || {
        let reason = c.ok(&["get", "pod", name, "-o", &field("reason")]);
        reasons.contains(&reason.as_str()).then(|| c.ok(&["get", "pod", name, "-o", &field("message")]))
    })
}

/// A component that imports `a:b/c@1.0.0` and nothing else.
fn lacking(at: &Path) {
    let name = b"a:b/c@1.0.0";
    let mut wasm = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0".to_vec(); // a type: an instance with nothing in it
    wasm.extend([0x0a, name.len() as u8 + 5, 1, 0, name.len() as u8]);
    wasm.extend(name);
    wasm.extend([5, 0]);
    std::fs::write(at, wasm).unwrap();
}

fn skopeo(args: &[&str]) -> Output {
    Command::new("skopeo").arg("--insecure-policy").args(args).output().expect("skopeo runs")
}

fn skopeo_ok(args: &[&str]) -> String {
    let out = skopeo(args);
    assert!(out.status.success(), "skopeo {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn pushed_images_run_and_other_tools_push_and_pull_them() {
    if !needs("kubectl and skopeo", has("kubectl") && has("skopeo")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(&dir.path().join("a"), &[]);
    let push = |file: &Path, name: &str| c.copepod(&["push", &file.display().to_string(), name]);
    let hello = root().join("examples/hello/hello.wasm");
    let pushed = push(&hello, "hello:1");
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let name = text(&pushed.stdout).trim().to_string();
    assert!(name.starts_with("registry.cluster.local/hello:1@sha256:"), "{name}");
    assert_eq!(text(&push(&hello, "hello:1").stdout).trim(), name, "the same file is the same image");
    let bad = push(Path::new("Cargo.toml"), "bad");
    assert!(!bad.status.success() && text(&bad.stderr).contains("not a WebAssembly module or component"));

    let file = dir.path().join("lacking.wasm");
    lacking(&file);
    assert!(push(&file, "lacking").status.success());
    c.apply(&format!(
        "{}{}{}{}",
        pod("tagged", "registry.cluster.local/hello:1", ""),
        pod("both", &name, ""),
        pod("lacking", "registry.cluster.local/lacking", ""),
        pod("missing", "registry.cluster.local/hello:none", ""),
    ));
    ready(&c, "tagged");
    ready(&c, "both");
    let why = waits(&c, "lacking", &["CreateContainerError"]);
    assert_eq!(why, "imports a:b/c@1.0.0, which this host does not have");
    let why = waits(&c, "missing", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(why.contains("manifest unknown: none (MANIFEST_UNKNOWN)"), "{why}");
    let events = c.ok(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
    for said in [
        "Pulling image \"registry.cluster.local/hello:1\"",
        "Successfully pulled image \"registry.cluster.local/hello:1\" in ",
        "Failed to pull image \"registry.cluster.local/hello:none\"",
        "Error: imports a:b/c@1.0.0, which this host does not have",
    ] {
        assert!(events.contains(said), "{said}: {events}");
    }

    // skopeo, as a service account that may edit its namespace.
    c.ok(&["create", "serviceaccount", "robot"]);
    c.ok(&["create", "rolebinding", "robot", "--clusterrole=edit", "--serviceaccount=default:robot"]);
    let token = c.token("default", "robot");
    let creds = format!("robot:{}", token);
    let host = c.api.strip_prefix("https://").unwrap().to_string();
    let layout = format!("oci:{}/layout:x", dir.path().display());
    let remote = |name: &str| format!("docker://{host}/{name}");
    // A shared image is not the namespace's to read.
    let refused = skopeo(&["copy", "--src-tls-verify=false", "--src-creds", &creds, &remote("hello:1"), &layout]);
    assert!(text(&refused.stderr).contains("denied"), "{}", text(&refused.stderr));
    let wrong = skopeo(&["inspect", "--tls-verify=false", "--creds", "robot:wrong", &remote("default/app:1")]);
    assert!(text(&wrong.stderr).contains("unauthorized"), "{}", text(&wrong.stderr));
    assert!(push(&hello, "default/app:1").status.success());
    skopeo_ok(&["copy", "--src-tls-verify=false", "--src-creds", &creds, &remote("default/app:1"), &layout]);
    // The certificate's authority is the cluster's.
    let certs = dir.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(c.dir.join("server/pki/ca.crt"), certs.join("ca.crt")).unwrap();
    let certs = certs.display().to_string();
    let to = remote("default/app:2");
    skopeo_ok(&["copy", "--dest-cert-dir", &certs, "--dest-creds", &creds, &layout, &to]);
    let (from, again) = (remote("default/app:2"), remote("default/copy:3"));
    skopeo_ok(&[
        "copy",
        "--src-cert-dir",
        &certs,
        "--dest-cert-dir",
        &certs,
        "--src-creds",
        &creds,
        "--dest-creds",
        &creds,
        &from,
        &again,
    ]);
    let tags = skopeo_ok(&["list-tags", "--cert-dir", &certs, "--creds", &creds, &remote("default/app")]);
    assert!(tags.contains("\"1\"") && tags.contains("\"2\""), "{tags}");
    skopeo_ok(&["delete", "--cert-dir", &certs, "--creds", &creds, &remote("default/copy:3")]);
    c.apply(&pod("copied", "registry.cluster.local/default/app:2", ""));
    ready(&c, "copied");

    // Another namespace's pods have it by a role only, whoever creates them.
    c.ok(&["create", "namespace", "other"]);
    until("its service account is there", || {
        c.kubectl(&["-n", "other", "get", "sa", "default"]).status.success().then_some(())
    });
    let image = "--image=registry.cluster.local/default/app:2";
    let refused = c.fails(&["-n", "other", "run", "foreign", image]);
    let why =
        "is of the namespace \"default\": User \"system:serviceaccount:other:default\" cannot get resource \"images\"";
    assert!(refused.contains("pods \"foreign\" is forbidden") && refused.contains(why), "{refused}");
    c.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: app}\nrules: [{apiGroups: [copepod.dev], resources: [images], resourceNames: [app], verbs: [get]}]\n",
    );
    c.ok(&["create", "rolebinding", "app", "--role=app", "--serviceaccount=other:default"]);
    c.ok(&["-n", "other", "run", "foreign", image]);
    c.ok(&["-n", "other", "wait", "pod/foreign", "--for=condition=Ready", "--timeout=60s"]);

    // What was pushed outlives the process.
    let kept = c.kill();
    let c = Cluster::up(&kept, &[]);
    ready(&c, "copied");
    let token = c.token("default", "robot");
    let creds = format!("robot:{}", token);
    let host = c.api.strip_prefix("https://").unwrap().to_string();
    let image = format!("docker://{host}/default/app:2");
    assert!(
        skopeo_ok(&["inspect", "--raw", "--cert-dir", &certs, "--creds", &creds, &image]).contains("application/wasm")
    );
    until("the node lists its images", || {
        let images = c.ok(&["get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names}"]);
        images.contains("registry.cluster.local/default/app:2").then_some(())
    });
}

#[test]
fn oras_pushes_and_pulls_what_pods_run() {
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_default();
    let imports = || Command::new(&python).args(["-c", "import oras"]).status().is_ok_and(|s| s.success());
    if !needs("oras for Python (COPEPOD_TEST_PYTHON)", !python.is_empty() && imports()) {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.ok(&["create", "serviceaccount", "robot"]);
    c.ok(&["create", "rolebinding", "robot", "--clusterrole=edit", "--serviceaccount=default:robot"]);
    let pulled = dir.path().join("pulled");
    std::fs::create_dir(&pulled).unwrap();
    let out = Command::new(&python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/main/oras_client.py"))
        .arg(c.api.strip_prefix("https://").unwrap())
        .arg(c.dir.join("server/pki/ca.crt"))
        .arg(c.token("default", "robot"))
        .arg(root().join("examples/hello/hello.wasm"))
        .arg(&pulled)
        .output()
        .unwrap();
    assert!(text(&out.stdout).contains("all well"), "{}{}", text(&out.stdout), text(&out.stderr));
    c.apply(&format!(
        "{}{}",
        pod("oras", "registry.cluster.local/default/oras:1", ""),
        pod("pieces", "registry.cluster.local/default/oras-pieces:1", "")
    ));
    ready(&c, "oras");
    ready(&c, "pieces");
}

#[test]
fn a_private_registry_with_its_own_authority() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = Cluster::up(&dir.path().join("from"), &[]);
    let hello = root().join("examples/hello/hello.wasm").display().to_string();
    assert!(from.copepod(&["push", &hello, "default/hello:1"]).status.success());
    from.ok(&["create", "serviceaccount", "reader"]);
    from.ok(&["create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader"]);
    let token = from.token("default", "reader");
    let host = from.api.strip_prefix("https://").unwrap();

    let registries = dir.path().join("registries.yaml");
    let ca = from.dir.join("server/pki/ca.crt");
    std::fs::write(&registries, format!("configs: {{'{host}': {{tls: {{ca_file: '{}'}}}}}}\n", ca.display())).unwrap();
    let c = Cluster::up(&dir.path().join("to"), &["--registries", &registries.display().to_string()]);
    let image = format!("{host}/default/hello:1");
    c.apply(&pod("nobody", &image, ""));
    let why = waits(&c, "nobody", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(why.contains("authentication required (UNAUTHORIZED)"), "{why}");
    let server = format!("--docker-server=https://{host}");
    let password = format!("--docker-password={}", token);
    c.ok(&["create", "secret", "docker-registry", "pull", &server, "--docker-username=reader", &password]);
    c.apply(&pod("own", &image, "imagePullSecrets: [{name: pull}],"));
    ready(&c, "own");
    // The account's secrets are its pods', of those that bring none.
    c.ok(&["patch", "serviceaccount", "default", "-p", "{\"imagePullSecrets\": [{\"name\": \"pull\"}]}"]);
    c.apply(&pod("account", &image, ""));
    ready(&c, "account");
    assert_eq!(c.ok(&["get", "pod", "account", "-o", "jsonpath={.spec.imagePullSecrets[*].name}"]), "pull");
    c.apply(&pod("wrong", &image, "imagePullSecrets: [{name: none}],"));
    waits(&c, "wrong", &["ErrImagePull", "ImagePullBackOff"]);
    let events = c.ok(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
    assert!(events.contains("Unable to retrieve some image pull secrets (none)"), "{events}");
    // Flags that cannot be meant.
    let out = e2e::copepod()
        .args(["up", "--image-gc-high-threshold", "50", "--image-gc-low-threshold", "60", "--api-port", "0"])
        .args([
            "--ingress-port",
            "0",
            "--ingress-tls-port",
            "0",
            "--dns-port",
            "0",
            "--kubelet-port",
            "0",
            "--data-dir",
        ])
        .arg(dir.path().join("bad"))
        .output()
        .unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("must be less than"), "{}", text(&out.stderr));
}
