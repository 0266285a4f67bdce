//! `wasi:cli`. Environment and output are our own, so that an instance copies neither before it asks.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::p2::bindings::cli;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use crate::host::Host;
use crate::logs::LogStream;

/// The host itself implements the interfaces below.
struct Cli;
impl HasData for Cli {
    type Data<'a> = View<'a>;
}

pub(super) struct View<'a>(&'a mut Host);

fn view(host: &mut Host) -> View<'_> {
    View(host)
}

impl cli::environment::Host for View<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.0.container.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.0.args().to_vec())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        let dir = &self.0.container.working_dir;
        Ok((!dir.is_empty()).then(|| dir.clone()))
    }
}

impl cli::stdin::Host for View<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream = self.0.input();
        Ok(self.0.table.push(stream)?)
    }
}

impl View<'_> {
    fn output(&mut self, stream: LogStream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream = self.0.output(stream);
        Ok(self.0.table.push(stream)?)
    }
}

impl cli::stdout::Host for View<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output(LogStream::Stdout)
    }
}

impl cli::stderr::Host for View<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output(LogStream::Stderr)
    }
}

pub(super) fn environment(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<Host, Cli>(linker, view)
}

pub(super) fn stdin(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::stdin::add_to_linker::<Host, Cli>(linker, view)
}

pub(super) fn stdout(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::stdout::add_to_linker::<Host, Cli>(linker, view)
}

pub(super) fn stderr(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::stderr::add_to_linker::<Host, Cli>(linker, view)
}

pub(super) fn exit(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::exit::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}

pub(super) fn terminal_input(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::terminal_input::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}

pub(super) fn terminal_output(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::terminal_output::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}

pub(super) fn terminal_stdin(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::terminal_stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}

pub(super) fn terminal_stdout(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::terminal_stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}

pub(super) fn terminal_stderr(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::terminal_stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)
}
