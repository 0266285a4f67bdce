//! Clients that hold one stream, or one conversation of datagrams, with a server that echoes, for as long as they may.

use serde_json::Value;

use super::{Client, Lab};

impl Client {
    /// One that sends numbered lines to `at`, `HOST:PORT`, over one connection, about one every `seconds`, without waiting for
    /// their echoes; and never gives up by itself.
    pub fn talk(lab: &Lab, machine: &str, at: &str, seconds: f64) -> Client {
        Client::with_server(lab, machine, "talk", at, &seconds.to_string())
    }

    /// The same by datagrams from one socket.
    pub fn converse(lab: &Lab, machine: &str, at: &str, seconds: f64) -> Client {
        Client::with_server(lab, machine, "converse", at, &seconds.to_string())
    }

    /// One that sends one line and waits for the answer for as long as it takes.
    pub fn ask(lab: &Lab, machine: &str, at: &str, line: &str) -> Client {
        Client::with_server(lab, machine, "ask", at, line)
    }

    fn with_server(lab: &Lab, machine: &str, how: &str, at: &str, what: &str) -> Client {
        let (host, port) = super::client::host_and_port(at);
        Client::start(lab, machine, &[how, host, port, what])
    }

    /// What was said until now.
    pub fn talked(&self) -> Talk {
        Talk::of(&self.values())
    }

    /// Has it say no more and hear the rest: all that was said.
    pub fn hang_up(mut self) -> Talk {
        self.end();
        self.talked()
    }
}

/// What a client and its server have said to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Talk {
    /// How many lines or datagrams were sent; known once it has hung up.
    pub sent: u64,
    /// How many came back: of lines each whole and in order, of datagrams each once.
    pub heard: u64,
    /// When the last of them did, in seconds since 1970.
    pub last: f64,
    /// What came that was not sent, out of order or again.
    pub wrong: Vec<String>,
    /// When the stream ended and how: `closed` by the other side in good order, or an error.
    pub ended: Option<(f64, String)>,
    /// When the one answer came and what it was.
    pub answer: Option<(f64, String)>,
}

impl Talk {
    fn of(values: &[Value]) -> Talk {
        let mut talk = Talk::default();
        for v in values {
            let at = v["at"].as_f64().unwrap_or(0.0);
            let text = |field: &str| v[field].as_str().map(|text| (at, text.to_string()));
            if v["heard"].is_u64() {
                talk.heard += 1;
                talk.last = at;
            }
            talk.wrong.extend(text("wrong").map(|(_, wrong)| wrong));
            talk.ended = text("ended").or(talk.ended);
            talk.answer = text("answer").or(talk.answer);
            talk.sent = v["sent"].as_u64().unwrap_or(talk.sent);
        }
        talk
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_print_is_read() {
        let talk = Talk::of(&[
            json!({"at": 1.0, "heard": 1}),
            json!({"at": 2.0, "heard": 2}),
            json!({"at": 3.0, "wrong": "1"}),
            json!({"at": 4.0, "ended": "closed"}),
            json!({"at": 5.0, "sent": 3}),
        ]);
        let want = Talk {
            sent: 3,
            heard: 2,
            last: 2.0,
            wrong: vec!["1".into()],
            ended: Some((4.0, "closed".into())),
            answer: None,
        };
        assert_eq!(talk, want);
        assert_eq!(Talk::of(&[json!({"at": 1.0, "answer": "hi"})]).answer, Some((1.0, "hi".into())));
    }
}
