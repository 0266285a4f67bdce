//! The line discipline of a terminal. A client with `-t` sends each key as it is; a wasm guest has no kernel terminal that
//! would echo, edit lines and turn ^C into an end. This is the usual cooked mode (termios: ICANON, ECHO, ISIG, ICRNL, ONLCR).

/// What came of some keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// For the client's screen.
    pub echo: Vec<u8>,
    /// For the guest's standard input: whole lines.
    pub lines: Vec<u8>,
    /// ^D at the beginning of a line: the input is over.
    pub end: bool,
    /// ^C or ^\: the guest is to end.
    pub interrupt: bool,
}

/// Longest line, as the kernel's MAX_CANON is.
const LONGEST: usize = 4096;

/// The line that is being typed.
#[derive(Clone, Debug, Default)]
pub struct Discipline {
    line: Vec<u8>,
}

impl Discipline {
    /// Takes keys.
    pub fn type_keys(&mut self, keys: &[u8]) -> Typed {
        let mut out = Typed::default();
        for &key in keys {
            match key {
                b'\r' | b'\n' => {
                    self.line.push(b'\n');
                    out.echo.extend_from_slice(b"\r\n");
                    out.lines.append(&mut self.line);
                }
                0x7f | 0x08 => {
                    if self.erase() {
                        out.echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                0x15 => {
                    while self.erase() {
                        out.echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                0x17 => {
                    let blank = |l: &[u8]| l.last().is_some_and(|b| *b == b' ');
                    while blank(&self.line) && self.erase() {
                        out.echo.extend_from_slice(b"\x08 \x08");
                    }
                    while !blank(&self.line) && self.erase() {
                        out.echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                0x03 | 0x1c => {
                    out.echo.extend_from_slice(if key == 0x03 { b"^C\r\n" } else { b"^\\\r\n" });
                    self.line.clear();
                    out.interrupt = true;
                }
                0x04 if self.line.is_empty() => out.end = true,
                0x04 => out.lines.append(&mut self.line),
                // Escape sequences and other controls have no meaning in a line; a tab is text.
                _ if key < 0x20 && key != b'\t' => {}
                _ if self.line.len() < LONGEST => {
                    self.line.push(key);
                    out.echo.push(key);
                }
                _ => out.echo.push(0x07),
            }
        }
        out
    }

    /// Takes the last character off the line.
    fn erase(&mut self) -> bool {
        let Some(mut last) = self.line.pop() else { return false };
        // The bytes that continue a UTF-8 character go with its first.
        while last & 0xc0 == 0x80 {
            match self.line.pop() {
                Some(before) => last = before,
                None => break,
            }
        }
        true
    }
}

/// A guest's output for a terminal: a newline also returns the carriage.
pub fn output(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    for &b in bytes {
        if b == b'\n' {
            out.push(b'\r');
        }
        out.push(b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_edited_before_they_are_read() {
        let mut d = Discipline::default();
        let typed = d.type_keys("lß\x7fs /tmp".as_bytes());
        assert_eq!((typed.lines.as_slice(), typed.echo.as_slice()), (&b""[..], "lß\x08 \x08s /tmp".as_bytes()));
        assert_eq!(d.type_keys(b"\r").lines, b"ls /tmp\n");
        assert_eq!(d.type_keys(b"abc\x15x y\x17z\n").lines, b"x z\n");
    }

    #[test]
    fn control_keys_end_things() {
        let mut d = Discipline::default();
        assert!(d.type_keys(b"abc\x03").interrupt);
        let typed = d.type_keys(b"tail\x04");
        assert_eq!((typed.lines.as_slice(), typed.end), (&b"tail"[..], false));
        assert!(d.type_keys(b"\x04").end);
    }

    #[test]
    fn output_returns_the_carriage() {
        assert_eq!(output(b"a\nb\n"), b"a\r\nb\r\n");
    }
}
