//! Files.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Arguments without their flags, and the letters of those.
pub fn flags(args: &[String]) -> (Vec<&str>, String) {
    let (flags, plain): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.len() > 1 && a.starts_with('-'));
    (plain.into_iter().map(String::as_str).collect(), flags.into_iter().flat_map(|f| f.chars().skip(1)).collect())
}

/// An error with the path that it is about.
pub fn at(path: &str) -> impl Fn(io::Error) -> String {
    move |e| format!("{path}: {e}")
}

/// Copies without `io::copy`, whose specialisations want more of the host than a pipe has.
pub fn copy(mut from: impl io::Read, mut to: impl io::Write) -> io::Result<u64> {
    let (mut buffer, mut sum) = (vec![0; 32 * 1024], 0);
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            to.flush()?;
            return Ok(sum);
        }
        to.write_all(&buffer[..n])?;
        sum += n as u64;
    }
}

pub fn cat(args: &[String]) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let paths = if args.is_empty() { vec!["-".to_string()] } else { args.to_vec() };
    for path in &paths {
        if path == "-" {
            // What is typed is shown at once.
            let mut buffer = vec![0; 32 * 1024];
            loop {
                let n = io::stdin().lock().read(&mut buffer).map_err(at("stdin"))?;
                if n == 0 {
                    break;
                }
                out.write_all(&buffer[..n]).and_then(|()| out.flush()).map_err(at("stdout"))?;
            }
        } else {
            copy(fs::File::open(path).map_err(at(path))?, &mut out).map_err(at(path))?;
        }
    }
    Ok(())
}

pub fn ls(args: &[String]) -> Result<(), String> {
    let (paths, flags) = flags(args);
    let paths = if paths.is_empty() { vec!["."] } else { paths };
    for path in &paths {
        let meta = fs::metadata(path).map_err(at(path))?;
        if !meta.is_dir() {
            line(path, &meta, flags.contains('l'));
            continue;
        }
        if paths.len() > 1 {
            println!("{path}:");
        }
        let mut names: Vec<_> = fs::read_dir(path).map_err(at(path))?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        for name in names {
            let name = name.to_string_lossy();
            if name.starts_with('.') && !flags.contains('a') {
                continue;
            }
            if let Ok(meta) = fs::symlink_metadata(Path::new(path).join(&*name)) {
                line(&name, &meta, flags.contains('l'));
            }
        }
    }
    Ok(())
}

fn line(name: &str, meta: &fs::Metadata, long: bool) {
    if !long {
        return println!("{name}");
    }
    let kind = if meta.is_dir() {
        'd'
    } else if meta.is_symlink() {
        'l'
    } else {
        '-'
    };
    println!("{kind} {:>12} {name}", meta.len());
}

pub fn stat(args: &[String]) -> Result<(), String> {
    for path in args {
        let meta = fs::symlink_metadata(path).map_err(at(path))?;
        line(path, &meta, true);
    }
    Ok(())
}

pub fn pwd(_: &[String]) -> Result<(), String> {
    println!("{}", std::env::current_dir().map_err(at("."))?.display());
    Ok(())
}

pub fn mkdir(args: &[String]) -> Result<(), String> {
    let (paths, flags) = flags(args);
    for path in paths {
        let made = if flags.contains('p') { fs::create_dir_all(path) } else { fs::create_dir(path) };
        made.map_err(at(path))?;
    }
    Ok(())
}

pub fn rm(args: &[String]) -> Result<(), String> {
    let (paths, flags) = flags(args);
    for path in paths {
        let done = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() && flags.contains('r') => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::NotFound && flags.contains('f') => {}
            done => done.map_err(at(path))?,
        }
    }
    Ok(())
}

pub fn test(args: &[String]) -> Result<(), String> {
    let [what, path] = args else { return Err("-d, -e or -f and a path".into()) };
    let there = match (what.as_str(), fs::metadata(path)) {
        ("-d", Ok(meta)) => meta.is_dir(),
        ("-f", Ok(meta)) => meta.is_file(),
        ("-e", Ok(_)) => true,
        _ => false,
    };
    if there { Ok(()) } else { Err(String::new()) }
}
