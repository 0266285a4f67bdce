//! Floor 4: the one executable.

mod cmd;
mod connect;
mod descriptors;
mod discovery;
mod identity;
mod joining;
mod manifest;
mod node;
mod say;
mod settings;
mod stop;

use std::io::IsTerminal as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS provider for the whole process; a second install can only mean that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = settings::parse();
    let level = if cli.verbose { "info,copepod=debug" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("COPEPOD_LOG").unwrap_or_else(|_| level.into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).with_target(false).init();
    match cmd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<say::Closed>() => ExitCode::from(say::CLOSED),
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
