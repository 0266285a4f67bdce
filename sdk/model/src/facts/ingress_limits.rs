//! The limits that an Ingress sets for its requests, and whether it passes TLS on, by annotation: `copepod.dev/NAME`, or as
//! people have them, `nginx.ingress.kubernetes.io/NAME`.

use std::time::Duration;

use super::Facts;
use crate::Object;

const OURS: &str = "copepod.dev/";
const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// What an Ingress says of its requests' limits. What it does not say is the node's to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressLimits {
    /// `proxy-body-size`: bytes of a request's body.
    pub body: Option<u64>,
    /// `proxy-connect-timeout`: to connect to an endpoint.
    pub connect: Option<Duration>,
    /// `proxy-read-timeout`: for a response to begin, and between two pieces of it.
    pub read: Option<Duration>,
    /// `proxy-send-timeout`: between two pieces of a request's body.
    pub send: Option<Duration>,
    /// `ssl-passthrough`: TLS of its hosts goes to their backends as it is, and none of the others counts.
    pub passthrough: bool,
}

/// The limits of an Ingress, and what is wrong with what it says of them, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressLimitFacts {
    /// What can be read.
    pub limits: IngressLimits,
    /// What cannot.
    pub wrong: Vec<String>,
}

/// What an annotation may say, and how it is read; `false` if it cannot be.
type Limit = (&'static str, &'static str, fn(&mut IngressLimits, &str) -> bool);

const SECONDS: &str = "a number of seconds, such as 120";

const LIMITS: [Limit; 5] = [
    ("proxy-body-size", "a size, such as 8m, 1g or 0 for any", |l, v| set(&mut l.body, size(v))),
    ("proxy-connect-timeout", SECONDS, |l, v| set(&mut l.connect, seconds(v))),
    ("proxy-read-timeout", SECONDS, |l, v| set(&mut l.read, seconds(v))),
    ("proxy-send-timeout", SECONDS, |l, v| set(&mut l.send, seconds(v))),
    ("ssl-passthrough", "true or false", |l, v| v.parse().map(|said| l.passthrough = said).is_ok()),
];

impl Facts for IngressLimitFacts {
    fn of(object: &Object) -> Self {
        let mut facts = IngressLimitFacts::default();
        for (name, form, read) in LIMITS {
            let said = [OURS, NGINX].into_iter().find_map(|prefix| {
                let key = format!("{prefix}{name}");
                object.meta.annotations.get(key.as_str()).map(|value| (key, value))
            });
            if let Some((key, value)) = said
                && !read(&mut facts.limits, value)
            {
                facts.wrong.push(format!("annotation {key}: {value:?} is not {form}; the node's own limit holds"));
            }
        }
        facts
    }
}

fn set<T>(limit: &mut Option<T>, value: Option<T>) -> bool {
    *limit = value;
    limit.is_some()
}

/// Digits, and `k`, `m` or `g` in either case for powers of 1024, as nginx has it.
fn size(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?.to_ascii_lowercase();
    let shift = ['b', 'k', 'm', 'g'].iter().position(|u| *u == unit);
    let number = if shift.is_some() { &text[..text.len() - 1] } else { text };
    let bytes = digits(number)?.checked_mul(1 << (10 * shift.unwrap_or(0)))?;
    Some(if bytes == 0 { u64::MAX } else { bytes })
}

fn seconds(text: &str) -> Option<Duration> {
    digits(text).filter(|n| (1..=u64::from(u32::MAX)).contains(n)).map(Duration::from_secs)
}

/// No sign, and no spaces.
fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::object::{encode, with_revision};
    use serde_json::{Value, json};

    fn of(annotations: Value) -> IngressLimitFacts {
        let value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "i", "namespace": "a", "annotations": annotations}});
        let key = Key::new("ingresses.networking.k8s.io", "a", "i");
        IngressLimitFacts::of(&Object::decode(key, 1, with_revision(&encode(&value), 1)))
    }

    #[test]
    fn sizes_and_times_are_nginxs() {
        for (text, bytes) in [
            ("8m", Some(8 << 20)),
            ("1G", Some(1 << 30)),
            ("512k", Some(512 << 10)),
            ("100", Some(100)),
            ("7b", Some(7)),
            ("0", Some(u64::MAX)),
            ("0m", Some(u64::MAX)),
            ("", None),
            ("m", None),
            ("8x", None),
            ("8 m", None),
            ("+8m", None),
            ("-1", None),
            ("1.5g", None),
            ("8mb", None),
            ("99999999999999999999g", None),
            ("18446744073709551615k", None),
            ("8ä", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        for (text, time) in
            [("120", Some(120)), ("0", None), ("60s", None), ("", None), ("-1", None), ("4294967296", None)]
        {
            assert_eq!(seconds(text), time.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn our_own_spelling_comes_first() {
        let facts = of(json!({
            "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "300",
            "copepod.dev/proxy-read-timeout": "200",
            "copepod.dev/proxy-send-timeout": "10",
            "nginx.ingress.kubernetes.io/proxy-connect-timeout": "7",
            "nginx.ingress.kubernetes.io/ssl-passthrough": "true",
        }));
        let second = |n| Some(Duration::from_secs(n));
        let limits = IngressLimits {
            body: Some(8 << 20),
            connect: second(7),
            read: second(200),
            send: second(10),
            passthrough: true,
        };
        assert_eq!(facts, IngressLimitFacts { limits, wrong: Vec::new() });
        assert_eq!(of(json!({})), IngressLimitFacts::default());
    }

    #[test]
    fn what_cannot_be_read_is_said_and_counts_for_nothing() {
        let facts = of(json!({
            "copepod.dev/proxy-body-size": "big",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "1h",
            "nginx.ingress.kubernetes.io/ssl-passthrough": "yes",
        }));
        assert_eq!(facts.limits, IngressLimits::default());
        assert_eq!(
            facts.wrong,
            [
                "annotation copepod.dev/proxy-body-size: \"big\" is not a size, such as 8m, 1g or 0 for any; the node's own limit holds",
                "annotation nginx.ingress.kubernetes.io/proxy-read-timeout: \"1h\" is not a number of seconds, such as 120; the node's own limit holds",
                "annotation nginx.ingress.kubernetes.io/ssl-passthrough: \"yes\" is not true or false; the node's own limit holds",
            ]
        );
    }
}
