//! The text form of a label selector, read as `labels.Parse` does (apimachinery `pkg/labels/selector.go`), so that what is wrong
//! is said in its words.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Op, ParseError, Requirement};
use crate::FieldError;
use crate::kinds::names;

/// What the text consists of: (what it is, as it stands there).
type Token<'a> = (Sort, &'a str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    End,
    Word,
    Comma,
    Open,
    Close,
    Not,
    Operator(Op),
}

const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn sort(text: &str) -> Option<Sort> {
    Some(match text {
        ")" => Sort::Close,
        "," => Sort::Comma,
        "(" => Sort::Open,
        "!" => Sort::Not,
        "=" | "==" => Sort::Operator(Op::In),
        "!=" => Sort::Operator(Op::NotIn),
        ">" => Sort::Operator(Op::Greater),
        "<" => Sort::Operator(Op::Less),
        _ => return None,
    })
}

/// The next token and what comes behind it.
fn token(text: &str) -> (Token<'_>, &str) {
    let text = text.trim_start_matches(SPACE);
    if !text.starts_with(SPECIAL) {
        let end = text.find(|c: char| SPECIAL.contains(&c) || SPACE.contains(&c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return ((if word.is_empty() { Sort::End } else { Sort::Word }, word), rest);
    }
    // The longest that means something; each means something alone.
    let most = text.find(|c: char| !SPECIAL.contains(&c)).unwrap_or(text.len()).min(2);
    let longest = (1..=most).rev().find_map(|n| Some(((sort(&text[..n])?, &text[..n]), &text[n..])));
    longest.unwrap_or(((Sort::End, ""), ""))
}

/// Reads the whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, ParseError> {
    let mut parser = Parser { rest: text };
    let mut out = Vec::new();
    loop {
        match parser.peek() {
            (Sort::Word | Sort::Not, _) => {}
            (Sort::End, _) => return Ok(out),
            (_, found) => return Err(expected(found, ": !, identifier, or 'end of string'")),
        }
        let requirement = parser.requirement();
        out.push(requirement.map_err(|e| ParseError(format!("unable to parse requirement: {}", e.0)))?);
        match parser.next() {
            (Sort::End, _) => return Ok(out),
            (Sort::Comma, _) => match parser.peek() {
                (Sort::Word | Sort::Not, _) => {}
                (_, found) => return Err(expected(found, ": identifier after ','")),
            },
            (_, found) => return Err(expected(found, ": ',' or 'end of string'")),
        }
    }
}

fn expected(found: &str, what: &str) -> ParseError {
    ParseError(format!("found '{found}', expected{what}"))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        token(self.rest).0
    }

    fn next(&mut self) -> Token<'a> {
        let (found, rest) = token(self.rest);
        self.rest = rest;
        found
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let mut found = self.next();
        let absent = found.0 == Sort::Not;
        if absent {
            found = self.next();
        }
        let (Sort::Word, key) = found else { return Err(expected(found.1, ": identifier")) };
        let invalid =
            |path: &str, value: serde_json::Value, why: &str| FieldError::invalid(path, value, why).to_string();
        names::qualified(key).map_err(|why| ParseError(invalid("<nil>", key.into(), &why)))?;
        let alone = matches!(self.peek().0, Sort::End | Sort::Comma);
        if absent || alone {
            let op = if absent { Op::Absent } else { Op::Exists };
            return Ok(Requirement { key: key.into(), op, values: Vec::new() });
        }
        let (op, values) = match self.next() {
            (Sort::Operator(op), _) => (op, BTreeSet::from([self.value()?])),
            (Sort::Word, "in") => (Op::In, self.values()?),
            (Sort::Word, "notin") => (Op::NotIn, self.values()?),
            (_, found) => return Err(expected(found, ": in, notin, =, ==, !=, gt, lt")),
        };
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        let mut wrong = Vec::new();
        if values.is_empty() {
            let why = "for 'in', 'notin' operators, values set can't be empty";
            wrong.push(invalid("values", json!([]), why));
        }
        let at = |i: usize| format!("values[{i}]");
        for (i, value) in values.iter().enumerate() {
            if matches!(op, Op::Greater | Op::Less) && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                wrong.push(invalid(&at(i), value.as_str().into(), why));
            }
        }
        for (i, value) in values.iter().enumerate() {
            if let Err(why) = names::label_value(value) {
                wrong.push(invalid(&format!("{}[{key}]", at(i)), value.as_str().into(), &why));
            }
        }
        match wrong.as_slice() {
            [] => Ok(Requirement { key: key.into(), op, values }),
            [one] => Err(ParseError(one.clone())),
            many => Err(ParseError(format!("[{}]", many.join(", ")))),
        }
    }

    /// The one value of `=`, `!=`, `>` and `<`.
    fn value(&mut self) -> Result<&'a str, ParseError> {
        match self.peek() {
            (Sort::End | Sort::Comma, _) => Ok(""),
            (Sort::Word, value) => {
                self.next();
                Ok(value)
            }
            (_, found) => Err(expected(found, ": identifier")),
        }
    }

    /// The values of `in` and `notin`, in parentheses. Where there is nothing between two commas, or a comma and a parenthesis,
    /// there is an empty value.
    fn values(&mut self) -> Result<BTreeSet<&'a str>, ParseError> {
        match self.next() {
            (Sort::Open, _) => {}
            (_, found) => return Err(ParseError(format!("found '{found}' expected: '('"))),
        }
        match self.peek() {
            (Sort::Word | Sort::Comma, _) => {}
            (Sort::Close, _) => {
                self.next();
                return Ok(BTreeSet::new());
            }
            (_, found) => return Err(expected(found, ": ',', ')' or identifier")),
        }
        let mut out = BTreeSet::new();
        loop {
            match self.next() {
                (Sort::Word, value) => {
                    out.insert(value);
                    match self.peek() {
                        (Sort::Comma, _) => {}
                        (Sort::Close, _) => break,
                        (_, found) => return Err(expected(found, ": ',' or ')'")),
                    }
                }
                (Sort::Comma, _) => {
                    if out.is_empty() {
                        out.insert("");
                    }
                    match self.peek().0 {
                        Sort::Close => {
                            out.insert("");
                            break;
                        }
                        Sort::Comma => {
                            self.next();
                            out.insert("");
                        }
                        _ => {}
                    }
                }
                (_, found) => return Err(expected(found, ": ',', or identifier")),
            }
        }
        self.next();
        Ok(out)
    }
}
