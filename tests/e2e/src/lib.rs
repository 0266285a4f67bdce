//! What the end-to-end tests share: a cluster in a process of its own, real clients as processes, and waiting for a
//! condition with a deadline.

pub mod lab;
pub mod manifest;
pub mod process;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a condition may take to become true on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let path = target.join("debug/copepod");
    assert!(path.exists(), "{} is missing: cargo build --bin copepod", path.display());
    path
}

/// `copepod`, as it runs on a machine whose disk may be fuller than a node would have it.
pub fn copepod() -> Command {
    let mut command = Command::new(binary());
    command.env("COPEPOD_IMAGE_GC_HIGH_THRESHOLD", "100").env(
        "COPEPOD_EVICTION_HARD",
        "nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%,imagefs.inodesFree<0%",
    );
    command
}

/// Prints «skipped: why» and says whether to go on; in CI a skip is a failure.
pub fn needs(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("CI").is_none(), "CI must have {what}");
        println!("skipped: needs {what}");
    }
    there
}

/// Whether a program is on the PATH.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Waits until `check` answers something, with a deadline; between checks it yields to the cluster for a moment.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A `copepod up` on free ports, killed when dropped.
pub struct Cluster {
    child: Child,
    /// Its data folder.
    pub dir: PathBuf,
    /// `http://127.0.0.1:PORT` of the ingress.
    pub ingress: String,
    /// `127.0.0.1:PORT` of the ingress over TLS.
    pub ingress_tls: String,
    /// `127.0.0.1:PORT` of DNS.
    pub dns: String,
    /// `https://127.0.0.1:PORT` of the API.
    pub api: String,
    /// What kubectl finds in its environment.
    pub kubectl_env: &'static [(&'static str, &'static str)],
    lines: mpsc::Receiver<String>,
}

impl Cluster {
    /// A cluster in a folder of its own, for a test that needs kubectl; `None` where there is none.
    pub fn for_kubectl(more: &[&str]) -> Option<(tempfile::TempDir, Cluster)> {
        if !needs("kubectl", has("kubectl")) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::up(dir.path(), more);
        Some((dir, cluster))
    }

    /// Starts a cluster in `dir` and waits until it says where things are.
    pub fn up(dir: &Path, more: &[&str]) -> Cluster {
        Cluster::start(copepod(), dir, more)
    }

    fn start(command: Command, dir: &Path, more: &[&str]) -> Cluster {
        Cluster::start_in(command, &root(), dir, more)
    }

    /// The same from a prepared command (another user) in another working directory.
    pub fn start_in(mut command: Command, working_dir: &Path, dir: &Path, more: &[&str]) -> Cluster {
        let mut child = command
            .arg("up")
            .args(["--api-port", "0", "--ingress-port", "0", "--ingress-tls-port", "0", "--dns-port", "0"])
            .args(["--kubelet-port", "0"])
            // The machine's disk may be fuller than the kubelet would have it.
            .args(["--eviction-hard", "nodefs.available<64Mi,imagefs.available<64Mi"])
            .arg("--data-dir")
            .arg(dir)
            .args(more)
            .current_dir(working_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("copepod starts");
        let (send, lines) = mpsc::channel();
        for stream in [
            Box::new(child.stdout.take().expect("stdout")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("stderr")),
        ] {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    eprintln!("  up: {line}");
                    let _ = send.send(line);
                }
            });
        }
        let mut cluster = Cluster {
            child,
            dir: dir.into(),
            ingress: String::new(),
            ingress_tls: String::new(),
            dns: String::new(),
            api: String::new(),
            kubectl_env: &[],
            lines,
        };
        let end = Instant::now() + DEADLINE;
        while cluster.dns.is_empty() || cluster.api.is_empty() || cluster.ingress.is_empty() {
            let line = cluster.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.expect("copepod says where things are");
            let value = |name: &str| {
                let rest = line.trim().strip_prefix(name)?.trim();
                Some(rest.split_whitespace().next()?.to_string())
            };
            if let Some(at) = value("API") {
                cluster.api = at;
            }
            if let Some(at) = value("Ingress") {
                cluster.ingress = at;
            }
            if let Some(at) = value("https://") {
                cluster.ingress_tls = at;
            }
            if let Some(at) = value("DNS") {
                cluster.dns = at;
            }
        }
        cluster
    }

    /// kubectl with this cluster's kubeconfig.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        let out = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.dir.join("kubeconfig"))
            .args(args)
            .envs(self.kubectl_env.iter().copied())
            .current_dir(root())
            .output();
        out.expect("kubectl runs")
    }

    /// kubectl that must succeed; its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.kubectl(args);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        assert!(out.status.success(), "kubectl {args:?}: {stdout}{stderr}");
        stdout
    }

    /// kubectl that must fail; its stderr.
    pub fn fails(&self, args: &[&str]) -> String {
        let out = self.kubectl(args);
        assert!(!out.status.success(), "kubectl {args:?} succeeded: {}", text(&out.stdout));
        text(&out.stderr)
    }

    /// Whether this kubectl is at least 1.`minor`; Debian's is older than some commands.
    pub fn kubectl_is(&self, minor: u32) -> bool {
        let out = text(&self.kubectl(&["version", "--client", "-o", "json"]).stdout);
        let found = serde_json::from_str::<serde_json::Value>(&out).unwrap_or_default();
        let text = found["clientVersion"]["minor"].as_str().unwrap_or("0").trim_end_matches('+').to_string();
        let new_enough = text.parse::<u32>().unwrap_or(0) >= minor;
        needs(&format!("kubectl 1.{minor}"), new_enough)
    }

    /// A token of a service account, with a kubectl that may be too old for `create token`.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let file = self.dir.join("token-request.json");
        std::fs::write(&file, r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#)
            .expect("the request is written");
        let answer = self.ok(&["create", "--raw", &path, "-f", &file.display().to_string()]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["status"]["token"].as_str().expect("a token").into()
    }

    /// `copepod` itself as a client.
    pub fn copepod(&self, args: &[&str]) -> Output {
        let out = copepod().args(args).env("KUBECONFIG", self.dir.join("kubeconfig")).current_dir(root()).output();
        out.expect("copepod runs")
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, manifest: &str) {
        use std::io::Write as _;
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.dir.join("kubeconfig"))
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        child.stdin.take().expect("stdin").write_all(manifest.as_bytes()).expect("kubectl reads");
        let out = child.wait_with_output().expect("kubectl ends");
        assert!(out.status.success(), "apply: {}{}", text(&out.stdout), text(&out.stderr));
    }

    /// GET through the ingress: (code, body). A failure to connect is code 0.
    pub fn get(&self, host: &str, path: &str) -> (u16, String) {
        let out = Command::new("curl")
            .args(["-s", "-m", "10", "-w", "\n%{http_code}", "-H", &format!("Host: {host}")])
            .arg(format!("{}{path}", self.ingress))
            .output()
            .expect("curl runs");
        let all = text(&out.stdout);
        let (body, code) = all.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.into())
    }

    /// Kills the process as a power cut would, as far as the process can tell.
    pub fn kill(mut self) -> PathBuf {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        self.dir.clone()
    }

    /// Sends SIGINT and answers how the process ended.
    pub fn interrupt(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        self.child.wait().expect("wait")
    }

    /// Waits until the process says something: the line, of those that nobody has waited for yet.
    pub fn says(&self, what: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|e| panic!("it did not say {what:?}: {e}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A module in a folder, by the name that a pod has for it.
pub fn image(dir: &Path, name: &str, module: &str) -> String {
    let path = dir.join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(module).expect("a module")).expect("the image is written");
    format!("file://{}", path.display())
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a child's whole stderr.
pub fn stderr(child: &mut Child) -> String {
    let mut out = String::new();
    if let Some(mut stream) = child.stderr.take() {
        let _ = stream.read_to_string(&mut out);
    }
    out
}
