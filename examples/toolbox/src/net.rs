//! Names and addresses.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use crate::files::{at, copy};

pub fn nslookup(args: &[String]) -> Result<(), String> {
    let [name, ..] = args else { return Err("which name?".into()) };
    let found = (name.as_str(), 0).to_socket_addrs().map_err(at(name))?;
    println!("Name:    {name}");
    for address in found {
        println!("Address: {}", address.ip());
    }
    Ok(())
}

pub fn wget(args: &[String]) -> Result<(), String> {
    let (mut url, mut to, mut quiet, mut head) = (None, None, false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-q" => quiet = true,
            "-S" => head = true,
            "-O" => to = args.next().cloned(),
            "-qO-" | "-O-" => (quiet, to) = (quiet || arg.contains('q'), Some("-".into())),
            other => url = Some(other),
        }
    }
    let url = url.ok_or("which URL?")?;
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("{scheme} is not spoken here, only http")),
        None => url,
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let host = if authority.rsplit(']').next().is_some_and(|r| r.contains(':')) {
        authority.to_string()
    } else {
        format!("{authority}:80")
    };
    let mut stream = TcpStream::connect(&host).map_err(at(&host))?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: toolbox\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(at(&host))?;
    let mut answer = BufReader::new(stream);
    let (mut status, mut length) = (String::new(), None);
    answer.read_line(&mut status).map_err(at(&host))?;
    loop {
        let mut line = String::new();
        answer.by_ref().take(64 * 1024).read_line(&mut line).map_err(at(&host))?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if head {
            eprintln!("  {line}");
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let status = status.trim_end();
    if head || !quiet {
        eprintln!("  {status}");
    }
    let body = answer.take(length.unwrap_or(u64::MAX));
    match to.as_deref() {
        Some("-") => copy(body, io::stdout().lock()).map_err(at("stdout"))?,
        file => {
            let name =
                file.unwrap_or_else(|| path.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("index.html"));
            copy(body, std::fs::File::create(name).map_err(at(name))?).map_err(at(name))?
        }
    };
    let code: u16 = status.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
    if code < 400 && code > 0 { Ok(()) } else { Err(format!("server returned error: {status}")) }
}
