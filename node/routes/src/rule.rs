//! A request as routes see it, and what a rule does with it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use copepod_model::facts::IngressLimits;
use copepod_model::gateway::{Cors, HeaderEdit, Redirect, Retry, Rewrite};

use crate::http::Backend;

/// By which of the node's HTTP listeners a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Its port, and the one that it stands for besides.
    pub ports: [u16; 2],
    /// Whether clients speak TLS there.
    pub tls: bool,
    /// Whether Ingresses are answered there.
    pub ingress: bool,
}

impl Door {
    /// The ingress' own listener at `port`: it answers Ingresses, and Gateways' listeners of that port and of port 80, or 443
    /// with TLS.
    pub fn ingress(port: u16, tls: bool) -> Door {
        Door { ports: [port, if tls { 443 } else { 80 }], tls, ingress: true }
    }

    /// A port that is open for Gateways' listeners alone.
    pub fn gateway(port: u16, tls: bool) -> Door {
        Door { ports: [port, port], tls, ingress: false }
    }
}

/// What becomes of a connection over TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum Greeting {
    /// TLS ends here, and requests are answered.
    Requests,
    /// It goes to a backend as bytes.
    Stream {
        /// The rule that says to which.
        rule: Arc<HttpRule>,
        /// Whether TLS ends here, and what is in it goes there.
        ends_tls: bool,
    },
    /// Nothing: no route is for its name.
    Nobody,
}

/// A request.
pub struct Asked<'a> {
    /// Where it has come in.
    pub door: Door,
    /// The host that it names, possibly with a port and in any case.
    pub host: &'a str,
    /// The path.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The value of a header by its name in lower case; of several, joined by commas.
    pub header: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
}

/// What becomes of requests and responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Treatment {
    /// Of the request's headers.
    pub request: Option<HeaderEdit>,
    /// Of the response's headers.
    pub response: Option<HeaderEdit>,
    /// The client is sent elsewhere.
    pub redirect: Option<Redirect>,
    /// The request goes to another host or path.
    pub rewrite: Option<Rewrite>,
    /// Pages of other origins may ask.
    pub cors: Option<Cors>,
    /// Who gets copies, and of how many requests: numerator and denominator.
    pub mirrors: Vec<(Backend, (u32, u32))>,
}

/// Where a part of a rule's requests go.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// How large a part.
    pub weight: u32,
    /// `None` if what the rule names may not be used: such requests are answered by an error.
    pub backend: Option<Backend>,
    /// What is done besides what the rule does.
    pub treatment: Treatment,
}

/// A rule of an Ingress or a route. One for streams has backends and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRule {
    /// Where its requests go.
    pub backends: Vec<Weighted>,
    /// What is done with them.
    pub treatment: Treatment,
    /// How long the whole may take; zero is for ever.
    pub request_timeout: Option<Duration>,
    /// How long one backend may take; zero is for ever.
    pub backend_timeout: Option<Duration>,
    /// What an Ingress limits otherwise than the node does.
    pub limits: IngressLimits,
    /// Whether and how often they are tried again.
    pub retry: Option<Retry>,
    /// Whether its requests are gRPC calls.
    pub grpc: bool,
    /// Whether it asks for something that cannot be done: its requests are answered by an error.
    pub broken: bool,
}

impl HttpRule {
    /// A rule that sends everything to one backend.
    pub(crate) fn to(backend: Backend, limits: IngressLimits) -> HttpRule {
        let whole = Weighted { weight: 1, backend: Some(backend), treatment: Treatment::default() };
        HttpRule { backends: vec![whole], limits, ..HttpRule::default() }
    }

    /// The backend of one request or stream. `seq` is a number that no other request has: over many, each backend gets its part,
    /// and soon, as the multiples of the golden ratio are spread evenly.
    pub fn choose(&self, seq: u64) -> Option<&Weighted> {
        let total: u64 = self.backends.iter().map(|b| u64::from(b.weight)).sum();
        let point = share(seq, total);
        let mut end = 0;
        self.backends.iter().find(|b| {
            end += u64::from(b.weight);
            point < end
        })
    }
}

/// Whether the request with the number `seq` is among `numerator` of `denominator`.
pub fn is_among(seq: u64, (numerator, denominator): (u32, u32)) -> bool {
    share(seq, u64::from(denominator)) < u64::from(numerator)
}

/// A number below `total` by the fraction of `seq` times the golden ratio.
fn share(seq: u64, total: u64) -> u64 {
    let turned = u128::from(seq.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // The product's upper half is below `total`.
    u64::try_from((turned * u128::from(total)) >> 64).unwrap_or(0)
}

/// The rule for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The rule.
    pub rule: Arc<HttpRule>,
    /// How many bytes of the path are the prefix by which it was matched; 0 if it was not by one.
    pub prefix: usize,
    /// How closely it was meant: host, then path.
    pub(crate) rank: Rank,
}

/// How closely a rule is meant: the kind of its host, that host's length, the kind of its path, that path's length.
pub(crate) type Rank = (u8, usize, u8, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept() {
        let part = |weight| Weighted { weight, backend: None, treatment: Treatment::default() };
        let rule =
            |weights: &[u32]| HttpRule { backends: weights.iter().copied().map(part).collect(), ..HttpRule::default() };
        let spread = |weights: &[u32]| {
            let rule = rule(weights);
            let mut counts = vec![0; weights.len() + 1];
            for seq in 0..1000 {
                let at = rule.choose(seq).and_then(|w| rule.backends.iter().position(|b| std::ptr::eq(b, w)));
                counts[at.unwrap_or(weights.len())] += 1;
            }
            counts
        };
        for (weights, want) in [
            (&[1][..], &[1000, 0][..]),
            (&[1, 1], &[500, 500, 0]),
            (&[9, 1], &[900, 100, 0]),
            (&[0, 3], &[0, 1000, 0]),
            (&[0], &[0, 1000]),
            (&[], &[1000]),
            (&[1_000_000, 1_000_000, 1_000_000], &[333, 333, 333, 0]),
        ] {
            let got = spread(weights);
            let near = got.iter().zip(want).all(|(g, w): (&i32, &i32)| (g - w).abs() <= 3);
            assert!(near, "{weights:?}: {got:?}");
        }
        let among = |share| (0..1000).filter(|seq| is_among(*seq, share)).count();
        assert_eq!((among((0, 100)), among((100, 100)), among((1, 1))), (0, 1000, 1000));
        assert!((245..=255).contains(&among((25, 100))));
    }
}
