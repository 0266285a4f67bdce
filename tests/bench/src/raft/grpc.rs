//! As much of gRPC and of etcd's API as the bench speaks: unary calls over HTTP/2 without TLS, put, range of one key and the
//! member's status. Frames and headers are gRPC's `PROTOCOL-HTTP2.md`, field numbers etcd's `api/etcdserverpb/rpc.proto`.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::protobuf::{self, put_bytes, put_number};
use crate::Error;

/// Longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
/// A flag, "not compressed", and the message's length in four bytes.
const HEADER: usize = 5;

/// A connection to a member. Clones share it.
#[derive(Clone)]
pub struct Connection {
    send: http2::SendRequest<Full<Bytes>>,
    put: http::Uri,
    range: http::Uri,
    status: http::Uri,
}

/// What a member says of itself (`StatusResponse`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub member: u64,
    /// The leader's id, 0 if it knows none.
    pub leader: u64,
    /// etcd's version.
    pub version: String,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(at: &str) -> Result<Connection, Error> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Its end shows in the calls.
        tokio::spawn(connection);
        let uri = |method: &str| format!("http://{at}/etcdserverpb.{method}").parse();
        Ok(Connection { send, put: uri("KV/Put")?, range: uri("KV/Range")?, status: uri("Maintenance/Status")? })
    }

    /// Sets a key. It is committed when this returns.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let answer = call(&mut self.send, &self.put, put_request(key, value)).await?;
        unframed(answer).map(drop)
    }

    /// A key's value; linearizable, or as this member has it.
    pub async fn get(&mut self, key: &[u8], serializable: bool) -> Result<Bytes, Error> {
        let answer = call(&mut self.send, &self.range, range_request(key, serializable)).await?;
        value(&unframed(answer)?)?.ok_or_else(|| "etcd does not have the key".into())
    }

    /// What the member says of itself.
    pub async fn status(&mut self) -> Result<Status, Error> {
        let answer = call(&mut self.send, &self.status, framed(0, |_| ())).await?;
        Ok(status(&unframed(answer)?)?)
    }
}

async fn call(send: &mut http2::SendRequest<Full<Bytes>>, uri: &http::Uri, message: Bytes) -> Result<Bytes, Error> {
    let request = http::Request::post(uri.clone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message))?;
    send.ready().await?;
    let (head, body) = send.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?;
    // A failure may come in the head alone.
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|v| v.to_str().ok());
    if text("grpc-status") != Some("0") {
        let (status, message) = (text("grpc-status").unwrap_or("none"), text("grpc-message").unwrap_or_default());
        return Err(format!("etcd answered {} with grpc-status {status}: {message}", head.status).into());
    }
    Ok(body.to_bytes())
}

/// A message in its frame.
fn framed(most: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(HEADER + most);
    out.extend_from_slice(&[0; HEADER]);
    write(&mut out);
    let length = (out.len() - HEADER) as u32;
    out[1..HEADER].copy_from_slice(&length.to_be_bytes());
    out.into()
}

/// The one message of an answer.
fn unframed(mut answer: Bytes) -> Result<Bytes, Error> {
    if answer.len() < HEADER {
        return Err("etcd's answer has no message".into());
    }
    let header = answer.split_to(HEADER);
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    if header[0] != 0 || length as usize != answer.len() {
        return Err(format!("etcd's answer is {} bytes in a frame of {length}", answer.len()).into());
    }
    Ok(answer)
}

/// `PutRequest`: key = 1, value = 2.
fn put_request(key: &[u8], value: &[u8]) -> Bytes {
    framed(key.len() + value.len() + 16, |out| {
        put_bytes(out, 1, key);
        put_bytes(out, 2, value);
    })
}

/// `RangeRequest`: key = 1, serializable = 7.
fn range_request(key: &[u8], serializable: bool) -> Bytes {
    framed(key.len() + 16, |out| {
        put_bytes(out, 1, key);
        if serializable {
            put_number(out, 7, 1);
        }
    })
}

/// The value of the only key of a `RangeResponse`: kvs = 2, of them value = 5.
fn value(message: &Bytes) -> Result<Option<Bytes>, protobuf::Malformed> {
    let Some(pair) = protobuf::bytes(&protobuf::fields(message)?, 2) else { return Ok(None) };
    Ok(protobuf::bytes(&protobuf::fields(&pair)?, 5))
}

/// `StatusResponse`: header = 1 with member_id = 2, version = 2, leader = 4.
fn status(message: &Bytes) -> Result<Status, protobuf::Malformed> {
    let fields = protobuf::fields(message)?;
    let header = protobuf::fields(&protobuf::bytes(&fields, 1).unwrap_or_default())?;
    let version = protobuf::bytes(&fields, 2).unwrap_or_default();
    Ok(Status {
        member: protobuf::number(&header, 2),
        leader: protobuf::number(&fields, 4),
        version: String::from_utf8_lossy(&version).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_etcd_takes() {
        assert_eq!(put_request(b"k", b"vv")[..], [0, 0, 0, 0, 7, 0x0a, 1, b'k', 0x12, 2, b'v', b'v']);
        assert_eq!(range_request(b"k", false)[..], [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
        assert_eq!(range_request(b"k", true)[..], [0, 0, 0, 0, 5, 0x0a, 1, b'k', 0x38, 1]);
        assert_eq!(framed(0, |_| ())[..], [0, 0, 0, 0, 0]);
        assert_eq!(put_request(b"k", &[0; 1024]).len(), 5 + 3 + 3 + 1024);
    }

    /// As etcd 3.4.23 answered.
    #[test]
    fn a_status_is_read() {
        let answer = Bytes::from_static(&[
            0x00, 0x00, 0x00, 0x00, 0x3c, 0x0a, 0x19, 0x08, 0xbe, 0xa0, 0xf7, 0xa6, 0x99, 0xfd, 0x99, 0xac, 0x77, 0x10,
            0xe8, 0xcb, 0xcf, 0x87, 0xf5, 0xed, 0xbe, 0xa8, 0xdf, 0x01, 0x18, 0x02, 0x20, 0x02, 0x12, 0x06, 0x33, 0x2e,
            0x34, 0x2e, 0x32, 0x33, 0x18, 0x80, 0xa0, 0x01, 0x20, 0xe8, 0xcb, 0xcf, 0x87, 0xf5, 0xed, 0xbe, 0xa8, 0xdf,
            0x01, 0x28, 0x06, 0x30, 0x02, 0x38, 0x06, 0x48, 0x80, 0x80, 0x01,
        ]);
        let status = status(&unframed(answer).unwrap()).unwrap();
        assert_eq!(status, Status { member: status.leader, leader: 0xdf50_fb6f_50f3_e5e8, version: "3.4.23".into() });
    }

    #[test]
    fn a_value_is_read() {
        // header, kvs {key, value}, count
        let answer = Bytes::from_static(&[0x0a, 2, 0x18, 2, 0x12, 7, 0x0a, 1, b'k', 0x2a, 2, b'v', b'v', 0x20, 1]);
        assert_eq!(value(&answer), Ok(Some(Bytes::from_static(b"vv"))));
        assert_eq!(value(&Bytes::from_static(&[0x0a, 2, 0x18, 2])), Ok(None));
    }

    #[test]
    fn an_answer_is_one_whole_message() {
        assert_eq!(unframed(Bytes::from_static(&[0, 0, 0, 0, 1, 7])).unwrap()[..], [7]);
        for bad in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2, 7], &[0, 0, 0, 0, 1, 7, 7], &[1, 0, 0, 0, 1, 7]] {
            assert!(unframed(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
