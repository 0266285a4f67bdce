//! What decodes messages of clients and of other name servers, for tests/fuzz alone.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use copepod_dns_zone::Zone;
use hickory_proto::op::{Message, Query};

use crate::Access;
use crate::cache::Cache;
use crate::forward::{ForwardError, Upstream, exchange};
use crate::handler::{Client, Handler, Quick, Transport};

/// Whom and over what a message came.
fn client(ip: IpAddr, udp: bool) -> Client {
    Client { ip, over: if udp { Transport::Udp } else { Transport::Tcp } }
}

/// Answers from a zone; all other names are answered by one message.
pub struct Answerer(Handler);

struct Fixed(Message);

#[async_trait]
impl Upstream for Fixed {
    async fn forward(&self, _: Query, _: IpAddr) -> Result<Message, ForwardError> {
        Ok(self.0.clone())
    }
}

impl Answerer {
    /// `access` says for whom `others` is an answer.
    pub fn new(zone: Arc<Zone>, others: Message, access: Access) -> Answerer {
        Answerer(Handler { zone: Arc::new(move || Some(zone.clone())), upstream: Arc::new(Fixed(others)), access })
    }

    /// The answer by the short way, if it has one. Nothing for a message that gets no answer at all.
    pub fn quick(&self, message: &[u8], ip: IpAddr, udp: bool) -> Option<Option<Vec<u8>>> {
        let mut out = Vec::new();
        match self.0.quick(message, client(ip, udp), &mut out) {
            Quick::Answered => Some(Some(out)),
            Quick::Long => Some(None),
            Quick::Noise => None,
        }
    }

    /// The answer by the long way.
    pub fn long(&self, message: &[u8], ip: IpAddr, udp: bool) -> Option<Vec<u8>> {
        let answer = pin!(self.0.answer(message, client(ip, udp)));
        // Nothing in it waits: the one message of others is there.
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => None,
        }
    }
}

/// What an upstream server's message says to a question, if it is an answer to it.
pub fn upstream(message: &[u8], question: &Message) -> Option<Message> {
    exchange::parse(message, question)
}

/// An answer as it is given to the next who asks, if it is kept.
pub fn kept(query: &Query, answer: &Message) -> Option<Message> {
    let cache = Cache::default();
    cache.put(query, answer);
    cache.get(query)
}
