//! Heads of requests from other nodes: the first line is the authority and the path, the others are headers.

use copepod_node_network::fuzzing::{head, hear};
use copepod_node_routes::Claim;
use http::{HeaderName, HeaderValue, Request, Uri};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "tunnel_head",
    run,
    seeds,
    words: &[
        "copepod-source: ",
        "copepod-peer: ",
        "copepod-host: ",
        "copepod-ask: ",
        "capsule-protocol: ?1",
        "host: ",
        "te: trailers",
        "connection: ",
        "pod a b c d ",
        "node ",
        "client ",
        "10.244.0.2:80",
        "[fd00::2]:80",
        "\n",
        "%",
    ],
    room: Room { base: 256 << 10, each: 512 },
};

fn run(input: &[u8]) -> Outcome {
    let mut lines = input.split(|b| *b == b'\n');
    let target = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut request = Request::new(());
    match format!("http://{target}").parse::<Uri>() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(e) => return Outcome::refused(e),
    }
    for line in lines.take(100) {
        let Some(at) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[at + 1..].trim_ascii())) {
            request.headers_mut().append(name, value);
        }
    }
    let Some((to, claim, peer)) = hear(&mut request) else { return Outcome::refused("refused") };
    assert_eq!(claim.to_string().parse::<Claim>().as_ref(), Ok(&claim), "the claim is not what it was");
    let ours = |name: &str| ["copepod-source", "copepod-peer", "copepod-host", "copepod-ask"].contains(&name);
    assert!(request.headers().keys().all(|name| !ours(name.as_str())), "a pod sees them: {:?}", request.headers());
    assert!(request.uri().authority().is_none(), "it is in origin form");
    // What is heard can be said to the next node, and is heard there as it was.
    let asked = peer.unwrap_or(claim.address);
    let (parts, ()) = request.into_parts();
    if let Some(mut sent) = head(&parts, to, &claim, asked) {
        assert_eq!(hear(&mut sent), Some((to, claim, Some(asked))), "it is not what was said");
        assert_eq!(sent.uri(), &parts.uri);
    }
    Outcome::taken(parts.headers.len()).and(peer.is_some())
}

fn seeds() -> Vec<Seed> {
    let all = [
        ("stream", "10.244.0.2:80\ncopepod-source: pod shop a uid-a till 10.244.1.2:40000"),
        ("datagrams", "[fd00::2]:53/\ncopepod-source: node 10.244.1.0:1\ncapsule-protocol: ?1"),
        (
            "request",
            "10.244.0.2:80/p?q=1\ncopepod-source: client 192.0.2.1:5\ncopepod-peer: 192.0.2.1:5\ncopepod-host: a.test\nx: y\nte: trailers",
        ),
        ("ask", "10.244.0.2:80/\ncopepod-source: node 10.244.1.0:1\ncopepod-ask: requests"),
    ];
    all.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into()
}
