//! What client verbs print. Its reader may have seen enough (`copepod get pods -o json | head`): where `println!` panics, the
//! verb ends without a word, as a program does that takes SIGPIPE as it comes. `up`, `server` and `agent` go on whoever reads.

use std::io::{ErrorKind, Write as _, stdout};

use crate::cmd::Error;

/// Nobody reads any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads stdout any more")]
pub struct Closed;

/// What a shell says of a process that SIGPIPE has ended.
pub const CLOSED: u8 = 128 + 13;

/// Prints to stdout, at once.
pub fn say(text: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut out = stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        done => Ok(done?),
    }
}
