//! `wasi:config/store`: the container's environment, which ConfigMaps and Secrets feed, as configuration.

use wasmtime::component::Linker;
use wasmtime_wasi_config::WasiConfig;

use crate::host::Host;

pub(super) fn store(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, |host: &mut Host| WasiConfig::from(&host.container.config))
}
