//! As much tar (POSIX ustar, with GNU's long names) as `kubectl cp` needs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::files::at;

const BLOCK: usize = 512;

pub fn run(args: &[String]) -> Result<(), String> {
    let (mut mode, mut dir, mut paths, mut archive) = (' ', PathBuf::from("."), Vec::new(), None);
    let mut args = args.iter().enumerate();
    while let Some((i, arg)) = args.next() {
        match arg.as_str() {
            "-C" => dir = args.next().map(|(_, d)| d.into()).ok_or("-C needs a folder")?,
            long if long.starts_with("--") => {}
            letters if i == 0 || letters.len() > 1 && letters.starts_with('-') => {
                for letter in letters.trim_start_matches('-').chars() {
                    match letter {
                        'c' | 'x' | 't' => mode = letter,
                        'f' => archive = args.next().map(|(_, a)| a.as_str()),
                        'm' | 'v' | 'p' | 'o' => {}
                        'z' => return Err("compression is not spoken here".into()),
                        other => return Err(format!("unknown option -{other}")),
                    }
                }
            }
            path => paths.push(path),
        }
    }
    if archive != Some("-") {
        return Err("the archive is standard input or output: give `f -`".into());
    }
    match mode {
        'c' => {
            let mut out = io::BufWriter::with_capacity(32 * 1024, io::stdout().lock());
            for path in paths {
                add(&mut out, &dir, path)?;
            }
            out.write_all(&[0; 2 * BLOCK]).and_then(|()| out.flush()).map_err(at("stdout"))
        }
        'x' | 't' => extract(&mut io::stdin().lock(), (mode == 'x').then_some(&dir)),
        _ => Err("one of c, x and t".into()),
    }
}

fn add(out: &mut impl Write, dir: &Path, name: &str) -> Result<(), String> {
    let path = dir.join(name);
    let meta = fs::symlink_metadata(&path).map_err(at(name))?;
    // Names in an archive are relative, as GNU tar's.
    let inside = name.trim_start_matches('/');
    if meta.is_dir() {
        header(out, &format!("{}/", inside.trim_end_matches('/')), b'5', 0o755, 0).map_err(at("stdout"))?;
        let mut names: Vec<_> = fs::read_dir(&path).map_err(at(name))?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        for child in names {
            add(out, dir, &format!("{}/{}", name.trim_end_matches('/'), child.to_string_lossy()))?;
        }
        return Ok(());
    }
    if !meta.is_file() {
        return Ok(());
    }
    let size = meta.len();
    header(out, inside, b'0', 0o644, size).map_err(at("stdout"))?;
    // A file that grows meanwhile is cut; one that shrinks is filled up.
    let mut file = File::open(&path).map_err(at(name))?.take(size);
    let (mut buffer, mut sent) = (vec![0; 32 * 1024], 0);
    loop {
        let n = file.read(&mut buffer).map_err(at(name))?;
        if n == 0 {
            break;
        }
        out.write_all(&buffer[..n]).map_err(at("stdout"))?;
        sent += n as u64;
    }
    let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
    io::copy(&mut io::repeat(0).take(padded - sent), out).map(drop).map_err(at("stdout"))
}

fn header(out: &mut impl Write, name: &str, kind: u8, mode: u32, size: u64) -> io::Result<()> {
    if name.len() > 100 {
        header(out, "././@LongLink", b'L', 0o644, name.len() as u64 + 1)?;
        let mut long = name.as_bytes().to_vec();
        long.resize((name.len() + 1).div_ceil(BLOCK) * BLOCK, 0);
        out.write_all(&long)?;
    }
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000\x000000000\x00");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&block)
}

/// Unpacks, or only lists where `to` is none.
fn extract(from: &mut impl Read, to: Option<&PathBuf>) -> Result<(), String> {
    let mut long: Option<String> = None;
    loop {
        let mut block = [0u8; BLOCK];
        if let Err(e) = from.read_exact(&mut block) {
            return if e.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(at("stdin")(e)) };
        }
        if block.iter().all(|b| *b == 0) {
            // The rest is padding; whoever writes it must not meet a closed pipe.
            let _ = crate::files::copy(from, io::sink());
            return Ok(());
        }
        let text = |at: usize, n: usize| {
            let field = &block[at..at + n];
            String::from_utf8_lossy(&field[..field.iter().position(|b| *b == 0).unwrap_or(n)]).into_owned()
        };
        let number = |at: usize, n: usize| u64::from_str_radix(text(at, n).trim(), 8);
        let size = number(124, 12).map_err(|_| "this does not look like a tar archive")?;
        let prefix = if block[257..263] == *b"ustar\0" { text(345, 155) } else { String::new() };
        let short = if prefix.is_empty() { text(0, 100) } else { format!("{prefix}/{}", text(0, 100)) };
        let padding = size.div_ceil(BLOCK as u64) * BLOCK as u64 - size;
        let kind = block[156];
        if kind == b'L' {
            let mut name = Vec::new();
            if size > 64 * 1024 {
                return Err("a name is too long".into());
            }
            from.by_ref().take(size).read_to_end(&mut name).map_err(at("stdin"))?;
            skip(from, padding)?;
            long = Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_string());
            continue;
        }
        let name = long.take().unwrap_or(short);
        let path: PathBuf = Path::new(&name).components().filter(|c| matches!(c, Component::Normal(_))).collect();
        if Path::new(&name).components().any(|c| c == Component::ParentDir) {
            return Err(format!("{name}: a name with `..` is not unpacked"));
        }
        match (to, kind) {
            (None, _) => {
                println!("{name}");
                skip(from, size + padding)?;
            }
            (Some(dir), b'5') => fs::create_dir_all(dir.join(path)).map_err(at(&name))?,
            (Some(dir), b'0' | 0) => {
                let target = dir.join(path);
                if let Some(parent) = target.parent() {
                    let _ = fs::create_dir_all(parent);
                }
                let mut file = File::create(&target).map_err(at(&name))?;
                let mut left = from.by_ref().take(size);
                let n = crate::files::copy(&mut left, &mut file).map_err(at(&name))?;
                if n < size {
                    return Err(format!("{name}: the archive is cut off"));
                }
                skip(from, padding)?;
            }
            (Some(_), _) => skip(from, size + padding)?,
        }
    }
}

fn skip(from: &mut impl Read, n: u64) -> Result<(), String> {
    crate::files::copy(from.take(n), io::sink()).map(drop).map_err(at("stdin"))
}
