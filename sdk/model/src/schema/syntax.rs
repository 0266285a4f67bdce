//! What Go's JSON scanner says about malformed JSON. It is run only after serde_json has refused the text.

/// The first error, or `None` when the text is well formed.
pub(super) fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    let outcome = scanner.value().and_then(|()| {
        scanner.blanks();
        match scanner.peek() {
            None => Ok(()),
            Some(_) => scanner.invalid("after top-level value"),
        }
    });
    outcome.err()
}

/// As deep as Go allows.
const MAX_DEPTH: usize = 10_000;

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

type Result = std::result::Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The error at this place, with the character as Go quotes it.
    fn invalid(&self, context: &str) -> Result {
        let Some(c) = self.peek() else { return Err("unexpected end of JSON input".into()) };
        let shown = match c {
            b'\'' => r"'\''".to_string(),
            b'"' => "'\"'".to_string(),
            b'\\' => r"'\\'".to_string(),
            b'\n' => r"'\n'".to_string(),
            b'\r' => r"'\r'".to_string(),
            b'\t' => r"'\t'".to_string(),
            0x20..=0x7e => format!("'{}'", c as char),
            0xa1..=0xac | 0xae..=0xff => format!("'{}'", c as char),
            0x80..=0xa0 | 0xad => format!("'\\u{c:04x}'"),
            _ => format!("'\\x{c:02x}'"),
        };
        Err(format!("invalid character {shown} {context}"))
    }

    /// Reads containers without recursion: the stack holds whether each is an object.
    fn value(&mut self) -> Result {
        let mut stack: Vec<bool> = vec![];
        loop {
            // A value begins here.
            self.blanks();
            let opened = match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    stack.push(open == b'{');
                    if stack.len() > MAX_DEPTH {
                        return Err("exceeded max depth".into());
                    }
                    true
                }
                _ => {
                    self.scalar()?;
                    false
                }
            };
            if opened {
                self.blanks();
                let object = stack.last() == Some(&true);
                if self.peek() != Some(if object { b'}' } else { b']' }) {
                    if object {
                        self.key()?;
                    }
                    continue;
                }
                self.at += 1;
                stack.pop();
            }
            // A value ended here: close what ends with it.
            loop {
                let Some(object) = stack.last().copied() else { return Ok(()) };
                self.blanks();
                match (self.peek(), object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if object {
                            self.blanks();
                            self.key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        stack.pop();
                    }
                    (_, true) => return self.invalid("after object key:value pair"),
                    (_, false) => return self.invalid("after array element"),
                }
            }
        }
    }

    fn key(&mut self) -> Result {
        if self.peek() != Some(b'"') {
            return self.invalid("looking for beginning of object key string");
        }
        self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return self.invalid("after object key");
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self) -> Result {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.invalid("looking for beginning of value"),
        }
    }

    fn literal(&mut self, word: &str) -> Result {
        for expected in word.chars() {
            if self.peek() != Some(expected as u8) {
                return self.invalid(&format!("in literal {word} (expecting '{expected}')"));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {}
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                                    return self.invalid("in \\u hexadecimal character escape");
                                }
                            }
                        }
                        _ => return self.invalid("in string escape code"),
                    }
                }
                Some(0x20..) => {}
                _ => return self.invalid("in string literal"),
            }
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.invalid("in numeric literal"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                return self.invalid("after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                return self.invalid("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::error;

    #[test]
    fn as_go_says() {
        for (text, want) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            (r#"{"a":"#, "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} {", "invalid character '{' after top-level value"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12g4""#, "invalid character 'g' in \\u hexadecimal character escape"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("01", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), Some(want), "{text}");
        }
        for good in ["{}", "[]", r#" {"a":[1,-2.5e3,{"b":null}],"c":"\u00e9"} "#, "0", "[[],{}]"] {
            assert_eq!(error(good.as_bytes()), None, "{good}");
        }
    }
}
