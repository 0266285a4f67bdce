//! The toolbox: what `kubectl exec`, `cp` and `debug` find in a pod whose image is one program. The first argument is the
//! command's name, as with busybox; without one it reads commands from standard input.

mod files;
mod net;
mod tar;

use std::io::{self, IsTerminal as _, Write as _};

/// Every command and what it does. The node has the same list (`node/plan/src/exec.rs`).
const COMMANDS: &[(&str, Run, &str)] = &[
    ("cat", files::cat, "FILE…: print files, or standard input"),
    ("echo", echo, "WORDS: print them"),
    ("env", env, "show the environment"),
    ("false", |_| Err(String::new()), "fail"),
    ("ls", files::ls, "[-l] [-a] PATH…: list files"),
    ("mkdir", files::mkdir, "[-p] PATH…: make folders"),
    ("nslookup", net::nslookup, "NAME: resolve a name"),
    ("pwd", files::pwd, "show the working directory"),
    ("rm", files::rm, "[-r] [-f] PATH…: delete"),
    ("sleep", sleep, "SECONDS: wait"),
    ("stat", files::stat, "PATH…: size and kind"),
    ("tar", tar::run, "cf - PATH… | xf - [-C DIR] | tf -: what kubectl cp needs"),
    ("test", files::test, "-d|-e|-f PATH: look whether it is there"),
    ("true", |_| Ok(()), "succeed"),
    ("wget", net::wget, "[-q] [-S] [-O FILE] URL: fetch over http; -O - prints"),
];

/// A command: its arguments, and what went wrong.
type Run = fn(&[String]) -> Result<(), String>;

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    let base = args.first().map(|a| a.rsplit('/').next().unwrap_or_default().to_string()).unwrap_or_default();
    if COMMANDS.iter().any(|(name, ..)| *name == base) {
        args[0] = base;
    } else if !args.is_empty() {
        args.remove(0);
    }
    let done = if args.is_empty() { shell() } else { run(&args) };
    // A panic is the only way to an exit code of one's own that wasip2 leaves, so codes other than 1 do not exist.
    std::process::exit(i32::from(!done));
}

/// Runs one command; whether it succeeded.
fn run(args: &[String]) -> bool {
    let Some((name, rest)) = args.split_first() else { return true };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        for (name, _, what) in COMMANDS {
            println!("{name:<9} {what}");
        }
        return true;
    }
    let Some((_, command, _)) = COMMANDS.iter().find(|(n, ..)| n == name) else {
        eprintln!("toolbox: {name}: not found; `help` lists what there is");
        return false;
    };
    let done = command(rest).and_then(|()| io::stdout().flush().map_err(|e| e.to_string()));
    if let Err(why) = &done
        && !why.is_empty()
    {
        eprintln!("{name}: {why}");
    }
    done.is_ok()
}

/// Reads commands, a line each, until the input ends.
fn shell() -> bool {
    let tty = io::stdin().is_terminal();
    let mut last = true;
    if tty {
        println!("Copepod toolbox; `help` lists the commands, ^D leaves.");
    }
    loop {
        if tty {
            print!("toolbox$ ");
            let _ = io::stdout().flush();
        }
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        match words.first().map(String::as_str) {
            None => {}
            Some("exit" | "quit") => break,
            Some(_) => last = run(&words),
        }
    }
    if tty {
        println!();
    }
    last
}

fn echo(args: &[String]) -> Result<(), String> {
    println!("{}", args.join(" "));
    Ok(())
}

fn env(_: &[String]) -> Result<(), String> {
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    Ok(())
}

fn sleep(args: &[String]) -> Result<(), String> {
    let seconds: f64 = args.first().and_then(|a| a.parse().ok()).ok_or("how many seconds?")?;
    let time = std::time::Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
    std::thread::sleep(time);
    Ok(())
}
