//! `wasi:sockets/ip-name-lookup`.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketResult, subscribe};

use super::View;
use super::own::ip_name_lookup as wit;
use crate::net::NetError;

type Answer = Result<Vec<IpAddr>, NetError>;

/// A lookup, under way or answered.
pub enum Lookup {
    Asking(JoinHandle<Option<Answer>>),
    Answered(Result<std::vec::IntoIter<IpAddr>, NetError>),
}

/// The longest name in DNS, with a final dot.
const LONGEST_NAME: usize = 254;

impl Lookup {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&mut Result<std::vec::IntoIter<IpAddr>, NetError>> {
        if let Lookup::Asking(task) = self {
            let answer = std::task::ready!(std::pin::Pin::new(task).poll(cx));
            let answer = answer.ok().flatten().unwrap_or(Err(NetError::TemporaryResolverFailure));
            *self = Lookup::Answered(answer.map(Vec::into_iter));
        }
        match self {
            Lookup::Answered(answer) => Poll::Ready(answer),
            Lookup::Asking(_) => Poll::Pending,
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Lookup::Asking(task) = self {
            task.abort();
        }
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx).map(drop)).await;
    }
}

impl wit::Host for View<'_> {
    fn resolve_addresses(&mut self, network: Resource<Network>, name: String) -> SocketResult<Resource<Lookup>> {
        self.table.get(&network)?;
        let lookup = if let Ok(ip) = name.trim_matches(['[', ']']).parse() {
            Lookup::Answered(Ok(vec![ip].into_iter()))
        } else if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c: char| c.is_whitespace()) {
            return Err(ErrorCode::InvalidArgument.into());
        } else {
            let net = self.container.net.clone();
            Lookup::Asking(self.container.spawn(async move { net.resolve(&name).await }))
        };
        Ok(self.table.push(lookup)?)
    }
}

impl wit::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(&mut self, this: Resource<Lookup>) -> SocketResult<Option<IpAddress>> {
        match self.table.get_mut(&this)?.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Err(ErrorCode::WouldBlock.into()),
            Poll::Ready(Ok(addresses)) => Ok(addresses.next().map(Into::into)),
            Poll::Ready(Err(error)) => Err(super::error(*error)),
        }
    }

    fn subscribe(&mut self, this: Resource<Lookup>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Lookup>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
