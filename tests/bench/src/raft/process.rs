//! A server's process: started again after it was killed, its output in a file, and waiting for it with a deadline.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Error;

/// How long a server or a group may take until it is ready.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// How much of its output an error quotes.
const QUOTED: usize = 1500;

/// A process that can be started again with the same arguments.
pub struct Process {
    program: PathBuf,
    args: Vec<OsString>,
    output: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it; its output goes to `output`, which is appended to. It is killed with this value.
    pub fn start(program: &Path, args: Vec<OsString>, output: &Path) -> Result<Process, Error> {
        let child = spawn(program, &args, output)?;
        Ok(Process { program: program.into(), args, output: output.into(), child })
    }

    /// Its id, 0 when it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Arguments for the next start, where they are others than the first one's.
    pub fn next_args(&mut self, args: Vec<OsString>) {
        self.args = args;
    }

    /// SIGKILL, without waiting for its end.
    pub fn kill(&mut self) -> Result<(), Error> {
        Ok(self.child.start_kill()?)
    }

    /// Starts it again and says when; waits for the killed one's end first.
    pub async fn again(&mut self) -> Result<Instant, Error> {
        // It may have ended.
        let _ = self.child.start_kill();
        self.child.wait().await?;
        let begun = Instant::now();
        self.child = spawn(&self.program, &self.args, &self.output)?;
        Ok(begun)
    }

    /// An error with the last of its output, if it has ended.
    pub fn alive(&mut self) -> Result<(), Error> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let text = std::fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(QUOTED)..]).into_owned();
        Err(format!("{} ended with {status}: {text}", self.program.display()).into())
    }
}

fn spawn(program: &Path, args: &[OsString], output: &Path) -> Result<Child, Error> {
    let out = OpenOptions::new().create(true).append(true).open(output)?;
    let err = out.try_clone()?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(out).stderr(err).kill_on_drop(true);
    command.spawn().map_err(|e| format!("{}: {e}", program.display()).into())
}

/// Asks until there is an answer.
pub async fn until<T, F: Future<Output = Result<Option<T>, Error>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, Error> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        pause(what, begun).await?;
    }
}

/// The moment between two looks; an error once this has gone on for too long.
pub async fn pause(what: &str, begun: Instant) -> Result<(), Error> {
    if begun.elapsed() > DEADLINE {
        return Err(format!("not within {DEADLINE:?}: {what}").into());
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// Ports of the loopback that nobody listens on.
pub async fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    // Held together, so that no two are the same.
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    Ok(held.iter().map(|l| l.local_addr().map(|at| at.port())).collect::<Result<_, _>>()?)
}
