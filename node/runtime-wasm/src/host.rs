//! What a store holds: one instance's side of the host. Whatever a guest may never ask for is made when it asks.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::audit::Audit;
use crate::capability::filesystem::open::Open;
use crate::capability::filesystem::preview1;
use crate::capability::http::Outgoing;
use crate::container::Shared;
use crate::counted::Permit;
use crate::guest::Killed;
use crate::logs::{LineStream, LogStream};
use crate::memory::Limiter;
use crate::process::{OutputPipe, Process};
use crate::threads;

/// Resources that an instance may have at once.
const MOST_RESOURCES: usize = 1 << 16;
/// Names and values of one set of headers, as large as the largest that a server usually takes.
const LARGEST_HEADERS: usize = 64 << 10;
/// Bytes that a guest may hand to the host in one call.
const LARGEST_CALL: usize = 32 << 20;
/// Random bytes in one call: making them takes a millisecond, in which the guest cannot be stopped.
const MOST_RANDOM: u64 = 1 << 20;

/// The state of a component's instance.
pub(crate) struct Host {
    pub(crate) container: Arc<Shared>,
    pub(crate) table: ResourceTable,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    /// What the instance has open, by its handles.
    pub(crate) open: HashMap<u32, Open>,
    /// Whom its standard streams belong to, where that is not the log.
    process: Option<Arc<Process>>,
    pub(crate) limiter: Limiter,
    audit: Audit,
    /// Clocks, random numbers and the working of files; which directories there are is the container's to say.
    wasi: Option<Box<WasiCtx>>,
    stdout: Option<LineStream>,
    stderr: Option<LineStream>,
}

impl Host {
    pub(crate) fn store(engine: &Engine, container: Arc<Shared>, limiter: Limiter) -> Store<Host> {
        Host::store_of(engine, container, limiter, None)
    }

    /// The same for a process of its own.
    pub(crate) fn store_of(
        engine: &Engine,
        container: Arc<Shared>,
        limiter: Limiter,
        process: Option<Arc<Process>>,
    ) -> Store<Host> {
        let outgoing = Outgoing::new(container.net.clone(), container.sockets.clone());
        let host = Host {
            container,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            outgoing,
            open: HashMap::new(),
            process,
            limiter,
            audit: Audit::default(),
            wasi: None,
            stdout: None,
            stderr: None,
        };
        let mut store = Store::new(engine, host);
        store.data_mut().table.set_max_capacity(MOST_RESOURCES);
        store.data_mut().http.set_field_size_limit(LARGEST_HEADERS);
        store.set_hostcall_fuel(LARGEST_CALL);
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| give_way(&store.data().container));
        store
    }

    pub(crate) fn args(&self) -> &[String] {
        self.process.as_ref().map_or(&self.container.args, |p| &p.args)
    }

    pub(crate) fn input(&self) -> DynInputStream {
        match (&self.process, &self.container.stdin) {
            (Some(process), _) => Box::new(process.stdin.clone()),
            (None, Some((stdin, _))) => Box::new(stdin.clone()),
            (None, None) => Box::new(ClosedInputStream),
        }
    }

    pub(crate) fn output(&mut self, stream: LogStream) -> DynOutputStream {
        match &self.process {
            Some(process) => Box::new(OutputPipe::new(process, stream)),
            None => Box::new(self.log(stream)),
        }
    }

    fn log(&mut self, stream: LogStream) -> LineStream {
        let output = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        output.get_or_insert_with(|| LineStream::new(self.container.logs.clone(), stream)).clone()
    }

    /// A request has ended: its last line need not wait for the next one's.
    pub(crate) fn end_lines(&mut self) {
        for output in [&self.stdout, &self.stderr].into_iter().flatten() {
            output.end_line();
        }
    }

    /// Called when a guest calls the host: now and then it is counted what the host holds for it.
    pub(crate) fn called(&mut self) {
        audit(&mut self.audit, &mut self.table, &mut self.limiter, &self.container);
    }
}

fn audit(audit: &mut Audit, table: &mut ResourceTable, limiter: &mut Limiter, container: &Shared) {
    if audit.is_due()
        && let Err(error) = limiter.host_holds(audit.count(table))
    {
        // The guest ends at its next tick. It is the container's end already.
        container.out_of_memory(error);
    }
}

/// At each tick a guest makes room for the others, or ends if it is to.
fn give_way(container: &Shared) -> wasmtime::Result<UpdateDeadline> {
    threads::ticked();
    if container.is_killed() { Err(Killed.into()) } else { Ok(UpdateDeadline::Yield(1)) }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.called();
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut wasi = WasiCtx::builder();
            wasi.max_random_size(MOST_RANDOM);
            // Only whether they are terminals is ever asked of these.
            if let Some(process) = self.process.as_ref().filter(|p| p.tty) {
                wasi.stdin(process.stdin.clone());
                wasi.stdout(OutputPipe::new(process, LogStream::Stdout));
                wasi.stderr(OutputPipe::new(process, LogStream::Stderr));
            }
            if let (None, Some((stdin, _))) = (&self.process, &self.container.stdin) {
                wasi.stdin(stdin.clone());
            }
            Box::new(wasi.build())
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// The state of a preview 1 module's instance.
pub(crate) struct Preview1Host {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) container: Arc<Shared>,
    /// What the instance has open.
    pub(crate) open: preview1::Table,
    /// The directories that are mounted for it.
    _mounts: Vec<Permit>,
    limiter: Limiter,
    audit: Audit,
}

impl Preview1Host {
    pub(crate) fn store(
        engine: &Engine,
        container: Arc<Shared>,
        limiter: Limiter,
        process: Option<&Process>,
    ) -> wasmtime::Result<Store<Preview1Host>> {
        let mut wasi = WasiCtx::builder();
        wasi.max_random_size(MOST_RANDOM).envs(&container.env);
        match process {
            Some(process) => {
                wasi.args(&process.args).stdin(process.stdin.clone());
                wasi.stdout(OutputPipe::new(process, LogStream::Stdout));
                wasi.stderr(OutputPipe::new(process, LogStream::Stderr));
            }
            None => {
                wasi.args(&container.args);
                if let Some((stdin, _)) = &container.stdin {
                    wasi.stdin(stdin.clone());
                }
                wasi.stdout(LineStream::new(container.logs.clone(), LogStream::Stdout));
                wasi.stderr(LineStream::new(container.logs.clone(), LogStream::Stderr));
            }
        }
        let mounts = container.preopens.add_to(&mut wasi)?;
        let (mounts, volumes): (Vec<_>, Vec<_>) = mounts.into_iter().unzip();
        // Their descriptors come after those of standard input and output.
        let open = (3..).zip(volumes).map(|(fd, volume)| (fd, Open::of_mount(volume))).collect();
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(MOST_RESOURCES);
        let audit = Audit::default();
        let mut store = Store::new(engine, Preview1Host { wasi, container, open, _mounts: mounts, limiter, audit });
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| give_way(&store.data().container));
        Ok(store)
    }

    /// Called when the guest calls the host, as [`Host::called`] is.
    pub(crate) fn called(&mut self) -> &mut WasiP1Ctx {
        let Preview1Host { wasi, limiter, audit: due, container, .. } = self;
        audit(due, wasi.ctx().table, limiter, container);
        wasi
    }
}
