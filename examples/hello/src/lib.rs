//! A small `wasi:http` app. `GET /` says hello; the other paths exist to try out what a cluster does with an app that
//! looks up the environment, calls another service, crashes, spins or eats memory.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".into());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, text) = match path {
            "/env" => (200, std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect()),
            "/echo" => (200, String::from_utf8_lossy(&read(request.consume().ok())).into_owned()),
            "/fetch" => match fetch(&decode(parameter(query, "url"))) {
                Ok(text) => (200, text),
                Err(why) => (502, format!("{why}\n")),
            },
            "/alloc" => (200, alloc(parameter(query, "mb").parse().unwrap_or(1))),
            "/log" => {
                println!("{}", decode(parameter(query, "text")));
                (200, String::new())
            }
            "/trap" => panic!("asked to trap"),
            "/spin" => loop {
                std::hint::spin_loop()
            },
            _ => (200, greeting(path, query)),
        };
        respond(out, status, text.as_bytes());
    }
}

fn greeting(path: &str, query: &str) -> String {
    let name = ["POD_NAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
    let mut text = format!("Hello from {}\n", name.as_deref().unwrap_or("a wasm component"));
    if path != "/" {
        let _ = writeln!(text, "path: {path}");
    }
    if !query.is_empty() {
        let _ = writeln!(text, "query: {query}");
    }
    text
}

/// Fills `mb` MiB with ones, so that the memory is really used.
fn alloc(mb: usize) -> String {
    let filled = vec![1u8; mb << 20];
    let sum: usize = filled.iter().step_by(4096).map(|&b| usize::from(b)).sum();
    format!("{mb} MiB, {sum} pages\n")
}

/// GETs a URL through `wasi:http/outgoing-handler`.
fn fetch(url: &str) -> Result<String, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => return Err(format!("not an http URL: {url:?}")),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Get).map_err(|()| "bad method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "bad scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "bad authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "bad path")?;
    let pending = outgoing_handler::handle(request, None).map_err(|e| e.to_string())?;
    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(code.to_string()),
        _ => return Err("the response was taken".into()),
    };
    let body = read(response.consume().ok());
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&body)))
}

fn read(body: Option<IncomingBody>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = body.as_ref().and_then(|body| body.stream().ok()) {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

fn respond(out: ResponseOutparam, status: u16, text: &[u8]) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let _ = headers.append("content-length", text.len().to_string().as_bytes());
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(out, Ok(response));
    if let Ok(mut stream) = body.write() {
        // The client may be gone; that is its own affair.
        let _ = stream.write_all(text).and_then(|()| std::io::Write::flush(&mut stream));
    }
    let _ = OutgoingBody::finish(body, None);
}

fn parameter<'a>(query: &'a str, name: &str) -> &'a str {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value)
}

/// Undoes percent-encoding, which `curl -G --data-urlencode` adds.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match escaped {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
