//! A line-echo server on plain `std::net`, built for wasm32-wasip2. It listens on `PORT` (7000) and answers each line
//! with itself. The line `connect HOST:PORT` makes it connect there, send one line and pass on the first line of the
//! answer, which shows name lookup and outgoing TCP; `udp HOST:PORT` does the same with one datagram.
//!
//! As arguments, `connect HOST:PORT` and `udp HOST:PORT` ask once, print the answer and end; `serve-udp` echoes datagrams,
//! and `serve-websocket` answers WebSocket handshakes over HTTP and echoes messages.
//!
//! A component has one thread: connections are served one after another.

mod websocket;

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

fn main() -> Result<()> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(7000);
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => serve_tcp(port, "lines", serve),
        ["serve-websocket"] => serve_tcp(port, "messages", websocket::serve),
        ["serve-udp"] => serve_udp(port),
        ["connect", target] => ask(target).map(|answer| println!("{answer}")),
        ["udp", target] => ask_by_udp(target).map(|answer| println!("{answer}")),
        _ => {
            eprintln!(
                "unknown arguments {args:?}; known: serve-udp, serve-websocket, connect HOST:PORT, udp HOST:PORT"
            );
            std::process::exit(2)
        }
    }
}

fn serve_tcp(port: u16, what: &str, serve: fn(&TcpStream) -> Result<usize>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept()?;
        println!("{peer} connected");
        match serve(&stream) {
            Ok(sent) => println!("{peer} sent {sent} {what}"),
            Err(error) => eprintln!("{peer}: {error}"),
        }
    }
}

fn serve(mut stream: &TcpStream) -> Result<usize> {
    let mut lines = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        lines += 1;
        let answer = match line.split_once(' ') {
            Some(("connect", target)) => ask(target).unwrap_or_else(|error| format!("error: {error}")),
            Some(("udp", target)) => ask_by_udp(target).unwrap_or_else(|error| format!("error: {error}")),
            _ => line,
        };
        stream.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(lines)
}

fn serve_udp(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("listening on udp {}", socket.local_addr()?);
    let mut datagram = [0; 1500];
    loop {
        let (length, peer) = socket.recv_from(&mut datagram)?;
        println!("{peer} sent {length} bytes");
        socket.send_to(&datagram[..length], peer)?;
    }
}

fn ask(target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(target)?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    stream.write_all(format!("hello from {local}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    Ok(format!("{peer} says: {}", answer.trim_end()))
}

fn ask_by_udp(target: &str) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.send_to(format!("hello from {}", socket.local_addr()?).as_bytes(), target)?;
    let mut answer = [0; 1500];
    let (length, peer) = socket.recv_from(&mut answer)?;
    Ok(format!("{peer} says: {}", String::from_utf8_lossy(&answer[..length])))
}
