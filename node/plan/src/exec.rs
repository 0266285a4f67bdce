//! What a command in a container means where images are wasm modules: there is no file system full of programs. The image's
//! module is the one program, and beside it every pod has the built-in toolbox.

/// The reference of the built-in image, with any tag or none.
pub const TOOLBOX: &str = "copepod.dev/toolbox";

/// What the toolbox can do (`examples/toolbox` has the same list).
pub const TOOLS: [&str; 15] = [
    "cat", "echo", "env", "false", "ls", "mkdir", "nslookup", "pwd", "rm", "sleep", "stat", "tar", "test", "true",
    "wget",
];

/// What runs for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The container's own module, with the command as its arguments.
    Own,
    /// The toolbox, with the command as its arguments.
    Toolbox,
    /// There is no such program.
    Missing,
}

/// Decides what runs for `command`. A tool's bare name is the toolbox', as is `toolbox` itself; anything else, or a path
/// such as `./ls`, is the image's module, if it can be run at all (`commands`): a `wasi:http` component is only served.
pub fn program(command: &[String], commands: bool) -> Program {
    match command.first().map(String::as_str) {
        Some(tool) if tool == "toolbox" || TOOLS.contains(&tool) => Program::Toolbox,
        Some(name) if !name.is_empty() && commands => Program::Own,
        _ => Program::Missing,
    }
}

/// Whether an image reference is the toolbox'.
pub fn is_toolbox(image: &str) -> bool {
    image.strip_prefix(TOOLBOX).is_some_and(|rest| rest.is_empty() || rest.starts_with(':') && !rest.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_come_before_the_image_and_paths_are_the_images() {
        let run = |text: &str, commands| program(&text.split(' ').map(String::from).collect::<Vec<_>>(), commands);
        assert_eq!(run("tar cf - /data", true), Program::Toolbox);
        assert_eq!(run("toolbox ls", false), Program::Toolbox);
        assert_eq!(run("./tar cf", true), Program::Own);
        assert_eq!(run("serve --now", true), Program::Own);
        assert_eq!(run("sh -c ls", false), Program::Missing);
        assert_eq!(program(&[], true), Program::Missing);
    }

    #[test]
    fn the_toolbox_has_any_tag() {
        assert!(is_toolbox("copepod.dev/toolbox") && is_toolbox("copepod.dev/toolbox:latest"));
        assert!(!is_toolbox("copepod.dev/toolbox2") && !is_toolbox("copepod.dev/toolbox/x"));
    }
}
