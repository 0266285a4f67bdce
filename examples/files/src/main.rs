//! A command that works with files, to see what a pod's volumes show: `files VERB ARGS [, VERB ARGS]…`. Each verb prints
//! what it did or the error; the exit code is 1 if any failed.

use std::fs;
use std::io::{Error, ErrorKind, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const USAGE: &str = "known: cat FILE, ls DIR, write FILE TEXT, append FILE MIB, mkdir DIR, rm FILE, mv FROM TO, \
                     link OLD NEW, size FILE, watch FILE, sleep SECONDS; separate several by a comma";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = args.is_empty();
    if failed {
        eprintln!("{USAGE}");
    }
    for command in args.split(|a| a == ",") {
        if let Err(error) = run(command) {
            eprintln!("{}: {error}", command.join(" "));
            failed = true;
        }
    }
    std::process::exit(i32::from(failed));
}

fn run(command: &[String]) -> Result<(), Error> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(()),
        ["cat", file] => {
            println!("{file}: {}", fs::read_to_string(file)?.trim_end());
            Ok(())
        }
        ["ls", dir] => {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            println!("{dir}: {}", names.join(" "));
            Ok(())
        }
        ["write", file, text] => fs::write(file, text),
        ["append", file, mib] => {
            let mut open = fs::OpenOptions::new().create(true).append(true).open(file)?;
            for _ in 0..mib.parse().unwrap_or(1) {
                open.write_all(&vec![b'x'; 1 << 20])?;
            }
            Ok(())
        }
        ["mkdir", dir] => fs::create_dir_all(dir),
        ["rm", file] => fs::remove_file(file),
        ["mv", from, to] => fs::rename(from, to),
        ["link", old, new] => symlink(old, new),
        ["size", file] => {
            println!("{file}: {} bytes", fs::metadata(file)?.len());
            Ok(())
        }
        ["watch", file] => watch(Path::new(file)),
        ["sleep", seconds] => {
            sleep(Duration::from_secs(seconds.parse().unwrap_or(1)));
            Ok(())
        }
        _ => Err(Error::new(ErrorKind::InvalidInput, USAGE)),
    }
}

/// Prints a file's content now and whenever it changes.
fn watch(file: &Path) -> Result<(), Error> {
    let mut last = None;
    loop {
        let now = fs::read_to_string(file).unwrap_or_else(|error| format!("({error})"));
        if last.as_ref() != Some(&now) {
            println!("{}: {}", file.display(), now.trim_end());
            last = Some(now);
        }
        sleep(Duration::from_millis(50));
    }
}

/// The standard library's own is not stable for WASI; this is libc's.
fn symlink(old: &str, new: &str) -> Result<(), Error> {
    use std::ffi::{CString, c_char, c_int};
    unsafe extern "C" {
        fn symlink(old: *const c_char, new: *const c_char) -> c_int;
    }
    let (old, new) = (CString::new(old)?, CString::new(new)?);
    // SAFETY: both are strings that end with a zero and outlive the call.
    match unsafe { symlink(old.as_ptr(), new.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
