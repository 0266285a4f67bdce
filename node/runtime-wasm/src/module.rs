//! A compiled module, ready to be instantiated.

use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::exports::{self, Exports, RUN};
use crate::host::{Host, Preview1Host};

/// What a module is run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A component that exports `wasi:http/incoming-handler` 0.2: the host serves it.
    Http,
    /// A component that exports `wasi:cli/run` 0.2: it runs to its end.
    Command,
    /// A core module with `_start` for preview 1: it runs to its end, without a network.
    Preview1,
}

/// A compiled module. All containers from one digest share it.
pub struct Module {
    pub(crate) digest: String,
    pub(crate) code: Code,
    /// What a component can run besides.
    pub(crate) exports: Exports,
    /// Bytes of memory that an instance starts with.
    pub(crate) initial_memory: u64,
}

/// The module with its imports resolved.
pub(crate) enum Code {
    Http(ProxyPre<Host>),
    Command(CommandPre<Host>),
    Preview1(wasmtime::InstancePre<Preview1Host>),
}

impl Module {
    /// The digest that it was compiled for.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it is run as.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::Http(_) => Kind::Http,
            Code::Command(_) => Kind::Command,
            Code::Preview1(_) => Kind::Preview1,
        }
    }

    /// Whether it has a program of its own that can be run beside a container: of what is only served, there is none.
    pub fn has_command(&self) -> bool {
        !matches!(self.code, Code::Http(_)) || self.exports(RUN)
    }

    /// Whether it exports a command of this name.
    pub fn exports(&self, name: &str) -> bool {
        match &self.code {
            Code::Http(_) | Code::Command(_) => exports::find(&self.exports, name).is_some(),
            Code::Preview1(pre) => exports::is_core_command(pre.module(), name),
        }
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("digest", &self.digest).field("kind", &self.kind()).finish_non_exhaustive()
    }
}
