//! `grpc.health.v1.Health/Check` over HTTP/2 in clear text. The two messages have one field each, so they are written and
//! read here (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

use bytes::{BufMut, Bytes, BytesMut};
use copepod_node_network::Conn;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// An answer is a few bytes; a server that sends more is none of ours.
const LONGEST_ANSWER: usize = 64 << 10;
/// gRPC's code for a method that the server does not have.
const UNIMPLEMENTED: &str = "12";
/// gRPC's code for a deadline that has passed.
const DEADLINE_EXCEEDED: &str = "4";

/// Asks the server at the other end of `conn`. `Err` is in the kubelet's words.
pub(super) async fn check(conn: Conn, authority: &str, service: &str) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("error: health rpc probe failed: {e}");
    let builder = http2::Builder::new(TokioExecutor::new());
    let handshake = builder.handshake::<_, Full<Bytes>>(TokioIo::new(conn.stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| failed(&e))?;
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", super::USER_AGENT)
        .body(Full::new(request(service)))
        .map_err(|e| failed(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|e| failed(&e))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        verdict(&head, &trailers, &body.to_bytes())
    };
    // The connection is driven as long as the exchange lasts, and dropped with it.
    tokio::select! {
        result = exchange => result,
        ended = connection => Err(match ended {
            Ok(()) => failed(&"the connection was closed"),
            Err(e) => failed(&e),
        }),
    }
}

/// A `HealthCheckRequest` with its gRPC prefix: field 1 is the service's name, left out when empty.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or(0));
    framed.put_slice(&message);
    framed.freeze()
}

fn verdict(head: &http::response::Parts, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    if head.status != http::StatusCode::OK {
        let text = format!("unexpected HTTP status code received from server: {}", head.status);
        return Err(format!("error: health rpc probe failed: {text}"));
    }
    // An answer without a message has its status among the headers.
    let text = |name: &str| trailers.get(name).or(head.headers.get(name)).and_then(|v| v.to_str().ok());
    let message = text("grpc-message").unwrap_or_default();
    match text("grpc-status") {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        Some(DEADLINE_EXCEEDED) => return Err(format!("timeout: health rpc did not complete: {message}")),
        Some(code) => {
            return Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"));
        }
        None => return Err("error: health rpc probe failed: server closed the stream without sending trailers".into()),
    }
    match status(body) {
        Some(1) => Ok(()),
        Some(n) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let name = usize::try_from(n).ok().and_then(|n| name.get(n)).map_or_else(|| n.to_string(), |n| (*n).into());
            Err(format!("service unhealthy (responded with \"{name}\")"))
        }
        None => Err("error: health rpc probe failed: the answer does not decode".into()),
    }
}

/// `status` (field 1, an enum) of a framed `HealthCheckResponse`; zero when it is left out.
pub(crate) fn status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(5)?;
    if prefix[0] != 0 || u32::from_be_bytes(prefix[1..5].try_into().ok()?) as usize != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for i in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protobuf_in_grpc_frames() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
        let long = request(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 10, 200, 1]);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0, 0, 0, 0, 5, 18, 1, 9, 8, 2]), Some(2), "unknown fields are skipped");
        for bad in [&[0, 0, 0, 0][..], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 2, 18, 9]] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn failures_are_told_in_the_kubelets_words() {
        let said = |status: u16, code: &str, body: &[u8]| {
            let head = http::Response::builder().status(status).header("grpc-status", code).body(()).unwrap();
            verdict(&head.into_parts().0, &HeaderMap::new(), body)
        };
        let frame = |n: u8| [0, 0, 0, 0, 2, 8, n];
        assert_eq!(said(200, "0", &frame(1)), Ok(()));
        assert_eq!(said(200, "0", &frame(2)), Err("service unhealthy (responded with \"NOT_SERVING\")".into()));
        assert!(said(200, "12", &[]).unwrap_err().contains("does not implement the grpc health protocol"));
        assert!(said(200, "5", &[]).unwrap_err().contains("code = 5"));
        assert!(said(503, "0", &frame(1)).unwrap_err().contains("503"));
    }
}
