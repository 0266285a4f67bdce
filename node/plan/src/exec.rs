//! What a command in a container means where images are wasm modules: there is no file system full of programs. The image's
//! module is the one program, and beside it every pod has the built-in toolbox. And what a probe or a lifecycle hook makes of
//! how a command ended (`pkg/probe/exec`, `pkg/kubelet/lifecycle/handlers.go`).

use crate::effect::PodIdentity;
use crate::text::go_quoted;

/// The reference of the built-in image, with any tag or none.
pub const TOOLBOX: &str = "copepod.dev/toolbox";

/// What the toolbox can do (`examples/toolbox` has the same list).
pub const TOOLS: [&str; 15] = [
    "cat", "echo", "env", "false", "ls", "mkdir", "nslookup", "pwd", "rm", "sleep", "stat", "tar", "test", "true",
    "wget",
];

/// What runs for a command, with it as the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program<'a> {
    /// The container's own module, as it is run.
    Own,
    /// Another command that the container's module exports.
    Exported(&'a str),
    /// The toolbox.
    Toolbox,
    /// There is no such program.
    Missing,
}

/// Decides what runs for `command`. A tool's bare name is the toolbox', as is `toolbox` itself; anything else, or a path
/// such as `./ls`, is the image's: the command of that name that its module `exports`, or else the module, if it can be run
/// at all (`commands`): some `wasi:http` components are only served.
pub fn program(command: &[String], commands: bool, exports: impl Fn(&str) -> bool) -> Program<'_> {
    match command.first().map(String::as_str) {
        None | Some("") => Program::Missing,
        Some(tool) if tool == "toolbox" || TOOLS.contains(&tool) => Program::Toolbox,
        Some(path) => match path.strip_prefix("./").unwrap_or(path) {
            name if exports(name) => Program::Exported(name),
            _ if commands => Program::Own,
            _ => Program::Missing,
        },
    }
}

/// How many words of a container's `command` name its program and are no arguments: the first, unless it is one of the
/// toolbox' tools, in the toolbox.
pub(crate) fn entry_words(image: &str, command: &[String]) -> usize {
    let tool = command.first().is_some_and(|c| TOOLS.contains(&c.as_str()));
    usize::from(!(tool && is_toolbox(image)))
}

/// Whether an image reference is the toolbox'.
pub fn is_toolbox(image: &str) -> bool {
    image.strip_prefix(TOOLBOX).is_some_and(|rest| rest.is_empty() || rest.starts_with(':') && !rest.contains('/'))
}

/// How much a probe or hook keeps of what a command says, in bytes.
const KEPT: usize = 10 << 10;

/// What the command of a probe or hook has said, as far as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    /// A piece of standard output, or of standard error.
    pub fn add(&mut self, stderr: bool, bytes: &[u8]) {
        let to = if stderr { &mut self.stderr } else { &mut self.stdout };
        let room = KEPT - to.len();
        to.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Standard output and after it standard error, together as much as is kept.
    fn text(&self) -> String {
        let all = self.stdout.iter().chain(&self.stderr).take(KEPT).copied().collect::<Vec<u8>>();
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// How the command of a probe or hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited {
        /// Its exit code.
        code: i32,
        /// What the runtime says of it, such as a trap's text.
        message: String,
    },
    /// It was killed because it took too long.
    TimedOut,
    /// It could not be run, and why.
    Refused(String),
}

impl Ended {
    fn is_success(&self) -> bool {
        matches!(self, Ended::Exited { code: 0, .. })
    }
}

fn timed_out(command: &[String]) -> String {
    format!("command {} timed out", go_quoted(&command.join(" ")))
}

/// A probe's answer: exit code 0 is success, and what the command has said is why not. A program that cannot be run has
/// failed, too.
pub fn probed(command: &[String], said: &Said, ended: &Ended) -> Result<(), String> {
    match ended {
        _ if ended.is_success() => Ok(()),
        Ended::Exited { message, .. } => Err(said.text() + message),
        Ended::TimedOut => Err(timed_out(command)),
        Ended::Refused(why) => Err(why.clone()),
    }
}

/// What became of a lifecycle hook of `container`.
pub fn hooked(
    pod: &PodIdentity,
    container: &str,
    command: &[String],
    said: &Said,
    ended: &Ended,
) -> Result<(), String> {
    let words = command.join(" ");
    let error = match ended {
        _ if ended.is_success() => return Ok(()),
        Ended::Exited { code, message } => {
            let stderr = String::from_utf8_lossy(&said.stderr);
            format!("command '{words}' exited with {code}: {stderr}{message}")
        }
        Ended::TimedOut => timed_out(command),
        Ended::Refused(why) => why.clone(),
    };
    let name = format!("{}_{}({})", pod.name, pod.namespace, pod.uid);
    Err(format!(
        "Exec lifecycle hook ([{words}]) for Container {container:?} in Pod {name:?} failed - error: {error}, message: {}",
        go_quoted(&said.text())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn probes_say_what_the_command_said() {
        let mut said = Said::default();
        said.add(true, b"and why\n");
        said.add(false, b"not yet\n");
        let exited = |code, message: &str| Ended::Exited { code, message: message.into() };
        let probe = |said: &Said, ended: Ended| probed(&words("test -f /x"), said, &ended);
        assert_eq!(probe(&said, exited(0, "")), Ok(()));
        assert_eq!(probe(&said, exited(1, "")), Err("not yet\nand why\n".into()));
        assert_eq!(probe(&Said::default(), exited(134, "unreachable")), Err("unreachable".into()));
        assert_eq!(probe(&said, Ended::TimedOut), Err("command \"test -f /x\" timed out".into()));
        let missing = "exec: \"x\": executable file not found in $PATH";
        assert_eq!(probe(&said, Ended::Refused(missing.into())), Err(missing.into()));
        for _ in 0..3 {
            said.add(false, &[b'a'; 6 << 10]);
        }
        assert_eq!(probe(&said, exited(1, "")).unwrap_err().len(), 10 << 10, "no more is kept");
    }

    #[test]
    fn hooks_fail_in_the_kubelets_words() {
        let pod = PodIdentity {
            uid: "u".into(),
            namespace: "d".into(),
            name: "p".into(),
            service_account: "default".into(),
            ip: "10.0.0.1".parse().unwrap(),
            second_ip: None,
            hostname: "p".into(),
            hosts: Vec::new(),
            host_ports: Vec::new(),
            storage: Default::default(),
            memory_limit: None,
            dns: crate::PodDns::default(),
        };
        let mut said = Said::default();
        said.add(false, b"out");
        said.add(true, b"err");
        let ended = Ended::Exited { code: 1, message: String::new() };
        assert_eq!(
            hooked(&pod, "c", &words("rm /x"), &said, &ended).unwrap_err(),
            "Exec lifecycle hook ([rm /x]) for Container \"c\" in Pod \"p_d(u)\" failed - error: command 'rm /x' exited \
             with 1: err, message: \"outerr\""
        );
        let done = Ended::Exited { code: 0, message: String::new() };
        assert_eq!(hooked(&pod, "c", &words("rm /x"), &said, &done), Ok(()));
    }

    #[test]
    fn tools_come_before_the_image_and_paths_are_the_images() {
        let is = |text: &str, commands, wanted| {
            let exports = |name: &str| ["migrate", "ls"].contains(&name);
            assert_eq!(program(&words(text), commands, exports), wanted, "{text}");
        };
        is("tar cf - /data", true, Program::Toolbox);
        is("toolbox ls", false, Program::Toolbox);
        is("./tar cf", true, Program::Own);
        is("serve --now", true, Program::Own);
        is("sh -c ls", false, Program::Missing);
        is("migrate --now", false, Program::Exported("migrate"));
        is("migrate", true, Program::Exported("migrate"));
        is("ls /data", true, Program::Toolbox);
        is("./ls /data", false, Program::Exported("ls"));
        is("", true, Program::Missing);
        assert_eq!(program(&[], true, |_| true), Program::Missing);
    }

    #[test]
    fn the_toolbox_has_any_tag() {
        assert!(is_toolbox("copepod.dev/toolbox") && is_toolbox("copepod.dev/toolbox:latest"));
        assert!(!is_toolbox("copepod.dev/toolbox2") && !is_toolbox("copepod.dev/toolbox/x"));
    }
}
