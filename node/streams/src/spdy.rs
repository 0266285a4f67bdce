//! SPDY/3.1 framing (draft-mbelshe-httpbis-spdy-00 with version 3), as far as Kubernetes' clients use it: streams with
//! headers, data, pings and ends. Flow control windows are not kept: the clients (moby/spdystream) keep none either.

mod dictionary;
#[cfg(test)]
mod tests;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use dictionary::dictionary;

/// Longest control frame in bytes, compressed.
const CONTROL: usize = 64 * 1024;
/// Longest header block in bytes, decompressed.
const HEADERS: usize = 64 * 1024;
/// Data is passed on in pieces of at most this.
const PIECE: usize = 32 * 1024;

const FIN: u8 = 1;

/// Names and values, in order.
pub type Headers = Vec<(String, String)>;

/// One frame, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream is opened.
    SynStream {
        /// Which.
        id: u32,
        /// The sender sends nothing on it.
        fin: bool,
        /// Its headers.
        headers: Headers,
    },
    /// A stream is accepted.
    SynReply {
        /// Which.
        id: u32,
        /// The sender sends nothing on it.
        fin: bool,
        /// Its headers.
        headers: Headers,
    },
    /// Data, perhaps a part of a longer frame's.
    Data {
        /// The stream.
        id: u32,
        /// Nothing follows.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
    /// A stream is given up.
    Reset {
        /// Which.
        id: u32,
    },
    /// To be answered with the same id, if it is odd (a client's).
    Ping {
        /// Its id.
        id: u32,
    },
    /// No new streams.
    GoAway,
    /// Settings, windows, late headers: nothing to do.
    Other,
}

/// What breaks a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    /// Not version 3.
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    /// A control frame beyond the limit.
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    /// A frame that is shorter than its kind.
    #[error("a malformed frame of type {0}")]
    Malformed(u16),
    /// Headers that do not decompress, are no UTF-8 or too many.
    #[error("malformed headers: {0}")]
    Headers(&'static str),
}

/// Reads frames. Feed it bytes, then take frames until there is none.
pub struct Decoder {
    buffer: BytesMut,
    /// The data frame that is under way: stream, bytes left, whether it ends the stream.
    data: Option<(u32, usize, bool)>,
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { buffer: BytesMut::new(), data: None, inflate: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes bytes of the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, once it is whole. After an error the connection is of no use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some((id, left, fin)) = self.data {
            let n = left.min(self.buffer.len()).min(PIECE);
            if n == 0 && left > 0 {
                return Ok(None);
            }
            let data = self.buffer.split_to(n).freeze();
            self.data = (left > n).then_some((id, left - n, fin));
            return Ok(Some(Frame::Data { id, fin: fin && left == n, data }));
        }
        let Some(head) = self.buffer.first_chunk::<8>().copied() else { return Ok(None) };
        let flags = head[4];
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if first >> 31 == 0 {
            self.buffer.advance(8);
            self.data = Some((first, length, flags & FIN != 0));
            return self.next_frame();
        }
        let (version, kind) = ((first >> 16 & 0x7fff) as u16, first as u16);
        if version != 3 {
            return Err(SpdyError::Version(version));
        }
        if length > CONTROL {
            return Err(SpdyError::TooLong(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        self.control(kind, flags, body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, SpdyError> {
        let fin = flags & FIN != 0;
        // What each kind has before its headers.
        let least = match kind {
            1 => 10,
            2 | 8 | 6 => 4,
            3 => 8,
            _ => 0,
        };
        if body.len() < least {
            return Err(SpdyError::Malformed(kind));
        }
        Ok(match kind {
            1 => {
                let id = body.get_u32() & 0x7fff_ffff;
                body.advance(6);
                Frame::SynStream { id, fin, headers: self.headers(&body)? }
            }
            2 => {
                let id = body.get_u32() & 0x7fff_ffff;
                Frame::SynReply { id, fin, headers: self.headers(&body)? }
            }
            3 => Frame::Reset { id: body.get_u32() & 0x7fff_ffff },
            6 => Frame::Ping { id: body.get_u32() },
            7 => Frame::GoAway,
            8 => {
                // Nobody reads them, yet they are part of the one compressed stream.
                body.advance(4);
                self.headers(&body)?;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, compressed: &[u8]) -> Result<Headers, SpdyError> {
        let plain = self.inflate(compressed)?;
        let mut rest = plain.as_slice();
        let number = |rest: &mut &[u8]| {
            let (head, tail) = rest.split_first_chunk::<4>().ok_or(SpdyError::Headers("cut off"))?;
            *rest = tail;
            Ok::<usize, SpdyError>(u32::from_be_bytes(*head) as usize)
        };
        let count = number(&mut rest)?;
        let mut out = Headers::new();
        for _ in 0..count {
            let text = |rest: &mut &[u8]| {
                let n = number(rest)?;
                let (head, tail) = rest.split_at_checked(n).ok_or(SpdyError::Headers("cut off"))?;
                *rest = tail;
                String::from_utf8(head.to_vec()).map_err(|_| SpdyError::Headers("no UTF-8"))
            };
            out.push((text(&mut rest)?.to_ascii_lowercase(), text(&mut rest)?));
        }
        Ok(out)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let bad = |_| SpdyError::Headers("they do not decompress");
        let mut out = Vec::with_capacity(1024);
        let start = self.inflate.total_in();
        loop {
            let read = (self.inflate.total_in() - start) as usize;
            let before = out.len();
            match self.inflate.decompress_vec(&compressed[read..], &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers("their stream ends")),
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(dictionary()).map_err(bad)?;
                    continue;
                }
                Err(e) => return Err(bad(e)),
            }
            if out.len() > HEADERS {
                return Err(SpdyError::Headers("they are too long"));
            }
            let done = (self.inflate.total_in() - start) as usize == compressed.len();
            if out.len() < out.capacity() && done {
                return Ok(out);
            }
            if out.len() == out.capacity() {
                out.reserve(4096);
            } else if out.len() == before && read == (self.inflate.total_in() - start) as usize {
                return Err(SpdyError::Headers("cut off"));
            }
        }
    }
}

/// Writes frames.
pub struct Encoder {
    deflate: Compress,
}

impl Default for Encoder {
    fn default() -> Encoder {
        let mut deflate = Compress::new(Compression::fast(), true);
        // A dictionary of this length is always taken at the beginning of a stream.
        let _ = deflate.set_dictionary(dictionary());
        Encoder { deflate }
    }
}

impl Encoder {
    /// Opens a stream (a client's side).
    pub fn syn_stream(&mut self, out: &mut BytesMut, id: u32, headers: &[(&str, &str)]) {
        let block = self.block(headers);
        control(out, 1, 0, 10 + block.len());
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.extend_from_slice(&block);
    }

    /// Accepts a stream.
    pub fn syn_reply(&mut self, out: &mut BytesMut, id: u32) {
        let block = self.block(&[]);
        control(out, 2, 0, 4 + block.len());
        out.put_u32(id);
        out.extend_from_slice(&block);
    }

    fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 128);
        let start = self.deflate.total_in();
        loop {
            let read = (self.deflate.total_in() - start) as usize;
            // Compressing into memory does not fail.
            let _ = self.deflate.compress_vec(&plain[read..], &mut out, FlushCompress::Sync);
            if out.len() < out.capacity() {
                return out;
            }
            out.reserve(1024);
        }
    }
}

/// Data, at most 2²⁴ − 1 bytes.
pub fn data(out: &mut BytesMut, id: u32, fin: bool, bytes: &[u8]) {
    out.put_u32(id & 0x7fff_ffff);
    out.put_u32(u32::from(fin) << 24 | bytes.len() as u32 & 0x00ff_ffff);
    out.extend_from_slice(bytes);
}

/// Gives up a stream: 1 protocol error, 3 refused, 5 cancelled.
pub fn reset(out: &mut BytesMut, id: u32, status: u32) {
    control(out, 3, 0, 8);
    out.put_u32(id);
    out.put_u32(status);
}

/// Answers a ping.
pub fn ping(out: &mut BytesMut, id: u32) {
    control(out, 6, 0, 4);
    out.put_u32(id);
}

/// Says that no more streams are taken.
pub fn go_away(out: &mut BytesMut, last: u32) {
    control(out, 7, 0, 8);
    out.put_u32(last);
    out.put_u32(0);
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32 & 0x00ff_ffff);
}
