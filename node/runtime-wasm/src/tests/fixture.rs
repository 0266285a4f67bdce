//! A node with one runtime, and containers on it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use copepod_node_plan::{ContainerId, ContainerSpec, PodIdentity};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::sync::{Notify, oneshot};

use super::memnet::{MemNet, POD};
use crate::{Body, Container, Exit, HandlerError, LogSink, LogStream, Module, Runtime, RuntimeConfig};

pub(super) struct Node {
    pub(super) runtime: Runtime,
    pub(super) dir: tempfile::TempDir,
}

/// What a container has written.
#[derive(Default)]
pub(super) struct Logs {
    text: Mutex<String>,
    grown: Notify,
}

impl LogSink for Logs {
    fn live(&self, _: LogStream, _: &[u8]) {}

    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mark = if stream == LogStream::Stdout { "out" } else { "err" };
        for line in String::from_utf8_lossy(bytes).lines() {
            self.text.lock().unwrap().push_str(&format!("{mark}: {line}\n"));
        }
        self.grown.notify_waiters();
    }
}

impl Logs {
    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Waits until the log contains `part`.
    pub(super) async fn wait_for(&self, part: &str) {
        loop {
            let grown = self.grown.notified();
            if self.text().contains(part) {
                return;
            }
            grown.await;
        }
    }
}

pub(super) struct Started {
    pub(super) container: Container,
    pub(super) logs: Arc<Logs>,
    pub(super) net: MemNet,
    exit: oneshot::Receiver<Exit>,
}

impl Started {
    pub(super) async fn exit(&mut self) -> Exit {
        (&mut self.exit).await.expect("the exit is always reported")
    }

    pub(super) fn is_running(&self) -> bool {
        self.exit.is_empty()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Response<Body>, HandlerError> {
        self.container.handler().expect("a wasi:http component").handle(get(path)).await
    }
}

pub(super) fn get(path: &str) -> Request<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    Request::get(path).header("host", "hello.test").body(body).unwrap()
}

pub(super) async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

pub(super) fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}/{name}.wasm"))
}

pub(super) fn spec(digest: &str) -> ContainerSpec {
    ContainerSpec {
        digest: digest.to_owned(),
        args: Vec::new(),
        env: vec![("GREETING".to_owned(), "ahoy".to_owned())],
        working_dir: String::new(),
        mounts: Vec::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        ports: vec![("http".to_owned(), 8080, "TCP".to_owned())],
        memory_limit: None,
        cpu_limit_millis: None,
        termination: copepod_node_plan::TerminationMessage::default(),
        limits: copepod_node_plan::Limits::default(),
    }
}

pub(super) fn pod() -> PodIdentity {
    PodIdentity {
        uid: "uid-1".into(),
        namespace: "default".into(),
        name: "pod-1".into(),
        service_account: "default".into(),
        ip: POD,
        second_ip: None,
        hostname: "pod-1".into(),
        dns: Default::default(),
        hosts: Vec::new(),
        host_ports: Vec::new(),
        storage: Default::default(),
        memory_limit: None,
    }
}

impl Node {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RuntimeConfig::new(dir.path());
        config.threads = Some(2);
        change(&mut config);
        Node { runtime: Runtime::new(&config).unwrap(), dir }
    }

    pub(super) async fn module(&self, name: &str) -> Arc<Module> {
        self.runtime.compile_file(&format!("sha256:{}", name.replace('-', "")), &example(name)).await.unwrap()
    }

    pub(super) async fn wat(&self, text: &str) -> Arc<Module> {
        let wasm = Bytes::from(wat::parse_str(text).unwrap());
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&wasm, &mut hasher);
        let digest = format!("sha256:{:016x}", std::hash::Hasher::finish(&hasher));
        self.runtime.compile(&digest, wasm).await.unwrap()
    }

    /// Starts an example.
    pub(super) async fn start(&self, name: &str, change: impl FnOnce(&mut ContainerSpec)) -> Started {
        self.start_module(self.module(name).await, change)
    }

    pub(super) fn start_module(&self, module: Arc<Module>, change: impl FnOnce(&mut ContainerSpec)) -> Started {
        self.start_with(module, MemNet::default(), change)
    }

    /// Starts a second container in a pod.
    pub(super) fn start_on(&self, module: Arc<Module>, net: MemNet) -> Started {
        self.start_with(module, net, |_| {})
    }

    fn start_with(&self, module: Arc<Module>, net: MemNet, change: impl FnOnce(&mut ContainerSpec)) -> Started {
        let mut spec = spec(module.digest());
        change(&mut spec);
        // Each is a pod of its own, unless it joins another's network.
        static PODS: AtomicU32 = AtomicU32::new(0);
        let mut pod = pod();
        pod.uid = format!("uid-{}", PODS.fetch_add(1, Relaxed)).into();
        let id = ContainerId { pod_uid: pod.uid.clone(), container: "main".into(), attempt: 0 };
        let logs = Arc::new(Logs::default());
        let (sender, exit) = oneshot::channel();
        let on_exit = move |exit| drop(sender.send(exit));
        let started = self.runtime.start(id, &spec, &pod, module, Arc::new(net.clone()), logs.clone(), on_exit);
        Started { container: started.unwrap(), logs, net, exit }
    }
}
