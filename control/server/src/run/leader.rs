//! What only the leader runs, fenced by its term: first objects, controllers, scheduler, the list of servers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use copepod_client::Client;
use copepod_controllers::{BalancerPool, TokenEnd};
use copepod_machine::View;
use copepod_model::{Object, UserInfo};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{controllers, scheduler};
use crate::api::{Api, InProcess};
use crate::bootstrap;
use crate::listener::stopped;
use crate::members::{self, Members};
use crate::pki::Pki;

/// How long what a deposed leader runs may take to end by itself.
const WIND_UP: Duration = Duration::from_secs(5);
/// How often first objects are tried that cannot be written, and how often the list of servers is looked at.
const AGAIN: Duration = Duration::from_secs(1);

/// How a leader speaks of the servers.
#[derive(Clone)]
pub struct Leader {
    /// The API.
    pub api: Arc<Api>,
    /// The servers.
    pub members: Members,
    /// The CA.
    pub pki: Arc<Pki>,
    /// The addresses that are set aside for load balancers.
    pub balancer_pool: BalancerPool,
    /// Where pods reach this server, if the members' addresses are not to say it.
    pub advertised: Option<SocketAddr>,
    /// What pods reach in place of a member's loopback address.
    pub stand_in: Option<IpAddr>,
}

impl Leader {
    /// Runs it all whenever this server leads, until `shutdown` turns true.
    pub async fn forever(self, mut shutdown: watch::Receiver<bool>) {
        let mut role = self.api.store().role();
        loop {
            let term = tokio::select! {
                found = role.wait_for(|r| r.leads) => match found {
                    Ok(role) => role.term,
                    Err(_) => return,
                },
                () = stopped(&mut shutdown) => return,
            };
            tracing::info!(term, "this server leads");
            let (stop, stopping) = watch::channel(false);
            let mut tasks = JoinSet::new();
            tasks.spawn(self.clone().rule(term, stopping));
            let over = tokio::select! {
                ended = role.wait_for(|r| !r.leads || r.term != term) => ended.is_err(),
                () = stopped(&mut shutdown) => true,
            };
            let _ = stop.send(true);
            // What does not end in time is cut off; the log lets nothing of it through.
            let _ = tokio::time::timeout(WIND_UP, async { while tasks.join_next().await.is_some() {} }).await;
            if over {
                return;
            }
            tracing::info!(term, "this server does not lead any more");
        }
    }

    /// One term.
    async fn rule(self, term: u64, mut stop: watch::Receiver<bool>) {
        let client = |user: &str, manager: &str| {
            Client::new(Arc::new(InProcess::fenced(self.api.clone(), term)), UserInfo::system(user), manager)
        };
        loop {
            let servers = self.servers().await;
            match bootstrap::run(&self.api, term, &servers).await {
                Ok(()) => break,
                Err(e) => tracing::warn!("the first objects cannot be written: {}", e.message),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stopped(&mut stop) => return,
            }
        }
        let store = self.api.store().clone();
        let manager = client("system:kube-controller-manager", "kube-controller-manager");
        let binder = client("system:kube-scheduler", "kube-scheduler");
        let api = self.api.clone();
        let token_end: TokenEnd =
            Arc::new(move |view: &dyn View, secret: &Object| api.bootstrap_token_end(view, secret));
        let (pki, pool) = (self.pki.clone(), self.balancer_pool.clone());
        tokio::join!(
            controllers::forever(store.clone(), manager, pki, pool, token_end, stop.clone()),
            scheduler::forever(store, binder, stop.clone()),
            self.members.tend(stop.clone()),
            self.list_servers(term, stop),
        );
    }

    /// Keeps the endpoints of the Service `kubernetes` true.
    async fn list_servers(&self, term: u64, mut stop: watch::Receiver<bool>) {
        if self.advertised.is_some() {
            return stopped(&mut stop).await;
        }
        let client = bootstrap::client(&self.api, term);
        let mut written = self.servers().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stopped(&mut stop) => return,
            }
            let servers = self.servers().await;
            // A moment in which nobody is heard must not take them all away.
            if servers != written && !servers.is_empty() && bootstrap::advertise(&client, &servers).await.is_ok() {
                written = servers;
            }
        }
    }

    /// Where the servers are that this leader hears.
    async fn servers(&self) -> Vec<SocketAddr> {
        if let Some(here) = self.advertised {
            return vec![here];
        }
        let heard = self.members.reachable();
        let mut found: Vec<SocketAddr> = Vec::new();
        for member in members::listed(&self.api.store().snapshot()) {
            if heard.contains(&member.id)
                && let Ok(mut addresses) = lookup_host(&member.api).await
                && let Some(at) = addresses.next()
            {
                let ip = if at.ip().is_loopback() { self.stand_in.unwrap_or(at.ip()) } else { at.ip() };
                let at = SocketAddr::new(ip, at.port());
                // Several may have the same stand-in.
                if !found.contains(&at) {
                    found.push(at);
                }
            }
        }
        found
    }
}
