//! What the verbs that join a cluster share.

use std::path::PathBuf;

use clap::Args;
use copepod_model::join_token::JoinToken;

use crate::cmd::Error;

/// Flags of who joins. All flags can come from the environment and from a file, too: a flag overrules the environment, the
/// environment overrules the file.
#[derive(Debug, Args)]
pub struct JoinFlags {
    /// URL of any server of the cluster to join. Only needed once.
    #[arg(long, env = "COPEPOD_JOIN", value_name = "URL")]
    join: Option<String>,
    /// A token of that cluster (`copepod token create`). Only needed once.
    #[arg(long, env = "COPEPOD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// A file with the token.
    #[arg(long, env = "COPEPOD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A YAML file with flags by their names, such as `data-dir: /var/lib/copepod`.
    #[arg(long, env = "COPEPOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl JoinFlags {
    /// Whom to join; none where nothing was said.
    pub fn url(&self) -> Option<&str> {
        // In an environment file, what is not wanted is often left empty.
        self.join.as_deref().map(str::trim).filter(|u| !u.is_empty())
    }

    /// By which token.
    pub fn token(&self) -> Result<JoinToken, Error> {
        let given = self.token.as_deref().map(str::trim).filter(|t| !t.is_empty());
        let text = match (given, &self.token_file) {
            (Some(_), Some(_)) => return Err("give the token or a file with it (--token-file), not both".into()),
            (Some(token), None) => token.to_string(),
            (None, Some(file)) => std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?,
            (None, None) => {
                return Err(
                    "joining takes a token: --token or --token-file, from `copepod token create` on a server".into()
                );
            }
        };
        Ok(text.parse::<JoinToken>()?)
    }
}

/// The name of this host, as Kubernetes takes names.
pub fn host_name() -> Result<String, Error> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|e| format!("no host name: {e}"))?;
    let name = text.trim().to_lowercase();
    copepod_model::kinds::names::subdomain(&name).map_err(|e| format!("the host's name {name:?} will not do: {e}"))?;
    Ok(name)
}
