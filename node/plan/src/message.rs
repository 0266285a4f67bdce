//! The message of a container's end: `terminationMessagePath` and `terminationMessagePolicy`
//! (`pkg/kubelet/kuberuntime/kuberuntime_container.go`).

use crate::effect::{Mount, TerminationMessage};
use crate::text::clean_path;

/// How much is read of what a container leaves, in bytes: `MaxContainerTerminationMessageLength`.
pub const LONGEST: usize = 4 << 10;
/// What the messages of all containers of a pod may have together: `MaxPodTerminationMessageLogLength`.
const LONGEST_OF_POD: usize = 12 << 10;

/// Where the file is that a container leaves its message in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In a directory of its own.
    Own {
        /// Where the container sees the directory.
        dir: &'a str,
        /// The file in it.
        name: &'a str,
    },
    /// In a mount: what a guest can be given is a directory, so no file is laid over another one's.
    Mounted {
        /// Which.
        mount: &'a Mount,
        /// The file, relative to what the mount shows.
        path: &'a str,
    },
}

/// The path as a container has it: absolute, without `.`, `..` and needless slashes; empty for none. The API takes any
/// text, and what is relative begins at the root.
pub(crate) fn path(given: &str) -> Result<String, String> {
    if given.is_empty() {
        return Ok(String::new());
    }
    match clean_path(given) {
        root if root == "/" => Err(format!("terminationMessagePath \"{given}\" is no file's path")),
        path => Ok(path),
    }
}

/// Where a container's file is, among its mounts; nowhere if it has none, or something is mounted in its place.
pub fn place<'a>(path: &'a str, mounts: &'a [Mount]) -> Option<Place<'a>> {
    let (parent, name) = path.rsplit_once('/')?;
    let below = |m: &'a Mount| -> Option<(&'a Mount, &'a str)> {
        let rest = path.strip_prefix(m.path.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (m, rest.trim_start_matches('/')))
    };
    match mounts.iter().filter_map(below).max_by_key(|(m, _)| m.path.len()) {
        Some((_, "")) => None,
        Some((mount, path)) => Some(Place::Mounted { mount, path }),
        None => Some(Place::Own { dir: if parent.is_empty() { "/" } else { parent }, name }),
    }
}

impl TerminationMessage {
    /// What is said of an end with `code`: the end of what the container has left, else that of its log if the policy
    /// wants it, else what the runtime says.
    pub fn message(
        &self,
        code: i32,
        left: Result<Vec<u8>, String>,
        log: impl FnOnce() -> String,
        runtime: String,
    ) -> String {
        let own = match left {
            Ok(left) if left.is_empty() && self.fallback_to_logs && code != 0 => log(),
            Ok(left) => end(&String::from_utf8_lossy(&left)).into(),
            Err(why) => format!("Error on reading termination log {}: {why}", self.path),
        };
        if own.is_empty() { runtime } else { own }
    }
}

/// The last of a text, at most [`LONGEST`] bytes.
fn end(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(LONGEST))..]
}

/// The part of a message that one of so many containers can show.
pub(crate) fn shown(message: &str, containers: usize) -> &str {
    &message[..message.floor_char_boundary(LONGEST_OF_POD / containers.max(1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(paths: &[&str]) -> Vec<Mount> {
        let mount = |p: &&str| Mount {
            path: (*p).into(),
            host: "/h".into(),
            sub_path: String::new(),
            read_only: false,
            memory: None,
        };
        paths.iter().map(mount).collect()
    }

    #[test]
    fn any_path_of_a_file_will_do() {
        for (given, wanted) in [("/dev/termination-log", "/dev/termination-log"), ("a/../b", "/b"), ("//x/./y", "/x/y")]
        {
            assert_eq!(path(given).as_deref(), Ok(wanted), "{given}");
        }
        assert_eq!(path("").as_deref(), Ok(""));
        for given in ["/", "..", "/a/.."] {
            assert!(path(given).unwrap_err().contains("is no file's path"), "{given}");
        }
    }

    #[test]
    fn a_file_is_in_the_innermost_mount_or_in_a_directory_of_its_own() {
        let none = mounts(&["/dev/shm", "/device", "/dev/termination-log/x"]);
        let at = |path: &'static str| Place::Own { dir: path.rsplit_once('/').unwrap().0, name: "termination-log" };
        assert_eq!(place("/dev/termination-log", &none), Some(at("/dev/termination-log")));
        assert_eq!(place("/message", &none), Some(Place::Own { dir: "/", name: "message" }));
        assert_eq!(place("", &none), None);
        let some = mounts(&["/", "/data", "/data/deep"]);
        for (path, mount, rest) in [("/data/deep/a/b", 2, "a/b"), ("/data/deeper", 1, "deeper"), ("/m", 0, "m")] {
            assert_eq!(place(path, &some), Some(Place::Mounted { mount: &some[mount], path: rest }));
        }
        assert_eq!(place("/data", &some), None, "what is there is a directory");
    }

    #[test]
    fn what_is_left_comes_before_the_log_and_that_before_the_runtime() {
        let say = |fallback_to_logs, code, left: &str| {
            let wanted = TerminationMessage { path: "/m".into(), fallback_to_logs, ..TerminationMessage::default() };
            wanted.message(code, Ok(left.into()), || "log".into(), "trap".into())
        };
        assert_eq!(say(true, 1, "left"), "left");
        assert_eq!(say(true, 1, ""), "log");
        assert_eq!(say(true, 0, ""), "trap", "only after a failure");
        assert_eq!(say(false, 1, ""), "trap");
        let unreadable = TerminationMessage { path: "/m".into(), fallback_to_logs: true, ..Default::default() };
        let said = unreadable.message(1, Err("is a directory".into()), || "log".into(), "trap".into());
        assert_eq!(said, "Error on reading termination log /m: is a directory");
    }

    #[test]
    fn messages_are_cut_at_characters() {
        let wanted = TerminationMessage::default();
        let said =
            wanted.message(0, Ok([vec![b'a'], "ä".repeat(4000).into_bytes()].concat()), String::new, String::new());
        assert_eq!(said, "ä".repeat(LONGEST / 2), "the end of it");
        assert!(wanted.message(0, Ok(vec![0xff; LONGEST]), String::new, String::new()).len() <= LONGEST);
        let long = "ä".repeat(6000);
        assert_eq!(shown(&long, 1).len(), 12_000);
        assert_eq!(shown(&format!("a{long}"), 1).len(), 12_001);
        assert_eq!(shown(&long, 5).len(), 2456);
        assert_eq!(shown("short", 3), "short");
    }
}
