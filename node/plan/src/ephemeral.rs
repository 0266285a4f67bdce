//! Ephemeral containers (KEP-277): added to a pod while it runs, started once as early as possible, never again, and of no
//! weight in the pod's phase and readiness. They die with the pod.
//!
//! `targetContainerName` asks for the processes of another container. A wasm guest has none to show, so it changes nothing.

use k8s_openapi::api::core::v1::{Container, Pod};

/// A pod's ephemeral containers as what they have in common with the others.
pub(crate) fn containers(pod: &Pod) -> Vec<Container> {
    let all = pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).cloned();
    all.map(|c| Container {
        name: c.name,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        command: c.command,
        args: c.args,
        working_dir: c.working_dir,
        env: c.env,
        env_from: c.env_from,
        volume_mounts: c.volume_mounts,
        volume_devices: c.volume_devices,
        security_context: c.security_context,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        tty: c.tty,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        ..Container::default()
    })
    .collect()
}
