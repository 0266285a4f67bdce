//! Commands of probes and lifecycle hooks: they run beside their container as those of `exec` do, with nobody connected.

use std::time::Duration;

use copepod_node_plan::ContainerId;
use copepod_node_plan::exec::{Ended, Said, hooked, probed};
use copepod_runtime_wasm::{LogStream, Stdin};
use tokio::sync::mpsc;

use super::door::Door;

/// Pieces of output that wait before the guest does.
const OUTPUT: usize = 16;

/// Probes once by a command.
pub(super) async fn probe(door: &Door, id: &ContainerId, command: &[String], timeout: Duration) -> Result<(), String> {
    let (said, ended) = run(door, id, command, timeout).await;
    probed(command, &said, &ended)
}

/// Runs a lifecycle hook that is a command.
pub(super) async fn hook(door: &Door, id: &ContainerId, command: &[String], timeout: Duration) -> Result<(), String> {
    let (said, ended) = run(door, id, command, timeout).await;
    // A pod that is gone waits for no answer.
    let Some(pod) = door.identity(&id.pod_uid) else { return Err("the pod is gone".into()) };
    hooked(&pod, &id.container, command, &said, &ended)
}

/// Runs a command to its end. What it takes to get its program ready is the node's time, not the command's.
async fn run(door: &Door, id: &ContainerId, command: &[String], timeout: Duration) -> (Said, Ended) {
    let mut said = Said::default();
    let Some(target) = door.attempt(id).await else {
        return (said, Ended::Refused(format!("container not found (\"{}\")", id.container)));
    };
    let (to, mut from) = mpsc::channel(OUTPUT);
    let mut running = match door.exec(&target, command.to_vec(), Stdin::closed(), to, false).await {
        Ok(running) => running,
        Err(why) => return (said, Ended::Refused(why)),
    };
    let end = async {
        // Its output ends with it.
        while let Some((stream, bytes)) = from.recv().await {
            said.add(stream == LogStream::Stderr, &bytes);
        }
        let exit = running.exit().await;
        Ended::Exited { code: exit.code, message: exit.message }
    };
    // Dropping a command that takes too long kills it.
    let ended = tokio::time::timeout(timeout, end).await.unwrap_or(Ended::TimedOut);
    (said, ended)
}
