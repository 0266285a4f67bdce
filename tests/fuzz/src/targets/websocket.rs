//! Messages of Kubernetes' WebSocket protocols: the subprotocols that a client offers, then a message of it.

use bytes::Bytes;
use copepod_node_streams::channel::{join, port_forward, remote_command, resize, split};
use copepod_node_streams::proxy::Proxied;
use copepod_node_streams::tty::{Discipline, output};

use crate::support::{joined, parts};
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "websocket",
    run,
    seeds,
    words: &[
        "v5.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "SPDY/3.1+portforward.k8s.io",
        ", ",
        "\n===\n",
        "\u{4}{\"Width\":80,\"Height\":24}",
        "/podProxy/ns/p/http/10.244.0.7/80/",
        "\u{3}",
        "\u{15}",
        "\u{17}",
        "\u{7f}",
        "AAA=",
    ],
    room: Room::VALUES,
};

fn run(input: &[u8]) -> Outcome {
    let [offered, message] = parts(input);
    let offered = String::from_utf8_lossy(offered);
    let protocol = remote_command(&offered).or_else(|| port_forward(&offered));
    if let Some(proxied) = Proxied::parse(&String::from_utf8_lossy(message)) {
        assert!(proxied.path.starts_with('/'));
    }
    let Some(protocol) = protocol else { return Outcome::refused("no protocol") };
    let message = Bytes::copy_from_slice(message);
    let Some((channel, bytes)) = split(message.clone(), protocol.base64) else {
        return Outcome::refused("no message").and(protocol.name);
    };
    assert!(bytes.len() < message.len());
    let again = split(join(channel, &bytes, protocol.base64), protocol.base64);
    assert_eq!(again, Some((channel, bytes.clone())), "it is not what it was");
    let size = resize(&bytes);
    let mut terminal = Discipline::default();
    let mut lines = 0;
    for keys in bytes.chunks(7) {
        let typed = terminal.type_keys(keys);
        lines += typed.lines.len();
        // A key may erase a whole line from the screen, three bytes for each character.
        assert!(typed.echo.len() <= 3 * bytes.len() + 16, "{} bytes of echo", typed.echo.len());
    }
    assert!(lines <= bytes.len());
    assert!(output(&bytes).len() <= 2 * bytes.len());
    Outcome::taken(bytes.len()).and((protocol.name, channel.min(6), size.is_some(), lines > 0))
}

fn seeds() -> Vec<Seed> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    vec![
        (
            "stdin".into(),
            joined(&["v5.channel.k8s.io, v4.channel.k8s.io", &text(join(0, b"ls\x7f /tmp\r\x03", false))]),
        ),
        ("resize".into(), joined(&["v4.channel.k8s.io", &text(join(4, br#"{"Width":80,"Height":24}"#, false))])),
        ("base64".into(), joined(&["base64.channel.k8s.io", &text(join(0, b"input", true))])),
        ("forward".into(), joined(&["v4.base64.channel.k8s.io", &text(join(1, b"P\0", true))])),
        ("proxy".into(), joined(&["", "/podProxy/ns/p/https/fd00::7/443/x"])),
    ]
}
