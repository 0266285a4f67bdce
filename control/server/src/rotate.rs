//! The server's own certificates while it runs: reissued in time, shown from the next handshake on, and written into the
//! administrator's kubeconfig, which also lists the other servers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copepod_client::Kubeconfig;
use copepod_client::tls::{Credential, Rotating, TlsError};
use copepod_model::Time;
use tokio::sync::watch;

use crate::api::Api;
use crate::now;
use crate::pki::{self, Pki, PkiError};

/// How often it is looked whether a certificate has aged or the servers are others.
const PERIOD: Duration = Duration::from_secs(30);

/// A certificate of this server's.
#[derive(Clone, Debug)]
pub(crate) enum Paper {
    /// For who listens.
    Serving { name: &'static str, names: Vec<String>, ips: Vec<IpAddr> },
    /// For who connects.
    Client { name: &'static str, user: &'static str, groups: &'static [&'static str] },
    /// For both, between servers: that of the server with this raft id.
    Peer(u64),
}

impl Paper {
    /// The one on disk, or a new one if that has aged by `now`.
    fn get(&self, pki: &Pki, now: Time) -> Result<Credential, PkiError> {
        match self {
            Paper::Serving { name, names, ips } => pki.serving(name, names, ips, now),
            Paper::Client { name, user, groups } => pki.client(name, user, groups, now),
            Paper::Peer(id) => pki.peer(*id, now),
        }
    }
}

/// The certificates that are in use.
pub(crate) struct Papers {
    pki: Arc<Pki>,
    shown: Mutex<Vec<(Paper, Arc<Rotating>)>>,
}

/// Why nothing was renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Papers {
    /// None yet.
    pub(crate) fn new(pki: Arc<Pki>) -> Arc<Papers> {
        Arc::new(Papers { pki, shown: Mutex::default() })
    }

    /// Where they come from.
    pub(crate) fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// What a listener or a connector shows as `paper`, from now on kept fresh.
    pub(crate) fn show(&self, paper: Paper, now: Time) -> Result<Arc<Rotating>, RenewalError> {
        let rotating = Rotating::new(&paper.get(&self.pki, now)?)?;
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push((paper, rotating.clone()));
        Ok(rotating)
    }

    /// Reissues what has aged by `now`. Nothing is written, and nothing else shown, where nothing has.
    fn renew(&self, now: Time) -> Result<(), RenewalError> {
        for (paper, rotating) in &*self.shown.lock().unwrap_or_else(PoisonError::into_inner) {
            rotating.set(&paper.get(&self.pki, now)?)?;
        }
        Ok(())
    }
}

/// Renews the server's papers while it runs.
pub(crate) struct Renewal {
    api: Arc<Api>,
    papers: Arc<Papers>,
    admin: Admin,
}

/// The administrator's kubeconfig.
struct Admin {
    path: PathBuf,
    /// The URL of this server.
    own: String,
    written: String,
}

impl Renewal {
    /// Of `papers`; writes the first kubeconfig, which names the server at the URL `own`.
    pub(crate) fn new(
        papers: Arc<Papers>,
        api: Arc<Api>,
        kubeconfig: PathBuf,
        own: String,
    ) -> Result<Renewal, RenewalError> {
        let mut admin = Admin { path: kubeconfig, own, written: String::new() };
        admin.write(papers.pki(), &[], now())?;
        Ok(Renewal { api, papers, admin })
    }

    /// Goes on until `shutdown` turns true.
    pub(crate) async fn forever(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let servers = tokio::select! {
                servers = self.api.servers() => servers,
                () = crate::listener::stopped(&mut shutdown) => return,
            };
            if let Err(e) = self.papers.renew(now()) {
                tracing::warn!("the server's certificates are not renewed: {e}");
            }
            if let Err(e) = self.admin.write(self.papers.pki(), &servers, now()) {
                tracing::warn!("the administrator's kubeconfig is not renewed: {e}");
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = crate::listener::stopped(&mut shutdown) => return,
            }
        }
    }
}

impl Admin {
    /// Writes it, if it is another than before.
    fn write(&mut self, pki: &Pki, servers: &[String], now: Time) -> Result<(), PkiError> {
        let admin = pki.client("admin", "kubernetes-admin", &["system:masters"], now)?;
        let config = Kubeconfig {
            server: self.own.clone(),
            others: servers.iter().filter(|url| **url != self.own).cloned().collect(),
            ca_pem: pki.ca_pem().into(),
            cert_pem: admin.cert.into(),
            key_pem: admin.key.into(),
            ..Kubeconfig::default()
        };
        let text = config.to_yaml("copepod");
        if text != self.written {
            pki::write(&self.path, text.as_bytes())?;
            self.written = text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::ResolvesClientCert as _;

    use super::*;

    #[test]
    fn certificates_and_kubeconfig_are_replaced_in_time_and_the_servers_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let (start, day) = (Time::from_secs(1_800_000_000), Duration::from_secs(86_400));
        let pki = Arc::new(Pki::open(&dir.path().join("pki"), start).unwrap());
        let path = dir.path().join("kubeconfig");
        let own = "https://10.0.0.1:6443".to_string();
        let papers = Papers::new(pki.clone());
        let names = vec!["localhost".to_string()];
        papers.show(Paper::Serving { name: "apiserver", names, ips: Vec::new() }, start).unwrap();
        let peer = papers.show(Paper::Peer(2), start).unwrap();
        // What a handshake shows from now on.
        let in_use = || peer.resolve(&[], &[]).unwrap().cert.clone();
        let first_in_use = in_use();
        papers.show(Paper::Client { name: "apiserver-kubelet-client", user: "u", groups: &[] }, start).unwrap();
        let mut admin = Admin { path: path.clone(), own: own.clone(), written: String::new() };
        admin.write(&pki, &[], start).unwrap();
        let read = || Kubeconfig::read(&path).unwrap();
        let shown = || {
            ["apiserver", "peer", "apiserver-kubelet-client"]
                .map(|name| std::fs::read_to_string(dir.path().join(format!("pki/{name}.crt"))).unwrap())
        };
        let (first, certificates) = (read(), shown());
        assert_eq!(first.servers(), std::slice::from_ref(&own));

        let servers = [own.clone(), "https://10.0.0.2:6443".to_string()];
        let renew = |admin: &mut Admin, at: Time| {
            papers.renew(at).unwrap();
            admin.write(&pki, &servers, at).unwrap();
        };
        renew(&mut admin, start + day * 200);
        assert_eq!(read().servers(), servers);
        assert_eq!((read().cert_pem == first.cert_pem, shown() == certificates), (true, true));
        assert!(in_use() == first_in_use);
        renew(&mut admin, start + day * 245);
        assert_ne!(read().cert_pem, first.cert_pem);
        let later = shown();
        assert!(certificates.iter().zip(&later).all(|(old, new)| old != new));
        assert!(in_use() != first_in_use, "nobody has to connect or listen anew");
    }
}
