//! Instantiate, call and drop: our handler beside bare wasmtime with the pooling allocator, one after the other on one
//! thread, in the same run. Each call writes a line to a log, which is a file for both.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use copepod_node_plan::{ContainerId, ContainerSpec, Limits, PodIdentity, TerminationMessage};
use copepod_runtime_wasm as ours;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::cli::OutputFile;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{
    Error as HttpCode, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::Error;
use crate::cluster::cpu_of;
use crate::http::LOGGED;

const CALLS: u32 = 20_000;
const ROUNDS: usize = 5;

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    println!(
        "\n## Instantiate + call + drop, a log line per call, {CALLS} times one after the other, the median of {ROUNDS} rounds\n"
    );
    println!("| | time | CPU | beside bare |\n|---|---|---|---|");
    let wasm = std::fs::read("examples/hello/hello.wasm")?;
    let dir = std::env::temp_dir().join(format!("copepod-bench-instantiate-{}", std::process::id()));
    let runtime = Arc::new(ours::Runtime::new(&ours::RuntimeConfig::new(&dir))?);
    let module = runtime.compile("sha256:1", wasm.clone().into()).await?;
    let log = ToFile::create(&dir)?;
    let fresh = start(&runtime, &module, 1, log.clone())?;
    let reused = start(&runtime, &module, 1_000_000, log)?;
    let bare = Arc::new(Bare::new(&wasm, File::create(dir.join("bare.log"))?)?);
    let mut samples: [Vec<(Duration, Duration)>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let bare = bare.clone();
        let task = tokio::spawn(async move { measure(&*bare).await });
        samples[0].push(task.await?);
        for (at, container) in [(1, &fresh), (2, &reused)] {
            let ours = Ours(container.handler().ok_or("not a wasi:http component")?);
            let task = runtime.serving().spawn(async move { measure(&ours).await });
            samples[at].push(task.await?);
        }
    }
    let median = |samples: &mut Vec<(Duration, Duration)>| {
        samples.sort();
        samples[samples.len() / 2]
    };
    let [bare, fresh, reused] = samples.map(|mut s| median(&mut s));
    let us = |d: Duration| format!("{:.1} µs", d.as_secs_f64() * 1e6 / f64::from(CALLS));
    for (name, (time, cpu)) in
        [("bare wasmtime, pooling", bare), ("ours, an instance per request", fresh), ("ours, instances reused", reused)]
    {
        println!("| {name} | {} | {} | {:.2} × |", us(time), us(cpu), time.as_secs_f64() / bare.0.as_secs_f64());
    }
    println!("\nAim: an instance per request within 1.5 × of bare.");
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}

/// One who is measured.
trait Callee: Sync {
    /// Sends a request and reads the answer to its end.
    fn call(&self) -> impl Future<Output = ()> + Send;
}

struct Ours(Arc<dyn ours::HttpHandler>);
impl Callee for Ours {
    async fn call(&self) {
        let answer = self.0.handle(request()).await.expect("an answer");
        drop(answer.into_body().collect().await);
    }
}

async fn measure(callee: &impl Callee) -> (Duration, Duration) {
    for _ in 0..CALLS / 20 {
        callee.call().await; // warm
    }
    let (cpu, started) = (cpu_of(std::process::id()), Instant::now());
    for _ in 0..CALLS {
        callee.call().await;
    }
    (started.elapsed(), cpu_of(std::process::id()) - cpu)
}

/// A GET as the ingress hands it on.
pub fn request() -> http::Request<ours::Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    http::Request::get(LOGGED).header("host", "hello.localhost").body(body).expect("a valid request")
}

/// Starts a hello container.
pub fn start(
    runtime: &ours::Runtime,
    module: &Arc<ours::Module>,
    reuse: u32,
    log: Arc<ToFile>,
) -> Result<ours::Container, Error> {
    let id = ContainerId { pod_uid: format!("uid-{reuse}").into(), container: "hello".into(), attempt: 0 };
    let spec = ContainerSpec {
        digest: module.digest().into(),
        args: Vec::new(),
        env: vec![("POD_NAME".into(), "bench".into())],
        working_dir: String::new(),
        mounts: Vec::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        ports: vec![("http".into(), 8080, "TCP".into())],
        memory_limit: Some(64 << 20),
        cpu_limit_millis: None,
        termination: TerminationMessage::default(),
        limits: Limits { instance_reuse: reuse, ..Limits::default() },
    };
    let ip = IpAddr::from([10, 244, 0, 2]);
    let pod = PodIdentity {
        uid: id.pod_uid.clone(),
        namespace: "default".into(),
        name: "hello".into(),
        service_account: "default".into(),
        ip,
        second_ip: None,
        hostname: "hello".into(),
        dns: Default::default(),
        hosts: Vec::new(),
        host_ports: Vec::new(),
        storage: Default::default(),
        memory_limit: None,
    };
    let net = Arc::new(Nowhere(ip));
    Ok(runtime.start(id, &spec, &pod, module.clone(), net, log, |_| {})?)
}

/// Writes logs to a file, as they come.
pub struct ToFile(File);

impl ToFile {
    /// A file in this folder.
    pub fn create(dir: &Path) -> Result<Arc<ToFile>, Error> {
        Ok(Arc::new(ToFile(File::create(dir.join("log"))?)))
    }
}

impl ours::LogSink for ToFile {
    fn live(&self, _: ours::LogStream, _: &[u8]) {}
    fn write(&self, _: ours::LogStream, bytes: &[u8]) {
        (&self.0).write_all(bytes).expect("the disk has room");
    }
}

/// A network without anybody.
struct Nowhere(IpAddr);

#[async_trait]
impl ours::PodNetwork for Nowhere {
    fn ip(&self) -> IpAddr {
        self.0
    }
    fn listen_tcp(&self, _: std::net::SocketAddr) -> Result<Box<dyn ours::NetListener>, ours::NetError> {
        Err(ours::NetError::NotSupported)
    }
    fn stop_listening(&self) {}

    async fn connect_tcp(&self, _: std::net::SocketAddr) -> Result<ours::NetConn, ours::NetError> {
        Err(ours::NetError::ConnectionRefused)
    }
    fn bind_udp(&self, _: std::net::SocketAddr) -> Result<Box<dyn ours::NetUdp>, ours::NetError> {
        Err(ours::NetError::NotSupported)
    }
    async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>, ours::NetError> {
        Err(ours::NetError::NameUnresolvable)
    }
    async fn send_http(
        &self,
        _: http::Request<ours::Body>,
        _: ours::HttpTimeouts,
        _: bool,
    ) -> Result<http::Response<ours::Body>, ours::HttpError> {
        Err(ours::HttpError::ConnectionRefused)
    }
}

/// Wasmtime with nothing around it.
struct Bare {
    engine: Engine,
    pre: ProxyPre<State>,
    log: OutputFile,
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoHooks,
}

struct NoHooks;
type Driver = Box<dyn Future<Output = Result<(), HttpCode>> + Send>;
impl WasiHttpHooks for NoHooks {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Driver), HttpCode>> + Send> {
        Box::new(async { Err(HttpCode::ConnectionRefused) })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl Bare {
    fn new(wasm: &[u8], log: File) -> Result<Bare, Error> {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(256 << 10).table_keep_resident(16 << 10).async_stack_keep_resident(32 << 10);
        let mut config = Config::new();
        config.concurrency_support(false);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let component = Component::new(&engine, wasm)?;
        let pre = ProxyPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Bare { engine, pre, log: OutputFile::new(log) })
    }
}

impl Callee for Bare {
    async fn call(&self) {
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().env("POD_NAME", "bench").stdout(self.log.clone()).build(),
            http: WasiHttpCtx::new(),
            hooks: NoHooks,
        };
        let mut store = Store::new(&self.engine, state);
        let answer = Arc::new(Mutex::new(None));
        let set = answer.clone();
        let request = http::Request::get(LOGGED).header("host", "hello.localhost").body(Empty::<Bytes>::new());
        let request = request.expect("a valid request").map(|body| body.map_err(HttpCode::from).boxed_unsync());
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request).expect("a request");
        let out = http
            .new_response_outparam_from_callback(move |answer| *set.lock().expect("one thread") = Some(answer))
            .expect("an outparam");
        let proxy = self.pre.instantiate_async(&mut store).await.expect("an instance");
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await.expect("a call");
        drop(store);
        let answer = answer.lock().expect("one thread").take().expect("an answer").expect("no error");
        drop(answer.into_body().collect().await);
    }
}

/// The compiled artifacts of a runtime: they are in a folder for this version and these settings of wasmtime.
pub fn artifacts(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join("compiled"))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(std::fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, std::io::Error>>()?);
        }
    }
    if files.is_empty() { Err("there are no artifacts".into()) } else { Ok(files) }
}
