//! The access log.

use std::sync::Mutex;
use std::sync::mpsc;

use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// One, and the log that writes to it.
    pub(super) fn log() -> (Kept, AccessLog) {
        let kept = Kept::default();
        let log = AccessLog::over(kept.clone(), 64).unwrap();
        (kept, log)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The line of a number, the first has 0, once it is there.
    pub(super) async fn line(&self, log: &AccessLog, number: usize) -> Value {
        loop {
            log.flush().await;
            if let Some(line) = self.text().lines().nth(number) {
                return serde_json::from_str(line).unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
}

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes nothing until somebody says so.
struct Stuck(mpsc::Receiver<()>);

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config(log: &AccessLog) -> IngressConfig {
    IngressConfig { access_log: Some(log.clone()), ..IngressConfig::default() }
}

#[tokio::test]
async fn each_request_has_its_line() {
    let (kept, log) = Kept::log();
    let w = world(&[(1, true)], config(&log)).await;
    let _echo = echo(&w.network, 1);
    let host = "Host: shop.test\r\n";
    for request in [
        format!(
            "GET /a?b=c HTTP/1.1\r\n{host}User-Agent: \"quoted\"\r\nReferer: http://x/\r\nConnection: close\r\n\r\n"
        ),
        format!("POST /p HTTP/1.1\r\n{host}Content-Length: 5\r\nConnection: close\r\n\r\nhello"),
        format!("HEAD / HTTP/1.1\r\n{host}Connection: close\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n".into(),
        format!("GET /gone HTTP/1.1\r\n{host}Connection: close\r\n\r\n"),
    ] {
        raw(&w, request.as_bytes()).await;
    }
    log.flush().await;
    let text = kept.text();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), log.written(), log.dropped()), (5, 5, 0), "{text}");
    let brief: Vec<_> = lines
        .iter()
        .map(|l| (l["method"].as_str().unwrap(), l["path"].as_str().unwrap(), l["status"].as_u64().unwrap()))
        .collect();
    let want =
        [("GET", "/a?b=c", 200), ("POST", "/p", 200), ("HEAD", "/", 200), ("GET", "/", 404), ("GET", "/gone", 503)];
    assert_eq!(brief, want);
    let first = &lines[0];
    for (field, want) in [
        ("client", json!("127.0.0.1")),
        ("scheme", json!("http")),
        ("port", json!(w.addr.port())),
        ("host", json!("shop.test")),
        ("protocol", json!("HTTP/1.1")),
        ("requestBytes", json!(0)),
        ("responseBytes", json!("e1 GET /a?b=c shop.test ".len())),
        ("complete", json!(true)),
        ("service", json!("shop/web:80")),
        ("userAgent", json!("\"quoted\"")),
        ("referer", json!("http://x/")),
    ] {
        assert_eq!(first[field], want, "{field}: {text}");
    }
    let time = first["time"].as_str().and_then(copepod_model::Time::parse);
    assert!(time.is_some() && first["duration"].is_number(), "{text}");
    assert_eq!(lines[1]["requestBytes"], 5);
    assert!(lines[2]["complete"] == true && lines[2]["responseBytes"] == 0, "{text}");
    assert!(lines[3]["service"].is_null() && lines[3]["complete"] == true, "{text}");
}

#[tokio::test]
async fn requests_do_not_wait_for_a_log_that_cannot_be_written() {
    let (go, stuck) = mpsc::channel();
    let log = AccessLog::over(Stuck(stuck), 2).unwrap();
    let w = world(&[(1, true)], config(&log)).await;
    let _echo = echo(&w.network, 1);
    // One is being written, perhaps more, and two wait: sooner or later there is no room.
    while log.dropped() == 0 {
        let answer = get(&w, "shop.test", "/").await;
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert_eq!(log.written(), 0);
    drop(go);
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_log() {
    let (kept, log) = Kept::log();
    let w = world(&[(1, true)], config(&log)).await;
    let _echo = echo(&w.network, 1);
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    // Of the ten bytes three come.
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    drop(tcp);
    let line = kept.line(&log, 0).await;
    // It has left, or its body has failed: whichever was seen first.
    assert!(line["status"] == 499 || line["status"] == 400, "{line}");
}
