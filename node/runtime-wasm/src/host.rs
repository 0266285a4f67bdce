//! What a store holds: one instance's side of the host. Whatever a guest may never ask for is made when it asks.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::capability::http::Outgoing;
use crate::container::Shared;
use crate::guest::Killed;
use crate::logs::{LineStream, LogStream};
use crate::memory::Limiter;

/// The state of a component's instance.
pub(crate) struct Host {
    pub(crate) container: Arc<Shared>,
    pub(crate) table: ResourceTable,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    limiter: Limiter,
    /// Clocks, random numbers and the working of files; which directories there are is the container's to say.
    wasi: Option<Box<WasiCtx>>,
    stdout: Option<LineStream>,
    stderr: Option<LineStream>,
}

impl Host {
    pub(crate) fn store(engine: &Engine, container: Arc<Shared>, limiter: Limiter) -> Store<Host> {
        let outgoing = Outgoing::new(container.net.clone());
        let host = Host {
            container,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            outgoing,
            limiter,
            wasi: None,
            stdout: None,
            stderr: None,
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| give_way(&store.data().container));
        store
    }

    pub(crate) fn output(&mut self, stream: LogStream) -> LineStream {
        let output = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        output.get_or_insert_with(|| LineStream::new(self.container.logs.clone(), stream)).clone()
    }
}

/// At each tick a guest makes room for the others, or ends if it is to.
fn give_way(container: &Shared) -> wasmtime::Result<UpdateDeadline> {
    if container.is_killed() { Err(Killed.into()) } else { Ok(UpdateDeadline::Yield(1)) }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| Box::new(WasiCtx::builder().build()));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// The state of a preview 1 module's instance.
pub(crate) struct Preview1Host {
    pub(crate) wasi: WasiP1Ctx,
    container: Arc<Shared>,
    limiter: Limiter,
}

impl Preview1Host {
    pub(crate) fn store(
        engine: &Engine,
        container: Arc<Shared>,
        limiter: Limiter,
    ) -> wasmtime::Result<Store<Preview1Host>> {
        let mut wasi = WasiCtx::builder();
        wasi.args(&container.args).envs(&container.env);
        wasi.stdout(LineStream::new(container.logs.clone(), LogStream::Stdout));
        wasi.stderr(LineStream::new(container.logs.clone(), LogStream::Stderr));
        container.preopens.add_to(&mut wasi)?;
        let mut store = Store::new(engine, Preview1Host { wasi: wasi.build_p1(), container, limiter });
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| give_way(&store.data().container));
        Ok(store)
    }
}
