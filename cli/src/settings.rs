//! Flags from a file: `--config FILE` is YAML with the flags' names. What it says stands where neither the command line nor
//! the environment says anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _};
use serde_json::{Map, Value};

use crate::cmd::Cli;

/// The command line of this process; ends the process with a message where it makes no sense.
pub fn parse() -> Cli {
    let matches = matches(std::env::args_os().collect(), read);
    let cli = matches.and_then(|m| Cli::from_arg_matches(&m).map_err(|e| e.format(&mut Cli::command())));
    cli.unwrap_or_else(|e| e.exit())
}

fn matches(
    mut args: Vec<OsString>,
    read: impl Fn(&Path) -> Result<Map<String, Value>, String>,
) -> Result<ArgMatches, clap::Error> {
    let first = Cli::command().try_get_matches_from(&args)?;
    let Some((verb, flags)) = first.subcommand() else { return Ok(first) };
    // Most verbs have no such flag.
    let Some(path) = flags.try_get_one::<PathBuf>("config").ok().flatten() else { return Ok(first) };
    let more = read(path).and_then(|settings| unsaid(verb, flags, settings));
    let failed = |why| Cli::command().error(ErrorKind::ValueValidation, format!("{}: {why}", path.display()));
    let behind = args.iter().position(|a| a == verb).map_or(args.len(), |at| at + 1);
    args.splice(behind..behind, more.map_err(failed)?);
    Cli::command().try_get_matches_from(&args)
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    yaml_serde::from_str(&text).map_err(|e| e.to_string())
}

/// The settings as flags of the verb, without those that `flags` has from the command line or the environment.
fn unsaid(verb: &str, flags: &ArgMatches, settings: Map<String, Value>) -> Result<Vec<OsString>, String> {
    let command = Cli::command();
    let known: Vec<_> = command.find_subcommand(verb).into_iter().flat_map(|c| c.get_arguments()).collect();
    let mut out = Vec::new();
    for (name, value) in settings {
        let arg = known.iter().find(|a| a.get_long() == Some(&name) && name != "config");
        let arg = arg.ok_or_else(|| format!("copepod {verb} has no flag --{name}"))?;
        let said = flags.value_source(arg.get_id().as_str());
        let said = matches!(said, Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let values = match (&value, switch) {
            (Value::Null, _) => continue,
            (Value::Bool(on), true) => {
                if *on && !said {
                    out.push(format!("--{name}").into());
                }
                continue;
            }
            (_, true) => return Err(format!("{name}: must be true or false")),
            (Value::Array(many), false) => many.iter().map(text).collect(),
            (one, false) => text(one).map(|t| vec![t]),
        };
        let values: Vec<String> =
            values.ok_or_else(|| format!("{name}: must be a text, a number or a list of them"))?;
        if !said {
            out.extend(values.into_iter().map(|v| OsString::from(format!("--{name}={v}"))));
        }
    }
    Ok(out)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(file: &str, flags: &[&str]) -> Result<ArgMatches, String> {
        let args = ["copepod", "-v", "server", "--config", "f"].iter().chain(flags).map(OsString::from).collect();
        let found = matches(args, |_| yaml_serde::from_str(file).map_err(|e| e.to_string()));
        let found = found.map_err(|e| e.to_string())?;
        found.subcommand().map(|(_, flags)| flags.clone()).ok_or_else(|| "no verb".into())
    }

    #[test]
    fn a_flag_overrules_the_file_and_the_file_overrules_the_default() {
        let file = "api-port: 7000\npeer-port: '7001'\nlearner: true\njoin: https://a:1\nname:\n";
        let m = parsed(file, &["--api-port", "7002"]).unwrap();
        let port = |m: &ArgMatches, id: &str| m.get_one::<u16>(id).copied();
        assert_eq!((port(&m, "api_port"), port(&m, "peer_port")), (Some(7002), Some(7001)));
        assert_eq!(m.get_one::<String>("join").map(String::as_str), Some("https://a:1"));
        assert!(m.get_flag("learner"));
        let m = parsed("api-port: 7000\nlearner: false", &[]).unwrap();
        assert_eq!((port(&m, "api_port"), port(&m, "peer_port")), (Some(7000), Some(2380)));
        assert!(!m.get_flag("learner"));
        assert!(parsed("learner: false", &["--learner"]).unwrap().get_flag("learner"));
    }

    #[test]
    fn what_the_file_may_not_say() {
        for (file, why) in [
            ("api-prot: 1", "copepod server has no flag --api-prot"),
            ("config: x", "has no flag --config"),
            ("join: {a: b}", "join: must be a text"),
            ("learner: 'yes'", "learner: must be true or false"),
            ("api-port: many", "invalid value 'many'"),
            ("- a", "invalid type"),
        ] {
            let message = parsed(file, &[]).unwrap_err();
            assert!(message.contains(why), "{file}: {message}");
        }
    }
}
