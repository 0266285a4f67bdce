//! What a component can ask of the host: one file for each capability, one line for each interface.

mod cli;
mod clocks;
mod config;
pub(crate) mod filesystem;
pub(crate) mod http;
mod io;
mod random;
pub(crate) mod sockets;

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::host::Host;

type Register = fn(&mut Linker<Host>) -> wasmtime::Result<()>;

/// Every interface of this host: its name with the version that is compatible, and how to link it.
const INTERFACES: &[(&str, Register)] = &[
    ("wasi:cli/environment@0.2", cli::environment),
    ("wasi:cli/exit@0.2", cli::exit),
    ("wasi:cli/stdin@0.2", cli::stdin),
    ("wasi:cli/stdout@0.2", cli::stdout),
    ("wasi:cli/stderr@0.2", cli::stderr),
    ("wasi:cli/terminal-input@0.2", cli::terminal_input),
    ("wasi:cli/terminal-output@0.2", cli::terminal_output),
    ("wasi:cli/terminal-stdin@0.2", cli::terminal_stdin),
    ("wasi:cli/terminal-stdout@0.2", cli::terminal_stdout),
    ("wasi:cli/terminal-stderr@0.2", cli::terminal_stderr),
    ("wasi:clocks/monotonic-clock@0.2", clocks::monotonic_clock),
    ("wasi:clocks/wall-clock@0.2", clocks::wall_clock),
    ("wasi:config/store@0.2", config::store),
    ("wasi:filesystem/preopens@0.2", filesystem::preopens),
    ("wasi:filesystem/types@0.2", filesystem::types),
    ("wasi:http/outgoing-handler@0.2", http::outgoing_handler),
    ("wasi:http/types@0.2", http::types),
    ("wasi:io/error@0.2", io::error),
    ("wasi:io/poll@0.2", io::poll),
    ("wasi:io/streams@0.2", io::streams),
    ("wasi:random/insecure-seed@0.2", random::insecure_seed),
    ("wasi:random/insecure@0.2", random::insecure),
    ("wasi:random/random@0.2", random::random),
    ("wasi:sockets/instance-network@0.2", sockets::instance_network),
    ("wasi:sockets/ip-name-lookup@0.2", sockets::ip_name_lookup),
    ("wasi:sockets/network@0.2", sockets::network),
    ("wasi:sockets/tcp-create-socket@0.2", sockets::tcp_create_socket),
    ("wasi:sockets/tcp@0.2", sockets::tcp),
    ("wasi:sockets/udp-create-socket@0.2", sockets::udp_create_socket),
    ("wasi:sockets/udp@0.2", sockets::udp),
];

/// A linker with all of it.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    for (_, register) in INTERFACES {
        register(&mut linker)?;
    }
    Ok(linker)
}

/// Whether this host has an interface, such as `wasi:http/types@0.2.3`.
pub(crate) fn has(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    INTERFACES.iter().any(|(interface, _)| {
        interface.split_once('@').is_some_and(|(known, series)| {
            let patch = version.strip_prefix(series).and_then(|rest| rest.strip_prefix('.'));
            // A pre-release such as 0.2.0-rc-2023 is compatible with nothing but itself, except where it is the only
            // version there is.
            let pre_release = version == "0.2.0-rc.1" && known == "wasi:config/store";
            known == name && (patch.is_some_and(|patch| patch.parse::<u32>().is_ok()) || pre_release)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_versions_are_compatible_and_nothing_else_is() {
        assert!(has("wasi:http/types@0.2.0"));
        assert!(has("wasi:http/types@0.2.99"));
        assert!(!has("wasi:http/types@0.3.0"));
        assert!(!has("wasi:http/types@0.2.0-rc-2023-11-10"));
        assert!(!has("wasi:http/handler@0.2.0"));
        assert!(!has("wasi:http/types"));
        assert!(has("wasi:config/store@0.2.0-rc.1"));
    }

    #[test]
    fn every_interface_links() {
        let engine = Engine::default();
        linker(&engine).unwrap();
    }
}
