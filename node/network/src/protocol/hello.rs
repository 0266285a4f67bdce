//! The ClientHello with which a client begins TLS, read without beginning TLS oneself: whom it wants to speak with.
//!
//! Sources: RFC 8446, sections 4.1.2 and 5.1 (RFC 5246, 7.4.1.2 and 6.2.1, has the same shape), and RFC 6066, section 3. Nothing
//! else in it is judged: whoever ends TLS does that.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::prefixed::Prefixed;

/// The alert that ends a connection whose name nobody has (RFC 6066, section 3): fatal, `unrecognized_name`.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// What a record may hold.
const MOST_OF_RECORD: usize = 1 << 14;
/// What a name may have, as in DNS.
const MOST_OF_NAME: usize = 255;

/// What is known of a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// More bytes are needed.
    Unclear,
    /// It is whole, and names a host or none.
    Hello(Option<String>),
    /// It is none.
    Nonsense,
}

/// A hello of which more and more arrives. Each record is looked at once, however many pieces it comes in.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Where the next record begins.
    at: usize,
    /// What the records before hold.
    message: Vec<u8>,
}

impl Reading {
    /// Reads on. `received` is all that has arrived since the beginning; `most` is how long a hello may be.
    pub(crate) fn read(&mut self, received: &[u8], most: usize) -> Said {
        loop {
            let rest = received.get(self.at..).unwrap_or_default();
            // A byte is enough to see that it is no TLS.
            let likely = rest.iter().zip([HANDSHAKE, 3]).all(|(byte, wanted)| *byte == wanted);
            let Some((head, rest)) = rest.split_at_checked(5) else {
                return if likely { Said::Unclear } else { Said::Nonsense };
            };
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if !likely || length == 0 || length > MOST_OF_RECORD {
                return Said::Nonsense;
            }
            let Some(content) = rest.get(..length) else { return Said::Unclear };
            self.message.extend(content);
            self.at += head.len() + length;
            let [kind, a, b, c, body @ ..] = &*self.message else { continue };
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if *kind != CLIENT_HELLO || length > most {
                return Said::Nonsense;
            }
            if let Some(body) = body.get(..length) {
                return name(body).map_or(Said::Nonsense, Said::Hello);
            }
        }
    }
}

/// The name in a hello, if there is one; `None` if it is malformed.
fn name(mut hello: &[u8]) -> Option<Option<String>> {
    let rest = &mut hello;
    let (_version_and_random, _session) = (take(rest, 2 + 32)?, short(rest)?);
    let (_cipher_suites, _compression) = (long(rest)?, short(rest)?);
    let mut found = None;
    if rest.is_empty() {
        return Some(found);
    }
    let mut extensions = long(rest)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut content = long(&mut extensions)?;
        if kind != [0, 0] {
            continue;
        }
        let mut names = long(&mut content)?;
        while !names.is_empty() {
            let (kind, name) = (take(&mut names, 1)?, long(&mut names)?);
            if kind != [0] {
                continue;
            }
            // There is one of each kind, and it is in ASCII.
            if found.is_some() || name.is_empty() || name.len() > MOST_OF_NAME || !name.is_ascii() {
                return None;
            }
            found = std::str::from_utf8(name).ok().map(str::to_string);
        }
    }
    Some(found)
}

/// Takes so many bytes off.
fn take<'b>(rest: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (first, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(first)
}

/// Takes off what has its length before it, in one byte.
fn short<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let n = take(rest, 1)?;
    take(rest, usize::from(n[0]))
}

/// The same, in two bytes.
fn long<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let n = take(rest, 2)?;
    take(rest, usize::from(u16::from_be_bytes([n[0], n[1]])))
}

/// Reads a hello of at most so many bytes and answers the name in it. The stream gives out again what was read. What is no hello
/// has no name: whoever takes it says so in TLS.
pub(crate) async fn peek<I: AsyncRead + Unpin>(mut io: I, most: usize) -> io::Result<(Prefixed<I>, Option<String>)> {
    let (mut received, mut reading) = (BytesMut::with_capacity(1024), Reading::default());
    loop {
        if io.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = match reading.read(&received, most) {
            // Many short records can be longer than what they hold.
            Said::Unclear if received.len() > most => return Err(io::ErrorKind::InvalidData.into()),
            Said::Unclear => continue,
            Said::Hello(name) => name,
            Said::Nonsense => None,
        };
        return Ok((Prefixed::new(io, received), name));
    }
}

#[cfg(test)]
mod tests;
