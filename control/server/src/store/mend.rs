//! A store whose disk has failed: everybody is turned away, and the files are opened again and again until they are whole
//! and have all that was promised. (redb itself answers nothing any more after an I/O error, until it is opened anew.)

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::driver::{Command, Driver, Keep, decline};
use super::error::{Fault, guarded};
use super::log::Promised;
use super::{ProposeError, ReadError};

/// How often it is tried.
const MEND: Duration = Duration::from_secs(1);

/// A store whose disk has failed.
pub(super) struct Failed {
    pub(super) keep: Keep,
    /// What the disk has to give back.
    pub(super) promised: Promised,
    pub(super) later: VecDeque<Command>,
}

/// How a store is stopped: with a last checkpoint or without, and who waits for it.
pub(super) type Stop = (bool, oneshot::Sender<Result<(), String>>);

impl Failed {
    /// Turns everybody away and tries again and again to open the files, until they are whole or the store is stopped.
    pub(super) fn mend(mut self, mut reason: String) -> Result<Driver, Box<(Keep, Stop)>> {
        let mut next = Instant::now() + MEND;
        loop {
            let command = match self.later.pop_front() {
                Some(command) => Ok(command),
                None => self.keep.inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(Command::Stop { checkpoint, reply }) => return Err(Box::new((self.keep, (checkpoint, reply)))),
                Ok(other) => {
                    decline(other, ProposeError::Unhealthy(reason.clone()), ReadError::Unhealthy(reason.clone()));
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Box::new((self.keep, (false, oneshot::channel().0))));
                }
            }
            self = match self.again() {
                Ok(driver) => return Ok(driver),
                Err(failed) => {
                    let (failed, why) = *failed;
                    if why != reason {
                        tracing::error!(reason = why, "the store cannot be opened again");
                    }
                    // Each time: the attempt may have come as far as to lead.
                    failed.keep.shared.fail(why.clone());
                    reason = why;
                    failed
                }
            };
            next = Instant::now() + MEND;
        }
    }

    fn again(self) -> Result<Driver, Box<(Failed, String)>> {
        let open = match self.keep.loader.load() {
            Ok(open) => open,
            Err(e) => return Err(Box::new((self, e.while_running()))),
        };
        if let Err(why) = open.log.keeps(&self.promised) {
            drop(open);
            return Err(Box::new((self, why)));
        }
        let Failed { keep, promised, later } = self;
        let mut driver = Driver::new(open, keep);
        let started = guarded(|| driver.start()).map_err(|fault: Fault| fault.into());
        let started = started.and_then(|()| driver.keeps_what_was_shown());
        match started {
            Ok(()) => {
                driver.later = later;
                Ok(driver)
            }
            Err(why) => {
                // It may have voted for itself meanwhile: the next one has to give that back, too.
                let promised = promised.and(driver.open.log.promised());
                Err(Box::new((Failed { keep: driver.keep, promised, later }, why)))
            }
        }
    }
}
