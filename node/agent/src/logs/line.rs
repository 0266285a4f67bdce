//! CRI's log lines: `2026-01-02T03:04:05.000000006Z stdout F text`. Tag `P` marks a part that the next line continues.

use copepod_model::Time;

/// What the runtime passes on in one piece of a longer line.
pub(crate) const PART: usize = 16 * 1024;

/// Appends output to `out` as log lines.
pub(crate) fn format(out: &mut Vec<u8>, at: Time, stream: &str, bytes: &[u8]) {
    let stamp = at.rfc3339_nanos();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let (text, whole) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            // Only a part of a longer line is so long; any other piece is the last words of an instance.
            None => (line, line.len() != PART),
        };
        out.extend_from_slice(stamp.as_bytes());
        out.push(b' ');
        out.extend_from_slice(stream.as_bytes());
        out.extend_from_slice(if whole { b" F " } else { b" P " });
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// One line of a log file.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    /// As text, which orders as the times do.
    pub stamp: &'a str,
    /// Whether the next line continues it.
    pub part: bool,
    /// What was said.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a line without its newline. `None` for what is not one, as after a crash in the middle of a write.
    pub fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let stamp = std::str::from_utf8(fields.next()?).ok()?;
        let _stream = fields.next()?;
        let part = fields.next()? == b"P";
        Some(Line { stamp, part, text: fields.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        format(&mut out, Time(1_000_000_007), "stdout", b"a b\n\nend");
        let lines: Vec<_> =
            out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| Line::parse(l).unwrap()).collect();
        let stamp = "1970-01-01T00:00:01.000000007Z";
        let line = |text: &'static str| Line { stamp, part: false, text: text.as_bytes() };
        assert_eq!(lines, [line("a b"), line(""), line("end")]);
        let mut out = Vec::new();
        format(&mut out, Time(0), "stderr", &[b'x'; PART]);
        assert!(Line::parse(&out[..out.len() - 1]).unwrap().part);
        assert_eq!(Line::parse(b"torn"), None);
    }
}
