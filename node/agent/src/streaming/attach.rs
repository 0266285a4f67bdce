//! Attach: a client at the streams of a container's own program.

use super::Wants;
use super::exec::{Ended, say, type_into};
use super::remote::Session;
use crate::dataplane::Attached;

/// Runs until the container ends or the client leaves.
pub(super) async fn run(attached: Attached, wants: &Wants, session: Session) -> Result<(), String> {
    let Attached { container, output: from, stdin_once, tty } = attached;
    let wants = Wants { tty, ..wants.clone() };
    let feed = if wants.stdin { container.stdin() } else { None };
    let Session { input, output } = session;
    let over = || {
        if wants.stdin && stdin_once {
            container.end_stdin();
        }
    };
    {
        let mut typing = std::pin::pin!(type_into(input, feed, output.clone(), tty, over));
        let mut said = std::pin::pin!(say(from, output.clone(), &wants));
        tokio::select! {
            () = &mut said => {}
            ended = &mut typing => match ended {
                Ended::Interrupted => {
                    container.interrupt();
                    said.await;
                }
                Ended::Gone => {}
            },
            () = output.closed() => {}
        }
    }
    over();
    Ok(())
}
