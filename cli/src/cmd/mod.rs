//! The verbs, one file each.

mod agent;
mod apply;
mod delete;
mod describe;
mod get;
mod logs;
mod members;
mod push;
mod recover;
mod secrets;
mod server;
mod snapshot;
mod token;
mod up;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::say::say;

/// A Kubernetes-compatible cluster whose pods are WebAssembly, in one binary.
#[derive(Debug, Parser)]
#[command(name = "copepod", version, about, propagate_version = true)]
pub struct Cli {
    /// Log what happens to stderr; the variable COPEPOD_LOG sets finer filters.
    #[arg(short = 'v', long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::Up),
    Server(server::Server),
    Agent(agent::Agent),
    Token(token::Token),
    Members(members::Members),
    Apply(apply::Apply),
    Get(get::Get),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Delete(delete::Delete),
    Push(push::Push),
    Snapshot(snapshot::Snapshot),
    Secrets(secrets::Secrets),
    Recover(recover::Recover),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Everything that can end a verb; printed to stderr as it is.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a verb to its end.
pub fn run(cli: Cli) -> Result<(), Error> {
    let many = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let one = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match cli.verb {
        Verb::Up(up) => many()?.block_on(up.run()),
        Verb::Server(server) => many()?.block_on(server.run()),
        Verb::Agent(agent) => many()?.block_on(agent.run()),
        Verb::Token(token) => one()?.block_on(token.run()),
        Verb::Members(members) => one()?.block_on(members.run()),
        Verb::Apply(apply) => one()?.block_on(apply.run()),
        Verb::Get(get) => one()?.block_on(get.run()),
        Verb::Describe(describe) => one()?.block_on(describe.run()),
        Verb::Logs(logs) => one()?.block_on(logs.run()),
        Verb::Delete(delete) => one()?.block_on(delete.run()),
        Verb::Push(push) => one()?.block_on(push.run()),
        Verb::Snapshot(snapshot) => one()?.block_on(snapshot.run()),
        Verb::Secrets(secrets) => one()?.block_on(secrets.run()),
        Verb::Recover(recover) => recover.run(),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "copepod", &mut script);
            say(script)
        }
    }
}

/// Where a cluster keeps its data unless told otherwise: the XDG data folder.
pub fn default_data_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let base = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    base.unwrap_or_else(|| home().join(".local/share")).join("copepod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_fit_together() {
        Cli::command().debug_assert();
    }
}
