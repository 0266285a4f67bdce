//! Which cluster a client verb speaks to, and how its errors read.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use copepod_client::{Client, Https, Kubeconfig};
use copepod_model::{Status, UserInfo};

use crate::cmd::{Error, default_data_dir};

/// Flags of every verb that is a client.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// Kubeconfig file. Default: $KUBECONFIG, then that of the default data folder.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

impl Connect {
    /// The kubeconfig's current context.
    pub fn config(&self) -> Result<Kubeconfig, Error> {
        let path = self.kubeconfig.clone().unwrap_or_else(|| default_data_dir().join("kubeconfig"));
        Ok(Kubeconfig::read(&path)?)
    }

    /// A client, and the namespace to work in.
    pub fn client(&self) -> Result<(Client, String), Error> {
        let config = self.config()?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| if config.namespace.is_empty() { "default".into() } else { config.namespace.clone() });
        Ok((Client::new(Arc::new(Https::new(&config)?), UserInfo::default(), "copepod"), namespace))
    }
}

/// A server's error as kubectl prints it.
pub fn refused(status: Status) -> Error {
    let reason = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
    format!("Error from server{reason}: {}", status.message).into()
}
