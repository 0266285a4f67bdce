use super::*;

#[test]
fn the_handshake_is_the_rfcs() {
    assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

fn with(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
}

#[test]
fn protocols_are_negotiated_or_refused() {
    let command = |h: &[(&'static str, &'static str)]| negotiate(&with(h), channel::remote_command, &SPDY_COMMAND);
    let offers = "v5.channel.k8s.io, v4.channel.k8s.io";
    let (_, answer) = command(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", offers)]).ok().unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["x-stream-protocol-version"]),
        (StatusCode::SWITCHING_PROTOCOLS, &HeaderValue::from_static("v4.channel.k8s.io"))
    );
    let refused = command(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "chat")]).err().unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let ws = [("upgrade", "websocket"), ("sec-websocket-key", "x"), ("sec-websocket-version", "13")];
    assert!(command(&ws).is_ok());
    assert!(command(&ws[..2]).is_err());
    assert_eq!(command(&[]).err().unwrap().status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_request_that_wants_nothing_is_refused() {
    assert!(Wants::parse("command=ls").is_err());
    let wants = Wants::parse("command=sh&command=a+b%2Bc&input=1&output=1&error=1&tty=1").unwrap();
    assert_eq!(wants.command, ["sh", "a b+c"]);
    assert!(wants.stdin && wants.stdout && wants.tty && !wants.stderr);
}
