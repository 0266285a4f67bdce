//! What the host's kernel is told, by `ip` and `nft`.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::HostAccessError;
use super::rules::{self, Family, Ports, Range};

/// Has routes and a table of a family lead to listeners at these ports of its loopback address what comes for `ranges` of it.
pub(super) async fn tell(family: Family, ranges: &[Range], ports: Ports) -> Result<(), HostAccessError> {
    nft(&rules::table(family, ranges, ports)).await?;
    ip(family, &["-batch", "-"], &rules::routes(family, ranges)).await.map(drop)
}

/// Makes the host forget all that it was told of these families, whoever told it.
pub(super) async fn forget(families: &[Family]) -> Result<(), HostAccessError> {
    for family in families.iter().copied() {
        nft(&rules::no_table(family)).await?;
        // It fails for each sort of which there is nothing.
        let _ = ip(family, &["-force", "-batch", "-"], &rules::no_routes()).await;
        let ours = rules::PROTOCOL.to_string();
        let left = ip(family, &["route", "show", "table", "all", "proto", &ours], "").await?;
        if !left.is_empty() {
            return Err(HostAccessError::Command { command: "ip", why: format!("does not remove {left:?}") });
        }
    }
    Ok(())
}

/// The host's own use of a range, if there is any: an address in it, or a route to exactly it.
pub(super) async fn use_of(range: Range) -> Result<Option<String>, HostAccessError> {
    let (family, text) = (Family::of(range.0), format!("{}/{}", range.0, range.1));
    let mut what = ip(family, &["-o", "address", "show", "to", &text], "").await?;
    if what.is_empty() {
        what = ip(family, &["route", "show", "exact", &text], "").await?;
    }
    Ok((!what.is_empty()).then_some(what))
}

async fn ip(family: Family, args: &[&str], input: &str) -> Result<String, HostAccessError> {
    run("ip", &[&[family.flag()], args].concat(), input).await
}

/// Changes tables of nftables, all at once or nothing.
pub(super) async fn nft(input: &str) -> Result<String, HostAccessError> {
    run("nft", &["-f", "-"], input).await
}

/// Runs a command, which must succeed; what it has said.
async fn run(command: &'static str, args: &[&str], input: &str) -> Result<String, HostAccessError> {
    let failed = |why: String| HostAccessError::Command { command, why };
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    // Users who are not root often have not these.
    path.push(":/usr/sbin:/sbin");
    let mut child = Command::new(command)
        .args(args)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has failed already does not read; it says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let out = child.wait_with_output().await.map_err(|e| failed(e.to_string()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if out.status.success() { Ok(said(&out.stdout)) } else { Err(failed(said(&out.stderr))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_say_why_they_fail() {
        assert_eq!(run("cat", &[], "hello\n").await.unwrap(), "hello");
        let failed = run("sh", &["-c", "echo no >&2; exit 1"], "").await.unwrap_err();
        assert_eq!(failed.to_string(), "sh: no");
        let missing = run("copepod-has-no-such-command", &[], "").await.unwrap_err().to_string();
        assert!(missing.starts_with("copepod-has-no-such-command: No such file"), "{missing}");
    }
}
