//! From bytes to a module: find out what it is, compile it once, and say at once what this host lacks for it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, Precompiled};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::artifacts::{Artifacts, Authentic};
use crate::capability;
use crate::exports;
use crate::host::{Host, Preview1Host};
use crate::module::{Code, Module};
use crate::threads::on_compilers;

/// Why there is no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, String),
    /// Not WebAssembly, or invalid.
    #[error("invalid WebAssembly: {0}")]
    Invalid(String),
    /// It exports nothing that could be run.
    #[error("{0}")]
    NothingToRun(String),
    /// It imports something that this host does not have.
    #[error("imports {}, which this host does not have", .0.join(", "))]
    MissingImports(Vec<String>),
    /// The imports exist but do not fit.
    #[error("its imports do not fit this host: {0}")]
    Link(String),
    /// The compiler stopped.
    #[error("the compiler failed: {0}")]
    Compiler(String),
}

/// Where the bytes of a module come from.
pub(crate) enum Source {
    Bytes(Bytes),
    File(PathBuf),
}

impl Source {
    fn read(self) -> Result<Bytes, CompileError> {
        match self {
            Source::Bytes(bytes) => Ok(bytes),
            Source::File(path) => match std::fs::read(&path) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(CompileError::Read(path, error.to_string())),
            },
        }
    }
}

/// Compiles, once per digest.
pub(crate) struct Compiler {
    engine: Engine,
    linker: component::Linker<Host>,
    preview1: wasmtime::Linker<Preview1Host>,
    pub(crate) artifacts: Artifacts,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// Held while its digest is being compiled; afterwards whoever waited finds the module in it.
type Slot = tokio::sync::Mutex<Weak<Module>>;

impl Compiler {
    pub(crate) fn new(engine: &Engine, artifacts: Artifacts) -> wasmtime::Result<Self> {
        let mut preview1 = wasmtime::Linker::new(engine);
        capability::filesystem::preview1::add_to_linker(&mut preview1)?;
        let linker = capability::linker(engine)?;
        Ok(Compiler { engine: engine.clone(), linker, preview1, artifacts, slots: Mutex::default() })
    }

    /// The module of `digest`: the one in use, or from its artifact, or compiled from `source`.
    pub(crate) async fn module(self: Arc<Self>, digest: String, source: Source) -> Result<Arc<Module>, CompileError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            // Forget what nobody uses nor compiles any more.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|m| m.strong_count() > 0));
            slots.entry(digest.clone()).or_default().clone()
        };
        let mut slot = slot.lock_owned().await;
        if let Some(module) = slot.upgrade() {
            return Ok(module);
        }
        let compiler = self.clone();
        let work = tokio::task::spawn_blocking(move || on_compilers(|| compiler.load_or_compile(digest, source)));
        let module = work.await.map_err(|error| CompileError::Compiler(error.to_string()))??;
        let module = Arc::new(module);
        *slot = Arc::downgrade(&module);
        Ok(module)
    }

    fn load_or_compile(&self, digest: String, source: Source) -> Result<Module, CompileError> {
        if let Some(artifact) = self.artifacts.load(&digest) {
            match load(&self.engine, artifact) {
                Ok(code) => return self.link(digest, code),
                Err(error) => tracing::warn!(digest, %error, "compiled artifact unusable; compiling again"),
            }
        }
        let wasm = source.read()?;
        let invalid = |error: wasmtime::Error| CompileError::Invalid(format!("{error:#}"));
        let artifact = match Encoding::of(&wasm)? {
            Encoding::Module => self.engine.precompile_module(&wasm).map_err(invalid)?,
            Encoding::Component => self.engine.precompile_component(&wasm).map_err(invalid)?,
        };
        if let Err(error) = self.artifacts.store(&digest, &artifact) {
            tracing::warn!(digest, %error, "compiled artifact not kept");
        }
        let code = match self.artifacts.load(&digest).map(|artifact| load(&self.engine, artifact)) {
            Some(Ok(code)) => code,
            // The disk is full or broken: go on from memory.
            _ => load_bytes(&self.engine, &artifact).map_err(|e| CompileError::Compiler(format!("{e:#}")))?,
        };
        self.link(digest, code)
    }

    fn link(&self, digest: String, code: Loaded) -> Result<Module, CompileError> {
        let (code, exports, initial_memory) = match code {
            Loaded::Component(component) => {
                let code = self.link_component(&component)?;
                (code, exports::of_component(&self.engine, &component), component.resources_required())
            }
            Loaded::Module(module) => (self.link_module(&module)?, Vec::new(), Some(module.resources_required())),
        };
        let initial_memory = initial_memory
            .map_or(0, |needs| u64::from(needs.num_memories) * needs.max_initial_memory_size.unwrap_or_default());
        Ok(Module { digest, code, exports, initial_memory })
    }

    fn link_component(&self, component: &Component) -> Result<Code, CompileError> {
        let ty = component.component_type();
        let missing: Vec<_> = ty.imports(&self.engine).filter(|(name, _)| !capability::has(name)).collect();
        if !missing.is_empty() {
            return Err(CompileError::MissingImports(missing.iter().map(|(name, _)| (*name).to_owned()).collect()));
        }
        let unfit = |error: wasmtime::Error| CompileError::Link(format!("{error:#}"));
        let exports: Vec<_> = ty.exports(&self.engine).map(|(name, _)| name).collect();
        let exports_one = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
        if exports_one("wasi:http/incoming-handler@0.2.") {
            let pre = self.linker.instantiate_pre(component).map_err(unfit)?;
            Ok(Code::Http(ProxyPre::new(pre).map_err(unfit)?))
        } else if exports_one("wasi:cli/run@0.2.") {
            let pre = self.linker.instantiate_pre(component).map_err(unfit)?;
            Ok(Code::Command(CommandPre::new(pre).map_err(unfit)?))
        } else {
            Err(CompileError::NothingToRun(format!(
                "the component exports {}; this host runs wasi:http/incoming-handler@0.2 and wasi:cli/run@0.2",
                if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") },
            )))
        }
    }

    fn link_module(&self, module: &wasmtime::Module) -> Result<Code, CompileError> {
        let missing: Vec<_> = module
            .imports()
            .filter(|import| import.module() != "wasi_snapshot_preview1")
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect();
        if !missing.is_empty() {
            return Err(CompileError::MissingImports(missing));
        }
        if !module.exports().any(|export| export.name() == "_start" && export.ty().func().is_some()) {
            return Err(CompileError::NothingToRun(
                "the core module exports no function _start: it is not a preview 1 command".to_owned(),
            ));
        }
        let pre = self.preview1.instantiate_pre(module).map_err(|error| CompileError::Link(format!("{error:#}")))?;
        Ok(Code::Preview1(pre))
    }
}

enum Loaded {
    Module(wasmtime::Module),
    Component(Component),
}

enum Encoding {
    Module,
    Component,
}

impl Encoding {
    /// By the preamble: `\0asm`, then version and layer.
    fn of(wasm: &[u8]) -> Result<Self, CompileError> {
        match wasm.first_chunk() {
            Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Encoding::Module),
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(Encoding::Component),
            Some([0, b'a', b's', b'm', ..]) => Err(CompileError::Invalid("unknown version of the format".to_owned())),
            _ => Err(CompileError::Invalid("the file does not begin with \\0asm".to_owned())),
        }
    }
}

/// Maps an artifact.
#[allow(unsafe_code)]
fn load(engine: &Engine, Authentic(file): Authentic) -> wasmtime::Result<Loaded> {
    // The path of the open file: what is mapped is what was checked, whatever happens to its name.
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match Engine::detect_precompiled_file(&path)? {
        // SAFETY: the content was authenticated with a key that only this node has, and only what wasmtime's own
        // compiler has answered is ever stored with it. The files are replaced by renaming and never written in place.
        Some(Precompiled::Module) => unsafe { wasmtime::Module::deserialize_file(engine, path) }.map(Loaded::Module),
        // SAFETY: as above.
        Some(Precompiled::Component) => unsafe { Component::deserialize_file(engine, path) }.map(Loaded::Component),
        None => Err(wasmtime::Error::msg("not a compiled artifact")),
    }
}

/// Loads an artifact that was compiled just now.
#[allow(unsafe_code)]
fn load_bytes(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<Loaded> {
    match Engine::detect_precompiled(artifact) {
        // SAFETY: the bytes come straight from this engine's compiler.
        Some(Precompiled::Module) => unsafe { wasmtime::Module::deserialize(engine, artifact) }.map(Loaded::Module),
        // SAFETY: as above.
        Some(Precompiled::Component) => unsafe { Component::deserialize(engine, artifact) }.map(Loaded::Component),
        None => Err(wasmtime::Error::msg("not a compiled artifact")),
    }
}
