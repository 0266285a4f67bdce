//! The server's half of WebSocket (RFC 6455) over one TCP connection: the handshake, then each message comes back as it was.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

/// Bytes of a request's head, and of a message.
const MOST_HEAD: u64 = 16 * 1024;
const MOST_MESSAGE: usize = 1 << 20;
/// What a server proves with that it has read the key (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Opcodes (section 5.2).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a server closes (section 7.4.1).
const NORMAL: u16 = 1000;
const PROTOCOL: u16 = 1002;
const NOT_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Serves one connection: the number of messages that were echoed.
pub fn serve(stream: &TcpStream) -> Result<usize> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let Some(key) = handshake(&mut reader)? else {
        writer.write_all(
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
              Sec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\nWebSocket only, here\n",
        )?;
        return Ok(0);
    };
    let accept = base64(&sha1(format!("{key}{GUID}").as_bytes()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    writer.write_all(answer.as_bytes())?;
    let mut messages = 0;
    let code = echo(&mut reader, &mut writer, &mut messages)?;
    send(&mut writer, CLOSE, &code.to_be_bytes())?;
    Ok(messages)
}

/// Reads a request's head: the client's key, if it asks for WebSocket.
fn handshake(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut head = reader.take(MOST_HEAD);
    let (mut line, mut key, mut asks, mut version) = (String::new(), None, false, false);
    loop {
        line.clear();
        head.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(Error::new(ErrorKind::InvalidData, "the request's head is too long or ends early"));
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(key.filter(|_| asks && version));
        }
        let Some((name, value)) = text.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "upgrade" => asks = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-version" => version = value == "13",
            "sec-websocket-key" => key = Some(value.to_string()),
            _ => {}
        }
    }
}

/// Echoes messages until the client closes or breaks the rules: the code to close with.
fn echo(reader: &mut impl Read, writer: &mut impl Write, messages: &mut usize) -> Result<u16> {
    let (mut message, mut kind) = (Vec::new(), None);
    loop {
        let [first, second] = read(reader)?;
        let (last, opcode, masked) = (first & 0x80 != 0, first & 0x0f, second & 0x80 != 0);
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(read(reader)?)),
            127 => u64::from_be_bytes(read(reader)?),
            short => u64::from(short),
        };
        let control = opcode >= CLOSE;
        // No extension was agreed on, clients mask, and control frames are short and whole (sections 5.2, 5.5).
        if first & 0x70 != 0 || !masked || control && (!last || length > 125) {
            return Ok(PROTOCOL);
        }
        let mask: [u8; 4] = read(reader)?;
        let held = if control { 0 } else { message.len() };
        let Some(length) = usize::try_from(length).ok().filter(|length| held.saturating_add(*length) <= MOST_MESSAGE)
        else {
            return Ok(TOO_BIG);
        };
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match (opcode, kind) {
            (CLOSE, _) => return Ok(NORMAL),
            (PING, _) => send(writer, PONG, &payload)?,
            (PONG, _) => {}
            (TEXT | BINARY, None) => kind = Some(opcode),
            (CONTINUATION, Some(_)) => {}
            _ => return Ok(PROTOCOL),
        }
        if control {
            continue;
        }
        message.append(&mut payload);
        if let (true, Some(opcode)) = (last, kind) {
            if opcode == TEXT && std::str::from_utf8(&message).is_err() {
                return Ok(NOT_TEXT);
            }
            send(writer, opcode, &message)?;
            *messages += 1;
            (message, kind) = (Vec::new(), None);
        }
    }
}

fn read<const N: usize>(reader: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A whole, unmasked frame.
fn send(writer: &mut impl Write, opcode: u8, payload: &[u8]) -> Result<()> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        middle @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    writer.write_all(&frame)
}

/// SHA-1 (RFC 3174), which the handshake asks for; it protects nothing here.
fn sha1(data: &[u8]) -> [u8; 20] {
    let mut padded = data.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - data.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let at = padded.len() - 8;
    padded[at..].copy_from_slice(&(data.len() as u64 * 8).to_be_bytes());
    let mut h: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 80];
        for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => (b & c | !b & d, 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => (b & c | b & d | c & d, 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(*word).wrapping_add(k);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    digest.chunks_exact_mut(4).zip(h).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
    digest
}

/// Base 64 with padding (RFC 4648, section 4).
fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in data.chunks(3) {
        let bits = part.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char;
            text.push(if n <= part.len() { digit } else { '=' });
        }
    }
    text
}
