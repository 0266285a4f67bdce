//! Images from a registry: Debian's, on loopback, filled by plain HTTP as any tool would.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::{Cluster, has, needs, root, text, until};

struct Registry {
    child: Child,
    host: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        // It cannot be asked for any free port, so one is taken and given back; should another take it, try again.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let address = format!("127.0.0.1:{port}");
            let config = dir.path().join("config.yml");
            let data = dir.path().join("data");
            let yaml = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
                data.display()
            );
            std::fs::write(&config, yaml).unwrap();
            let mut command = Command::new("docker-registry");
            let mut child =
                command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let up = until("the registry listens or ends", || {
                let ended = child.try_wait().unwrap().is_some();
                (ended || TcpStream::connect(&address).is_ok()).then_some(!ended)
            });
            if up {
                return Registry { child, host: format!("localhost:{port}"), dir };
            }
        }
        panic!("docker-registry does not start");
    }

    /// PUTs a file.
    fn put(&self, url: &str, media_type: &str, file: &Path) {
        let out = Command::new("curl")
            .args(["-sS", "-f", "-X", "PUT", "-H", &format!("Content-Type: {media_type}"), "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg(url)
            .output()
            .expect("curl runs");
        assert!(out.status.success(), "PUT {url}: {}{}", text(&out.stdout), text(&out.stderr));
    }

    /// Uploads a blob in one go: its descriptor.
    fn blob(&self, name: &str, media_type: &str, file: &Path) -> serde_json::Value {
        let digest = digest(file);
        let start = Command::new("curl")
            .args(["-sS", "-f", "-X", "POST", "-D", "-", "-o", "/dev/null"])
            .arg(format!("http://{}/v2/{name}/blobs/uploads/", self.host))
            .output()
            .expect("curl runs");
        let headers = text(&start.stdout);
        let location =
            headers.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap_or_else(|| panic!("{headers}"));
        let join = if location.contains('?') { '&' } else { '?' };
        self.put(&format!("{}{join}digest={digest}", location.trim()), "application/octet-stream", file);
        let size = std::fs::metadata(file).unwrap().len();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Pushes what `config` and one layer make; the manifest's digest.
    fn push(&self, name: &str, tag: &str, config: (&str, &str), layer: (&str, &Path)) -> String {
        let config = self.blob(name, config.0, &self.file(config.1));
        let layer = self.blob(name, layer.0, layer.1);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let file = self.file(&manifest.to_string());
        self.put(&format!("http://{}/v2/{name}/manifests/{tag}", self.host), media_type, &file);
        digest(&file)
    }

    fn file(&self, content: &str) -> PathBuf {
        let mut file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.into_temp_path().keep().unwrap()
    }
}

fn digest(file: &Path) -> String {
    let out = Command::new("sha256sum").arg(file).output().expect("sha256sum runs");
    format!("sha256:{}", text(&out.stdout).split_whitespace().next().unwrap())
}

#[test]
fn a_pod_runs_from_a_registry() {
    if !needs("kubectl and docker-registry", has("kubectl") && has("docker-registry")) {
        return;
    }
    let registry = Registry::start();
    let wasm = root().join("examples/hello/hello.wasm");
    let config = ("application/vnd.wasm.config.v0+json", r#"{"architecture":"wasm","os":"wasip2","layerDigests":[]}"#);
    let pushed = registry.push("apps/hello", "1", config, ("application/wasm", &wasm));
    let linux = ("application/vnd.oci.image.config.v1+json", r#"{"architecture":"amd64","os":"linux","rootfs":{}}"#);
    let tar = registry.file("not really a layer");
    registry.push("linux", "1", linux, ("application/vnd.oci.image.layer.v1.tar", &tar));

    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &[]);
    let host = &registry.host;
    let pod = |name: &str, image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers:\n  - {{name: c, image: '{host}/{image}', ports: [{{containerPort: 8080}}]}}\n---\n"
        )
    };
    c.apply(&format!(
        "{}{}{}{}apiVersion: v1\nkind: Service\nmetadata: {{name: hello}}\nspec: {{selector: {{app: tagged}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: hello}}\nspec: {{defaultBackend: {{service: {{name: hello, port: {{number: 80}}}}}}}}\n",
        pod("tagged", "apps/hello:1"),
        pod("digested", &format!("apps/hello@{pushed}")),
        pod("missing", "apps/hello:2"),
        pod("linux", "linux:1"),
    ));
    until("the pulled component answers", || (c.get("any.localhost", "/").0 == 200).then_some(()));
    assert_eq!(c.get("any.localhost", "/").1, "Hello from tagged\n");
    c.ok(&["wait", "pod/digested", "--for=condition=Ready", "--timeout=60s"]);
    let status = |name: &str, path: &str| {
        c.ok(&["get", "pod", name, "-o", &format!("jsonpath={{.status.containerStatuses[0].{path}}}")])
    };
    let id = status("tagged", "imageID");
    assert_eq!(id, format!("{host}/apps/hello@{}", digest(&wasm)), "what runs is known by its digest");
    for (name, why) in [("missing", "apps/hello:2"), ("linux", "linux/amd64")] {
        let message = until("the failed pull shows", || {
            let reason = status(name, "state.waiting.reason");
            let message = status(name, "state.waiting.message");
            (matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff") && message.contains(why)).then_some(message)
        });
        assert!(message.contains(&format!("{host}/")), "{message}");
    }
    let events = c.ok(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
    assert!(events.contains("MANIFEST_UNKNOWN"), "the registry's own words: {events}");

    // What was pulled restarts without its registry.
    drop(registry);
    assert_eq!(c.get("any.localhost", "/trap").0, 500);
    until("it restarted", || (status("tagged", "restartCount") == "1").then_some(()));
    until("it answers again", || (c.get("any.localhost", "/").0 == 200).then_some(()));
}
