//! One input, with everything that can go wrong made a value.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::outcome::bucket;
use crate::{Outcome, Target, memory};

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is said of it.
    pub what: String,
    /// Where in the source: `FILE:LINE`.
    pub at: String,
}

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Panics of inputs are results; all others are said as before.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !WATCHED.get() {
                return others(info);
            }
            let at = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
            LAST.set(Some(Failure { what: said(info.payload()), at }));
        }));
    });
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panics".into())
}

/// Gives an input to a target.
pub fn attempt(target: &Target, input: &[u8]) -> Result<Outcome, Failure> {
    let room = target.room.of(input.len());
    let (mut outcome, mut peak) = watched(target, input)?;
    if peak > room {
        // What is made once in a process may have been made just now.
        (outcome, peak) = watched(target, input)?;
    }
    if peak > room {
        let what = format!("{} bytes take {peak} bytes of memory, more than {room}", input.len());
        return Err(Failure { what, at: "memory".into() });
    }
    Ok(outcome.and(bucket(peak / 1024)))
}

fn watched(target: &Target, input: &[u8]) -> Result<(Outcome, usize), Failure> {
    install();
    WATCHED.set(true);
    let (result, peak) = memory::measured(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    WATCHED.set(false);
    match result {
        Ok(outcome) => Ok((outcome, peak)),
        Err(payload) => {
            let unseen = || Failure { what: said(&*payload), at: String::new() };
            Err(LAST.take().unwrap_or_else(unseen))
        }
    }
}

/// Stack of a thread, in bytes: what threads of tokio have, in which most of this is decoded.
const STACK: usize = 2 << 20;

/// Runs `work` on a thread whose stack is as those are that decode.
pub fn on_a_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).expect("a thread");
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}
