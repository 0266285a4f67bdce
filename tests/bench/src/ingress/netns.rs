//! This program once more, in a network namespace of its own.

use std::process::Stdio;

use tokio::process::Command;

use crate::Error;

/// The address that the namespace has besides loopback (of TEST-NET-1, RFC 5737).
pub const ADDRESS: &str = "192.0.2.1";
/// Tells the second run that it is the second one.
const MARK: &str = "COPEPOD_BENCH_NETNS";

/// Whether this is the second run.
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the bench in a new namespace. An ordinary user gets one where the kernel allows user namespaces.
pub async fn again(quick: bool) -> Result<(), Error> {
    let prepare = format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec \"$0\" \"$@\"");
    for kind in [&["--net"][..], &["--net", "--map-root-user"]] {
        let unshare = |program: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(kind).args(program);
            command
        };
        let works = unshare(&["ip", "link", "set", "lo", "up"]).stderr(Stdio::null()).status().await;
        if !works.is_ok_and(|s| s.success()) {
            continue;
        }
        let mut command = unshare(&["sh", "-c", &prepare]);
        command.arg(std::env::current_exe()?).arg("ingress").env(MARK, "1").kill_on_drop(true);
        if quick {
            command.arg("--quick");
        }
        let status = command.status().await?;
        return if status.success() { Ok(()) } else { Err(format!("the bench in its namespace: {status}").into()) };
    }
    println!(
        "\n## The ingress beside nginx and haproxy\n\nskipped: needs network namespaces (root, or user namespaces), unshare and ip"
    );
    Ok(())
}
