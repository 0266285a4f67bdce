//! How a container ended.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::memory::OutOfMemory;

/// How a container ended, as its status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i32,
    /// Kubernetes' reason.
    pub reason: Reason,
    /// For people; for a trap its text and the wasm backtrace.
    pub message: String,
}

/// Kubernetes' reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It ended by itself with exit code 0.
    Completed,
    /// It ended by itself otherwise, trapped or was killed.
    Error,
    /// It wanted more memory than its limit.
    OomKilled,
    /// It could not be started.
    StartError,
}

impl Reason {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Completed => "Completed",
            Reason::Error => "Error",
            Reason::OomKilled => "OOMKilled",
            Reason::StartError => "StartError",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status message is cut to this, as the kubelet does.
const LONGEST_MESSAGE: usize = 4096;

/// 128 + SIGABRT: what a process that aborts itself ends with.
const TRAP: i32 = 134;
/// 128 + SIGKILL.
const KILLED: i32 = 137;
/// 128 + SIGTERM.
const TERMINATED: i32 = 143;
/// What a container that could not be started shows.
const NOT_STARTED: i32 = 128;

impl Exit {
    /// It ended with a code of its own.
    pub(crate) fn with_code(code: i32) -> Self {
        let reason = if code == 0 { Reason::Completed } else { Reason::Error };
        Exit { code, reason, message: String::new() }
    }

    pub(crate) fn killed() -> Self {
        Exit { code: KILLED, reason: Reason::Error, message: String::new() }
    }

    pub(crate) fn terminated() -> Self {
        Exit { code: TERMINATED, reason: Reason::Error, message: String::new() }
    }

    pub(crate) fn not_started(error: &wasmtime::Error) -> Self {
        let message = cut(format!("failed to start the container: {error:#}"));
        Exit { code: NOT_STARTED, reason: Reason::StartError, message }
    }

    /// What a guest's call ended with.
    pub(crate) fn from_error(error: &wasmtime::Error) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Exit::with_code(*code);
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(backtrace).unwrap_or_default();
        if let Some(error) = error.downcast_ref::<OutOfMemory>() {
            return Exit { code: KILLED, reason: Reason::OomKilled, message: cut(format!("{error}{backtrace}")) };
        }
        let text = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        Exit { code: TRAP, reason: Reason::Error, message: cut(format!("{text}{backtrace}")) }
    }
}

/// The frames of a trap, innermost first.
fn backtrace(trace: &WasmBacktrace) -> String {
    // Wasmtime's text begins with a line that says less than the trap's own.
    let text = trace.to_string();
    let frames = text.split_once('\n').map_or("", |(_, frames)| frames);
    if frames.is_empty() { String::new() } else { format!("\nwasm backtrace:\n{frames}") }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        let mut at = LONGEST_MESSAGE - 4;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push_str("\n...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_own_code_is_kept() {
        assert_eq!(Exit::from_error(&I32Exit(0).into()).reason, Reason::Completed);
        assert_eq!(Exit::from_error(&I32Exit(42).into()), Exit::with_code(42));
    }

    #[test]
    fn a_trap_says_what_it_was() {
        let exit = Exit::from_error(&Trap::IntegerDivisionByZero.into());
        assert_eq!((exit.code, exit.reason), (134, Reason::Error));
        assert!(exit.message.contains("integer divide by zero"), "{}", exit.message);
    }

    #[test]
    fn out_of_memory_is_found_under_other_errors() {
        let error = wasmtime::Error::from(OutOfMemory { of: "container", limit: 7 }).context("while growing");
        let exit = Exit::from_error(&error);
        assert_eq!((exit.code, exit.reason), (137, Reason::OomKilled));
        assert!(exit.message.contains("limit of 7 bytes"));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert!(cut("ä".repeat(5000)).len() <= LONGEST_MESSAGE);
    }
}
